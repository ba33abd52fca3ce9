//! Many commands at once that start, stop and restart. The long form goes on for as many rounds as it is told:
//!
//!     TURNS_ROUNDS=20 cargo test --release -p sched-cli --all-features --test it turns -- --nocapture

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::world::World;

const AT_ONCE: usize = 30;
const CONFIG: &str = "[[schedule]]\nname = \"often\"\njob = \"command\"\ntrigger = { every = \"1s\" }\n\
     params = { argv = [\"true\"] }\n";

/// Waits until a command has its place in the queue, a file with a number that it has open, or is over.
fn wait_until_queued(command: &mut Child) {
    let is_ticket = |file: &Path| {
        let number = file.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        number && file.parent().is_some_and(|folder| folder.ends_with("data/turns"))
    };
    let files = format!("/proc/{}/fd", command.id());
    while command.try_wait().unwrap().is_none() {
        let files = std::fs::read_dir(&files).into_iter().flatten().flatten();
        if files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| is_ticket(&file)) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn of_many_starts_and_stops_at_once_the_last_one_asked_has_the_last_word_and_no_stranger_is_harmed() {
    let rounds: usize = std::env::var("TURNS_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let world = World::with(CONFIG);
    // A stranger, whom every file that has a number names.
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    for folder in ["data", "logs"] {
        std::fs::create_dir(world.path(folder)).unwrap();
    }
    let pid = stranger.id().to_string();
    for file in ["data/sched.lock", "data/supervisor.lock", "logs/scheduler.pid"] {
        std::fs::write(world.path(file), &pid).unwrap();
    }
    let mut seed = 7_u64;
    for round in 0..rounds {
        let mut last = "";
        let mut asked: Vec<(&str, Child)> = Vec::new();
        for place in 0..AT_ONCE {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Stops are quick: most are, so that a round takes no minute.
            last = ["stop", "start", "stop", "restart", "stop", "stop"][(seed >> 33) as usize % 6];
            // The last one is asked when all others are in the queue: so it is clear who is last.
            if place + 1 == AT_ONCE {
                asked.iter_mut().for_each(|(_, child)| wait_until_queued(child));
            }
            let mut command = world.command(&[last]);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            asked.push((last, child));
        }
        for (verb, child) in &mut asked {
            assert!(child.wait().unwrap().success(), "round {round}: {verb}");
        }
        let state = if last == "stop" { "stopped" } else { "running" };
        assert_eq!(world.status()["state"], state, "round {round} ended with {last}");
    }
    world.ok(&["stop"]);
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // Each engine ended before the next began.
    let mut alive = None;
    for line in world.log() {
        match line["event"].as_str() {
            Some("startup") => assert_eq!(alive.replace(line["pid"].clone()), None, "two engines at once"),
            Some("cleanup") => assert_eq!(alive.take(), Some(line["removed_pid"].clone())),
            _ => {}
        }
    }
    assert_eq!(alive, None);
    world.ok(&["audit"]);
}

#[test]
fn a_restart_hands_over_without_a_missed_fire() {
    let often = "[[schedule]]\nname = \"often\"\njob = \"command\"\ntrigger = { every = \"1s\" }\n\
         params = { argv = [\"true\"] }\nmisfire = { policy = \"all\" }\noverlap = \"queue_all\"\n";
    let world = World::with(often);
    world.ok(&["start"]);
    for _ in 0..3 {
        let pid = world.status()["pid"].clone();
        world.ok(&["restart"]);
        assert_ne!(world.status()["pid"], pid);
        // The one that took over has run some as well.
        let since = world.log().len();
        while world.log()[since..].iter().filter(|line| line["event"] == "run_finished").count() < 2 {
            std::thread::yield_now();
        }
    }
    world.ok(&["stop"]);
    let runs = world.ok(&["runs", "--json", "--limit", "1000"]);
    let runs: Vec<serde_json::Value> = runs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let second = |run: &serde_json::Value| {
        let at: chrono::DateTime<chrono::Utc> = run["nominal_at"].as_str().unwrap().parse().unwrap();
        at.timestamp()
    };
    // Newest first; the newest may have come due as the last one was told to stop.
    let done: Vec<_> = runs.iter().skip_while(|run| run["state"] == "queued").collect();
    assert!(done.iter().all(|run| run["state"] == "succeeded" && run["attempt"] == 1), "{runs:#?}");
    assert!(done.windows(2).all(|pair| second(pair[0]) == second(pair[1]) + 1), "{runs:#?}");
    world.ok(&["audit"]);
}
