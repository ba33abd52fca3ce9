//! Whole copies of a store: made beside its writer, and put in its place.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::watch::beside;
use super::{SqliteStore, StoreError, StoreLock, failure, schema};

fn io(place: &Path) -> impl Fn(std::io::Error) -> StoreError + Copy {
    move |error| StoreError::Io { place: place.display().to_string(), detail: error.to_string() }
}

/// Copies what the connection reads into a new file. Whatever ends this, a file with the target's name is a whole copy.
pub(super) fn copy_into(conn: &Connection, store: &Path, target: &Path) -> Result<(), StoreError> {
    let fail = io(target);
    if target.exists() {
        return Err(fail(std::io::ErrorKind::AlreadyExists.into()));
    }
    let part = beside(target, ".part");
    remove(&part).map_err(fail)?;
    conn.execute("VACUUM INTO ?1", [part.to_string_lossy()]).map_err(|error| failure(store, &error))?;
    put(&part, target).map_err(fail)
}

/// Gives a finished file its name, durably.
fn put(part: &Path, target: &Path) -> std::io::Result<()> {
    std::fs::File::open(part)?.sync_all()?;
    std::fs::rename(part, target)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl SqliteStore {
    /// Puts a copy in the place of the store at `path`; gives where the old one is kept, if there was one. A crash
    /// leaves either store, whole.
    ///
    /// # Errors
    /// When the store is in use, the copy is no store, or files cannot be written.
    pub fn restore(copy: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<Option<PathBuf>, StoreError> {
        let (copy, path) = (copy.as_ref(), path.as_ref());
        let _lock = StoreLock::take(&StoreLock::path_for(path))?;
        schema::refuse_empty(copy)?;
        schema::inspect(copy)?;
        let fail = io(path);
        let part = path.with_extension("restoring");
        std::fs::copy(copy, &part).map_err(fail)?;
        let mut kept = None;
        if path.exists() {
            // The old store's log goes into it before it is put aside.
            drop(
                Connection::open(path)
                    .and_then(|conn| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))),
            );
            let aside = (1..).map(|n| path.with_extension(format!("before-restore-{n}.db"))).find(|p| !p.exists());
            let aside = aside.unwrap_or_else(|| path.with_extension("before-restore.db"));
            std::fs::hard_link(path, &aside).map_err(fail)?;
            kept = Some(aside);
        }
        // A log that is still there belongs to what was put aside: a damaged store cannot take it in.
        let log = beside(path, "-wal");
        match kept.as_ref().filter(|_| log.exists()) {
            Some(aside) => std::fs::rename(&log, beside(aside, "-wal")).map_err(fail)?,
            None => remove(&log).map_err(fail)?,
        }
        remove(&beside(path, "-shm")).map_err(fail)?;
        put(&part, path).map_err(fail)?;
        Ok(kept)
    }
}
