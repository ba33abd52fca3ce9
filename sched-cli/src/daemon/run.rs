//! The foreground process, which systemd, containers and `sched start` run.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sched_core::heartbeat::HeartbeatThread;
use sched_core::process::close_inherited;
use sched_core::{AlertKind, Event, Handle, RunState, Scheduler, SqliteStore, StartOptions, StoreLock};
use sched_http::{AppState, Connections, Health, Reload, ReloadOrder, local_router, router, serve, serve_local};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::life::Life;
use super::log::Log;
use super::marker::{Marker, Note as _, Stopped, stop_was_announced, write_whole};
use super::origin::Origin;
use super::place::{Seat, folder, lock_path, socket_in};
use super::reload::reloader;
use super::supervisor::{self, Record};
use super::{death, parent, watched, witness};
use crate::args::{Global, Started, Watch};
use crate::compose::{Setup, aliases};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What runs get once someone asks for the end a second time.
const HURRY: Duration = Duration::from_millis(500);
/// Between two words on a long start.
const BETWEEN_WORDS: Duration = Duration::from_secs(1);
/// What is printed is little: faults, and a panic. More than this in bytes begins a new file.
const LONG_OUTPUT: u64 = 4 << 20;
/// What open connections get at the end.
const CONNECTION_GRACE: Duration = Duration::from_millis(300);

pub(crate) fn run(global: &Global, watch: Watch, started: &Started) -> Outcome {
    if started.daemon && !started.below {
        // Whoever waits for the end of a pipe that a shell left open must not wait for a daemon's.
        close_inherited();
    }
    if watch.supervise || parent::is_needed() {
        return parent::run(global, started.daemon, watch.limit());
    }
    let mut origin = Origin::here();
    if let Some(session) = &started.session {
        origin.session = serde_json::from_str(session).ok();
    }
    if started.daemon && !started.below {
        // A session of its own: the terminal's end is not this process's.
        rustix::process::setsid().map_err(Failure::failed)?;
    }
    let result = Setup::load(global).and_then(|setup| foreground(setup, origin, global, started));
    if let Err(failure) = &result {
        watched::tell_failure(&failure.message);
        if started.daemon {
            tell_starter(&json!({ "exit": failure.exit as u8, "error": failure.message }));
        }
    }
    result
}

/// Tells `sched start`, which waits at the other end of standard output.
pub(super) fn tell_starter(message: &serde_json::Value) {
    let mut out = std::io::stdout();
    // Who has gone needs no answer.
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}

fn foreground(setup: Setup, origin: Origin, global: &Global, started: &Started) -> Outcome {
    init_tracing(global.verbose);
    let http = Builder::new_multi_thread().worker_threads(2).thread_name("sched-http").enable_all().build()?;
    let jobs = Builder::new_multi_thread().worker_threads(2).thread_name("sched-job").enable_all().build()?;
    let outcome = http.block_on(live(setup, origin, &jobs, global, started));
    // Jobs that ignore everything end with the process.
    jobs.shutdown_background();
    http.shutdown_background();
    outcome
}

