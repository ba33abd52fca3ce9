//! Keeps what a running scheduler says of itself true until it ends.

use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use chrono::{DateTime, Utc};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use sched_core::Clock;

use super::marker::{Marker, Note as _, Stopped};
use crate::exit::Failure;

/// The marker of this process.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    data_dir: PathBuf,
    marker: Arc<Mutex<Marker>>,
}

impl Life {
    /// From now on whoever looks sees that it stands.
    pub(crate) fn begin(data_dir: &Path, marker: Marker) -> Result<Self, Failure> {
        let place = data_dir.join("daemon.json");
        marker.write(data_dir).map_err(|error| Failure::failed(format!("{}: {error}", place.display())))?;
        Ok(Self { data_dir: data_dir.into(), marker: Arc::new(Mutex::new(marker)) })
    }

    fn change(&self, change: impl FnOnce(&mut Marker)) {
        let mut marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut marker);
        // It is information: on a full disk it is old.
        if let Err(error) = marker.write(&self.data_dir) {
            tracing::warn!(%error, "daemon.json could not be written");
        }
    }

    pub(crate) fn stopping(&self) {
        self.change(|marker| marker.stopping = true);
    }

    /// Its last word, when it ends without being told to.
    pub(crate) fn failed(&self, message: &str) {
        self.change(|marker| marker.failure = Some(message.to_owned()));
    }

    /// Notes when the session that started this process ends: a platform may then end what was started in it. None for a
    /// process that nobody's session started.
    pub(crate) fn watch_session(&self, clock: Arc<dyn Clock>) -> Option<SessionWatch> {
        let session = self.marker.lock().unwrap_or_else(PoisonError::into_inner).origin.session.clone();
        let leader = pidfd_open(session?.leader()?, PidfdFlags::empty()).ok()?;
        let (closed, close) = std::io::pipe().ok()?;
        let life = self.clone();
        let wait = move || {
            let mut both = [PollFd::new(&leader, PollFlags::IN), PollFd::new(&closed, PollFlags::IN)];
            let _ = rustix::io::retry_on_intr(|| poll(&mut both, None));
            if both[1].revents().is_empty() {
                life.change(|marker| marker.session_ended_at = Some(clock.now().utc));
            }
        };
        let thread = std::thread::Builder::new().name("sched-session".into()).spawn(wait).ok()?;
        Some(SessionWatch { close: Some(close), thread: Some(thread) })
    }

    /// It has ended as it was told to.
    pub(crate) fn ended(&self, signal: i32, asked: bool, at: DateTime<Utc>) {
        let marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        let session = marker.origin.session.as_ref().filter(|session| !session.lives()).map(ToString::to_string);
        let stopped = Stopped { pid: marker.pid, at, signal, asked, session };
        if let Err(error) = stopped.write(&self.data_dir) {
            tracing::warn!(%error, "stopped.json could not be written");
        }
        Marker::remove(&self.data_dir);
    }
}

/// The thread that waits for a session's end; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct SessionWatch {
    close: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for SessionWatch {
    fn drop(&mut self) {
        drop(self.close.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watch over the session ended by a panic");
        }
    }
}
