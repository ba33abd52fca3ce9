//! The turns of commands that start and stop: each sees what the one before has left, and the one that was asked last has
//! the last word. A queue of locked files, since waiters for one lock (flock(2)) come in no order.

use std::fs::{File, TryLockError};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::place::folder;
use crate::exit::Failure;
use crate::output;

/// A command's turn. It ends with its value, and with the process.
#[derive(Debug)]
pub(crate) struct Turn {
    path: PathBuf,
    _held: File,
}

impl Turn {
    /// Takes the next place in the queue of this data folder, and waits for the commands before it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Failure> {
        let turns = data_dir.join("turns");
        folder(&turns)?;
        let fault = |place: &Path, error: Error| {
            Failure::failed(format!("{}: {error}; what does not belong there is to be removed", place.display()))
        };
        let (path, held) = join(&turns).map_err(|error| fault(&turns, error))?;
        let turn = Self { path, _held: held };
        let mut told = false;
        // Who is before is there no more when its file can be locked; who was before that one may be.
        while let Some(before) = before(&turns, &turn.path).map_err(|error| fault(&turns, error))? {
            let gone = |error: &Error| error.kind() == ErrorKind::NotFound;
            match File::open(&before).and_then(|file| wait_for(&file, &mut told)) {
                Err(error) if !gone(&error) => return Err(fault(&before, error)),
                _ => {}
            }
            match std::fs::remove_file(&before) {
                Err(error) if !gone(&error) => return Err(fault(&before, error)),
                _ => {}
            }
        }
        Ok(turn)
    }
}

/// Waits for the command that has locked this file, and says so once.
fn wait_for(file: &File, told: &mut bool) -> std::io::Result<()> {
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            if !std::mem::replace(told, true) {
                output::note("another start, stop or restart of this scheduler is under way; waiting for it");
            }
            file.lock_shared()
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Whoever waits for it may have done so first.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the last file of the queue, and locks it before anybody can see who is last.
fn join(turns: &Path) -> std::io::Result<(PathBuf, File)> {
    let desk = File::options().write(true).create(true).truncate(false).open(turns.join("desk"))?;
    desk.lock()?;
    let last = tickets(turns)?.last().copied().unwrap_or(0);
    let path = place(turns, last.checked_add(1).ok_or_else(|| Error::other("there is no number after its last file"))?);
    let file = File::create_new(&path)?;
    file.lock()?;
    Ok((path, file))
}

fn place(turns: &Path, ticket: u64) -> PathBuf {
    turns.join(ticket.to_string())
}

fn tickets(turns: &Path) -> std::io::Result<Vec<u64>> {
    let mut tickets = Vec::new();
    for entry in std::fs::read_dir(turns)? {
        tickets.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    tickets.sort_unstable();
    Ok(tickets)
}

/// The file just before ours.
fn before(turns: &Path, ours: &Path) -> std::io::Result<Option<PathBuf>> {
    let before = tickets(turns)?.into_iter().map(|ticket| place(turns, ticket)).take_while(|path| path != ours).last();
    Ok(before)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn turns_come_in_the_order_in_which_they_were_asked_for_and_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (taken, turns) = (Mutex::new(Vec::new()), folder.path().join("turns"));
        // What a command left that was killed is nobody's turn.
        std::fs::create_dir(&turns).unwrap();
        std::fs::write(turns.join("1"), "").unwrap();
        let first = Turn::take(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (queued, in_queue) = channel();
                let (taken, turns, folder) = (&taken, &turns, folder.path());
                scope.spawn(move || {
                    let queue = tickets(turns).unwrap().len();
                    scope.spawn(move || {
                        while tickets(turns).unwrap().len() == queue {
                            std::thread::yield_now();
                        }
                        queued.send(()).unwrap();
                    });
                    let turn = Turn::take(folder).unwrap();
                    taken.lock().unwrap().push(number);
                    drop(turn);
                });
                in_queue.recv().unwrap();
            }
            assert!(taken.lock().unwrap().is_empty());
            drop(first);
        });
        assert_eq!(taken.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tickets(&turns).unwrap(), Vec::<u64>::new());
    }
}
