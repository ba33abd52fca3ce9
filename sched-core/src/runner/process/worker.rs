//! The process of one attempt, from inside.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::wire::{FromWorker, ToWorker, Turn, Wire};
use crate::async_trait;
use crate::clock::SystemClock;
use crate::context::{JobPort, PortError, PortReply, PortRequest, RunContext, RunInfo};
use crate::job::JobError;
use crate::placement::Placement;
use crate::process::is_worker;
use crate::registry::Registry;
use crate::run::Outcome;
use crate::runner::{Attempt, Runner as _, TaskRunner};

/// Requests of a job that may wait for their way out; further ones wait before.
const WAITING: usize = 16;

/// Runs the attempt that this process was started for, and ends the process; returns at once in any other process.
///
/// Call it after [`process::init`](crate::process::init), as soon as there is a registry and before anything is opened
/// that a second process must not open.
///
/// ```
/// use sched_core::{Registry, process, runner};
///
/// process::init();
/// let registry = Registry::new();
/// runner::serve(&registry);
/// // … the program that schedules
/// ```
pub fn serve(registry: &Registry) {
    if is_worker() {
        let served = work(registry.clone());
        // Threads of a job that are still at work end with the process.
        std::process::exit(if served.is_ok() { 0 } else { 1 });
    }
}

/// Carries the requests of a job to its scheduler.
struct WirePort {
    next: AtomicU64,
    waiting: Arc<Waiting>,
    out: mpsc::Sender<FromWorker>,
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Result<PortReply, PortError>>>>;

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<PortReply, PortError>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl JobPort for WirePort {
    async fn call(&self, _: &RunInfo, request: PortRequest) -> Result<PortReply, PortError> {
        let gone = || PortError::new("the scheduler has gone");
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        self.out.send(FromWorker::Call { id, request }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn work(registry: Registry) -> std::io::Result<()> {
    let socket = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // Programs that the job starts inherit nothing of it.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    socket.set_nonblocking(true)?;
    // One thread for the wire: a job that blocks its own can still be told to stop, and sees it when it looks.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let attempts = TaskRunner::new(Arc::new(registry), runtime.handle().clone());
    runtime.block_on(async {
        let mut wire = Wire::new(UnixStream::from_std(socket)?);
        let Some(ToWorker::Begin { info, params }) = wire.next().await? else {
            return Err(std::io::Error::other("the scheduler has gone before it told what to do"));
        };
        let (out, requests) = mpsc::channel(WAITING);
        let (cancel, waiting) = (CancellationToken::new(), Arc::<Waiting>::default());
        let port = Arc::new(WirePort { next: AtomicU64::new(0), waiting: waiting.clone(), out });
        let ctx = RunContext::new(info, cancel.clone(), port, Arc::new(SystemClock::new()));
        let (report, outcome) = oneshot::channel();
        // Who waits for it ends with the process.
        let report = Box::new(move |outcome| drop(report.send(outcome)));
        attempts.start(Attempt { ctx, params, placement: Placement::Task, report });
        tokio::spawn(carry(wire, requests, outcome, cancel, waiting)).await.map_err(std::io::Error::other)?
    })
}

/// Moves messages both ways until the attempt has ended and its outcome is sent.
async fn carry(
    mut wire: Wire,
    mut requests: mpsc::Receiver<FromWorker>,
    mut outcome: oneshot::Receiver<Outcome>,
    cancel: CancellationToken,
    waiting: Arc<Waiting>,
) -> std::io::Result<()> {
    let mut ended = false;
    while !ended || wire.has_unsent() {
        let busy = wire.has_unsent();
        tokio::select! {
            biased;
            told = &mut outcome, if !ended => {
                ended = true;
                let outcome = told.unwrap_or_else(|_| Outcome::Failed(JobError::new("the job's thread has gone")));
                // Before its end come the requests that it has not waited for.
                while let Ok(request) = requests.try_recv() {
                    put_request(&mut wire, &request, &waiting);
                }
                if let Err(error) = wire.put(&FromWorker::Ended(outcome)) {
                    let told = JobError::new(format!("what it gave could not be handed over: {error}"));
                    wire.put(&FromWorker::Ended(Outcome::Failed(told)))?;
                }
            }
            turn = wire.turn::<ToWorker>() => match turn? {
                Turn::Sent => {}
                Turn::Told(ToWorker::Answer { id, answer }) => {
                    if let Some(asker) = lock(&waiting).remove(&id) {
                        // An asker that was dropped needs no answer.
                        let _ = asker.send(answer);
                    }
                }
                Turn::Told(ToWorker::Cancel) => cancel.cancel(),
                Turn::Told(ToWorker::Begin { .. }) => return Err(std::io::Error::other("told to begin twice")),
                Turn::Gone => return Err(std::io::Error::other("the scheduler has gone")),
            },
            Some(request) = requests.recv(), if !busy && !ended => put_request(&mut wire, &request, &waiting),
        }
    }
    Ok(())
}

/// A request that cannot be carried is answered here.
fn put_request(wire: &mut Wire, request: &FromWorker, waiting: &Waiting) {
    if let Err(error) = wire.put(request)
        && let FromWorker::Call { id, .. } = request
        && let Some(asker) = lock(waiting).remove(id)
    {
        // An asker that was dropped needs no answer.
        let _ = asker.send(Err(PortError::new(error.to_string())));
    }
}
