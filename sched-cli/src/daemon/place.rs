//! The files by which processes know of each other. The lock decides; the rest is information.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sched_core::{Clock as _, Event, Recorded, StoreLock, SystemClock};

use crate::exit::Failure;

/// Whether the data folder is still there is looked at so often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The lock that makes a process the only scheduler on a data folder.
pub(crate) fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.join("sched.lock")
}

/// The process that holds the data folder now.
pub(crate) fn holder(data_dir: &Path) -> Option<u32> {
    StoreLock::holder(&lock_path(data_dir))
}

/// Whether someone holds the data folder.
pub(crate) fn is_held(data_dir: &Path) -> bool {
    StoreLock::is_held(&lock_path(data_dir))
}

/// A file as it was once, to see whether it is still that one.
#[derive(Debug)]
pub(crate) struct Seat {
    path: PathBuf,
    file: (u64, u64),
}

impl Seat {
    /// Of the lock of a data folder, by whoever holds it.
    pub(crate) fn of(path: PathBuf) -> std::io::Result<Self> {
        let file = identity(&std::fs::metadata(&path)?);
        Ok(Self { path, file })
    }

    /// Whether the file was taken away, or another is in its place: the lock keeps nobody away any more.
    pub(crate) async fn is_lost(&self) -> bool {
        match tokio::fs::metadata(&self.path).await {
            Ok(now) => identity(&now) != self.file,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Waits until it is.
    pub(crate) async fn lost(&self) {
        while !self.is_lost().await {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

fn identity(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Makes a folder, with those above it.
pub(crate) fn folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::failed(format!("the folder {} cannot be made: {error}", path.display())))
}

/// Appends a line to the log of a scheduler that is not this process.
pub(crate) fn append_event(log: &Path, event: Event) -> Result<(), Failure> {
    let ts = SystemClock::new().now().utc;
    let line = sched_core::sink::line(&Recorded { ts, event, seq: None });
    let fault = |error| Failure::failed(format!("{}: {error}", log.display()));
    let mut file = File::options().append(true).create(true).open(log).map_err(fault)?;
    file.write_all(line.as_bytes()).map_err(fault)
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
