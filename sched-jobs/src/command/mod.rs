//! `command`: a program with all that it starts, in a small environment, ended as a whole.

mod output;
mod params;

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sched_core::process::{Ending, StartError, Tree, Waiting};
use sched_core::{Job, JobError, Output, Registry, RunContext, async_trait};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use self::output::{Ear, follow};
pub(crate) use self::params::{Meaning, Params};
use crate::JobEnv;

/// What a program gets between TERM and KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// What is still in a pipe when the last process is gone, is read in no time; a pipe that stays open is held by someone
/// who is none of ours.
const PIPE_GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Command {
    pub(crate) params: Params,
    pub(crate) env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register_with_attempts("command", "Runs a program", 1, move |params: Params| {
        params.check("")?;
        Ok(Command::new(params, env.clone()))
    });
}

impl Command {
    pub(crate) const fn new(params: Params, env: Arc<JobEnv>) -> Self {
        Self { params, env }
    }

    /// Its standard input, and the end to write a text to.
    fn stdin(&self) -> Result<(Option<OwnedFd>, Option<std::io::PipeWriter>), JobError> {
        if let Some(path) = self.params.stdin_file(&self.env) {
            let file = std::fs::File::open(&path);
            return match file {
                Ok(file) => Ok((Some(file.into()), None)),
                Err(error) => Err(JobError::new(format!("its standard input {}: {error}", path.display()))),
            };
        }
        if self.params.stdin.is_none() {
            return Ok((None, None));
        }
        let (read, write) = std::io::pipe()?;
        Ok((Some(read.into()), Some(write)))
    }

    /// Starts the tree; what writes its standard input is left in `work`.
    pub(crate) async fn start(
        &self,
        ctx: &RunContext,
        work: &mut JoinSet<()>,
        waiting: Waiting,
    ) -> Result<Tree, JobError> {
        let program = self.params.program(ctx, &self.env).map_err(JobError::new)?;
        let (stdin, write) = self.stdin()?;
        let tree = Tree::start(ctx.run_id(), program, stdin, waiting).await.map_err(|error| match error {
            StartError::NotReady | StartError::Refused { hopeless: true, .. } => JobError::permanent(error.to_string()),
            error => JobError::new(error.to_string()),
        })?;
        if let (Some(write), Some(text)) = (write, self.params.stdin.clone()) {
            let mut pipe = tokio::net::unix::pipe::Sender::from_owned_fd(write.into())?;
            // A program may end without reading all of it.
            work.spawn(async move { drop(pipe.write_all(text.as_bytes()).await) });
        }
        Ok(tree)
    }

    fn judge(&self, ending: &Ending, cancelled: bool, last: Option<String>, data: Value) -> Result<Output, JobError> {
        if cancelled {
            return Err(JobError::new("the program was stopped").with_data(data));
        }
        let last = last.map_or(String::new(), |line| format!(": {line}"));
        let Some(code) = ending.code else {
            let signal = ending.signal_name().unwrap_or_else(|| "an unknown signal".into());
            return Err(JobError::new(format!("was ended by {signal}{last}")).with_data(data));
        };
        match self.params.meaning(code) {
            Meaning::Success => Ok(Output::summary(format!("exited with code {code}")).with_data(data)),
            Meaning::Failure => Err(JobError::new(format!("exited with code {code}{last}")).with_data(data)),
            Meaning::Final => Err(JobError::permanent(format!("exited with code {code}{last}")).with_data(data)),
        }
    }

    /// Runs the program to its end, or until `stop` completes: then it gets TERM, and KILL after that.
    pub(crate) async fn run_until(
        &self,
        ctx: &RunContext,
        stop: impl Future<Output = ()> + Send,
        waiting: Waiting,
    ) -> Result<Output, JobError> {
        tokio::pin!(stop);
        let mut work = JoinSet::new();
        let mut tree = self.start(ctx, &mut work, waiting).await?;
        let ear = Ear::default();
        let followed = [(tree.stdout.take(), true), (tree.stderr.take(), false)].map(|(pipe, stdout)| {
            let ear = ear.clone();
            async move {
                if let Some(pipe) = pipe {
                    follow(ctx, pipe, ear, stdout).await;
                }
            }
        });
        let [stdout, stderr] = followed;
        // On the job's own thread, which waits anyway.
        let following = async { tokio::join!(stdout, stderr) };
        tokio::pin!(following);
        let (mut cancelled, mut heard_all) = (false, false);
        let ending = loop {
            tokio::select! {
                ending = tree.ended() => break ending?,
                () = &mut stop, if !cancelled => {
                    cancelled = true;
                    tree.stop(TERM_GRACE);
                }
                _ = &mut following, if !heard_all => heard_all = true,
            }
        };
        // Nothing of the tree stays, so the pipes close.
        let rest = async {
            if !heard_all {
                following.await;
            }
            while work.join_next().await.is_some() {}
        };
        let _ = tokio::time::timeout(PIPE_GRACE, rest).await;
        work.shutdown().await;
        if ending.strays > 0 {
            ctx.log(format!("({} processes that had left the program's group were killed)", ending.strays)).await;
        }
        if ending.left > 0 {
            ctx.log(format!("({} processes that it started could not be killed)", ending.left)).await;
        }
        let (complaint, last_lines, result) = {
            let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
            (heard.complaint(), Vec::from_iter(heard.last.drain(..)), heard.result())
        };
        let data = json!({
            "exit_code": ending.code,
            "signal": ending.signal,
            "signal_name": ending.signal_name(),
            "cpu_ms": ending.cpu.as_millis() as u64,
            "peak_memory_bytes": ending.peak_memory,
            "result": result,
            "last_lines": last_lines,
        });
        self.judge(&ending, cancelled, complaint, data)
    }
}

#[async_trait]
impl Job for Command {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        // The thread is this attempt's alone.
        self.run_until(ctx, ctx.cancelled(), Waiting::Thread).await
    }
}
