//! The log's file: lines are whole, and it is moved away and begun anew by size and by time.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::id::Seq;

/// When a log is moved away and begun anew. The newest of those moved away is called `scheduler.log.1`.
///
/// Both limits may be set; without any, the file grows, and somebody else moves it.
///
/// ```
/// use sched_core::sink::Rotation;
/// let weekly = Rotation { max_size: Some(64 << 20), every: Some(std::time::Duration::from_secs(7 * 86_400)), keep: 8 };
/// assert_eq!(Rotation { keep: 8, ..Rotation::default() }, Rotation { max_size: None, every: None, ..weekly });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// No file is larger, in bytes, unless a single line is.
    pub max_size: Option<u64>,
    /// A file's lines are of one period of this length, counted from the Unix epoch: with a day, of one day in UTC, but
    /// for lines of the day before that come late.
    pub every: Option<Duration>,
    /// So many of those moved away are kept.
    pub keep: u32,
}

impl Default for Rotation {
    /// None; with a limit set, 14 files are kept.
    fn default() -> Self {
        Self { max_size: None, every: None, keep: 14 }
    }
}

impl Rotation {
    fn period(&self, at: DateTime<Utc>) -> Option<i64> {
        let every = i64::try_from(self.every?.as_secs()).ok().filter(|seconds| *seconds > 0)?;
        Some(at.timestamp().div_euclid(every))
    }
}

/// An open log.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    rotation: Rotation,
    length: u64,
    /// Up to where it could not be moved away: what comes after that counts.
    stuck: u64,
    /// The period of its first line; none while it is empty.
    period: Option<i64>,
}

impl LogFile {
    pub(super) fn open(path: &Path, rotation: Rotation) -> std::io::Result<Self> {
        let file = open(path)?;
        let length = file.metadata()?.len();
        let period = first_time(path).and_then(|at| rotation.period(at));
        Ok(Self { path: path.into(), file, rotation, length, stuck: 0, period })
    }

    /// Opens the file that is at its place now.
    pub(super) fn reopen(&mut self) -> std::io::Result<()> {
        *self = Self::open(&self.path, self.rotation)?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a whole line of that time; after half of one, the half is taken back.
    pub(super) fn append(&mut self, line: &[u8], at: DateTime<Utc>) -> std::io::Result<()> {
        self.rotate_before(line.len() as u64, at);
        let length = self.file.metadata().map(|meta| meta.len());
        if let Err(error) = self.file.write_all(line) {
            if let Ok(length) = length
                && let Err(error) = self.file.set_len(length)
            {
                tracing::warn!(%error, path = %self.path.display(), "half a line stays in the log");
            }
            return Err(error);
        }
        // Others may append as well.
        self.length = length.unwrap_or(self.length) + line.len() as u64;
        self.period = self.period.or_else(|| self.rotation.period(at));
        Ok(())
    }

    fn rotate_before(&mut self, more: u64, at: DateTime<Utc>) {
        let counts = self.length.saturating_sub(self.stuck);
        let too_large = self.rotation.max_size.is_some_and(|most| counts > 0 && counts + more > most);
        // A line that comes a little late is not worth a file, nor the next one after it.
        let of_another = self.period.zip(self.rotation.period(at)).is_some_and(|(has, is)| has != is && has != is + 1);
        if !too_large && !of_another {
            return;
        }
        if let Err(error) = self.rotate() {
            // It is tried again when as much has come again.
            (self.stuck, self.period) = (self.length, None);
            tracing::error!(%error, path = %self.path.display(), "the log cannot be moved away; it goes on growing");
        }
    }

    /// Moves the file away. Each step leaves all lines in some file, so that a crash between two loses none.
    fn rotate(&mut self) -> std::io::Result<()> {
        if !self.path.exists() {
            return self.reopen();
        }
        let keep = self.rotation.keep.max(1);
        // From the oldest that is to move: up to the first free number, so that a gap stays no gap.
        let free = (1..keep).find(|number| !moved(&self.path, *number).exists()).unwrap_or(keep);
        for number in (1..free).rev() {
            std::fs::rename(moved(&self.path, number), moved(&self.path, number + 1))?;
        }
        std::fs::rename(&self.path, moved(&self.path, 1))?;
        self.reopen()
    }
}

/// Where the log is moved to, which is the newest but so many.
pub(super) fn moved(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// The highest sequence number in a file's last part.
pub(super) fn last_seq(path: &Path) -> Option<Seq> {
    const LAST_PART: u64 = 256 * 1024;
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_PART))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let seq = |line: &str| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64();
    text.lines().filter_map(seq).max().map(Seq)
}

