//! The only writer of the store, on a thread of its own. What has gathered while a batch was committed is the
//! next batch: one transaction, one sync to disk.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::inbox::Inbox;
use crate::bus::Bus;
use crate::engine::{Input, Token};
use crate::store::{Committed, Store, Write};

const BATCH: usize = 2048;
const RETRY: Duration = Duration::from_secs(1);

type Queued = (Option<Token>, Write);

#[derive(Default)]
struct Queue {
    writes: Vec<Queued>,
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

    /// Lets the thread end when everything is written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Writes until closed. A batch that fails is tried again until it succeeds: nothing behind it can pass it.
    pub(super) fn run(&self, mut store: Box<dyn Store>, inbox: &Arc<Inbox>, bus: &Bus) {
        let mut failing = false;
        while let Some(batch) = self.take() {
            let (tokens, writes): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let committed = loop {
                match store.commit(&writes) {
                    Ok(committed) => break committed,
                    Err(error) => {
                        if !failing {
                            tracing::error!(%error, "the store cannot be written; trying again every second");
                            failing = true;
                            inbox.push(Input::StoreFailing(Some(error.to_string())));
                        }
                        if self.pause() {
                            tracing::error!(lost = writes.len(), "shut down while the store could not be written");
                            return;
                        }
                    }
                }
            };
            if failing {
                tracing::info!("the store can be written again");
                failing = false;
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

    fn take(&self) -> Option<Vec<Queued>> {
        let mut queue = self.lock();
        while queue.writes.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let end = queue.writes.len().min(BATCH);
        Some(queue.writes.drain(..end).collect())
    }

    /// Waits before another try; true when closed meanwhile.
    fn pause(&self) -> bool {
        let queue = self.lock();
        let waited = self.changed.wait_timeout_while(queue, RETRY, |queue| !queue.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
