//! Jobs in processes of their own: whatever they do to their process ends there.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use sched_core::{
    Job, JobError, Limits, MemoryStore, Output, Overlap, Placement, Registry, RunContext, RunRecord, RunState,
    ScheduleSpec, Scheduler, TriggerRequest, TriggerSpec, async_trait, process, runner,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Acting {
    /// What the job does.
    act: String,
    /// The control group that it does it in.
    #[serde(default)]
    group: String,
}

/// Uses its stack up: each call touches memory further down, until there is none.
#[expect(unconditional_recursion, reason = "it is meant to fault")]
fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    descend(depth + 1) + frame[0]
}

/// A control group of its own that may use so much memory; none where it cannot be made. It is removed at the end.
struct MemoryGroup(std::path::PathBuf);

impl MemoryGroup {
    fn of(bytes: u64) -> Option<Self> {
        let name = format!("sched-test-{}", std::process::id());
        let (v1, v2) = (Path::new("/sys/fs/cgroup/memory").join(&name), Path::new("/sys/fs/cgroup").join(&name));
        let (path, limit) =
            if v1.parent().is_some_and(Path::exists) { (v1, "memory.limit_in_bytes") } else { (v2, "memory.max") };
        std::fs::create_dir(&path).ok()?;
        let group = Self(path);
        std::fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Whoever was in it may be a zombie for a moment.
        while std::fs::remove_dir(&self.0).is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy) {
            std::thread::yield_now();
        }
    }
}

/// Writes around the runner, as broken native code would.
fn scribble(bytes: &[u8]) {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().starts_with("socket:") {
            // A socket cannot be opened anew, but it is also a descriptor that a debugger's eye sees.
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let pid =
                rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
            let flags = rustix::process::PidfdGetfdFlags::empty();
            let socket = rustix::process::pidfd_getfd(pid.as_fd(), number, flags).unwrap();
            let _ = std::os::unix::net::UnixStream::from(socket).write_all(bytes);
        }
    }
}

#[async_trait]
impl Job for Acting {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        match self.act.as_str() {
            "pid" => {
                ctx.log("from far away").await;
                ctx.progress(40, "half way").await;
                let path = ctx.artifact("out.txt", "hello").await?;
                ctx.state_put("times", json!(1)).await?;
                let kept = ctx.state_get("times").await?;
                let refused = ctx.artifact("../out.txt", "x").await.is_err();
                let data = json!({ "pid": std::process::id(), "path": path, "kept": kept, "refused": refused });
                return Ok(Output::summary("did it elsewhere").with_data(data));
            }
            "panic" => panic!("told to"),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(3),
            // The first finds the handler of Rust's runtime, which lets the next one through.
            "fault" => loop {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::SEGV).unwrap();
            },
            "overflow" => return Ok(Output::summary(descend(0).to_string())),
            "devour" => {
                std::fs::write(Path::new(&self.group).join("cgroup.procs"), std::process::id().to_string()).unwrap();
                let devoured = vec![1_u8; 256 << 20];
                return Ok(Output::summary(devoured.len().to_string()));
            }
            "leak" => {
                let mut leaked: Vec<Vec<u8>> = Vec::new();
                // Two gibibytes, and each page touched.
                for _ in 0..2048 {
                    leaked.push(vec![1; 1024 * 1024]);
                }
                return Ok(Output::summary(format!("{} MiB", leaked.len())));
            }
            "spin" => {
                let mut child = std::process::Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
                ctx.log(format!("child {}", child.id())).await;
                std::thread::spawn(move || child.wait());
                loop {
                    std::hint::spin_loop();
                }
            }
            "wait" => {
                ctx.log("waits").await;
                ctx.cancelled().await;
                return Err(JobError::new("stopped as it was asked to").with_data(json!("kind")));
            }
            "damage" => scribble(b"HTTP/1.1 200 OK\r\n\r\n"),
            "huge" => scribble(&[0xff; 64]),
            "nonsense" => scribble(b"\0\0\0\x02{x"),
            "environment" => {
                let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
                return Ok(Output::default().with_data(json!(names)));
            }
            _ => {}
        }
        ctx.cancelled().await;
        Ok(Output::default())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register("act", "Acts", |params: Acting| Ok(params));
    registry
}

/// No test: where this executable, run again, becomes a shim, or the process of an attempt.
#[test]
fn again() {
    process::init_within(&["--exact", "again", "--nocapture"]);
    runner::serve(&registry());
}

struct World {
    _folder: tempfile::TempDir,
    scheduler: Scheduler,
}

