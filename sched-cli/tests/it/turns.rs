//! Many commands at once that start, stop and restart. The long form goes on for as many rounds as it is told:
//!
//!     TURNS_ROUNDS=20 cargo test --release -p sched-cli --all-features --test it turns -- --nocapture

use std::process::{Child, Command, Stdio};

use crate::world::World;

const AT_ONCE: usize = 30;
const CONFIG: &str = "[[schedule]]\nname = \"often\"\njob = \"command\"\ntrigger = { every = \"1s\" }\n\
     params = { argv = [\"true\"] }\n";

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
            let queue = || std::fs::read_dir(world.path("data/turns")).map_or(0, Iterator::count);
            let (before, mut command) = (queue(), world.command(&[last]));
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            asked.push((last, child));
            // The last one is asked when the others are in the queue: so it is clear who is last.
            while place + 2 == AT_ONCE && queue() == before && asked.last_mut().unwrap().1.try_wait().unwrap().is_none()
            {
                std::thread::yield_now();
            }
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