fn init_tracing(verbose: u8) {
    let level = ["warn", "info", "debug"][usize::from(verbose.min(2))];
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    // A subscriber that is set already stays.
    // On a full disk a report of a failed report would panic.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = subscriber.log_internal_errors(false).try_init();
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal to end.
    async fn end(&mut self) -> i32 {
        tokio::select! {
            _ = self.term.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.int.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }

    /// The signal that ends the process; at each SIGHUP on the way the log is reopened and the configuration read.
    async fn ended(&mut self, log: &Log, reload: &Reload, listen: &str, printed: Option<&Path>) -> i32 {
        loop {
            tokio::select! {
                _ = self.term.recv() => return SignalKind::terminate().as_raw_value(),
                _ = self.int.recv() => return SignalKind::interrupt().as_raw_value(),
                _ = self.hup.recv() => {
                    log.reopen();
                    if let Some(Err(failure)) = printed.map(detach_output) {
                        tracing::error!("scheduler.out cannot be opened anew: {}", failure.message);
                    }
                    watched::tell_reloading();
                    if let Err(message) = reload(ReloadOrder { by: "signal".into(), ..ReloadOrder::default() }).await {
                        tracing::error!("the configuration was not taken over: {message}");
                    }
                    watched::tell_ready(listen);
                }
            }
        }
    }
}

async fn live(mut setup: Setup, origin: Origin, jobs: &Runtime, global: &Global, started: &Started) -> Outcome {
    let described = setup.describe();
    // The engine has them from now on; a second copy of many would be most of what the process takes.
    let schedules = std::mem::take(&mut setup.config.schedules);
    let config = &setup.config;
    folder(&config.data_dir)?;
    folder(&config.log_dir)?;
    let lock = StoreLock::take(&lock_path(&config.data_dir))?;
    let seat = Seat::of(lock_path(&config.data_dir))?;
    let before = Marker::read(&config.data_dir);
    Stopped::remove(&config.data_dir);
    stop_was_announced(&config.data_dir);
    let mut signals = Signals::new()?;
    let (key, generated) = setup.key()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        Failure::failed(format!("{} cannot be listened on: {error}; choose another with http.listen", config.listen))
    })?;
    let listen = listener.local_addr()?.to_string();
    let store = open_store(&setup.store_path(), lock, started.daemon).await?;
    let mut builder = Scheduler::builder(store)
        .registry(setup.registry.clone())
        .schedules(schedules)
        .channels(setup.channels()?)
        .max_concurrent_runs(config.max_concurrent_runs)
        .data_dir(&config.data_dir)
        .isolated_runner(setup.isolated(jobs.handle()))
        .start_options(StartOptions { supervised_restart: started.restarted })
        .runtime(jobs.handle().clone());
    for (group, limit) in &config.groups {
        builder = builder.group_limit(group, *limit);
    }
    let scheduler = builder.start()?;
    let handle = scheduler.handle().clone();
    let started_at = handle.clock().now().utc;
    let log = Log::start(&setup, started.daemon, &handle)?;
    let health = Health::new(handle.clock().now(), listen.clone()).with_heartbeat(config.heartbeat);
    let health = Arc::new(health);
    let pid = std::process::id();
    handle.announce(Event::Startup { ok: true, pid, config: described });
    let (ticked, first_tick) = tokio::sync::oneshot::channel();
    let watching = tokio::spawn(watch(handle.clone(), health.clone(), ticked));

    let reload = reloader(global, &setup, &handle);
    let state = AppState::new(handle.clone(), key, aliases(), health.clone()).with_reload(reload.clone());
    let (socket, _folder) = socket_in(&config.data_dir)?;
    // The lock is ours: a socket that is there was left behind.
    let _ = std::fs::remove_file(&socket);
    let control = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let pid_file = config.log_dir.join("scheduler.pid");
    write_whole(&pid_file, &pid.to_string())?;
    if let Some(before) = before {
        tell_of_death(&handle, &before, &config.data_dir, &config.log_dir).await;
    }
    if !StoreLock::is_held(&supervisor::lock_path(&config.data_dir)) {
        Record::remove(&config.data_dir);
    }
    let life = Life::begin(&config.data_dir, Marker::new(pid, started_at, listen.clone(), origin))?;
    let connections = Connections::default();
    let servers = [
        tokio::spawn(serve(listener, router(state.clone()), connections.clone())),
        tokio::spawn(serve_local(control, local_router(state), connections.clone())),
    ];
    let heartbeat = HeartbeatThread::start(handle.clone(), config.heartbeat).map_err(Failure::failed)?;
    first_tick.await.map_err(|_| Failure::failed("the engine ended before its first tick"))?;

    announce_start(global, started.daemon, pid, &listen, generated.as_deref());
    if started.daemon {
        detach_output(&config.log_dir)?;
    }
    watched::tell_ready(&listen);
    let proving = tokio::spawn(watched::prove_life(handle.clone(), health));
    let session = life.watch_session(handle.clock().clone());

    let signal = tokio::select! {
        signal = signals.ended(&log, &reload, &listen, started.daemon.then_some(&config.log_dir)) => signal,
        () = seat.lost() => {
            let message = format!(
                "the data folder {} was taken away or replaced while the scheduler ran; it ends, for another one may have \
                 begun there",
                config.data_dir.display()
            );
            let alert = Event::Alert { kind: AlertKind::Died, schedule: None, run_id: None, message: message.clone() };
            handle.announce(alert);
            scheduler.shutdown(config.shutdown_grace).await;
            log.finish(handle.clock().now().utc).await;
            return Err(Failure::new(Exit::Store, message));
        }
        () = handle.died() => {
            let message = "the engine ended by a panic; this is a defect, please report it";
            life.failed(message);
            return Err(Failure::failed(message));
        }
    };
    let asked = stop_was_announced(&config.data_dir);
    life.stopping();
    watched::tell_stopping();
    handle.announce(Event::Shutdown { signal, pid });
    drop(heartbeat);
    let mut draining = std::pin::pin!(scheduler.shutdown(config.shutdown_grace));
    loop {
        tokio::select! {
            () = &mut draining => break,
            // Whoever asks twice does not want to wait.
            _ = signals.end() => handle.hurry(HURRY),
        }
    }
    connections.close(CONNECTION_GRACE).await;
    for server in servers {
        server.abort();
    }
    for task in [watching, proving] {
        task.abort();
    }
    // What is gone already is what is wanted.
    let _ = std::fs::remove_file(&socket);
    let _ = std::fs::remove_file(&pid_file);
    let ts = handle.clock().now().utc;
    log.finish(ts).await;
    drop(session);
    life.ended(signal, asked, ts);
    Ok(Exit::Done)
}

