//! The files by which processes know of each other. The lock decides; the rest is information.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use sched_core::StoreLock;
use serde::{Deserialize, Serialize};

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
