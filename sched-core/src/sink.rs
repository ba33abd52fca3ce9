//! The NDJSON log: one event a line, `ts` and `event` first.
//!
//! Committed events are tailed from where the last process stopped, and carry `seq`, so that a line written
//! twice around a crash is recognisable; none is left out. Must not know: the engine, SQL.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::drive::Handle;
use crate::event::{Event, Recorded};
use crate::id::Seq;

/// The name under which the log's place is stored.
const NAME: &str = "ndjson";
/// Lines that wait for a slow disk; what comes after them is read from the store again.
const WAITING: usize = 1024;
/// Between tries to write to a disk that refuses.
const RETRY: Duration = Duration::from_secs(1);

enum Task {
    Line(Box<Recorded>),
    Look,
    Stop,
}

/// What the log's thread is asked beside lines.
#[derive(Debug, Default)]
struct Asked {
    reopen: AtomicBool,
    give_up: AtomicBool,
}

/// The log file and the thread that writes it. A line that cannot be written is tried again until it can.
#[derive(Debug)]
pub struct NdjsonLog {
    tasks: Sender<Task>,
    asked: Arc<Asked>,
    thread: std::thread::JoinHandle<()>,
    tail: tokio::task::JoinHandle<()>,
}

impl NdjsonLog {
    /// Appends to `path` what happens in the engine, from where the log stopped before.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn start(path: &Path, handle: &Handle, runtime: &tokio::runtime::Handle) -> std::io::Result<Self> {
        let file = open(path)?;
        let after = begin_after(path, handle);
        let (tasks, received) = channel(WAITING);
        let asked = Arc::new(Asked::default());
        let writing = Writing {
            path: path.to_path_buf(),
            file,
            asked: asked.clone(),
            handle: handle.clone(),
            runtime: runtime.clone(),
            refused: false,
        };
        let thread = std::thread::Builder::new().name("sched-log".into()).spawn(move || writing.run(received))?;
        let mut events = handle.subscribe(Some(after));
        let sender = tasks.clone();
        let tail = runtime.spawn(async move {
            while let Some(event) = events.next().await {
                if sender.send(Task::Line(Box::new(event))).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { tasks, asked, thread, tail })
    }

    /// Opens the file anew, after something else has renamed it.
    pub fn reopen(&self) {
        self.asked.reopen.store(true, Ordering::Release);
        // With a full queue the thread comes to look anyway.
        let _ = self.tasks.try_send(Task::Look);
    }

    /// Writes what the engine has announced, then `last`, and ends. Call after the engine has shut down. Committed
    /// events that the disk still refuses are written at the next start.
    pub async fn finish(self, last: Recorded) {
        self.asked.give_up.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if self.tail.await.is_err() {
            tracing::error!("the log's tail ended by a panic");
        }
        // A thread that has ended has said why.
        let _ = self.tasks.send(Task::Line(Box::new(last))).await;
        let _ = self.tasks.send(Task::Stop).await;
        if !matches!(tokio::task::spawn_blocking(move || self.thread.join()).await, Ok(Ok(()))) {
            tracing::error!("the log ended by a panic");
        }
    }
}

struct Writing {
    path: PathBuf,
    file: File,
    asked: Arc<Asked>,
    handle: Handle,
    runtime: tokio::runtime::Handle,
    /// A line was given up: none after it is written, for the next start begins after the last that stands there.
    refused: bool,
}

impl Writing {
    fn run(mut self, mut tasks: Receiver<Task>) {
        let mut last = None;
        while let Some(task) = tasks.blocking_recv() {
            self.reopen_if_asked();
            match task {
                Task::Line(_) if self.refused => {}
                Task::Line(event) => {
                    self.write(line(&event).as_bytes());
                    last = event.seq.or(last);
                    if matches!(event.event, Event::Tick { .. })
                        && !self.refused
                        && let Some(seq) = last.take()
                    {
                        self.mark(seq);
                    }
                }
                Task::Look => {}
                Task::Stop => break,
            }
        }
    }

    /// Appends the whole line; after half of one, the half is taken back before the next try.
    fn write(&mut self, line: &[u8]) {
        let mut told = false;
        loop {
            let length = self.file.metadata().map(|meta| meta.len());
            let Err(error) = self.file.write_all(line) else { return };
            if let Ok(length) = length
                && let Err(error) = self.file.set_len(length)
            {
                tracing::warn!(%error, path = %self.path.display(), "half a line stays in the log");
            }
            if !told {
                told = true;
                tracing::error!(%error, path = %self.path.display(), "the log cannot be written; trying again");
            }
            if self.asked.give_up.load(Ordering::Acquire) {
                self.refused = true;
                return;
            }
            std::thread::park_timeout(RETRY);
            self.reopen_if_asked();
        }
    }

    fn reopen_if_asked(&mut self) {
        if self.asked.reopen.swap(false, Ordering::AcqRel) {
            match open(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => tracing::error!(%error, path = %self.path.display(), "the log cannot be reopened"),
            }
        }
    }

    /// Lines after the mark are written again after a crash, and are told apart by `seq`.
    fn mark(&self, seq: Seq) {
        let handle = self.handle.clone();
        self.runtime.spawn(async move {
            if let Err(error) = handle.mark(NAME, seq).await {
                tracing::debug!(%error, "the log's place was not stored");
            }
        });
    }
}

/// The last event that is out: the file's own last line tells, unless the file was moved away or the store is
/// another one; then the stored place does.
fn begin_after(path: &Path, handle: &Handle) -> Seq {
    let stored = handle.query().mark(NAME).ok().flatten().unwrap_or_default();
    let newest = handle.query().last_seq().unwrap_or_default();
    last_in(path).filter(|seq| *seq <= newest).unwrap_or(stored).max(stored)
}

/// The highest sequence number in the file's last part.
fn last_in(path: &Path) -> Option<Seq> {
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

/// One event as one line.
#[must_use]
pub fn line(event: &Recorded) -> String {
    let mut fields = Map::new();
    fields.insert("ts".into(), event.ts.to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into());
    fields.insert("event".into(), event.event.name().into());
    if let Ok(Value::Object(rest)) = serde_json::to_value(&event.event) {
        fields.extend(rest);
    }
    if let Some(seq) = event.seq {
        fields.insert("seq".into(), seq.0.into());
    }
    format!("{}\n", Value::Object(fields))
}
