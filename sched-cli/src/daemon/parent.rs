//! The process above the engine: the first process of a container, which takes orphans and passes signals on, and the
//! supervisor, which starts an engine again that has died or hangs. It knows nothing of schedules and stores.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal as Sig, getpid, kill_process};
use sched_core::{Clock as _, Event, StoreLock, SystemClock};
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::death::{self, Cause, Death};
use super::engine::{self, Ended, Engine};
use super::marker::{Marker, Note as _};
use super::origin::{Origin, Session};
use super::place::{Seat, append_event, folder};
use super::supervisor::{Record, Restarts, lock_path};
use super::watched;
use crate::args::Global;
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What an engine gets for its start before it counts as hung; it may ask for more.
const START_WITHIN: Duration = Duration::from_secs(60);
/// The engine is looked at so often within the time after which it counts as hung.
const LOOKS: u32 = 5;

/// Whether this process must stand above the engine: as the first one of a container nobody else takes its orphans.
pub(crate) fn is_needed() -> bool {
    getpid() == Pid::INIT
}

/// Runs the engine below this process, to its end.
pub(crate) fn run(global: &Global, daemon: bool, supervise: Option<Duration>) -> Outcome {
    let setup = Setup::find(global)?;
    let session = Origin::here().session;
    if daemon {
        rustix::process::setsid().map_err(Failure::failed)?;
    }
    let result = Parent::new(global, setup, session.as_ref(), daemon, supervise).and_then(|(parent, lock)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(parent.live());
        drop(lock);
        outcome
    });
    if daemon && let Err(failure) = &result {
        super::run::tell_starter(&serde_json::json!({ "exit": failure.exit as u8, "error": failure.message }));
    }
    result
}

struct Parent {
    setup: Setup,
    /// The lock of a supervisor.
    seat: Option<Seat>,
    daemon: bool,
    program: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    /// After how long without a sign of life the engine counts as hung; none when it is not supervised.
    hung_after: Option<Duration>,
    restarts: Restarts,
    record: Record,
    clock: SystemClock,
    engine: Option<Engine>,
    next_start: Option<Instant>,
    stopping: bool,
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    child: Signal,
}

