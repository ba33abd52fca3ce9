//! Committed events, announced to whoever listens. A hint, never the truth: a slow listener re-reads by sequence.
//!
//! Must not know: the engine, SQL.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The place of the last committed event.
    last: Arc<AtomicU64>,
    closed: CancellationToken,
}

impl Bus {
    /// `last` is the place of the last event committed so far.
    pub(crate) fn new(last: Seq) -> Self {
        let (sender, closed) = (broadcast::Sender::new(CAPACITY), CancellationToken::new());
        Self { sender, last: Arc::new(AtomicU64::new(last.0)), closed }
    }

    pub(crate) fn announce(&self, event: Recorded) {
        if let Some(seq) = event.seq {
            self.last.store(seq.0, Ordering::SeqCst);
        }
        if self.sender.receiver_count() == 0 {
            return;
        }
        // No listener is no fault.
        let _ = self.sender.send(Arc::new(event));
    }

    /// Ends every subscription, once it has given what was announced.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    pub(crate) fn subscribe(&self, query: Arc<dyn Query>, after: Option<Seq>) -> Subscription {
        let receiver = self.sender.subscribe();
        // From here on nothing is left out, whether it comes through the receiver or is read again.
        let last = after.unwrap_or_else(|| Seq(self.last.load(Ordering::SeqCst)));
        Subscription {
            receiver,
            query,
            closed: self.closed.clone(),
            last,
            behind: after.is_some(),
            unread: false,
            page: VecDeque::new(),
        }
    }
}

/// A listener's place in the stream of events: no committed event is left out, however slow the listener is.
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Recorded>>,
    query: Arc<dyn Query>,
    closed: CancellationToken,
    last: Seq,
    /// What was committed after `last` is to be read from the store.
    behind: bool,
    /// The store could not be read: it is tried again when the next event is announced.
    unread: bool,
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
            if self.behind && !self.unread {
                self.read_page();
                continue;
            }
            self.unread = false;
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                () = self.closed.cancelled() => Err(broadcast::error::RecvError::Closed),
            };
            match received {
                Ok(event) => match event.seq {
                    // It is read with those before it.
                    Some(_) if self.behind => {}
                    Some(seq) if seq <= self.last => {}
                    Some(seq) => {
                        self.last = seq;
                        return Some(Recorded::clone(&event));
                    }
                    None => return Some(Recorded::clone(&event)),
                },
                Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn read_page(&mut self) {
        match self.query.events_after(self.last, PAGE) {
            Ok(events) => {
                self.behind = events.len() == PAGE as usize;
                self.last = events.last().and_then(|event| event.seq).unwrap_or(self.last);
                self.page = events.into();
            }
            Err(error) => {
                tracing::warn!(%error, "events cannot be read again yet");
                self.unread = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::store::{Intent, MemoryStore, Store as _, Write};

    fn stall(millis: u64) -> Write {
        Write {
            at: chrono::DateTime::UNIX_EPOCH,
            intent: Intent::Note,
            events: vec![Event::Stalled { millis }],
            outbox: vec![],
        }
    }

    #[tokio::test]
    async fn a_listener_that_looks_only_after_thousands_of_events_is_told_each_of_them_once() {
        let mut store = MemoryStore::new();
        let before = store.commit(&[stall(0)]).unwrap().events;
        let bus = Bus::new(before.last().and_then(|event| event.seq).unwrap());
        let mut events = bus.subscribe(store.reader(), None);
        for millis in 1..=3 * CAPACITY as u64 {
            for event in store.commit(&[stall(millis)]).unwrap().events {
                bus.announce(event);
            }
        }
        bus.close();
        let mut told = Vec::new();
        while let Some(recorded) = events.next().await {
            let Event::Stalled { millis } = recorded.event else { panic!("{recorded:?}") };
            told.push(millis);
        }
        assert_eq!(told, (1..=3 * CAPACITY as u64).collect::<Vec<_>>());
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_listener_that_finds_the_store_unreadable_is_told_everything_once_it_can_be_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("sched.db"), folder.path().join("away.db"));
        let mut store = crate::SqliteStore::open(&path).unwrap();
        let bus = Bus::new(Seq(0));
        let mut events = bus.subscribe(store.reader(), Some(Seq(0)));
        let mut announce = |millis| {
            for event in store.commit(&[stall(millis)]).unwrap().events {
                bus.announce(event);
            }
        };
        announce(1);
        announce(2);
        std::fs::rename(&path, &away).unwrap();
        bus.announce(Recorded { ts: chrono::DateTime::UNIX_EPOCH, event: Event::Stalled { millis: 7 }, seq: None });
        let told = |recorded: Option<Recorded>| recorded.map(|recorded| (recorded.seq, recorded.event));
        let stalled = |millis| Event::Stalled { millis };
        assert_eq!(told(events.next().await), Some((None, stalled(7))), "it is kept nowhere, and known all the same");
        std::fs::rename(&away, &path).unwrap();
        announce(3);
        for millis in 1..=3 {
            assert_eq!(told(events.next().await), Some((Some(Seq(millis)), stalled(millis))));
        }
    }
}
