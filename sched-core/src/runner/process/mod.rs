//! Runs each attempt in a process of its own: this executable once more, below a shim. Whatever the job does to its
//! process (a segmentation fault, an abort, no memory, an endless loop) ends there.

mod wire;
mod worker;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::net::UnixStream as StdStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::wire::{FromWorker, ToWorker, Turn, Wire};
use super::{Attempt, Runner};
use crate::context::{PortError, PortReply, RunContext};
use crate::id::RunId;
use crate::job::JobError;
use crate::limits::Limits;
use crate::placement::Placement;
use crate::process::{Conditions, Ending, Lines, Program, StartError, Tree, Waiting, worker as again};
use crate::run::Outcome;

pub use worker::serve;

/// What a process gets between TERM and KILL, when its job did not stop as it was asked to.
const TERM_GRACE: Duration = Duration::from_millis(300);
/// What it gets to end after its job has ended.
const EXIT_GRACE: Duration = Duration::from_secs(1);
/// What is left in its pipes when it is gone, is read in no time.
const PIPE_GRACE: Duration = Duration::from_secs(5);
/// Variables that no job gets: the scheduler's key and its configuration, in which the store's URL may be.
const WITHHELD: &[&str] = &["DASHBOARD_KEY"];
const WITHHELD_PREFIX: &str = "SCHED__";

type Running = Arc<Mutex<HashMap<RunId, CancellationToken>>>;
type Call = Pin<Box<dyn Future<Output = (u64, Result<PortReply, PortError>)> + Send>>;

/// Runs each attempt in a process of its own.
///
/// Its requests come over a socket, as messages of bounded length; its output becomes the run's. An attempt whose
/// process dies has failed, with the signal's name; one that sends what is no message is ended.
#[derive(Debug)]
pub struct ProcessRunner {
    runtime: tokio::runtime::Handle,
    arguments: Vec<OsString>,
    withheld: Vec<String>,
    running: Running,
}

impl ProcessRunner {
    /// A runner whose sockets are this runtime's. The program must call [`process::init`](crate::process::init) and
    /// [`serve`].
    #[must_use]
    pub fn new(runtime: tokio::runtime::Handle) -> Self {
        let withheld = WITHHELD.iter().map(ToString::to_string).collect();
        Self { runtime, arguments: Vec::new(), withheld, running: Running::default() }
    }

    /// Adds an argument to those that the program is started with for an attempt; there are none unless added.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Withholds a variable from the jobs' environment, beside `DASHBOARD_KEY` and `SCHED__…`, which no job gets.
    #[must_use]
    pub fn withhold(mut self, variable: impl Into<String>) -> Self {
        self.withheld.push(variable.into());
        self
    }

    fn program(&self, ctx: &RunContext, limits: Limits) -> std::io::Result<Program> {
        let (program, name, mut argv) = again();
        argv.insert(0, program);
        argv.extend(self.arguments.iter().cloned());
        let withheld = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with(WITHHELD_PREFIX) || self.withheld.iter().any(|variable| *variable == name)
        };
        let mark = ("SCHED_RUN_ID".into(), ctx.run_id().to_string().into());
        Ok(Program {
            argv,
            env: std::env::vars_os().filter(|(name, _)| !withheld(name)).chain([mark]).collect(),
            cwd: std::env::current_dir()?,
            arg0: Some(name),
            conditions: Conditions { limits, ..Conditions::default() },
        })
    }
}

fn lock(running: &Running) -> MutexGuard<'_, HashMap<RunId, CancellationToken>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runner for ProcessRunner {
    fn start(&self, attempt: Attempt) {
        let Attempt { ctx, params, placement, report } = attempt;
        let run_id = ctx.run_id();
        let limits = if let Placement::Process(limits) = placement { limits } else { Limits::default() };
        let program = self.program(&ctx, limits);
        let dropped = CancellationToken::new();
        lock(&self.running).insert(run_id, dropped.clone());
        let running = self.running.clone();
        self.runtime.spawn(async move {
            let outcome = match program {
                Ok(program) => attend(&ctx, params, program, &dropped).await,
                Err(error) => Outcome::Unstartable(format!("the working directory: {error}")),
            };
            lock(&running).remove(&run_id);
            // It may write files.
            let _ = tokio::task::spawn_blocking(move || report(outcome)).await;
        });
    }

    fn drop_attempt(&self, run_id: RunId) {
        if let Some(dropped) = lock(&self.running).get(&run_id) {
            dropped.cancel();
        }
    }
}

