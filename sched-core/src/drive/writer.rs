//! The only writer of the store, on a thread of its own. What has gathered while a batch was committed is the
//! next batch: one transaction, one sync to disk.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::inbox::Inbox;
use crate::bus::Bus;
use crate::engine::{Input, Token};
use crate::store::{Committed, Store, StoreError, Write};

const BATCH: usize = 2048;
const RETRY: Duration = Duration::from_secs(1);
/// A damaged store is looked at as a whole, less often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

type Queued = (Option<Token>, Write);

#[derive(Default)]
struct Queue {
    writes: Vec<Queued>,
    /// A reader has found damage.
    doubted: bool,
    /// It is time to see whether the store can be written, although there is nothing to write.
    touched: bool,
    closed: bool,
}

/// Takes writes in order.
#[derive(Default)]
pub(super) struct Writer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Writer {
    pub(super) fn push(&self, token: Option<Token>, write: Write) {
        self.lock().writes.push((token, write));
        self.changed.notify_one();
    }

    /// Nothing more is written before the whole store has been looked at.
    pub(super) fn doubt(&self) {
        self.lock().doubted = true;
        self.changed.notify_one();
    }

    /// Commits nothing, which shows whether anything could be.
    pub(super) fn touch(&self) {
        self.lock().touched = true;
        self.changed.notify_one();
    }

    /// Lets the thread end when everything is written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Writes until closed. A batch that fails is tried again until it succeeds: nothing behind it can pass it.
    pub(super) fn run(&self, mut store: Box<dyn Store>, inbox: &Arc<Inbox>, bus: &Bus) {
        let mut failing = None;
        while let Some((batch, mut doubted)) = self.take() {
            let (tokens, writes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let committed = loop {
                let verified = if doubted { store.verify() } else { Ok(()) };
                match verified.and_then(|()| store.commit(&writes)) {
                    Ok(committed) => break committed,
                    Err(error) => {
                        let reason = error.to_string();
                        if failing.as_ref() != Some(&reason) {
                            tracing::error!(%error, "the store cannot be written; trying again");
                            failing = Some(reason.clone());
                            inbox.push(Input::StoreFailing(Some(reason)));
                        }
                        doubted |= matches!(error, StoreError::Corrupt { .. });
                        if self.pause(if doubted { LOOK_AGAIN } else { RETRY }) {
                            tracing::error!(lost = writes.len(), "shut down while the store could not be written");
                            return;
                        }
                    }
                }
            };
            if failing.take().is_some() {
                tracing::info!("the store can be written again");
                inbox.push(Input::StoreFailing(None));
            }
            let Committed { receipts, events } = committed;
            for event in events {
                bus.announce(event);
            }
            let written = tokens.into_iter().zip(receipts);
            inbox.extend(written.filter_map(|(token, receipt)| token.map(|token| Input::Written(token, receipt))));
        }
    }

    /// What has gathered, and whether the store is to be looked at first.
    fn take(&self) -> Option<(Vec<Queued>, bool)> {
        let mut queue = self.lock();
        while queue.writes.is_empty() && !queue.doubted && !queue.touched {
            if queue.closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.touched = false;
        let end = queue.writes.len().min(BATCH);
        let doubted = std::mem::take(&mut queue.doubted);
        Some((queue.writes.drain(..end).collect(), doubted))
    }

    /// Waits before another try; true when closed meanwhile.
    fn pause(&self, time: Duration) -> bool {
        let queue = self.lock();
        let waited = self.changed.wait_timeout_while(queue, time, |queue| !queue.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