/// Opens the store. Bringing it to a newer version may take its time; whoever waits for the start is told.
async fn open_store(path: &Path, lock: StoreLock, daemon: bool) -> Result<SqliteStore, Failure> {
    let versions = SqliteStore::migration(path);
    let place = path.to_owned();
    let mut opening = tokio::task::spawn_blocking(move || SqliteStore::open_held(place, lock));
    let Some((from, to)) = versions else { return Ok(opening.await.map_err(Failure::failed)??) };
    let doing = format!("bringing the store from version {from} to {to}");
    loop {
        if daemon {
            tell_starter(&json!({ "working": doing }));
        }
        watched::ask_for_time(&doing, 4 * BETWEEN_WORDS);
        tokio::select! {
            store = &mut opening => return Ok(store.map_err(Failure::failed)??),
            () = tokio::time::sleep(BETWEEN_WORDS) => {}
        }
    }
}

/// That the scheduler before this one ended without being told to, and why.
async fn tell_of_death(handle: &Handle, before: &Marker, data_dir: &Path, log_dir: &Path) {
    let seen = witness::seen(data_dir, before);
    let death = death::of(before, seen, log_dir);
    let message = format!("the scheduler before this one (pid {}) was not stopped: {}", death.pid, death.message);
    // A store that cannot be written says so by itself.
    let _ = handle.note(Event::Alert { kind: AlertKind::Died, schedule: None, run_id: None, message }).await;
}

fn announce_start(global: &Global, daemon: bool, pid: u32, listen: &str, key: Option<&Path>) {
    if daemon {
        tell_starter(&json!({ "ready": true, "pid": pid, "http": listen, "key": key }));
    } else if !global.quiet {
        output::note(&format!("sched is running: pid {pid}, http://{listen}/"));
        if let Some(path) = key {
            output::note(&format!("the dashboard key is in {}", path.display()));
        }
    }
}

/// From now on what is printed goes into `scheduler.out`: nothing holds the parent's pipes. One that has grown long is
/// moved away before.
pub(super) fn detach_output(log_dir: &Path) -> Result<(), Failure> {
    let path = log_dir.join("scheduler.out");
    if path.metadata().is_ok_and(|meta| meta.len() > LONG_OUTPUT) {
        // One that cannot be moved grows on.
        let _ = std::fs::rename(&path, log_dir.join("scheduler.out.1"));
    }
    let out = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    rustix::stdio::dup2_stdout(&out).map_err(Failure::failed)?;
    rustix::stdio::dup2_stderr(&out).map_err(Failure::failed)?;
    Ok(())
}

/// Keeps what status tells, and writes the original's line for the start-up self-heal.
async fn watch(handle: Handle, health: Arc<Health>, ticked: tokio::sync::oneshot::Sender<()>) {
    let mut events = handle.subscribe(None);
    let mut ticked = Some(ticked);
    while let Some(recorded) = events.next().await {
        health.note_event(&recorded, handle.clock().now().mono);
        if let Some(ticked) = ticked.take_if(|_| matches!(recorded.event, Event::Tick { .. })) {
            // Whoever waits for the first tick may have given up.
            let _ = ticked.send(());
        }
        let Event::RunFinished { run_id, origin: sched_core::Origin::Startup, state, job, .. } = &recorded.event else {
            continue;
        };
        if job != "self_heal" {
            continue;
        }
        let ok = *state == RunState::Succeeded;
        let run = handle.run(*run_id).await.ok();
        let retried_count = run.and_then(|run| run.data["retried_count"].as_u64()).unwrap_or(0);
        handle.announce(Event::SelfHealStartup { ok, status: if ok { 200 } else { 500 }, retried_count });
    }
}
