//! Commands that are open, who waits for their answers, and how many may.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::engine::{Command, Refusal, Reply, ReplyTo};

type Answer = Result<Reply, Refusal>;

/// So many commands are open at once; who gives more waits for a place.
const MOST_OPEN: usize = 1024;
/// So many questions that are answered at once, also while commands wait for the store.
const MOST_ASKED: usize = 64;

/// Open commands, by number.
pub(super) struct Replies {
    /// None once the engine has ended.
    open: Mutex<Option<HashMap<u64, Open>>>,
    next: AtomicU64,
    places: Arc<Semaphore>,
    asking: Arc<Semaphore>,
}

/// Who waits for the answer, which may be nobody any more, and the place that is kept until then.
struct Open {
    answer: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            open: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(MOST_OPEN)),
            asking: Arc::new(Semaphore::new(MOST_ASKED)),
        }
    }

    /// None when the engine has ended.
    pub(super) async fn open(&self, command: &Command) -> Option<(ReplyTo, oneshot::Receiver<Answer>)> {
        let places = if matches!(command, Command::Status { .. }) { &self.asking } else { &self.places };
        let place = places.clone().acquire_owned().await.ok()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        self.lock().as_mut()?.insert(number, Open { answer, _place: place });
        Some((ReplyTo(number), receiver))
    }

    pub(super) fn answer(&self, to: ReplyTo, answer: Answer) {
        let open = self.lock().as_mut().and_then(|open| open.remove(&to.0));
        if let Some(open) = open {
            // Whoever asked may have gone.
            let _ = open.answer.send(answer);
        }
    }

    /// Whoever still waits, or asks later, learns that the engine has ended.
    pub(super) fn close(&self) {
        self.places.close();
        self.asking.close();
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