impl World {
    fn new(acts: &[&str], more: impl Fn(ScheduleSpec) -> ScheduleSpec) -> Self {
        again();
        let folder = tempfile::tempdir().unwrap();
        let specs = acts.iter().map(|act| {
            let trigger = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
            let mut spec = ScheduleSpec::new(act, "act", trigger).unwrap().with_param("act", *act);
            spec.retry.attempts = 1;
            more(spec.with_runner(Placement::Process(Limits::default())))
        });
        let tick = TriggerSpec::every(Duration::from_secs(1));
        let mut other = ScheduleSpec::new("other", "act", tick)
            .unwrap()
            .with_param("act", "environment")
            .with_overlap(Overlap::Allow);
        other.retry.attempts = 1;
        let builder = Scheduler::builder(MemoryStore::new()).registry(registry()).schedules(specs).schedule(other);
        let scheduler = builder.data_dir(folder.path()).start().unwrap();
        Self { _folder: folder, scheduler }
    }

    async fn begin(&self, name: &str) -> sched_core::RunId {
        self.scheduler.handle().trigger(TriggerRequest::new(name.parse().unwrap(), "test")).await.unwrap()
    }

    async fn run(&self, name: &str) -> RunRecord {
        self.scheduler.handle().wait(self.begin(name).await).await.unwrap()
    }

    fn output(&self, run_id: sched_core::RunId) -> String {
        std::fs::read_to_string(self.scheduler.handle().files().unwrap().output_path(run_id)).unwrap_or_default()
    }