impl Parent {
    fn new(
        global: &Global,
        setup: Setup,
        session: Option<&Session>,
        daemon: bool,
        supervise: Option<Duration>,
    ) -> Result<(Self, Option<StoreLock>), Failure> {
        let data_dir = &setup.config.data_dir;
        let lock = match supervise {
            Some(_) => {
                folder(data_dir)?;
                Some(StoreLock::take(&lock_path(data_dir))?)
            }
            None => None,
        };
        let seat = lock.as_ref().map(|_| Seat::of(lock_path(data_dir))).transpose()?;
        let mut arguments = global.words();
        arguments.extend(["run".into(), "--below".into()]);
        if daemon {
            arguments.push("--daemon".into());
        }
        if let Some(session) = session {
            arguments.extend(["--session".into(), serde_json::to_string(session).map_err(Failure::failed)?.into()]);
        }
        let clock = SystemClock::new();
        let started_at = clock.now().utc;
        let pid = std::process::id();
        let record = Record {
            pid,
            started_at,
            hung_after_ms: u64::try_from(supervise.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
            restarts: 0,
            last_death: None,
            last_death_at: None,
            next_start_at: None,
            gave_up: None,
        };
        let parent = Self {
            // Where it is now: the file may be replaced by a newer one, which is then what is started.
            program: std::env::current_exe()?,
            setup,
            seat,
            daemon,
            arguments,
            hung_after: supervise,
            restarts: Restarts::default(),
            record,
            clock,
            engine: None,
            next_start: None,
            stopping: false,
        };
        Ok((parent, lock))
    }

    async fn live(mut self) -> Outcome {
        let mut signals = Signals::new()?;
        let (socket, address) = watched::listen(self.seat.is_some().then_some(&self.setup.config.data_dir))?;
        let socket = UnixDatagram::from_std(socket)?;
        let mut looks = self.hung_after.map(looks);
        self.keep_record();
        self.start(&address)?;
        if self.daemon {
            // What is started now tells the one who waits; this process must not keep the pipe.
            super::run::detach_output(&self.setup.config.log_dir)?;
        }
        loop {
            let next_start = self.next_start;
            tokio::select! {
                biased;
                _ = signals.term.recv() => if self.told_to_end(Sig::TERM) { return self.ended_idle() },
                _ = signals.int.recv() => if self.told_to_end(Sig::INT) { return self.ended_idle() },
                _ = signals.hup.recv() => self.pass_on(Sig::HUP),
                _ = signals.child.recv() => {
                    // Its last word has come before its end.
                    watched::heard_by_now(&socket).for_each(|word| self.heard(word));
                    if let Some(ended) = engine::reap(self.engine.as_ref()) && let Some(outcome) = self.ended(&ended).await {
                        return outcome;
                    }
                }
                () = next_look(&mut looks) => self.look(),
                () = at(next_start), if next_start.is_some() => {
                    self.next_start = None;
                    self.record.next_start_at = None;
                    self.record.restarts += 1;
                    self.keep_record();
                    if let Err(error) = self.start(&address) && let Some(outcome) = self.not_started(&error) {
                        return outcome;
                    }
                }
                // Last, so that who sends many keeps this process from nothing.
                word = watched::hear(&socket) => self.heard(word?),
            }
        }
    }

    fn start(&mut self, address: &str) -> std::io::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).arg0("sched");
        if self.record.restarts > 0 {
            command.arg("--restarted");
        }
        if let Some(hung_after) = self.hung_after {
            watched::let_watch(&mut command, address, hung_after);
        }
        if !self.daemon {
            // What a terminal sends to all in front of it is passed on by this process alone.
            command.process_group(0);
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| std::io::Error::other("the engine's process has no id"))?;
        let begun = self.clock.now().mono;
        self.engine = Some(Engine::begun(pid, begun));
        Ok(())
    }

    fn heard(&mut self, (sender, text): (i32, String)) {
        let Some(engine) = self.engine.as_mut().filter(|engine| engine.pid.as_raw_nonzero().get() == sender) else {
            return;
        };
        // Whoever watches this process is told the same.
        watched::tell(&text);
        engine.said(&text);
    }

    /// The engine has ended: what this process ends with, unless the engine is started again.
    async fn ended(&mut self, ended: &Ended) -> Option<Outcome> {
        let engine = self.engine.take()?;
        let again = self.hung_after.is_some() && !self.stopping && ended.code != Some(0);
        let first = self.record.restarts == 0 && !engine.stands;
        let homeless = match &self.seat {
            Some(seat) => seat.is_lost().await,
            None => false,
        };
        if !again || first || homeless {
            if homeless {
                let folder = self.setup.config.data_dir.display();
                output::note(&format!("the data folder {folder} was taken away: the engine is not started again"));
            } else {
                self.forget_record();
            }
            // It has said why itself.
            std::process::exit(ended.as_exit_code());
        }
        let death = self.death(&engine, ended);
        let own = !matches!(death.cause, Cause::OutOfMemory) && ended.signal != Some(Sig::KILL.as_raw())
            || engine.killed_as_hung;
        self.record.last_death_at = Some(self.clock.now().utc);
        self.record.last_death = Some(death.clone());
        self.again(&death, engine.begun, own)
    }

    /// The engine could not be started again. A want of processes, memory or files passes; all else is tried a few times.
    fn not_started(&mut self, error: &std::io::Error) -> Option<Outcome> {
        let before = self.record.last_death.as_ref()?;
        let message = format!("it could not be started again: {}: {error}", self.program.display());
        let death = Death { cause: Cause::Failure, message, remedy: None, pid: before.pid };
        let passes = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY];
        let own = !Errno::from_io_error(error).is_some_and(|error| passes.contains(&error));
        self.again(&death, self.clock.now().mono, own)
    }

    /// Plans the next start after an end, or gives up.
    fn again(&mut self, death: &Death, begun: Duration, own: bool) -> Option<Outcome> {
        let now = self.clock.now();
        let wait = self.restarts.after(now.mono.saturating_sub(begun), own);
        let restart_in_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let cause = death.cause.name().to_owned();
        self.log(Event::EngineDied { pid: death.pid, cause, message: death.message.clone(), restart_in_ms });
        let Some(wait) = wait else { return Some(self.give_up(death)) };
        self.record.next_start_at = Some(now.utc + wait);
        self.next_start = Some(Instant::now() + wait);
        self.keep_record();
        None
    }

    fn death(&self, engine: &Engine, ended: &Ended) -> Death {
        let pid = u32::try_from(engine.pid.as_raw_nonzero().get()).unwrap_or_default();
        let mut death = death::of_status(pid, ended.code, ended.signal);
        if engine.killed_as_hung {
            let seconds = self.hung_after.unwrap_or_default().as_secs();
            death.cause = Cause::Hung;
            death.message = format!("it gave no sign of life for {seconds} s and was killed");
        } else if let Some(word) = engine.word.as_ref().filter(|_| ended.code.is_some()) {
            death = Death { cause: Cause::Failure, message: word.clone(), remedy: None, ..death };
        }
        // The kernel may know more of a kill.
        let (data_dir, log_dir) = (&self.setup.config.data_dir, &self.setup.config.log_dir);
        let marker = Marker::read(data_dir).filter(|marker| marker.pid == pid);
        match marker {
            Some(marker) => death::of(&marker, Some(death), log_dir),
            None => death,
        }
    }

    fn give_up(&mut self, death: &Death) -> Outcome {
        let deaths = self.restarts.failures();
        let message = format!(
            "the engine has failed {deaths} times, one soon after another, and is not started again; the last time: {}",
            death.message
        );
        self.record.gave_up = Some(message.clone());
        self.keep_record();
        self.log(Event::SupervisorGaveUp { deaths, message: message.clone() });
        Err(Failure::failed(message))
    }

    /// Counts a look without a sign of life. Looks are counted and not time, so that a machine that stood still for a
    /// while accuses nobody.
    fn look(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        engine.silent += 1;
        let start = self.hung_after.map_or(0, |after| START_WITHIN.as_millis() / (after / LOOKS).as_millis().max(1));
        let most = if engine.stands { LOOKS } else { LOOKS.max(u32::try_from(start).unwrap_or(u32::MAX)) };
        if engine.silent > most && !engine.killed_as_hung {
            engine.killed_as_hung = true;
            self.pass_on(Sig::KILL);
        }
    }

    /// Passes the word on; whether there is nobody to pass it to.
    fn told_to_end(&mut self, signal: Sig) -> bool {
        self.stopping = true;
        self.next_start = None;
        self.pass_on(signal);
        self.engine.is_none()
    }

    /// It is told to end while there is no engine. What it saw of the last one stays known.
    fn ended_idle(&mut self) -> Outcome {
        self.record.next_start_at = None;
        self.keep_record();
        Ok(Exit::Done)
    }

    fn pass_on(&self, signal: Sig) {
        if let Some(engine) = &self.engine
            && let Err(error) = kill_process(engine.pid, signal)
        {
            output::note(&format!("the engine could not be told: {error}"));
        }
    }

    fn keep_record(&self) {
        if self.hung_after.is_some()
            && let Err(error) = self.record.write(&self.setup.config.data_dir)
        {
            output::note(&format!("the supervisor's record could not be written: {error}"));
        }
    }

    fn forget_record(&self) {
        if self.hung_after.is_some() {
            Record::remove(&self.setup.config.data_dir);
            watched::forget(&self.setup.config.data_dir);
        }
    }

    fn log(&self, event: Event) {
        if let Err(failure) = append_event(&self.setup.log_path(), event) {
            output::note(&failure.message);
        }
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }
}

fn looks(hung_after: Duration) -> Interval {
    let every = hung_after / LOOKS;
    let mut looks = interval_at(Instant::now() + every, every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

async fn next_look(looks: &mut Option<Interval>) {
    match looks {
        Some(looks) => drop(looks.tick().await),
        None => std::future::pending().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
