//! The supervisor: an engine that is killed, hangs or fails, and who is above it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::world::{World, command_schedule};

pub(crate) fn signal(pid: u64, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Waits for a state of the scheduler.
pub(crate) fn status_until(world: &World, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let status = world.status();
        if wanted(&status) {
            return status;
        }
        std::thread::yield_now();
    }
}

/// Waits until another engine than this one answers.
pub(crate) fn successor(world: &World, of: &Value) -> Value {
    status_until(world, |status| status["running"] == true && status["pid"] != of["pid"])
}

pub(crate) fn lines(world: &World, event: &str) -> Vec<Value> {
    world.log().into_iter().filter(|line| line["event"] == event).collect()
}

const CONFIG: &str = "[[schedule]]\nname = \"always\"\njob = \"command\"\ntrigger = { once = 2999-01-01T00:00:00Z }\n\
     on_start = \"always\"\nparams = { argv = [\"true\"] }\n";

#[test]
fn an_engine_that_is_killed_is_back_each_time_and_nothing_runs_twice() {
    let kills: usize = std::env::var("SUPERVISE_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let counted = command_schedule("counted", "echo $SCHED_RUN_ID >> ran", "delivery = \"at_most_once\"");
    let world = World::with(&format!("{CONFIG}{counted}"));
    let started = world.ok(&["start", "--supervise", "--json"]).json();
    assert_eq!(started["supervised"], true);
    world.wait_for(|line| line["event"] == "run_finished" && line["schedule"] == "always");
    let mut status = world.status();
    let supervisor = status["supervisor"]["pid"].clone();
    let mut asked = Vec::new();
    for kill in 1..=kills {
        asked.push(world.ok(&["trigger", "counted", "--wait"]).out.trim().to_owned());
        signal(status["pid"].as_u64().unwrap(), Signal::KILL);
        status = successor(&world, &status);
        let seen = &status["supervisor"];
        assert_eq!((&seen["pid"], &seen["restarts"]), (&supervisor, &json!(kill)));
        assert_eq!(seen["last_death"]["message"], "it was ended by SIGKILL");
    }
    let ran = std::fs::read_to_string(world.path("ran")).unwrap();
    assert_eq!(ran.lines().count(), kills, "each ran once");
    let started: Vec<_> =
        world.history().into_iter().filter(|run| run["schedule"] == "always" && run["state"] == "succeeded").collect();
    assert_eq!(started.len(), 1, "a start that nobody asked for is no start");
    assert_eq!(lines(&world, "engine_died").len(), kills);
    let told = lines(&world, "alert");
    assert_eq!(told.iter().filter(|alert| alert["kind"] == "died").count(), kills, "{told:?}");
    world.ok(&["audit"]);
    // A restart that was asked for is one, and who was supervised is again.
    world.ok(&["restart"]);
    assert!(world.status()["supervisor"]["pid"].is_u64());
    // No other user can speak to it, or fill its ear.
    assert_eq!(world.path("data/watch.sock").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    world.ok(&["stop"]);
    assert!(!world.path("data/watch.sock").exists());
    let stopped = world.status();
    assert_eq!((&stopped["state"], &stopped["supervisor"]), (&json!("stopped"), &Value::Null));
    assert_eq!(stopped["stopped"]["asked"], true);
}

#[test]
fn an_engine_that_hangs_is_noticed_and_started_again() {
    let world = World::with(CONFIG);
    world.ok(&["start", "--supervise", "--hung-after", "2s"]);
    let status = world.status();
    signal(status["pid"].as_u64().unwrap(), Signal::STOP);
    let now = successor(&world, &status);
    assert_eq!(now["supervisor"]["last_death"]["cause"], "hung");
    world.ok(&["restart"]);
    assert_eq!(world.status()["supervisor"]["hung_after_ms"], 2000, "a restart changes nothing of how it is watched");
    assert_eq!(lines(&world, "engine_died")[0]["message"], "it gave no sign of life for 2 s and was killed");
}

#[test]
fn an_engine_that_the_kernel_kills_for_want_of_memory_is_named_so_and_started_again() {
    let folder = format!("sched-test-{}", std::process::id());
    let (v1, v2) = (Path::new("/sys/fs/cgroup/memory").join(&folder), Path::new("/sys/fs/cgroup").join(&folder));
    let (group, limit) =
        if v1.parent().is_some_and(Path::exists) { (v1, "memory.limit_in_bytes") } else { (v2, "memory.max") };
    let can = std::fs::create_dir(&group).is_ok() && std::fs::write(group.join(limit), "300000").is_ok();
    if !can || std::fs::File::open("/dev/kmsg").is_err() {
        println!("skipped: no control group with a limit of memory can be made here, or the kernel's log is closed");
        let _ = std::fs::remove_dir(&group);
        return;
    }
    let world = World::with(&format!("{CONFIG}{}", command_schedule("works", "true", "overlap = \"allow\"")));
    world.ok(&["start", "--supervise"]);
    let status = world.status();
    std::fs::write(group.join("cgroup.procs"), status["pid"].to_string()).unwrap();
    // What it takes from now on counts, and soon it has taken too much.
    while world.status()["pid"] == status["pid"] {
        world.sched(&["trigger", "works"]);
    }
    let now = successor(&world, &status);
    assert_eq!(now["supervisor"]["last_death"]["cause"], "out_of_memory", "{now}");
    while std::fs::remove_dir(&group).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn an_engine_that_fails_again_and_again_is_given_up_with_a_clear_last_word() {
    let world = World::with(CONFIG);
    world.ok(&["start", "--supervise"]);
    let status = world.status();
    std::fs::write(world.path("sched.toml"), "timezone = \"Mars/Olympus\"\n").unwrap();
    signal(status["pid"].as_u64().unwrap(), Signal::KILL);
    let gave_up = world.wait_for(|line| line["event"] == "supervisor_gave_up");
    assert_eq!(gave_up["deaths"], 5);
    let message = gave_up["message"].as_str().unwrap();
    assert!(message.starts_with("the engine has failed 5 times, one soon after another"), "{message}");
    assert!(message.contains("sched.toml:1:12") && message.contains("Mars/Olympus"), "{message}");
    let status = status_until(&world, |status| status["supervisor"].is_null());
    assert_eq!((&status["state"], &status["gave_up"]), (&json!("unclean"), &json!(message)));
    let told = world.sched(&["status"]);
    assert!(told.code == 1 && told.out.contains(message), "{}", told.out);
    std::fs::write(world.path("sched.toml"), CONFIG).unwrap();
    let started = world.ok(&["start"]);
    assert!(started.err.contains("was not stopped"), "it is said once again: {}", started.err);
    assert_eq!(world.status()["state"], "running");
}

#[test]
fn a_supervisor_that_waits_to_start_the_engine_again_can_be_stopped() {
    let world = World::with(CONFIG);
    world.ok(&["start", "--supervise"]);
    let status = world.status();
    std::fs::write(world.path("sched.toml"), "nonsense").unwrap();
    signal(status["pid"].as_u64().unwrap(), Signal::KILL);
    // At the fourth failure it waits for a good second.
    status_until(&world, |status| {
        status["supervisor"]["restarts"] == 3 && status["supervisor"]["next_start_at"].is_string()
    });
    world.ok(&["stop"]);
    let status = world.status();
    assert!(status["supervisor"].is_null());
    let message = status["death"]["message"].as_str().unwrap();
    assert!(message.contains("sched.toml:1:"), "what ended the last one stays known: {message}");
    assert_eq!(lines(&world, "supervisor_gave_up").len(), 0);
}

#[test]
fn what_ends_a_scheduler_is_named_by_status_and_once_again_by_the_next_start() {
    let world = World::with(CONFIG);
    world.ok(&["start"]);
    world.kill();
    let status = world.status();
    assert_eq!((&status["state"], &status["death"]["cause"]), (&json!("unclean"), &json!("unknown")));
    let again = world.ok(&["start"]);
    assert!(again.err.contains("left no trace of by whom"), "{}", again.err);
    let told = world.wait_for(|line| line["event"] == "alert" && line["kind"] == "died");
    assert!(told["message"].as_str().unwrap().contains("left no trace"), "{told}");
    // A TERM that is not ours is told apart from `sched stop`.
    signal(world.status()["pid"].as_u64().unwrap(), Signal::TERM);
    let stopped = status_until(&world, |status| status["state"] == "stopped");
    assert_eq!((&stopped["stopped"]["signal"], &stopped["stopped"]["asked"]), (&json!(15), &json!(false)));
    assert!(world.sched(&["status"]).out.contains("did not come from `sched stop`"));
}

/// A session of its own that starts the scheduler, says its pid and waits to be ended with all that it started, as a
/// platform does that cleans up after a session.
fn session(world: &World, words: &str) -> std::process::Child {
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", &format!("{} {words} > started; exec sleep 1000", env!("CARGO_BIN_EXE_sched"))]);
    command.current_dir(world.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("SCHED__HTTP__LISTEN", "127.0.0.1:0").stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_death_with_the_session_that_started_it_is_named_with_the_remedy() {
    let world = World::with(CONFIG);
    let mut shell = session(&world, "start");
    let status = status_until(&world, |status| status["running"] == true);
    while std::fs::read_to_string(world.path("started")).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    // Both at once: the scheduler cannot see the end of the session any more.
    signal(status["pid"].as_u64().unwrap(), Signal::STOP);
    shell.kill().unwrap();
    shell.wait().unwrap();
    world.kill();
    let status = world.status();
    assert_eq!(status["death"]["cause"], "session_end", "{status}");
    let told = world.sched(&["status"]).out;
    assert!(told.contains("the session that started it, has ended too") && told.contains("sched install"), "{told}");
    assert!(world.ok(&["start"]).err.contains("enable-linger"), "it is said once again");
}

#[test]
fn a_scheduler_that_outlives_its_session_notes_it_and_a_term_after_it_is_told_so() {
    let world = World::with(CONFIG);
    let mut shell = session(&world, "start --supervise");
    status_until(&world, |status| status["running"] == true);
    while std::fs::read_to_string(world.path("started")).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    shell.kill().unwrap();
    shell.wait().unwrap();
    let marker = || -> Value {
        serde_json::from_str(&std::fs::read_to_string(world.path("data/daemon.json")).unwrap()).unwrap()
    };
    while marker()["session_ended_at"].is_null() {
        std::thread::yield_now();
    }
    let status = world.status();
    assert_eq!(status["state"], "running");
    signal(status["supervisor"]["pid"].as_u64().unwrap(), Signal::TERM);
    status_until(&world, |status| status["state"] == "stopped" && status["supervisor"].is_null());
    let told = world.sched(&["status"]).out;
    assert!(told.contains("SIGTERM") && told.contains("the session that started it, had ended"), "{told}");
}

#[test]
fn a_second_term_hurries() {
    let long = command_schedule("long", "trap '' TERM; echo ready > ready; sleep 1000", "");
    let world = World::with(&format!("[shutdown]\ngrace = \"1h\"\n{long}"));
    world.ok(&["start"]);
    world.ok(&["trigger", "long"]);
    while !world.path("ready").exists() {
        std::thread::yield_now();
    }
    let pid = world.status()["pid"].as_u64().unwrap();
    signal(pid, Signal::TERM);
    status_until(&world, |status| status["stopping"] == true);
    assert_eq!(world.history()[0]["state"], "running", "it has an hour");
    signal(pid, Signal::TERM);
    status_until(&world, |status| status["state"] == "stopped");
    let run = &world.history()[0];
    assert_eq!((&run["state"], &run["attempt"]), (&json!("queued"), &json!(0)), "it has lost no attempt");
}

#[test]
fn as_the_first_process_of_a_container_it_takes_orphans_and_drains_at_term() {
    let world = World::with(&command_schedule("long", "echo > ready; until test -e go; do sleep 0.01; done", ""));
    let unshare = |words: &[&str]| {
        let mut command = world.command(&[]);
        let program = command.get_program().to_owned();
        command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(program).args(words);
        command.current_dir(world.folder.path()).env("SCHED__HTTP__LISTEN", "127.0.0.1:0");
        command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::null());
        command
    };
    if !Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .status()
        .is_ok_and(|end| end.success())
    {
        println!("skipped: no PID namespace can be made here");
        return;
    }
    let mut container = unshare(&["run"]).spawn().unwrap();
    status_until(&world, |status| status["tick"].as_u64().is_some_and(|tick| tick > 0));
    // `unshare` has the first process of the namespace as its child.
    let children = format!("/proc/{0}/task/{0}/children", container.id());
    let init = std::fs::read_to_string(children).unwrap().trim().to_owned();
    let inside = |line: &str| {
        let enter = ["--target", &init, "--pid", "--mount", "sh", "-c", line];
        let output = Command::new("nsenter").args(enter).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let orphan = inside("(sh -c 'echo $PPID; exec true' & ) ; sh -c '(sleep 0.01 & echo $!)'");
    assert!(!orphan.is_empty());
    let zombies = || inside("ps -eo stat= | grep -c '^Z'");
    while zombies().trim() != "0" {
        std::thread::yield_now();
    }
    let names = inside("cat /proc/1/comm; ps -eo ppid=,args= | grep 'run --below' | grep -v grep");
    assert!(names.starts_with("sched\n") && names.contains("1 sched run --below"), "{names}");
    world.ok(&["trigger", "long"]);
    while !world.path("ready").exists() {
        std::thread::yield_now();
    }
    signal(init.parse().unwrap(), Signal::TERM);
    status_until(&world, |status| status["stopping"] == true);
    std::fs::write(world.path("go"), "").unwrap();
    assert!(container.wait().unwrap().success(), "it has drained and ended well");
    assert_eq!(world.history()[0]["state"], "succeeded");
    assert_eq!(world.log().last().unwrap()["event"], "cleanup");
    assert!(!Path::new("/proc").join(&init).exists());
}
