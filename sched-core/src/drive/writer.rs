//! The only writer of the store, on a thread of its own. What has gathered while a batch was committed is the
//! next batch: one transaction, one sync to disk. A store that has nothing to wait for is written by the drive itself.
//!
//! Attempts that end one by one would be a commit each, and most of what a commit costs is its own: where ends come in a
//! row, the next commit waits up to [`PACE`] for more of them. Whatever someone or some nominal time waits for is written
//! at once, with all that has gathered; a retry whose time has come may wait as long as an end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::inbox::Inbox;
use crate::bus::Bus;
use crate::engine::{Input, Token};
use crate::store::{Committed, Intent, Store, StoreError, Write};

const BATCH: usize = 2048;
/// The most that an end waits for others, and a run for the place that it leaves.
const PACE: Duration = Duration::from_millis(3);
const RETRY: Duration = Duration::from_secs(1);
/// A damaged store is looked at as a whole, less often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Writes, and for each whom it is to be told to.
#[derive(Default)]
pub(super) struct Batch {
    tokens: Vec<Option<Token>>,
    writes: Vec<Write>,
    /// There is more in it than ends of attempts, and starts of those that waited for their places.
    urgent: bool,
    /// Ends of attempts, and of runs that were not started.
    ends: usize,
}

impl Batch {
    pub(super) fn push(&mut self, token: Option<Token>, write: Write) {
        match write.intent {
            Intent::Finish { .. } | Intent::Requeue { .. } => self.ends += 1,
            Intent::Claim { .. } => {}
            _ => self.urgent = true,
        }
        self.tokens.push(token);
        self.writes.push(write);
    }

    pub(super) const fn len(&self) -> usize {
        self.writes.len()
    }

    fn append(&mut self, other: &mut Self) {
        if self.len() == 0 {
            std::mem::swap(self, other);
            return;
        }
        self.tokens.append(&mut other.tokens);
        self.writes.append(&mut other.writes);
        self.urgent |= std::mem::take(&mut other.urgent);
        self.ends += std::mem::take(&mut other.ends);
    }

    /// The first writes of it.
    fn split(&mut self) -> Self {
        if self.len() <= BATCH {
            return std::mem::take(self);
        }
        let (tokens, writes) = (self.tokens.split_off(BATCH), self.writes.split_off(BATCH));
        let rest = Self { tokens, writes, urgent: true, ends: 0 };
        std::mem::replace(self, rest)
    }
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    /// How often something was handed over since the last batch was taken.
    handed_over: usize,
    /// More than one thing came while the last batch was gathered: the next commit waits for company.
    paced: bool,
    /// Attempts whose ends are to come.
    under_way: usize,
    /// The thread waits for something to do.
    idle: bool,
    /// A reader has found damage.
    doubted: bool,
    /// It is time to see whether the store can be written, although there is nothing to write.
    touched: bool,
    closed: bool,
}

impl Queue {
    /// What is there cannot wait for company, or as many have come as there are still to come.
    const fn is_pressing(&self) -> bool {
        self.batch.urgent || self.batch.ends >= self.under_way || self.doubted || self.touched || self.closed
    }
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
    /// and told to the inbox. While attempts are `under_way`, more ends are to come.
    pub(super) fn write(&self, batch: &mut Batch, under_way: usize) -> Vec<Input> {
        let mut queue = self.lock();
        if queue.idle
            && let Ok(mut store) = self.store.try_lock()
            && let Some(committed) = store.as_mut().and_then(|store| store.try_commit(&batch.writes))
        {
            drop(queue);
            batch.writes.clear();
            (batch.urgent, batch.ends) = (false, 0);
            return self.announce(std::mem::take(&mut batch.tokens), committed);
        }
        queue.batch.append(batch);
        queue.under_way = under_way;
        queue.handed_over += 1;
        let wake = std::mem::take(&mut queue.idle) || (queue.paced && queue.is_pressing());
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
        while let Some((Batch { tokens, writes, .. }, mut doubted)) = self.take() {
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
        if queue.paced {
            let waited = self.changed.wait_timeout_while(queue, PACE, |queue| !queue.is_pressing());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        while queue.batch.len() == 0 && !queue.doubted && !queue.touched {
            if queue.closed {
                return None;
            }
            queue.idle = true;
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.idle = false;
        queue.touched = false;
        queue.paced = std::mem::take(&mut queue.handed_over) > 1;
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::id::{Fence, RunId};
    use crate::run::RunState;
    use crate::store::Ending;

    fn write(intent: Intent) -> Write {
        Write { at: DateTime::UNIX_EPOCH, intent, events: Vec::new(), outbox: Vec::new() }
    }

    fn end() -> Write {
        let (run_id, at) = (RunId::from_uuid(uuid::Uuid::nil()), DateTime::UNIX_EPOCH);
        let ending = Ending {
            at,
            state: RunState::Succeeded,
            reason: None,
            duration_ms: None,
            summary: None,
            data: serde_json::Value::Null,
            error: None,
            abandoned: false,
            artifacts: Vec::new(),
        };
        write(Intent::Requeue { run_id, fence: Fence(1), attempt: 2, not_before: at, ending })
    }

    fn queue(writes: Vec<Write>, under_way: usize) -> Queue {
        let mut queue = Queue { under_way, ..Queue::default() };
        for one in writes {
            // As the drive hands it over.
            let mut batch = Batch::default();
            batch.push(None, one);
            queue.batch.append(&mut batch);
            assert_eq!((batch.len(), batch.urgent, batch.ends), (0, false, 0));
        }
        queue
    }

    #[test]
    fn ends_wait_for_as_many_as_are_to_come_and_for_nobody_when_something_else_is_among_them() {
        assert!(!queue(vec![end()], 2).is_pressing());
        assert!(queue(vec![end(), end()], 2).is_pressing(), "as many have come as are to come");
        assert!(queue(vec![end()], 0).is_pressing(), "nothing else is to come");
        assert!(queue(vec![end(), write(Intent::Note)], 9).is_pressing());
        assert!(queue(vec![write(Intent::Note), end()], 9).is_pressing());
        assert!(Queue { closed: true, ..queue(vec![end()], 9) }.is_pressing());
    }

    #[test]
    fn what_one_batch_has_no_room_for_follows_at_once() {
        let mut queue = queue((0..=BATCH).map(|_| end()).collect(), usize::MAX);
        assert_eq!(queue.batch.split().len(), BATCH);
        assert!(queue.batch.len() == 1 && queue.is_pressing());
    }
}
