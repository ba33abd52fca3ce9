//! The files by which processes know of each other. The lock decides; the rest is information.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use sched_core::{Clock as _, Event, Recorded, StoreLock, SystemClock};

use crate::exit::Failure;

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
