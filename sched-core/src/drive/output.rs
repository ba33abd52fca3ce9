//! What runs print: the head goes to the file as it comes, the end is kept in memory until the attempt is over, what
//! lies between is counted. However much a program prints, this costs the same.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, FilesError};
use crate::id::RunId;

/// The head of a run's output, in bytes.
const HEAD: u64 = 4 * 1024 * 1024;
/// The end of an attempt's output, in bytes.
const TAIL: usize = 256 * 1024;

/// The output of the attempts that are under way.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    open: Mutex<HashMap<RunId, Arc<Mutex<Output>>>>,
}

#[derive(Debug, Default)]
struct Output {
    /// The head is full: what comes is the end, for all we know.
    full: bool,
    tail: VecDeque<String>,
    kept: usize,
    lines_left_out: usize,
    bytes_left_out: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outputs {
    /// Adds whole lines, each with its end.
    pub(super) fn append(&self, files: &Files, run_id: RunId, text: &str) -> Result<(), FilesError> {
        let output = lock(&self.open).entry(run_id).or_default().clone();
        lock(&output).append(files, run_id, text)
    }

    /// Adds whole lines if that touches no file, because the head is full.
    pub(super) fn append_in_memory(&self, run_id: RunId, text: &str) -> bool {
        let output = lock(&self.open).get(&run_id).cloned();
        output.is_some_and(|output| {
            // It may be held for a write to the file.
            let Ok(mut output) = output.try_lock() else { return false };
            output.full && {
                output.keep(text);
                true
            }
        })
    }

    /// The attempt is over: writes the end that was held back.
    pub(super) fn finish(&self, files: &Files, run_id: RunId) -> Result<(), FilesError> {
        let Some(output) = lock(&self.open).remove(&run_id) else { return Ok(()) };
        lock(&output).finish(files, run_id)
    }
}

impl Output {
    fn append(&mut self, files: &Files, run_id: RunId, mut text: &str) -> Result<(), FilesError> {
        if !self.full {
            let rest = files.append(run_id, |mut file| {
                let room = HEAD.saturating_sub(file.metadata()?.len());
                let fits = usize::try_from(room).unwrap_or(usize::MAX);
                if text.len() <= fits {
                    // One write: what is printed on both streams side by side stays in whole lines.
                    file.write_all(text.as_bytes())?;
                    return Ok(None);
                }
                let head = text.as_bytes()[..fits].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                let note = "(the head of the output is full: its end follows when the attempt is over)\n";
                file.write_all([&text[..head], note].concat().as_bytes())?;
                Ok(Some(head))
            })?;
            let Some(head) = rest else { return Ok(()) };
            self.full = true;
            text = &text[head..];
        }
        self.keep(text);
        Ok(())
    }

    fn keep(&mut self, text: &str) {
        self.kept += text.len();
        self.tail.push_back(text.to_owned());
        while let Some(first) = self.tail.front().filter(|first| self.kept - first.len() >= TAIL) {
            let (bytes, lines) = (first.len(), count_lines(first));
            self.tail.pop_front();
            self.leave_out(bytes, lines);
        }
    }

    fn leave_out(&mut self, bytes: usize, lines: usize) {
        self.kept -= bytes;
        self.bytes_left_out += bytes;
        self.lines_left_out += lines;
    }

    fn finish(&mut self, files: &Files, run_id: RunId) -> Result<(), FilesError> {
        if !self.full {
            return Ok(());
        }
        let tail: String = self.tail.drain(..).collect();
        let beyond = tail.len().saturating_sub(TAIL);
        let cut = tail.as_bytes().iter().skip(beyond).position(|byte| *byte == b'\n').map_or(0, |end| beyond + end + 1);
        let cut = if beyond == 0 { 0 } else { cut };
        self.leave_out(cut, count_lines(&tail[..cut]));
        let mut text = String::new();
        if self.bytes_left_out > 0 {
            text = format!("({} lines, {} bytes left out here)\n", self.lines_left_out, self.bytes_left_out);
        }
        text.push_str(&tail[cut..]);
        files.append(run_id, |mut file| file.write_all(text.as_bytes()))
    }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: usize) -> (String, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let (files, outputs, run_id) =
            (Files::below(folder.path()), Outputs::default(), RunId::from_uuid(uuid::Uuid::nil()));
        let all: Vec<String> = (0..lines).map(|line| format!("{line:099}\n")).collect();
        for chunk in all.chunks(7) {
            outputs.append(&files, run_id, &chunk.concat()).unwrap();
        }
        outputs.finish(&files, run_id).unwrap();
        (std::fs::read_to_string(files.output_path(run_id)).unwrap(), all)
    }

    #[test]
    fn what_fits_is_kept_as_it_came() {
        let (text, all) = printed(1000);
        assert_eq!(text, all.concat());
    }

    #[test]
    fn of_too_much_the_head_and_the_end_are_kept_and_what_is_left_out_is_counted() {
        let (text, all) = printed(100_000);
        let lines: Vec<&str> = text.lines().collect();
        let own: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with('(')).collect();
        assert!(lines.iter().all(|line| line.len() == 99 || own.contains(line)), "all lines are whole");
        assert_eq!(own[0], "(the head of the output is full: its end follows when the attempt is over)");
        let left_out: usize = own[1].strip_prefix('(').unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(lines.len() - own.len() + left_out, all.len(), "each line is kept or counted");
        assert_eq!((lines[0], lines[lines.len() - 1]), (all[0].trim_end(), all[all.len() - 1].trim_end()));
        assert!(text.len() > 4_300_000 && text.len() < 4_600_000, "{}", text.len());
    }

    #[test]
    fn just_beyond_the_head_nothing_is_left_out() {
        let (text, all) = printed(42_500);
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with('(')).collect();
        assert_eq!(kept.len(), all.len());
        assert!(!text.contains("left out"));
    }
}
