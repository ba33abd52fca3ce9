//! The NDJSON log: one event a line, `ts` and `event` first.
//!
//! Committed events are tailed from where the last process stopped, and carry `seq`, so that a line written
//! twice around a crash is recognisable; none is left out. Must not know: the engine, SQL.

mod file;
mod stream;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc::{Receiver, Sender, channel};

pub use self::file::Rotation;
use self::file::{LogFile, last_seq, moved};
pub use self::stream::NdjsonStream;
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
    after: Seq,
}

impl NdjsonLog {
    /// Appends to `path` what happens in the engine, from where the log stopped before. As `rotation` says, the file is
    /// moved away and begun anew.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn start(
        path: &Path,
        rotation: Rotation,
        handle: &Handle,
        runtime: &tokio::runtime::Handle,
    ) -> std::io::Result<Self> {
        let file = LogFile::open(path, rotation)?;
        let after = begin_after(path, handle);
        let (tasks, received) = channel(WAITING);
        let asked = Arc::new(Asked::default());
        let writing =
            Writing { file, asked: asked.clone(), handle: handle.clone(), runtime: runtime.clone(), refused: false };
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
        Ok(Self { tasks, asked, thread, tail, after })
    }

    /// The last committed event that earlier processes had written: what this one writes begins after it.
    #[must_use]
    pub const fn begins_after(&self) -> Seq {
        self.after
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
    file: LogFile,
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
                    self.write(&event);
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

    /// Appends the event's line; as long as the disk refuses, it is tried again.
    fn write(&mut self, event: &Recorded) {
        let line = line(event);
        let mut told = false;
        loop {
            let Err(error) = self.file.append(line.as_bytes(), event.ts) else { return };
            if !told {
                told = true;
                tracing::error!(%error, path = %self.file.path().display(), "the log cannot be written; trying again");
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
        if self.asked.reopen.swap(false, Ordering::AcqRel)
            && let Err(error) = self.file.reopen()
        {
            tracing::error!(%error, path = %self.file.path().display(), "the log cannot be reopened");
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

/// The last event that is out: the last line of the file, or of the one moved away before it, tells, unless those were
/// taken away or the store is another one; then the stored place does.
fn begin_after(path: &Path, handle: &Handle) -> Seq {
    let stored = handle.query().mark(NAME).ok().flatten().unwrap_or_default();
    let newest = handle.query().last_seq().unwrap_or_default();
    let last = last_seq(path).or_else(|| last_seq(&moved(path, 1)));
    last.filter(|seq| *seq <= newest).unwrap_or(stored).max(stored)
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
