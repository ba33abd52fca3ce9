//! Files below a root, found and removed by directory handles: no symbolic link is followed, no mount is crossed, and a
//! file is removed by its name below the handle of the folder it was seen in, if it still is the same.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fstat, mkdirat, openat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::rule::Facts;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file as it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its folder, below the root.
    pub(super) folder: PathBuf,
    name: CString,
    identity: Identity,
}

/// What changes when a file is replaced or written to.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    inode: (u64, u64),
    modified: (i64, i64),
    bytes: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: (stat.st_dev, stat.st_ino),
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

impl Seen {
    /// Its path below the root, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join(self.name.to_string_lossy().as_ref())
    }

    pub(super) fn facts(&self) -> Facts {
        let (seconds, nanos) = self.identity.modified;
        let modified = DateTime::from_timestamp(seconds, u32::try_from(nanos).unwrap_or(0));
        Facts { modified: modified.unwrap_or(DateTime::<Utc>::UNIX_EPOCH), bytes: self.identity.bytes }
    }
}

/// A root that is open, and the device it is on.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    device: u64,
}

/// What became of a file that was to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Removed,
    /// It, or its folder, is another one now, or has gone already.
    Changed,
}

impl Root {
    /// Opens a root; none when it does not exist.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Errno> {
        let handle = match openat(CWD, path, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            handle => handle?,
        };
        let device = fstat(&handle)?.st_dev;
        Ok(Some(Self { handle, device }))
    }

    /// Calls `found` with each regular file, and `wrong` with each folder that cannot be read, until one says stop.
    pub(super) fn list(&self, mut found: impl FnMut(Seen) -> bool, mut wrong: impl FnMut(&Path, Errno)) {
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let folder = match self.folder(&below, false) {
                Ok(Some(folder)) => folder,
                Ok(None) => continue,
                Err(error) => {
                    wrong(&below, error);
                    continue;
                }
            };
            let entries = match Dir::read_from(folder.as_fd()) {
                Ok(entries) => entries,
                Err(error) => {
                    wrong(&below, error);
                    continue;
                }
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_owned();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                // A file that has gone meanwhile is no concern.
                let Ok(stat) = statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                if stat.st_dev != self.device {
                    continue;
                }
                match FileType::from_raw_mode(stat.st_mode) {
                    // A name that is no text could not be opened again by its path.
                    FileType::Directory => waiting.extend(name.to_str().ok().map(|name| below.join(name))),
                    FileType::RegularFile => {
                        let seen = Seen { folder: below.clone(), name, identity: Identity::of(&stat) };
                        if !found(seen) {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Opens a folder below the root step by step; none when a step is no folder of this file system any more.
    fn folder(&self, below: &Path, make: bool) -> Result<Option<OwnedFd>, Errno> {
        let mut folder = openat(&self.handle, ".", FOLDER, Mode::empty())?;
        for part in below.components() {
            let Component::Normal(name) = part else { return Ok(None) };
            if make {
                match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                    Err(error) if error != Errno::EXIST => return Err(error),
                    _ => {}
                }
            }
            folder = match openat(&folder, name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                next => next?,
            };
            if fstat(&folder)?.st_dev != self.device {
                return Ok(None);
            }
        }
        Ok(Some(folder))
    }

    /// Removes files of one folder, or moves them below `archive`; `done` hears what became of each, until it says stop.
    pub(super) fn remove<'s>(
        &self,
        folder: &Path,
        files: impl IntoIterator<Item = &'s Seen>,
        archive: Option<&Self>,
        mut done: impl FnMut(&Seen, Result<Gone, Errno>) -> bool,
    ) {
        let handle = self.folder(folder, false);
        let target = archive.map(|archive| archive.folder(folder, true));
        for seen in files {
            let gone = match (&handle, &target) {
                (Ok(None), _) => Ok(Gone::Changed),
                (Err(error), _) | (_, Some(Err(error))) => Err(*error),
                (_, Some(Ok(None))) => Err(Errno::NOTDIR),
                (Ok(Some(from)), None) => take(from, seen, |name| unlinkat(from, name, AtFlags::empty())),
                (Ok(Some(from)), Some(Ok(Some(to)))) => take(from, seen, |name| put_aside(from, name, to)),
            };
            if !done(seen, gone) {
                return;
            }
        }
    }
}

/// What was replaced or written to since it was listed is another file, and stays.
fn take(folder: &OwnedFd, seen: &Seen, away: impl FnOnce(&CString) -> Result<(), Errno>) -> Result<Gone, Errno> {
    let same = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && Identity::of(stat) == seen.identity
    };
    match statat(folder, &seen.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if same(&stat) => away(&seen.name).map(|()| Gone::Removed),
        Ok(_) | Err(Errno::NOENT) => Ok(Gone::Changed),
        Err(error) => Err(error),
    }
}

/// Moves a file beside what is archived already; nothing there is replaced.
fn put_aside(from: &OwnedFd, name: &CString, to: &OwnedFd) -> Result<(), Errno> {
    let mut target = name.as_bytes().to_vec();
    for number in 1..=1000 {
        match renameat_with(from, name, to, target.as_slice(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => target = [name.as_bytes(), format!(".{number}").as_bytes()].concat(),
            moved => return moved,
        }
    }
    Err(Errno::EXIST)
}
