//! The lock file that grants the only writer of a store.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::StoreError;

/// Others only look whether the lock is free, and let it go at once.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);

/// The right to be the only scheduler on a store. It ends with its value, and with the process (flock(2)).
#[derive(Debug)]
pub struct StoreLock {
    path: PathBuf,
    _file: File,
}

impl StoreLock {
    /// The lock file of a store: `sched.lock` beside `sched.db`.
    #[must_use]
    pub fn path_for(store: &Path) -> PathBuf {
        store.with_extension("lock")
    }

    /// Takes the lock file at `path`, and writes this process's id into it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] names the holder; other errors mean that the file cannot be written.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let fail = |error: std::io::Error| StoreError::Io { place: place.clone(), detail: error.to_string() };
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        for look in 0.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if look < LOOKS => std::thread::sleep(BETWEEN_LOOKS),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked { place, holder: Self::holder(path) });
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
        Ok(Self { path: path.to_path_buf(), _file: file })
    }

    /// Where the lock file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether someone holds the lock file at `path` now.
    #[must_use]
    pub fn is_held(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The process that holds the lock file at `path` now.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        let mut file = File::open(path).ok()?;
        if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return None;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}
