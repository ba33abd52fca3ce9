//! The log's lines on a stream that somebody else keeps, such as journald or a container's log.

use std::io::Write;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::line;
use crate::drive::Handle;
use crate::event::Recorded;
use crate::id::Seq;

/// Lines that wait for a slow reader; what comes after them is read from the store again.
const WAITING: usize = 1024;
/// What a reader that takes nothing gets at the end.
const GRACE: Duration = Duration::from_secs(1);

/// Writes what happens to a stream. A reader that is slow holds up nobody, and one that has gone ends it.
#[derive(Debug)]
pub struct NdjsonStream {
    lines: Sender<Recorded>,
    ended: tokio::sync::oneshot::Receiver<()>,
    tail: tokio::task::JoinHandle<()>,
}

impl NdjsonStream {
    /// Writes to `out` what happens in the engine, from the committed event `after` on, as [`NdjsonLog`] tells it.
    ///
    /// [`NdjsonLog`]: super::NdjsonLog
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(
        out: impl Write + Send + 'static,
        after: Seq,
        handle: &Handle,
        runtime: &tokio::runtime::Handle,
    ) -> std::io::Result<Self> {
        let (lines, waiting) = channel(WAITING);
        let (end, ended) = tokio::sync::oneshot::channel();
        // Not joined: one that hangs in a write ends with the process.
        std::thread::Builder::new().name("sched-stream".into()).spawn(move || {
            write(out, waiting);
            // Who does not wait for it any more has gone on.
            let _ = end.send(());
        })?;
        let mut events = handle.subscribe(Some(after));
        let sender = lines.clone();
        let tail = runtime.spawn(async move {
            while let Some(event) = events.next().await {
                if sender.send(event).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { lines, ended, tail })
    }

    /// Writes what the engine has announced, then `last`, and ends. Call after the engine has shut down. A reader that
    /// takes nothing is given up after a second.
    pub async fn finish(self, last: Recorded) {
        let Self { lines, ended, tail } = self;
        let all = async move {
            if tail.await.is_ok() && lines.send(last).await.is_ok() {
                drop(lines);
                // Ended either way.
                let _ = ended.await;
            }
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!("nobody reads the log on standard output; its last lines are in the file only");
        }
    }
}

fn write(mut out: impl Write, mut waiting: Receiver<Recorded>) {
    while let Some(event) = waiting.blocking_recv() {
        let written = out.write_all(line(&event).as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written {
            tracing::warn!(%error, "the log cannot be written to standard output any more; the file has it");
            return;
        }
    }
}
