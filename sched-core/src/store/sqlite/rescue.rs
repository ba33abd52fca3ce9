//! Saves what was acknowledged when the files under an open store turn out to be others.

use std::path::{Path, PathBuf};

use super::copy::copy_into;
use super::watch::Found;
use super::{SqliteStore, Store as _, StoreError};

impl SqliteStore {
    /// Keeps what was acknowledged; Ok when the files are right after all.
    pub(super) fn rescue(&mut self, found: Found) -> Result<(), StoreError> {
        let remedy = match found {
            Found::Same => return Ok(()),
            Found::Shorter => {
                self.verify()?;
                self.watch.accept_length();
                return Ok(());
            }
            Found::LogMoved => self.empty_log(),
            Found::Moved => self.save(),
        };
        Err(moved(&self.path, remedy))
    }

    /// Moves the log, which only this process still has, into the database; gives what to do next.
    fn empty_log(&self) -> String {
        let complete = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?);
        match self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], complete) {
            Ok(true) => "everything acknowledged is in the store itself: stop, and start again".into(),
            Ok(false) => "its log is being moved into it".into(),
            Err(error) => format!("put them back before anything else ({error})"),
        }
    }

    /// Copies what the open descriptors still hold, once; gives what to do next.
    fn save(&mut self) -> String {
        if let Some(copy) = self.saved.as_ref().filter(|copy| copy.exists()) {
            return saved_in(copy);
        }
        match self.copy_aside() {
            Ok(copy) => saved_in(self.saved.insert(copy)),
            Err(error) => format!("put them back, or stop and restore a backup (no copy could be saved: {error})"),
        }
    }

    fn copy_aside(&self) -> Result<PathBuf, StoreError> {
        let unused = copies(&self.path).find(|copy| !copy.exists());
        let copy = unused.unwrap_or_else(|| self.path.with_extension("saved.db"));
        copy_into(&self.conn, &self.path, &copy)?;
        Ok(copy)
    }
}

/// A store that is gone while a saved copy of it is there is not begun anew: that would lose in silence what was saved.
pub(super) fn refuse_to_begin_anew(path: &Path) -> Result<(), StoreError> {
    let newest = copies(path).take_while(|copy| copy.exists()).last();
    match newest.filter(|_| !path.exists()) {
        Some(copy) => Err(moved(path, saved_in(&copy))),
        None => Ok(()),
    }
}

/// The names of saved copies, in order.
fn copies(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let path = path.to_path_buf();
    (1..=u16::MAX).map(move |n| path.with_extension(format!("saved-{n}.db")))
}

fn saved_in(copy: &Path) -> String {
    format!("everything acknowledged is saved in {}: stop, and restore that", copy.display())
}

fn moved(path: &Path, remedy: String) -> StoreError {
    StoreError::Moved { place: path.display().to_string(), remedy }
}