    /// Waits until a run has printed this.
    async fn printed(&self, run_id: sched_core::RunId, wanted: &str) -> String {
        loop {
            let text = self.output(run_id);
            if let Some(line) = text.lines().find(|line| line.contains(wanted)) {
                return line.to_owned();
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_job_in_a_process_of_its_own_has_all_that_others_have() {
    let world = World::new(&["pid", "panic"], |spec| spec);
    let run = world.run("pid").await;
    assert_eq!((run.state, run.summary.as_deref()), (RunState::Succeeded, Some("did it elsewhere")), "{:?}", run.error);
    assert_ne!(run.data["pid"], json!(std::process::id()));
    assert_eq!((&run.data["kept"], &run.data["refused"]), (&json!(1), &json!(true)));
    assert_eq!(run.artifacts.len(), 1);
    assert_eq!(std::fs::read_to_string(run.data["path"].as_str().unwrap()).unwrap(), "hello");
    assert!(world.output(run.run_id).contains("from far away\n"));
    let run = world.run("panic").await;
    assert_eq!(run.error.as_deref(), Some("the job panicked: told to"));
}

#[tokio::test]
async fn a_job_that_aborts_leaks_or_exits_is_recorded_as_what_it_is_while_others_go_on() {
    let limited = |spec: ScheduleSpec| {
        spec.with_runner(Placement::Process(Limits { memory: Some(256 << 20), ..Limits::default() }))
    };
    let world = World::new(&["abort", "fault", "leak", "exit"], limited);
    let run = world.run("abort").await;
    assert_eq!((run.state, &run.data["signal_name"]), (RunState::Failed, &json!("SIGABRT")), "{:?}", run.error);
    assert!(run.error.unwrap().starts_with("its process was ended by SIGABRT"));
    let run = world.run("fault").await;
    assert_eq!((run.state, &run.data["signal_name"]), (RunState::Failed, &json!("SIGSEGV")), "{:?}", run.error);
    let run = world.run("leak").await;
    assert!(run.error.unwrap().starts_with("its process was ended by SIGABRT"));
    assert!(world.output(run.run_id).contains("memory allocation of "));
    assert!(run.data["peak_memory_bytes"].as_u64().unwrap() < 300 << 20, "{}", run.data);
    assert!(world.output(run.run_id).starts_with("\nrunning 1 test\n"), "the stage before it was led here at once");
    let run = world.run("exit").await;
    assert!(run.error.unwrap().starts_with("its process exited with code 3 under its job"));
    assert_eq!(world.run("other").await.state, RunState::Succeeded);
}

#[tokio::test]
async fn a_job_that_runs_out_of_its_stack_faults_alone() {
    let world = World::new(&["overflow"], |spec| spec);
    let run = world.run("overflow").await;
    assert_eq!((run.state, &run.data["signal_name"]), (RunState::Failed, &json!("SIGABRT")), "{:?}", run.error);
    assert!(world.output(run.run_id).contains("has overflowed its stack"), "{}", world.output(run.run_id));
    assert_eq!(world.run("other").await.state, RunState::Succeeded);
}

#[tokio::test]
async fn a_job_that_the_kernel_kills_for_want_of_memory_is_recorded_so_while_others_go_on() {
    let Some(group) = MemoryGroup::of(64 << 20) else {
        println!("skipped: no control group with a limit of memory can be made here");
        return;
    };
    let place = group.0.to_str().unwrap();
    let world = World::new(&["devour"], |spec| spec.with_param("group", place));
    let run = world.run("devour").await;
    assert_eq!((run.state, &run.data["signal_name"]), (RunState::Failed, &json!("SIGKILL")), "{:?}", run.error);
    let error = run.error.unwrap();
    assert!(error.starts_with("its process was ended by SIGKILL, as the kernel does when memory is short"), "{error}");
    assert_eq!(world.run("other").await.state, RunState::Succeeded);
}

/// A hundred schedules that fire each second lose and double nothing beside jobs that abort, fault, leak and spin.
#[tokio::test]
async fn a_hundred_schedules_lose_and_double_nothing_beside_jobs_that_destroy_their_process() {
    again();
    let folder = tempfile::tempdir().unwrap();
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let isolated = ["abort", "fault", "leak", "spin"].map(|act| {
        let mut spec = ScheduleSpec::new(act, "act", never.clone()).unwrap().with_param("act", act);
        spec.retry.attempts = 1;
        let limits = Limits { memory: Some(256 << 20), cpu: Some(Duration::from_secs(2)), ..Limits::default() };
        spec.with_runner(Placement::Process(limits))
    });
    let others = (0..100).map(|number| {
        let tick = TriggerSpec::every(Duration::from_secs(1));
        ScheduleSpec::new(&format!("other-{number}"), "act", tick).unwrap().with_param("act", "environment")
    });
    let builder = Scheduler::builder(MemoryStore::new()).registry(registry()).schedules(isolated).schedules(others);
    let scheduler = builder.data_dir(folder.path()).start().unwrap();
    let handle = scheduler.handle();
    let begin = |name: &str| handle.trigger(TriggerRequest::new(name.parse().unwrap(), "test"));
    let mut runs = Vec::new();
    for act in ["abort", "fault", "leak", "spin"] {
        runs.push(begin(act).await.unwrap());
    }
    let mut signals = Vec::new();
    for run in runs {
        signals.push(handle.wait(run).await.unwrap().data["signal_name"].clone());
    }
    assert_eq!(signals, ["SIGABRT", "SIGSEGV", "SIGABRT", "SIGXCPU"]);
    let report = handle.audit(None).await.unwrap();
    assert!(report.ok && report.expected >= 100, "{report:?}");
    let failed = sched_core::HistoryFilter { states: vec![RunState::Failed], ..sched_core::HistoryFilter::newest(100) };
    let rows = handle.history(failed.clone()).await.unwrap();
    let bare = handle.history(sched_core::HistoryFilter { bare: true, ..failed }).await.unwrap();
    let large = |row: &sched_core::HistoryRow| match row {
        sched_core::HistoryRow::Run(run) => (run.params.clone(), run.data.clone()) != (json!({}), Value::Null),
        sched_core::HistoryRow::Range(_) => false,
    };
    assert_eq!((rows.len(), rows.iter().all(large), bare.iter().any(large)), (4, true, false));
}

#[tokio::test]
async fn a_job_that_spins_is_ended_with_all_that_it_started() {
    let world = World::new(&["spin", "wait"], |spec| spec);
    let spin = world.begin("spin").await;
    let child = world.printed(spin, "child ").await.replace("child ", "");
    world.scheduler.handle().cancel(spin).await.unwrap();
    let run = world.scheduler.handle().wait(spin).await.unwrap();
    assert_eq!((run.state, run.abandoned), (RunState::Cancelled, false), "{:?}", run.error);
    assert!(!Path::new(&format!("/proc/{child}")).exists());
    let wait = world.begin("wait").await;
    world.printed(wait, "waits").await;
    world.scheduler.handle().cancel(wait).await.unwrap();
    let run = world.scheduler.handle().wait(wait).await.unwrap();
    assert_eq!((run.state, &run.data), (RunState::Cancelled, &json!("kind")), "it was asked, and answered");
}

#[tokio::test]
async fn a_job_that_uses_up_its_time_on_a_processor_is_ended_by_the_kernel() {
    let limits = Limits { cpu: Some(Duration::from_secs(1)), ..Limits::default() };
    let world = World::new(&["spin"], |spec| spec.with_runner(Placement::Process(limits.clone())));
    let run = world.run("spin").await;
    assert_eq!((run.state, &run.data["signal_name"]), (RunState::Failed, &json!("SIGXCPU")), "{:?}", run.error);
}

#[tokio::test]
async fn a_process_that_sends_what_is_no_message_is_ended_and_harms_nothing() {
    let world = World::new(&["damage", "huge", "nonsense"], |spec| spec);
    for name in ["damage", "huge", "nonsense"] {
        let run = world.run(name).await;
        let error = run.error.unwrap();
        assert!(error.starts_with("its process does not speak as it should: not a message"), "{name}: {error}");
        assert_eq!(run.state, RunState::Failed);
    }
    assert_eq!(world.run("other").await.state, RunState::Succeeded);
}

#[tokio::test]
async fn a_job_elsewhere_sees_the_environment_but_not_the_schedulers_own_part() {
    let world = World::new(&["environment"], |spec| spec);
    let run = world.run("environment").await;
    let names: Vec<&str> = run.data.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"PATH") && names.contains(&"SCHED_RUN_ID"), "{names:?}");
    assert!(!names.iter().any(|name| *name == "DASHBOARD_KEY" || name.starts_with("SCHED__")), "{names:?}");
}
