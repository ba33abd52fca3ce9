//! Where the scheduler's log goes: its file, and standard output where that is asked for.

use std::io;

use sched_core::sink::{NdjsonLog, NdjsonStream};
use sched_core::{Event, Handle, Recorded};
use tokio::runtime::Handle as Tasks;

use crate::compose::Setup;

pub(super) struct Log {
    file: NdjsonLog,
    stream: Option<NdjsonStream>,
}

impl Log {
    /// In the background there is nobody at standard output.
    pub(super) fn start(setup: &Setup, in_background: bool, handle: &Handle) -> io::Result<Self> {
        let config = &setup.config;
        let wanted = config.log_to_stdout && !in_background;
        let file = NdjsonLog::start(&setup.log_path(), config.log, handle, &Tasks::current())?;
        let stream = || NdjsonStream::start(io::stdout(), file.begins_after(), handle, &Tasks::current());
        Ok(Self { stream: wanted.then(stream).transpose()?, file })
    }

    /// Opens the file anew, after something else has renamed it.
    pub(super) fn reopen(&self) {
        self.file.reopen();
    }

    /// Ends it with the line that this process is gone. Call after the engine has shut down.
    pub(super) async fn finish(self, ts: chrono::DateTime<chrono::Utc>) {
        let last = Recorded { ts, event: Event::Cleanup { removed_pid: std::process::id() }, seq: None };
        if let Some(stream) = self.stream {
            stream.finish(last.clone()).await;
        }
        self.file.finish(last).await;
    }
}
