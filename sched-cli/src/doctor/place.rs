//! Folders: whether they can be written, who else can, on what they lie, what is free, whether locks hold.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};

use super::Check;
use crate::compose::Setup;

/// Below so much room, and so few files that can still be made, a store soon stops.
const LITTLE: u64 = 1 << 30;
const TOO_LITTLE: u64 = 100 << 20;
const FEW_FILES: u64 = 10_000;

pub(super) fn checks(setup: &Setup) -> Vec<Check> {
    let config = &setup.config;
    let mut checks = vec![folder("data folder", &config.data_dir), folder("log folder", &config.log_dir)];
    let there = standing(&config.data_dir);
    if let Some(kind) = statfs(&there).ok().map(|found| found.f_type) {
        checks.push(file_system(kind as u64));
    }
    if let Ok(found) = statvfs(&there) {
        checks.push(room(found.f_bavail * found.f_frsize, found.f_favail, found.f_files));
    }
    checks.push(locks(&there));
    for (name, tight) in [("dashboard.key", 0o077), ("sched.sock", 0o077), ("sched.db", 0o022)] {
        let path = config.data_dir.join(name);
        if let Ok(meta) = path.symlink_metadata() {
            checks.push(file(&path, &meta, tight));
        }
    }
    checks
}

/// The folder, or the nearest one above it that is there.
pub(super) fn standing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn folder(check: &'static str, path: &Path) -> Check {
    let there = standing(path);
    let place = path.display();
    let owner = |meta: &Metadata| format!("{place}: uid {}, mode {:o}", meta.uid(), meta.mode() & 0o7777);
    if path.exists() && !path.is_dir() {
        return Check::bad(
            check,
            format!("{place} is no folder"),
            "name another in the configuration, or move it away",
        );
    }
    // Tried, because modes do not tell of read-only mounts, quotas and rules of the kernel.
    if let Err(error) = tempfile::tempfile_in(&there) {
        let who = rustix::process::geteuid().as_raw();
        let remedy = format!("make {} writable for uid {who}, or name another folder", there.display());
        return Check::bad(check, format!("{place} cannot be written: {error}"), remedy);
    }
    match path.metadata() {
        Err(_) => Check::ok(check, format!("{place} is not there yet, and can be made")),
        Ok(meta) if shared(meta.mode()) => {
            Check::bad(check, format!("{}: others can write", owner(&meta)), format!("chmod go-w {place}"))
        }
        // What root makes in it, its owner cannot write.
        Ok(meta) if meta.uid() != rustix::process::geteuid().as_raw() => {
            let remedy = "ask and start as the user that the scheduler runs as";
            Check::warn(check, format!("{}: another user's than asks", owner(&meta)), remedy)
        }
        Ok(meta) => Check::ok(check, owner(&meta)),
    }
}

/// Whether the group or everyone can write.
const fn shared(mode: u32) -> bool {
    mode & 0o022 != 0
}

fn file(path: &Path, meta: &Metadata, tight: u32) -> Check {
    let mode = meta.permissions().mode() & 0o7777;
    let found = format!("{}: uid {}, mode {mode:o}", path.display(), meta.uid());
    if mode & tight == 0 {
        Check::ok("file mode", found)
    } else {
        let remedy = format!("chmod {:o} {}", mode & !tight, path.display());
        Check::bad("file mode", format!("{found}: others can use it"), remedy)
    }
}

/// What SQLite can rely on, by the magic number that statfs(2) gives.
fn file_system(magic: u64) -> Check {
    const NETWORK: &str = "SQLite needs locks and a log that only one machine maps: put data_dir on a local disk";
    let check = "file system";
    match magic & 0xffff_ffff {
        0x6969 => Check::bad(check, "nfs", NETWORK),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Check::bad(check, "cifs or smb", NETWORK),
        0x0102_1997 => Check::bad(check, "9p", NETWORK),
        0x00c3_6400 | 0x5346_414f | 0x0bd0_0bd0 => Check::bad(check, "a file system of a cluster", NETWORK),
        0x6573_5546 => Check::warn(
            check,
            "fuse",
            "what is behind it decides: sshfs and the like lose commits, a local disk is better",
        ),
        0x0102_1994 | 0x8584_58f6 => {
            Check::warn(check, "tmpfs", "all state is lost at a reboot: put data_dir on a disk, if it is to last")
        }
        0x794c_7630 => Check::warn(check, "overlay", "state is lost with the container: mount a volume at data_dir"),
        0xef53 => Check::ok(check, "ext4"),
        0x5846_5342 => Check::ok(check, "xfs"),
        0x9123_683e => Check::ok(check, "btrfs"),
        0x2fc1_2fc1 => Check::ok(check, "zfs"),
        0xf2f5_2010 => Check::ok(check, "f2fs"),
        other => Check::ok(check, format!("local, as far as its number {other:#x} is known")),
    }
}

fn room(bytes: u64, files: u64, all_files: u64) -> Check {
    let found = format!("{} MiB and {files} files free", bytes >> 20);
    let remedy = "free some, or let `retention` keep less";
    // Some file systems count no files.
    if bytes < TOO_LITTLE || (all_files > 0 && files < FEW_FILES / 100) {
        Check::bad("disk", found, remedy)
    } else if bytes < LITTLE || (all_files > 0 && files < FEW_FILES) {
        Check::warn("disk", found, remedy)
    } else {
        let found = if all_files > 0 { found } else { format!("{} MiB free", bytes >> 20) };
        Check::ok("disk", found)
    }
}

/// Two handles of one file: the second must not get what the first has.
fn locks(there: &Path) -> Check {
    let look = || -> std::io::Result<bool> {
        let file = tempfile::NamedTempFile::new_in(there)?;
        file.as_file().lock()?;
        Ok(matches!(file.reopen()?.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
    };
    match look() {
        Ok(true) => Check::ok("locks", "they hold"),
        Ok(false) => Check::bad(
            "locks",
            format!("two take the same lock in {}", there.display()),
            "two schedulers could run on it: put data_dir on a local disk",
        ),
        Err(error) => Check::bad("locks", error.to_string(), "put data_dir where it can be written, on a local disk"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn file_systems_are_judged_by_what_sqlite_needs() {
        let state = |magic| file_system(magic).state;
        assert_eq!([0x6969, 0xff53_4d42, 0x0102_1997].map(state), [State::Bad; 3]);
        assert_eq!([0x6573_5546, 0x0102_1994, 0x794c_7630].map(state), [State::Warn; 3]);
        assert_eq!([0xef53, 0x5846_5342, 7].map(state), [State::Ok; 3]);
        // The kernel's type is signed where a long has 32 bits.
        assert_eq!(state(0xffff_ffff_ff53_4d42), State::Bad);
    }

    #[test]
    fn room_counts_bytes_and_files() {
        let state = |bytes, files, all| room(bytes, files, all).state;
        assert_eq!(state(2 << 30, 1_000_000, 2_000_000), State::Ok);
        assert_eq!(state(2 << 30, 0, 0), State::Ok, "btrfs counts no files");
        assert_eq!(state(500 << 20, 1_000_000, 2_000_000), State::Warn);
        assert_eq!(state(2 << 30, 5_000, 2_000_000), State::Warn);
        assert_eq!(state(50 << 20, 1_000_000, 2_000_000), State::Bad);
        assert_eq!(state(2 << 30, 0, 2_000_000), State::Bad);
    }
}
