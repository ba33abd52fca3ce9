//! The only writer of the store, on a thread of its own. What has gathered while a batch was committed is the
//! next batch: one transaction, one sync to disk. A store that has nothing to wait for is written by the drive itself.

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
    /// The thread waits for something to do.
    idle: bool,
    /// A reader has found damage.
    doubted: bool,
    /// It is time to see whether the store can be written, although there is nothing to write.
    touched: bool,
    closed: bool,
}

/// Takes writes in order.
pub(super) struct Writer {
    /// None once everything is written: whoever still has a handle holds no store.
    store: Mutex<Option<Box<dyn Store>>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    bus: Bus,
}

impl Writer {
    pub(super) fn new(store: Box<dyn Store>, bus: Bus) -> Self {
        Self { store: Mutex::new(Some(store)), queue: Mutex::default(), changed: Condvar::new(), bus }
    }

    /// Writes this here and now if that waits for nothing, and gives what became of it; otherwise it is written soon,
    /// and told to the inbox.
    pub(super) fn write(&self, batch: &mut Batch) -> Vec<Input> {
        let mut queue = self.lock();
        if queue.idle
            && let Ok(mut store) = self.store.try_lock()
            && let Some(committed) = store.as_mut().and_then(|store| store.try_commit(&batch.writes))
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

    /// Writes until closed, then lets the store go.
    pub(super) fn run(&self, inbox: &Arc<Inbox>) {
        self.write_until_closed(inbox);
        self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A batch that fails is tried again until it succeeds: nothing behind it can pass it.
    fn write_until_closed(&self, inbox: &Arc<Inbox>) {
        let mut failing = None;
        while let Some((Batch { tokens, writes }, mut doubted)) = self.take() {
            let committed = loop {
                match self.commit(&writes, doubted) {
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
            inbox.extend(self.announce(tokens, committed));
        }
    }

    fn commit(&self, writes: &[Write], doubted: bool) -> Result<Committed, StoreError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        // It is there until everything is written.
        let Some(store) = store.as_mut() else { return Ok(Committed::default()) };
        if doubted {
            store.verify()?;
        }
        store.commit(writes)
    }

    /// Tells subscribers what is durable; gives what the machine is to be told.
    fn announce(&self, tokens: Vec<Option<Token>>, committed: Committed) -> Vec<Input> {
        for event in committed.events {
            self.bus.announce(event);
        }
        let written = tokens.into_iter().zip(committed.receipts);
        written.filter_map(|(token, receipt)| token.map(|token| Input::Written(token, receipt))).collect()
    }

    /// What has gathered, and whether the store is to be looked at first.
    fn take(&self) -> Option<(Batch, bool)> {
        let mut queue = self.lock();
        while queue.batch.len() == 0 && !queue.doubted && !queue.touched {
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        queue.touched = false;
        let doubted = std::mem::take(&mut queue.doubted);
        Some((queue.batch.split(), doubted))
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
