//! The only writer of the store, on a thread of its own. What has gathered while a batch was committed is the
//! next batch: one transaction, one sync to disk. A store that has nothing to wait for is written by the drive itself.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::inbox::Inbox;
use crate::bus::Bus;
use crate::engine::{Input, Token};
use crate::store::{Committed, Store, Write};

const BATCH: usize = 2048;
const RETRY: Duration = Duration::from_secs(1);

/// Writes, and for each whom it is to be told to.
#[derive(Default)]
pub(super) struct Batch {
    tokens: Vec<Option<Token>>,
    writes: Vec<Write>,
}

impl Batch {
    pub(super) fn push(&mut self, token: Option<Token>, write: Write) {
        self.tokens.push(token);
        self.writes.push(write);
    }

    pub(super) const fn len(&self) -> usize {
        self.writes.len()
    }

    fn append(&mut self, other: &mut Self) {
        self.tokens.append(&mut other.tokens);
        self.writes.append(&mut other.writes);
    }

    /// The first writes of it.
    fn split(&mut self) -> Self {
        if self.len() <= BATCH {
            return std::mem::take(self);
        }
        let rest = Self { tokens: self.tokens.split_off(BATCH), writes: self.writes.split_off(BATCH) };
        std::mem::replace(self, rest)
    }
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    /// The thread waits for writes.
    idle: bool,
    closed: bool,
}

/// Takes writes in order.
pub(super) struct Writer {
    store: Mutex<Box<dyn Store>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    bus: Bus,
}

impl Writer {
    pub(super) fn new(store: Box<dyn Store>, bus: Bus) -> Self {
        Self { store: Mutex::new(store), queue: Mutex::default(), changed: Condvar::new(), bus }
    }

    /// Writes this here and now if that waits for nothing, and gives what became of it; otherwise it is written soon,
    /// and told to the inbox.
    pub(super) fn write(&self, batch: &mut Batch) -> Vec<Input> {
        let mut queue = self.lock();
        if queue.idle
            && let Ok(mut store) = self.store.try_lock()
            && let Some(committed) = store.try_commit(&batch.writes)
        {
            drop(queue);
            batch.writes.clear();
            return self.announce(std::mem::take(&mut batch.tokens), committed);
        }
        queue.batch.append(batch);
        let wake = std::mem::take(&mut queue.idle);
        drop(queue);
        if wake {
            self.changed.notify_one();
        }
        Vec::new()
    }

    /// Lets the thread end when everything is written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Writes until closed. A batch that fails is tried again until it succeeds: nothing behind it can pass it.
    pub(super) fn run(&self, inbox: &Arc<Inbox>) {
        let mut failing = false;
        while let Some(Batch { tokens, writes }) = self.take() {
            let committed = loop {
                let committed = self.store.lock().unwrap_or_else(PoisonError::into_inner).commit(&writes);
                match committed {
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
            inbox.extend(self.announce(tokens, committed));
        }
    }

    /// Tells subscribers what is durable; gives what the machine is to be told.
    fn announce(&self, tokens: Vec<Option<Token>>, committed: Committed) -> Vec<Input> {
        for event in committed.events {
            self.bus.announce(event);
        }
        let written = tokens.into_iter().zip(committed.receipts);
        written.filter_map(|(token, receipt)| token.map(|token| Input::Written(token, receipt))).collect()
    }

    fn take(&self) -> Option<Batch> {
        let mut queue = self.lock();
        while queue.batch.len() == 0 {
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        Some(queue.batch.split())
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
