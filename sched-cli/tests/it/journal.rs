//! The scheduler's log: rotated by the daemon under kills, printed and followed by `sched logs`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::supervise::signal;
use crate::world::{World, command_schedule};

/// Every line of the log, the oldest file first.
fn whole(world: &World) -> Vec<Value> {
    let moved =
        (1..).map(|number| world.path(&format!("logs/scheduler.log.{number}"))).take_while(|path| path.exists());
    let mut files: Vec<_> = moved.collect();
    files.reverse();
    files.push(world.path("logs/scheduler.log"));
    let read = |path| std::fs::read_to_string(path).unwrap();
    files
        .into_iter()
        .flat_map(|path| read(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_log_that_rotates_loses_and_tears_no_line_when_its_scheduler_is_killed() {
    let rotation = "[log]\nmax_size = \"4 KiB\"\nkeep = 1000\n";
    let world = World::with(&format!("{rotation}{}", command_schedule("quick", "true", "overlap = \"allow\"")));
    for _ in 0..3 {
        world.ok(&["start"]);
        for _ in 0..12 {
            world.ok(&["trigger", "quick"]);
        }
        world.kill();
    }
    world.ok(&["start"]);
    let settled = |run: &Value| run["state"] != "queued" && run["state"] != "running";
    while !world.history().iter().all(settled) {
        std::thread::yield_now();
    }
    world.ok(&["stop"]);
    let mut seqs: Vec<u64> = whole(&world).iter().filter_map(|line| line["seq"].as_u64()).collect();
    // A line may stand there twice around a kill, and is told apart by its number.
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() >= 36 * 3, "queued, started and finished: {}", seqs.len());
    assert!(world.path("logs/scheduler.log.3").exists());
}

#[test]
fn logs_without_a_run_prints_what_the_scheduler_did_over_all_files_filtered_and_followed() {
    let config = [
        "[log]\nmax_size = \"4 KiB\"\n".to_owned(),
        command_schedule("fine", "true", ""),
        command_schedule("broken", "echo no such table >&2; exit 3", "retry = { attempts = 1 }"),
    ];
    let world = World::with(&config.concat());
    let nothing = world.sched(&["logs"]);
    assert!(nothing.code == 1 && nothing.err.contains("has the scheduler been started?"), "{}", nothing.err);
    world.ok(&["start"]);
    let mut follow = world.command(&["logs", "-f", "-n", "100", "--event", "run_finished", "--json"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    world.sched(&["trigger", "broken", "--wait"]);
    for _ in 0..8 {
        world.ok(&["trigger", "fine", "--wait"]);
    }
    assert!(world.path("logs/scheduler.log.1").exists(), "it has rotated");
    let mut next = || serde_json::from_str::<Value>(&followed.next().unwrap().unwrap()).unwrap();
    let seen: Vec<_> = (0..9).map(|_| next()["schedule"].clone()).collect();
    assert_eq!((&seen[0], &seen[8]), (&Value::from("broken"), &Value::from("fine")), "followed over the files");
    follow.kill().unwrap();
    follow.wait().unwrap();
    let told = world.ok(&["logs", "--schedule", "broken", "-n", "100"]).out;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    assert!(lines[3].contains("run_finished      broken            failed in 0."), "{told}");
    assert!(lines[3].contains(" s: exited with code 3: no such table"), "{told}");
    let count = |words: &[&str]| world.ok(words).out.lines().count();
    assert_eq!(count(&["logs", "--event", "run_finished", "--event", "run_started", "-n", "5"]), 5);
    assert_eq!(count(&["logs", "--event", "run_finished", "-n", "100"]), 9);
    let last = whole(&world).pop().unwrap();
    let since = last["ts"].as_str().unwrap();
    assert_eq!(count(&["logs", "--since", since, "--json", "-n", "100"]), 1);
    assert_eq!(world.ok(&["logs", "--json", "-n", "1"]).json(), last);
}

#[test]
fn what_is_followed_may_be_emptied_or_moved_on_several_times_and_ends_with_its_reader() {
    let world = World::new();
    let log =
        |number: u32| world.path("logs").join(["scheduler.log", "scheduler.log.1", "scheduler.log.2"][number as usize]);
    let line = |name: &str| format!("{{\"ts\":\"2026-01-01T00:00:00Z\",\"event\":\"{name}\"}}\n");
    std::fs::create_dir(world.path("logs")).unwrap();
    std::fs::write(log(0), line("a_long_first_line")).unwrap();
    let mut follow = world.command(&["logs", "-f", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&followed.next().unwrap().unwrap()).unwrap()["event"].clone();
    assert_eq!(next(), "a_long_first_line");
    std::fs::write(log(0), line("emptied")).unwrap();
    assert_eq!(next(), "emptied");
    // As if it had not looked for a while.
    signal(u64::from(follow.id()), Signal::STOP);
    std::fs::rename(log(0), log(2)).unwrap();
    std::fs::write(log(1), line("between")).unwrap();
    std::fs::write(log(0), line("newest")).unwrap();
    signal(u64::from(follow.id()), Signal::CONT);
    assert_eq!([next(), next()], ["between", "newest"]);
    drop(followed);
    assert!(follow.wait().unwrap().success(), "nobody reads any more");
}
