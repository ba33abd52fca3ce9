//! Committed events, announced to whoever listens. A hint, never the truth: a slow listener re-reads by sequence.
//!
//! Must not know: the engine, SQL.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::event::Recorded;
use crate::id::Seq;
use crate::store::Query;

const CAPACITY: usize = 1024;
const PAGE: u32 = 500;

/// Announces events to subscribers.
#[derive(Debug, Clone)]
pub(crate) struct Bus {
    sender: broadcast::Sender<Arc<Recorded>>,
    closed: CancellationToken,
}

impl Bus {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), closed: CancellationToken::new() }
    }

    pub(crate) fn announce(&self, event: Recorded) {
        // No listener is no fault.
        let _ = self.sender.send(Arc::new(event));
    }

    /// Ends every subscription, once it has given what was announced.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    pub(crate) fn subscribe(&self, query: Arc<dyn Query>, after: Option<Seq>) -> Subscription {
        let receiver = self.sender.subscribe();
        let (closed, behind) = (self.closed.clone(), after.is_some());
        Subscription { receiver, query, closed, last: after, behind, page: VecDeque::new() }
    }
}

/// A listener's place in the stream of events: no committed event is left out, however slow the listener is.
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Recorded>>,
    query: Arc<dyn Query>,
    closed: CancellationToken,
    last: Option<Seq>,
    behind: bool,
    page: VecDeque<Recorded>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Subscription {
    /// The next event; none when the scheduler has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Recorded> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Some(event);
            }
            if self.behind {
                self.read_page();
                continue;
            }
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.closed.cancelled() => Err(broadcast::error::RecvError::Closed),
            };
            match received {
                Ok(event) => match event.seq {
                    Some(seq) if self.last.is_some_and(|last| seq <= last) => {}
                    Some(seq) => {
                        self.last = Some(seq);
                        return Some(Recorded::clone(&event));
                    }
                    None => return Some(Recorded::clone(&event)),
                },
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = self.last.is_some(),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn read_page(&mut self) {
        let after = self.last.unwrap_or_default();
        match self.query.events_after(after, PAGE) {
            Ok(events) => {
                self.behind = events.len() == PAGE as usize;
                self.last = events.last().and_then(|event| event.seq).or(self.last);
                self.page = events.into();
            }
            Err(error) => {
                tracing::warn!(%error, "events cannot be read again; some may be left out");
                self.behind = false;
            }
        }
    }
}