/// The time of a file's first line.
fn first_time(path: &Path) -> Option<DateTime<Utc>> {
    const LONGEST: u64 = 1024 * 1024;
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?.take(LONGEST)).read_line(&mut line).ok()?;
    serde_json::from_str::<Value>(&line).ok()?["ts"].as_str()?.parse().ok()
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    // Half a line that a crash left must not swallow the next one. A new file has no last byte.
    let mut last = *b"\n";
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_is_moved_away_before_it_is_too_large_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation { max_size: Some(8), every: None, keep: 2 };
        let mut log = LogFile::open(&path, rotation).unwrap();
        let now = at("2026-01-01T00:00:00Z");
        for line in ["one\n", "two\n", "three\n", "much longer than that\n", "four\n"] {
            log.append(line.as_bytes(), now).unwrap();
        }
        assert_eq!(names(folder.path()), ["log", "log.1", "log.2"]);
        let all = [moved(&path, 2), moved(&path, 1), path.clone()].map(|path| read(&path));
        assert_eq!(all, ["three\n", "much longer than that\n", "four\n"], "the first two lines were in the oldest");
    }

    #[test]
    fn a_new_day_begins_a_new_file_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation { every: Some(Duration::from_secs(86_400)), ..Rotation::default() };
        let write = |log: &mut LogFile, time: &str| {
            log.append(format!("{{\"ts\":\"{time}\"}}\n").as_bytes(), at(time)).unwrap();
        };
        let mut log = LogFile::open(&path, rotation).unwrap();
        write(&mut log, "2026-01-01T00:00:00Z");
        write(&mut log, "2026-01-01T23:59:59Z");
        let mut log = LogFile::open(&path, rotation).unwrap();
        write(&mut log, "2026-01-02T00:00:00Z");
        assert_eq!(read(&moved(&path, 1)).lines().count(), 2);
        assert_eq!(read(&path).lines().count(), 1);
    }

    #[test]
    fn a_late_line_of_the_day_before_begins_no_file_and_a_clock_that_was_set_back_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation { every: Some(Duration::from_secs(86_400)), ..Rotation::default() };
        let mut log = LogFile::open(&path, rotation).unwrap();
        for time in ["2026-01-05T00:00:00Z", "2026-01-04T23:59:59Z", "2026-01-05T00:00:01Z"] {
            log.append(b"line\n", at(time)).unwrap();
        }
        assert_eq!(names(folder.path()), ["log"]);
        log.append(b"line\n", at("2026-01-02T00:00:00Z")).unwrap();
        assert_eq!(names(folder.path()), ["log", "log.1"]);
    }

    #[test]
    fn a_log_that_cannot_be_moved_away_is_tried_again_when_as_much_has_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::create_dir(moved(&path, 1)).unwrap();
        let mut log = LogFile::open(&path, Rotation { max_size: Some(8), every: None, keep: 1 }).unwrap();
        let now = at("2026-01-01T00:00:00Z");
        for line in ["one\n", "two\n", "three\n"] {
            log.append(line.as_bytes(), now).unwrap();
        }
        std::fs::remove_dir(moved(&path, 1)).unwrap();
        log.append(b"4\n", now).unwrap();
        assert_eq!(names(folder.path()), ["log"], "only six bytes have come again");
        log.append(b"five\n", now).unwrap();
        assert_eq!((read(&path), read(&moved(&path, 1))), ("five\n".into(), "one\ntwo\nthree\n4\n".into()));
    }

    #[test]
    fn a_log_that_was_deleted_is_begun_anew_when_it_would_be_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Rotation { max_size: Some(8), ..Rotation::default() };
        let mut log = LogFile::open(&path, rotation).unwrap();
        std::fs::write(moved(&path, 1), "old\n").unwrap();
        let now = at("2026-01-01T00:00:00Z");
        log.append(b"deleted\n", now).unwrap();
        std::fs::remove_file(&path).unwrap();
        log.append(b"new\n", now).unwrap();
        assert_eq!((read(&path), read(&moved(&path, 1))), ("new\n".into(), "old\n".into()));
    }

    #[test]
    fn a_gap_that_a_crash_left_between_two_moves_is_filled_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for number in [2, 3] {
            std::fs::write(moved(&path, number), format!("{number}")).unwrap();
        }
        let mut log = LogFile::open(&path, Rotation { max_size: Some(4), ..Rotation::default() }).unwrap();
        for line in ["one\n", "two\n"] {
            log.append(line.as_bytes(), at("2026-01-01T00:00:00Z")).unwrap();
        }
        let all = [1, 2, 3].map(|number| read(&moved(&path, number)));
        assert_eq!(all, ["one\n", "2", "3"]);
    }
}
