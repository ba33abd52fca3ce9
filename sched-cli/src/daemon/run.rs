//! The foreground process, which systemd, containers and `sched start` run.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sched_core::heartbeat::HeartbeatThread;
use sched_core::sink::NdjsonLog;
use sched_core::{Event, Handle, Origin, Recorded, RunState, Scheduler, SqliteStore, StoreLock};
use sched_http::{AppState, Connections, Health, Reload, local_router, router, serve, serve_local};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::place::{Marker, lock_path, socket_in, write_whole};
use super::reload::reloader;
use crate::args::Global;
use crate::compose::{Setup, aliases};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What open connections get at the end.
const CONNECTION_GRACE: Duration = Duration::from_millis(300);

pub(crate) fn run(global: &Global, daemon: bool) -> Outcome {
    if daemon {
        // A session of its own: the terminal's end is not this process's.
        rustix::process::setsid().map_err(Failure::failed)?;
    }
    let result = Setup::load(global).and_then(|setup| foreground(setup, global, daemon));
    if daemon && let Err(failure) = &result {
        tell_parent(&json!({ "exit": failure.exit as u8, "error": failure.message }));
    }
    result
}

fn tell_parent(message: &serde_json::Value) {
    let mut out = std::io::stdout();
    // A parent that has gone needs no answer.
    let _ = writeln!(out, "{message}").and_then(|()| out.flush());
}

fn foreground(setup: Setup, global: &Global, daemon: bool) -> Outcome {
    init_tracing(global.verbose);
    let http = Builder::new_multi_thread().worker_threads(2).thread_name("sched-http").enable_all().build()?;
    let jobs = Builder::new_multi_thread().worker_threads(2).thread_name("sched-job").enable_all().build()?;
    let outcome = http.block_on(live(setup, &jobs, global, daemon));
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

fn folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::failed(format!("the folder {} cannot be made: {error}", path.display())))
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

    /// The signal that ends the process; at each SIGHUP on the way the log is reopened and the configuration read.
    async fn ended(&mut self, log: &NdjsonLog, reload: &Reload) -> i32 {
        loop {
            tokio::select! {
                _ = self.term.recv() => return SignalKind::terminate().as_raw_value(),
                _ = self.int.recv() => return SignalKind::interrupt().as_raw_value(),
                _ = self.hup.recv() => {
                    log.reopen();
                    if let Err(message) = reload("signal".into(), None).await {
                        tracing::error!("the configuration was not taken over: {message}");
                    }
                }
            }
        }
    }
}

