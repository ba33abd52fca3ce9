//! The files by which processes know of each other. The lock decides; the rest is information.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sched_core::StoreError;
use serde::{Deserialize, Serialize};

/// Others only look whether the lock is free, and let it go at once.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// The right to be the only scheduler on a data folder. It ends with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.join("sched.lock")
}

impl Lock {
    /// Takes the lock, and writes this process into it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, StoreError> {
        let path = lock_path(data_dir);
        let place = data_dir.display().to_string();
        let fail = |error: std::io::Error| StoreError::Io { place: place.clone(), detail: error.to_string() };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        for look in 0.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if look < LOOKS => std::thread::sleep(BETWEEN_LOOKS),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked { place, holder: holder(data_dir) });
                }
                Err(TryLockError::Error(error)) => return Err(fail(error)),
            }
        }
        let write = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

/// The process that holds the data folder now.
pub(crate) fn holder(data_dir: &Path) -> Option<u32> {
    let mut file = File::open(lock_path(data_dir)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether someone holds the data folder.
pub(crate) fn is_held(data_dir: &Path) -> bool {
    File::open(lock_path(data_dir)).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// What a running scheduler says of itself; it stays behind when the process dies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) pid: u32,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) http: String,
}

fn marker_path(data_dir: &Path) -> PathBuf {
    data_dir.join("daemon.json")
}

impl Marker {
    pub(crate) fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        write_whole(&marker_path(data_dir), &serde_json::to_string(self)?)
    }

    pub(crate) fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(marker_path(data_dir)).ok()?).ok()
    }

    pub(crate) fn remove(data_dir: &Path) {
        // A marker that is gone is what is wanted.
        let _ = std::fs::remove_file(marker_path(data_dir));
    }
}

/// Writes a file so that readers see all of it or nothing.
pub(crate) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

/// The control socket of a data folder, by a path that is short whatever the folder is called: a socket's path
/// has at most 107 bytes (unix(7)). The folder's handle must live as long as the path is used.
pub(crate) fn socket_in(data_dir: &Path) -> std::io::Result<(PathBuf, File)> {
    let direct = data_dir.join("sched.sock");
    let folder = File::open(data_dir)?;
    if direct.as_os_str().len() < 100 {
        return Ok((direct, folder));
    }
    Ok((format!("/proc/self/fd/{}/sched.sock", folder.as_raw_fd()).into(), folder))
}
