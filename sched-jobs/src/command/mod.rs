//! `command`: a program, in a process group of its own, with a small environment.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sched_core::{Job, JobError, Output, ParamError, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command as Process};

use crate::JobEnv;

/// What a program gets between TERM and KILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// Pipes that are still open so long after the program's end are held by someone who left its group.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// A longer line is cut.
const LINE_LIMIT: u64 = 64 * 1024;
/// The last lines that the record keeps.
const LAST_LINES: usize = 20;
/// What a program inherits from the scheduler's environment. Everything else is withheld.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"];

/// Parameters of `command`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The program and its arguments; with `shell`, one line for `/bin/sh`.
    argv: Vec<String>,
    /// The folder it runs in; the configuration's folder unless set.
    #[serde(default)]
    cwd: Option<PathBuf>,
    /// Variables beside the inherited ones.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// A text for its standard input.
    #[serde(default)]
    stdin: Option<String>,
    /// Exit codes that are success.
    #[serde(default = "zero")]
    success_codes: Vec<i32>,
    /// Run `argv`'s only element by `/bin/sh -c`.
    #[serde(default)]
    shell: bool,
}

fn zero() -> Vec<i32> {
    vec![0]
}

struct Command {
    params: Params,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register_with_attempts("command", "Runs a program", 1, move |params: Params| {
        if params.argv.first().is_none_or(String::is_empty) {
            return Err(ParamError::new("argv", "needs at least the program, such as [\"/usr/bin/true\"]"));
        }
        if params.shell && params.argv.len() != 1 {
            return Err(ParamError::new("argv", "with shell = true it has one element, the line for /bin/sh"));
        }
        Ok(Command { params, env: env.clone() })
    });
}

type Tail = Arc<Mutex<VecDeque<String>>>;

/// Hands each line to the run's output and keeps the last ones. Ends with the pipe.
async fn follow(ctx: RunContext, pipe: impl AsyncRead + Unpin, tail: Tail) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&bytes);
                let line = line.trim_end_matches(['\n', '\r']).to_owned();
                {
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    if tail.len() == LAST_LINES {
                        tail.pop_front();
                    }
                    tail.push_back(line.clone());
                }
                ctx.log(line).await;
            }
        }
    }
}

/// Kills a process group when the run is dropped in the middle.
struct GroupGuard(Option<Pid>);

impl GroupGuard {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // A group that has ended needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Command {
    fn process(&self, ctx: &RunContext) -> Process {
        let params = &self.params;
        let mut process = if params.shell {
            let mut shell = Process::new("/bin/sh");
            shell.arg("-c").arg(&params.argv[0]);
            shell
        } else {
            let mut process = Process::new(&params.argv[0]);
            process.args(&params.argv[1..]);
            process
        };
        let info = ctx.info();
        let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        process
            .env_clear()
            .envs(inherited)
            .envs(&params.env)
            .env("SCHED_RUN_ID", info.run_id.to_string())
            .env("SCHED_SCHEDULE", info.schedule.as_str())
            .env("SCHED_NOMINAL_AT", info.nominal_at.map_or(String::new(), |at| at.to_rfc3339()))
            .env("SCHED_ATTEMPT", info.attempt.to_string())
            .env("SCHED_FENCE", info.fence.to_string())
            .current_dir(params.cwd.as_ref().map_or_else(|| self.env.base_dir.clone(), |cwd| self.env.path(cwd)))
            .stdin(if params.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        process
    }

    /// Waits for the end, or ends it: TERM, a grace, KILL.
    async fn ended(ctx: &RunContext, child: &mut Child, group: &GroupGuard) -> (std::io::Result<ExitStatus>, bool) {
        tokio::select! {
            status = child.wait() => return (status, false),
            () = ctx.cancelled() => group.signal(Signal::TERM),
        }
        if let Ok(status) = tokio::time::timeout(TERM_GRACE, child.wait()).await {
            return (status, true);
        }
        group.signal(Signal::KILL);
        (child.wait().await, true)
    }
}

#[async_trait]
impl Job for Command {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let program = &self.params.argv[0];
        let mut child = self.process(ctx).spawn().map_err(|error| {
            let message = format!("`{program}` could not be started: {error}");
            let hopeless = matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied);
            if hopeless { JobError::permanent(message) } else { JobError::new(message) }
        })?;
        let group = GroupGuard(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let tail = Tail::default();
        let mut pipes = tokio::task::JoinSet::new();
        if let Some(pipe) = child.stdout.take() {
            pipes.spawn(follow(ctx.clone(), pipe, tail.clone()));
        }
        if let Some(pipe) = child.stderr.take() {
            pipes.spawn(follow(ctx.clone(), pipe, tail.clone()));
        }
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), self.params.stdin.clone()) {
            // A program may end without reading all of it.
            pipes.spawn(async move { drop(pipe.write_all(text.as_bytes()).await) });
        }
        let (status, cancelled) = Self::ended(ctx, &mut child, &group).await;
        // Nothing of the group stays, so the pipes close.
        drop(group);
        let closed = tokio::time::timeout(PIPE_GRACE, async { while pipes.join_next().await.is_some() {} }).await;
        if cancelled || closed.is_err() {
            let run_id = ctx.run_id();
            let swept = tokio::task::spawn_blocking(move || sched_core::process::sweep(&[run_id])).await;
            if let Ok(swept) = swept
                && swept > 0
            {
                ctx.log(format!("({swept} processes that had left the program's group were killed)")).await;
            }
        }
        pipes.join_all().await;
        let status = status?;
        let tail: Vec<String> = tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let last = tail.last().map_or(String::new(), |line| format!(": {line}"));
        let data = json!({ "exit_code": status.code(), "signal": status.signal(), "last_lines": tail });
        if cancelled {
            return Err(JobError::new("the program was stopped").with_data(data));
        }
        match (status.code(), status.signal()) {
            (Some(code), _) if self.params.success_codes.contains(&code) => {
                Ok(Output::summary(format!("exited with code {code}")).with_data(data))
            }
            (Some(code), _) => Err(JobError::new(format!("exited with code {code}{last}")).with_data(data)),
            (None, signal) => {
                let signal = signal.map_or("an unknown signal".into(), |signal| format!("signal {signal}"));
                Err(JobError::new(format!("was ended by {signal}{last}")).with_data(data))
            }
        }
    }
}
