//! Notices that the files under an open store are no longer those that were opened.
//!
//! SQLite goes on with its descriptors when a file is deleted or replaced: what it then calls durable is gone with
//! the process. Each commit therefore looks first; that costs three calls of stat(2).

use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The files that were opened.
    Same,
    /// The database itself is another file, or none.
    Moved,
    /// The database is the same, but its log or the log's index is not.
    LogMoved,
    /// The database is the same file and shorter than before: cut off, or made smaller by a VACUUM.
    Shorter,
}

/// The files of one open store.
#[derive(Debug)]
pub(super) struct Watch {
    database: PathBuf,
    identity: Option<Identity>,
    length: u64,
    logs: Vec<(PathBuf, Identity)>,
}

type Identity = (u64, u64);

#[cfg(unix)]
fn identity(meta: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (meta.dev(), meta.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0)
}

/// A file beside the database: `-wal` or `-shm`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Watch {
    /// Remembers the files as they are now, just opened.
    pub(super) fn over(database: &Path) -> Self {
        let look = |path: &Path| std::fs::metadata(path).ok();
        let meta = look(database);
        let logs = ["-wal", "-shm"].map(|suffix| beside(database, suffix)).into_iter();
        Self {
            database: database.to_path_buf(),
            identity: meta.as_ref().map(identity),
            length: meta.map_or(0, |meta| meta.len()),
            logs: logs.filter_map(|path| Some((path.clone(), identity(&look(&path)?)))).collect(),
        }
    }

    pub(super) fn look(&mut self) -> Found {
        let Some(meta) = std::fs::metadata(&self.database).ok().filter(|meta| Some(identity(meta)) == self.identity)
        else {
            return Found::Moved;
        };
        let same = |path: &Path, known: Identity| std::fs::metadata(path).is_ok_and(|meta| identity(&meta) == known);
        if !self.logs.iter().all(|(path, known)| same(path, *known)) {
            return Found::LogMoved;
        }
        if meta.len() < self.length {
            return Found::Shorter;
        }
        self.length = meta.len();
        Found::Same
    }

    /// The present length is right.
    pub(super) fn accept_length(&mut self) {
        self.length = std::fs::metadata(&self.database).map_or(0, |meta| meta.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_known_again_only_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("s.db");
        let (wal, shm) = (beside(&database, "-wal"), beside(&database, "-shm"));
        for path in [&database, &wal, &shm] {
            std::fs::write(path, "0123456789").unwrap();
        }
        let mut watch = Watch::over(&database);
        assert_eq!(watch.look(), Found::Same);
        std::fs::write(&database, "0123456789 and more").unwrap();
        std::fs::write(&wal, "").unwrap();
        assert_eq!(watch.look(), Found::Same, "files grow, and a log begins anew");

        std::fs::write(&database, "0123").unwrap();
        assert_eq!(watch.look(), Found::Shorter);
        watch.accept_length();
        assert_eq!(watch.look(), Found::Same);

        let aside = folder.path().join("aside");
        for (path, found) in [(&shm, Found::LogMoved), (&wal, Found::LogMoved), (&database, Found::Moved)] {
            std::fs::rename(path, &aside).unwrap();
            assert_eq!(watch.look(), found);
            std::fs::copy(&aside, path).unwrap();
            assert_eq!(watch.look(), found, "a copy is another file");
            std::fs::rename(&aside, path).unwrap();
            assert_eq!(watch.look(), Found::Same, "it was put back");
        }
    }
}