/// One attempt, from the start of its process to the end of its tree.
async fn attend(ctx: &RunContext, params: Value, program: Program, dropped: &CancellationToken) -> Outcome {
    let system =
        |error: std::io::Error| Outcome::Failed(JobError::new(format!("no process could be started: {error}")));
    let (mut wire, theirs) = match pair() {
        Ok(ends) => ends,
        Err(error) => return system(error),
    };
    let mut tree = match Tree::start(ctx.run_id(), program, Some(theirs.into()), Waiting::Runtime).await {
        Ok(tree) => tree,
        Err(StartError::System(error)) => return system(error),
        Err(StartError::Lost(error)) => return Outcome::Failed(JobError::new(error.to_string())),
        Err(error) => return Outcome::Unstartable(error.to_string()),
    };
    let last = Arc::new(Mutex::new(String::new()));
    let mut output = JoinSet::new();
    for pipe in [tree.stdout.take(), tree.stderr.take()].into_iter().flatten() {
        output.spawn(keep(ctx.clone(), Lines::new(pipe), last.clone()));
    }
    let told = converse(ctx, params, &mut wire, &tree, dropped).await;
    // Its socket closes: it has nobody to talk to.
    drop(wire);
    let ending = end(&mut tree, told.is_ok(), dropped).await;
    let _ = tokio::time::timeout(PIPE_GRACE, async { while output.join_next().await.is_some() {} }).await;
    output.shutdown().await;
    let last = std::mem::take(&mut *last.lock().unwrap_or_else(PoisonError::into_inner));
    outcome(ctx, told, ending, &last, dropped.is_cancelled())
}

fn pair() -> std::io::Result<(Wire, StdStream)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((Wire::new(UnixStream::from_std(ours)?), theirs))
}

/// Keeps what the process prints, and remembers its last line.
async fn keep<R: tokio::io::AsyncRead + Unpin>(ctx: RunContext, mut lines: Lines<R>, last: Arc<Mutex<String>>) {
    while let Some(text) = lines.next().await {
        if let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = line.chars().take(500).collect();
        }
        ctx.print(text).await;
    }
}

/// Answers the job's requests until it has told its outcome. An error: it did not, and this is why; none when its
/// process has just gone.
async fn converse(
    ctx: &RunContext,
    params: Value,
    wire: &mut Wire,
    tree: &Tree,
    dropped: &CancellationToken,
) -> Result<Outcome, Option<String>> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => None,
        _ => Some(format!("its process does not speak as it should: {error}")),
    };
    wire.put(&ToWorker::Begin { info: ctx.info().clone(), params }).map_err(broken)?;
    let (mut asked, mut forced) = (false, false);
    let mut call: Option<Call> = None;
    loop {
        let unsent = wire.has_unsent();
        // Nothing is read while there is something to answer: a process that asks and does not listen waits.
        tokio::select! {
            biased;
            () = dropped.cancelled(), if !forced => {
                forced = true;
                tree.stop(TERM_GRACE);
            }
            () = ctx.cancelled(), if !asked => {
                asked = true;
                wire.put(&ToWorker::Cancel).map_err(broken)?;
            }
            (id, answer) = async { match &mut call { Some(call) => call.await, None => std::future::pending().await } } => {
                call = None;
                let answer = ToWorker::Answer { id, answer };
                if let Err(error) = wire.put(&answer) {
                    let refused = Err(PortError::new(format!("the answer could not be carried: {error}")));
                    wire.put(&ToWorker::Answer { id, answer: refused }).map_err(broken)?;
                }
            }
            turn = wire.turn::<FromWorker>(), if unsent || call.is_none() => match turn.map_err(broken)? {
                Turn::Sent => {}
                Turn::Told(FromWorker::Call { id, request }) => {
                    let ctx = ctx.clone();
                    call = Some(Box::pin(async move { (id, ctx.call(request).await) }));
                }
                Turn::Told(FromWorker::Ended(Outcome::Lost)) | Turn::Gone => return Err(None),
                Turn::Told(FromWorker::Ended(outcome)) => return Ok(outcome),
            },
        }
    }
}

/// Waits until nothing of the tree is left.
async fn end(tree: &mut Tree, in_order: bool, dropped: &CancellationToken) -> std::io::Result<Ending> {
    if in_order {
        tokio::select! {
            ending = tree.ended() => return ending,
            () = tokio::time::sleep(EXIT_GRACE) => {}
            () = dropped.cancelled() => {}
        }
    }
    tree.stop(TERM_GRACE);
    tree.ended().await
}

fn outcome(
    ctx: &RunContext,
    told: Result<Outcome, Option<String>>,
    ending: std::io::Result<Ending>,
    last: &str,
    forced: bool,
) -> Outcome {
    let why = match told {
        Ok(outcome) => return outcome,
        Err(why) => why,
    };
    let data = ending.as_ref().map_or(Value::Null, |ending| {
        json!({
            "exit_code": ending.code,
            "signal": ending.signal,
            "signal_name": ending.signal_name(),
            "cpu_ms": u64::try_from(ending.cpu.as_millis()).unwrap_or(u64::MAX),
            "peak_memory_bytes": ending.peak_memory,
        })
    });
    if forced {
        return Outcome::Stopped(JobError::new("its process was ended by force").with_data(data));
    }
    let last = if last.is_empty() { String::new() } else { format!(": {last}") };
    let message = match (why, ending) {
        (Some(why), _) => why,
        (None, Err(error)) => error.to_string(),
        (None, Ok(ending)) => match (ending.signal_name(), ending.code) {
            (Some(signal), _) if signal == "SIGKILL" => {
                format!("its process was ended by SIGKILL, as the kernel does when memory is short{last}")
            }
            (Some(signal), _) => format!("its process was ended by {signal}{last}"),
            (None, code) => format!("its process exited with code {} under its job{last}", code.unwrap_or_default()),
        },
    };
    let error = JobError::new(message).with_data(data);
    if ctx.is_cancelled() { Outcome::Stopped(error) } else { Outcome::Failed(error) }
}