async fn live(mut setup: Setup, jobs: &Runtime, global: &Global, daemon: bool) -> Outcome {
    let described = setup.describe();
    // The engine has them from now on; a second copy of many would be most of what the process takes.
    let schedules = std::mem::take(&mut setup.config.schedules);
    let config = &setup.config;
    folder(&config.data_dir)?;
    folder(&config.log_dir)?;
    let lock = StoreLock::take(&lock_path(&config.data_dir))?;
    let mut signals = Signals::new()?;
    let (key, generated) = setup.key()?;
    let listener = TcpListener::bind(config.listen).await.map_err(|error| {
        Failure::failed(format!("{} cannot be listened on: {error}; choose another with http.listen", config.listen))
    })?;
    let listen = listener.local_addr()?.to_string();
    let store = SqliteStore::open_held(setup.store_path(), lock)?;
    let mut builder = Scheduler::builder(store)
        .registry(setup.registry.clone())
        .schedules(schedules)
        .channels(setup.channels()?)
        .max_concurrent_runs(config.max_concurrent_runs)
        .data_dir(&config.data_dir)
        .isolated_runner(setup.isolated(jobs.handle()))
        .runtime(jobs.handle().clone());
    for (group, limit) in &config.groups {
        builder = builder.group_limit(group, *limit);
    }
    let scheduler = builder.start()?;
    let handle = scheduler.handle().clone();
    let started_at = handle.clock().now().utc;
    let log = NdjsonLog::start(&setup.log_path(), &handle, &tokio::runtime::Handle::current())?;
    let health = Arc::new(Health::new(handle.clock().now(), listen.clone()));
    let pid = std::process::id();
    handle.announce(Event::Startup { ok: true, pid, config: described });
    let (ticked, first_tick) = tokio::sync::oneshot::channel();
    let watching = tokio::spawn(watch(handle.clone(), health.clone(), ticked));

    let reload = reloader(global, &setup, &handle);
    let state = AppState::new(handle.clone(), key, aliases(), health).with_reload(reload.clone());
    let (socket, _folder) = socket_in(&config.data_dir)?;
    // The lock is ours: a socket that is there was left behind.
    let _ = std::fs::remove_file(&socket);
    let control = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    let connections = Connections::default();
    let servers = [
        tokio::spawn(serve(listener, router(state.clone()), connections.clone())),
        tokio::spawn(serve_local(control, local_router(state), connections.clone())),
    ];
    let pid_file = config.log_dir.join("scheduler.pid");
    write_whole(&pid_file, &pid.to_string())?;
    Marker { pid, started_at, http: listen.clone() }.write(&config.data_dir)?;
    let heartbeat = HeartbeatThread::start(handle.clone(), config.heartbeat).map_err(Failure::failed)?;
    first_tick.await.map_err(|_| Failure::failed("the engine ended before its first tick"))?;

    announce_start(global, daemon, pid, &listen, generated.as_deref());
    if daemon {
        detach_output(&config.log_dir)?;
    }

    let signal = tokio::select! {
        signal = signals.ended(&log, &reload) => signal,
        () = handle.died() => return Err(Failure::failed("the engine ended by a panic; this is a defect, please report it")),
    };
    handle.announce(Event::Shutdown { signal, pid });
    drop(heartbeat);
    scheduler.shutdown(config.shutdown_grace).await;
    connections.close(CONNECTION_GRACE).await;
    for server in servers {
        server.abort();
    }
    watching.abort();
    // What is gone already is what is wanted.
    let _ = std::fs::remove_file(&socket);
    let _ = std::fs::remove_file(&pid_file);
    let ts = handle.clock().now().utc;
    log.finish(Recorded { ts, event: Event::Cleanup { removed_pid: pid }, seq: None }).await;
    Marker::remove(&config.data_dir);
    Ok(Exit::Done)
}

fn announce_start(global: &Global, daemon: bool, pid: u32, listen: &str, key: Option<&Path>) {
    if daemon {
        tell_parent(&json!({ "ready": true, "pid": pid, "http": listen, "key": key }));
    } else if !global.quiet {
        output::note(&format!("sched is running: pid {pid}, http://{listen}/"));
        if let Some(path) = key {
            output::note(&format!("the dashboard key is in {}", path.display()));
        }
    }
}

/// From now on what is printed goes into `scheduler.out`: nothing holds the parent's pipes.
fn detach_output(log_dir: &Path) -> Result<(), Failure> {
    let out = std::fs::OpenOptions::new().create(true).append(true).open(log_dir.join("scheduler.out"))?;
    rustix::stdio::dup2_stdout(&out).map_err(Failure::failed)?;
    rustix::stdio::dup2_stderr(&out).map_err(Failure::failed)?;
    Ok(())
}

/// Keeps what status tells, and writes the original's line for the start-up self-heal.
async fn watch(handle: Handle, health: Arc<Health>, ticked: tokio::sync::oneshot::Sender<()>) {
    let mut events = handle.subscribe(None);
    let mut ticked = Some(ticked);
    while let Some(recorded) = events.next().await {
        health.note_event(&recorded);
        if let Some(ticked) = ticked.take_if(|_| matches!(recorded.event, Event::Tick { .. })) {
            // Whoever waits for the first tick may have given up.
            let _ = ticked.send(());
        }
        let Event::RunFinished { run_id, origin: Origin::Startup, state, job, .. } = &recorded.event else { continue };
        if job != "self_heal" {
            continue;
        }
        let ok = *state == RunState::Succeeded;
        let run = handle.run(*run_id).await.ok();
        let retried_count = run.and_then(|run| run.data["retried_count"].as_u64()).unwrap_or(0);
        handle.announce(Event::SelfHealStartup { ok, status: if ok { 200 } else { 500 }, retried_count });
    }
}
