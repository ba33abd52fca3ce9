//! Runs that someone waits for, follows and names.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::{World, command_schedule};

/// A job that tells its progress, and goes on once a file is there.
const STEPS: &str = "echo ::progress 40 copying; echo first; while [ ! -e go ]; do sleep 0.02; done; echo ::progress 100 copied; echo last";

#[test]
fn whoever_waits_sees_progress_and_output_as_they_come_and_how_it_ended() {
    let world = World::with(&command_schedule("steps", STEPS, ""));
    world.ok(&["start"]);
    let mut command = world.command(&["trigger", "steps", "--wait"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut begin = [lines.next().unwrap(), lines.next().unwrap()];
    begin.sort();
    assert_eq!(begin, ["40 % copying", "first"], "before it goes on");
    std::fs::write(world.path("go"), "").unwrap();
    let rest: Vec<String> = lines.collect();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && rest.contains(&"last".to_owned()), "{rest:?}");
    let told = String::from_utf8(ended.stdout).unwrap();
    let id = world.history()[0]["run_id"].as_str().unwrap().to_owned();
    assert!(told.starts_with(&format!("{id} succeeded in ")), "{told}");
    let hint = format!("`sched show steps` shows the schedule, `sched logs {id}` what it printed");
    assert_eq!(rest.last(), Some(&hint));
}

#[test]
fn an_interrupted_wait_leaves_the_run_going_and_says_so() {
    let world = World::with(&command_schedule("steps", STEPS, ""));
    world.ok(&["start"]);
    let mut child = world.command(&["trigger", "steps", "--wait"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "first"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let told = lines.last().unwrap();
    let id = world.history()[0]["run_id"].as_str().unwrap().to_owned();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let wanted = format!(
        "sched: no longer waiting; run {id} goes on: `sched logs {id} -f` follows it, `sched cancel {id}` ends it"
    );
    assert_eq!(told, wanted);
    std::fs::write(world.path("go"), "").unwrap();
    let end = world.wait_for(|line| line["event"] == "run_finished");
    assert_eq!((end["run_id"].as_str(), end["state"].as_str()), (Some(&*id), Some("succeeded")));
}

#[test]
fn a_run_is_named_by_the_end_of_its_id() {
    let world = World::with(&command_schedule("s", "echo hello", ""));
    world.ok(&["start"]);
    let id = world.ok(&["trigger", "s", "--wait"]).out.split(' ').next().unwrap().to_owned();
    let end = &id[id.len() - 8..];
    assert_eq!(world.ok(&["logs", end]).out, "hello\n");
    let again = world.ok(&["retry", end]).out;
    world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == again.trim());
    let refused = world.sched(&["cancel", end]);
    assert_eq!((refused.code, refused.err), (1, format!("sched: run {id} has ended: it is succeeded\n")));
    let unknown = world.sched(&["logs", "ffffffffffff"]);
    assert_eq!(unknown.err, "sched: no recent run's id ends in `ffffffffffff`; see `sched runs`\n");
    assert_eq!((unknown.code, world.sched(&["logs", "ffff"]).code), (1, 2), "less is no id");
}

#[test]
fn show_says_what_comes_next_and_why_fires_did_not_run() {
    let paused =
        "[[schedule]]\nname = \"s\"\njob = \"command\"\ntrigger = { every = \"1s\" }\nparams = { argv = [\"true\"] }\n";
    let world = World::with(&format!("[heartbeat]\nevery = \"1s\"\n{paused}"));
    world.ok(&["start"]);
    world.ok(&["pause", "s", "--reason", "moving house"]);
    let held = world.wait_for(|line| line["event"] == "schedule_changed" && line["change"] == "paused");
    let held = held["ts"].as_str().unwrap();
    // Between two ticks a fire is due.
    let after = |line: &Value| line["event"] == "tick" && line["ts"].as_str().unwrap() > held;
    while world.log().iter().filter(|line| after(line)).count() < 3 {
        std::thread::yield_now();
    }
    let told = world.ok(&["show", "s"]).out;
    assert!(told.contains("\nnext, were it not paused:\n  20"), "{told}");
    assert!(told.contains(": moving house; `sched resume s` ends it\n"), "{told}");
    world.ok(&["resume", "s"]);
    let skipped = world.wait_for(|line| line["event"] == "fire_skipped" || line["event"] == "fires_missed");
    assert_eq!(skipped["reason"], "paused", "{skipped}");
    let told = world.ok(&["show", "s"]).out;
    assert!(told.contains(" did not run: the schedule was paused\n  `sched backfill s --from 20"), "{told}");
    assert!(told.contains("\nnext:\n  20"), "{told}");
}
