//! Threads for jobs. A job that blocks its thread holds up no other: whoever takes work and sees more of it calls
//! another thread first. Only one is called at a time, so that a burst of short jobs is done by the few threads that
//! are awake already, and a burst of long ones still gets a thread each.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A thread without work ends after this.
const IDLE: Duration = Duration::from_secs(10);

/// Something to do; it is told when no thread can be had for it.
pub(super) type Work = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Threads that come when there is work and go when there is none. There are as many as works that last.
#[derive(Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
    /// A thread was called and has not come yet.
    coming: bool,
    closed: bool,
}

impl Pool {
    /// Does this on a thread of its own, in the order asked for.
    pub(super) fn run(&self, work: Work) {
        let mut state = self.shared.lock();
        state.queue.push_back(work);
        Shared::call(&self.shared, state);
    }
}

impl Drop for Pool {
    /// Idle threads end; what runs, ends first.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.called.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a thread if there is work that none is coming for.
    fn call(this: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.queue.is_empty() || state.coming {
            return;
        }
        state.coming = true;
        if state.idle > 0 {
            drop(state);
            this.called.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = this.clone();
        let spawned = std::thread::Builder::new().name("sched-job".into()).spawn(move || Self::serve(&shared));
        if let Err(error) = spawned {
            this.refused(&error);
        }
    }

    /// The system gives no thread. Those that are there go on; without any, nobody would.
    fn refused(&self, error: &io::Error) {
        tracing::error!(%error, "the system refused a thread for a job");
        let mut state = self.lock();
        state.threads -= 1;
        state.coming = false;
        let left = if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        for work in left {
            work(Err(io::Error::new(error.kind(), error.to_string())));
        }
    }

    fn serve(this: &Arc<Self>) {
        let mut state = this.lock();
        state.coming = false;
        loop {
            if let Some(work) = state.queue.pop_front() {
                Self::call(this, state);
                work(Ok(()));
                state = this.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let waited = this.called.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            // Whoever wakes has come, also if another was meant, and also if the work is done already.
            state.coming = false;
            if waited.1.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn works_that_wait_for_each_other_all_get_a_thread() {
        let pool = Pool::default();
        let barrier = Arc::new(std::sync::Barrier::new(40));
        let (sender, receiver) = channel();
        for number in 0..40 {
            let (barrier, sender) = (barrier.clone(), sender.clone());
            pool.run(Box::new(move |_| {
                barrier.wait();
                sender.send(number).unwrap();
            }));
        }
        let mut done: Vec<i32> = receiver.iter().take(40).collect();
        done.sort_unstable();
        assert_eq!(done, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn works_that_come_one_by_one_are_all_done() {
        let pool = Pool::default();
        let (sender, receiver) = channel();
        for number in 0..2000 {
            let (one, two) = (sender.clone(), sender.clone());
            pool.run(Box::new(move |_| one.send(number).unwrap()));
            pool.run(Box::new(move |_| two.send(number).unwrap()));
            assert_eq!(receiver.iter().take(2).collect::<Vec<i32>>(), [number, number]);
        }
    }

    #[test]
    fn short_works_are_done_by_fewer_threads_than_there_are_works() {
        let pool = Pool::default();
        let (sender, receiver) = channel();
        for number in 0..10_000 {
            let sender = sender.clone();
            pool.run(Box::new(move |_| sender.send(number).unwrap()));
        }
        let mut done: Vec<i32> = receiver.iter().take(10_000).collect();
        done.sort_unstable();
        assert_eq!(done, (0..10_000).collect::<Vec<_>>());
        assert!(pool.shared.lock().threads < 10_000);
    }
}
