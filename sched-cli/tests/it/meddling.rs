//! What others do to a scheduler that runs: they stop its processes, take its folder or its program away, speak in its
//! name, and leave files where it keeps its own.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::supervise::{lines, signal, status_until, successor};
use crate::world::{World, command_schedule};

fn world() -> World {
    World::with(&command_schedule("job", "true", ""))
}

fn pid(of: &Value) -> u64 {
    of["pid"].as_u64().unwrap()
}

/// Whether a process is over; its parent may not have asked for it yet.
fn is_over(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn wait_for_end(pid: u64) {
    while !is_over(pid) {
        std::thread::yield_now();
    }
}

#[test]
fn who_stands_still_is_woken_to_end_in_order() {
    let world = world();
    for (words, of) in [(&["start", "--supervise"][..], "supervisor"), (&["start"], "engine")] {
        world.ok(words);
        let status = world.status();
        signal(pid(if of == "engine" { &status } else { &status["supervisor"] }), Signal::STOP);
        world.ok(&["stop"]);
        assert_eq!(world.log().last().unwrap()["event"], "cleanup", "{of}");
        assert_eq!(world.status()["stopped"]["asked"], true, "{of}");
    }
}

/// A process that holds the data folder, and neither answers nor ends when it is told to.
fn deaf(world: &World) -> Child {
    std::fs::create_dir_all(world.path("data")).unwrap();
    let lock = std::fs::File::create(world.path("data/sched.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; echo $$ > data/sched.lock; echo; exec sleep 1000"]);
    let mut child = command.current_dir(world.folder.path()).stdin(lock).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child
}

#[test]
fn one_that_does_not_answer_is_not_called_running_and_a_restart_ends_it() {
    let world = World::with("[shutdown]\ngrace = \"100ms\"\n");
    let mut holder = deaf(&world);
    let start = world.sched(&["start"]);
    let expected = format!("pid {} holds the data folder and does not answer; `sched restart`", holder.id());
    assert!(start.code == 1 && start.err.contains(&expected), "{}", start.err);
    world.ok(&["restart"]);
    assert!(!holder.wait().unwrap().success());
    assert_eq!(world.status()["state"], "running");
    world.ok(&["stop"]);
    let mut holder = deaf(&world);
    let stop = world.sched(&["stop"]);
    assert!(stop.code == 1 && stop.err.contains("did not end within 3 s of being told to"), "{}", stop.err);
    holder.wait().unwrap();
    assert_eq!(world.status()["state"], "stopped");
}

#[test]
fn a_data_folder_that_is_taken_away_ends_the_scheduler_and_its_supervisor() {
    let world = world();
    world.ok(&["start", "--supervise"]);
    let status = world.status();
    std::fs::rename(world.path("data"), world.path("taken")).unwrap();
    wait_for_end(pid(&status["supervisor"]));
    assert!(is_over(pid(&status)));
    let told = lines(&world, "alert");
    assert!(told[0]["message"].as_str().unwrap().contains("was taken away"), "{told:?}");
    world.ok(&["start"]);
    assert_ne!(world.status()["pid"], status["pid"]);
    assert!(!world.path("taken/sched.db").metadata().unwrap().permissions().readonly());
}

#[test]
fn an_engine_whose_supervisor_was_killed_goes_on_and_says_so() {
    let world = world();
    world.ok(&["start", "--supervise"]);
    let status = world.status();
    signal(pid(&status["supervisor"]), Signal::KILL);
    wait_for_end(pid(&status["supervisor"]));
    let now = world.status();
    assert_eq!((&now["pid"], &now["lost_supervisor"]), (&status["pid"], &status["supervisor"]["pid"]));
    assert!(world.ok(&["status"]).out.contains("is gone; `sched restart` starts it anew with one"));
    let start = world.ok(&["start", "--supervise"]);
    assert!(start.err.contains("it has no supervisor"), "{}", start.err);
    world.ok(&["restart"]);
    let now = world.status();
    assert!(now["supervisor"]["pid"].is_u64() && now["lost_supervisor"].is_null(), "{now}");
    world.ok(&["stop"]);
    // What an earlier supervisor left is nobody's later on.
    world.ok(&["start"]);
    assert!(world.status()["lost_supervisor"].is_null());
}

#[test]
fn a_program_that_is_gone_gives_its_supervisor_a_clear_last_word() {
    let world = world();
    let program = world.path("sched");
    std::fs::copy(env!("CARGO_BIN_EXE_sched"), &program).unwrap();
    let started = Command::new(&program)
        .args(["start", "--supervise"])
        .current_dir(world.folder.path())
        .env("SCHED__HTTP__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    assert!(started.status.success());
    let kept = world.path("kept");
    std::fs::rename(&program, &kept).unwrap();
    let status = world.status();
    signal(pid(&status), Signal::KILL);
    // Back in time it is taken as it is.
    status_until(&world, |status| status["supervisor"]["restarts"].as_u64() >= Some(2));
    std::fs::rename(&kept, &program).unwrap();
    let status = successor(&world, &status);
    std::fs::remove_file(&program).unwrap();
    signal(pid(&status), Signal::KILL);
    let gave_up = world.wait_for(|line| line["event"] == "supervisor_gave_up");
    let message = gave_up["message"].as_str().unwrap();
    assert!(message.contains("could not be started again") && message.contains("No such file"), "{message}");
}

#[test]
fn a_supervisor_passes_on_the_words_of_its_engine_and_of_nobody_else() {
    let world = world();
    let above = UnixDatagram::bind(world.path("notify")).unwrap();
    let mut command = world.command(&["run", "--supervise"]);
    command.env("NOTIFY_SOCKET", world.path("notify")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut supervisor = command.spawn().unwrap();
    let next_ready = || {
        let (mut all, mut bytes) = (String::new(), [0; 4096]);
        while !all.contains("READY=1") {
            let length = above.recv(&mut bytes).unwrap();
            all.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        all
    };
    next_ready();
    let engine = pid(&world.status());
    let environment = std::fs::read_to_string(format!("/proc/{engine}/environ")).unwrap();
    let address = environment.split('\0').find_map(|entry| entry.strip_prefix("NOTIFY_SOCKET=")).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    for _ in 0..100 {
        stranger.send_to(b"STOPPING=1\nSTATUS=a stranger speaks\n", address).unwrap();
    }
    signal(engine, Signal::HUP);
    let told = next_ready();
    assert!(told.contains("RELOADING=1") && !told.contains("stranger"), "{told}");
    signal(u64::from(supervisor.id()), Signal::INT);
    assert!(supervisor.wait().unwrap().success());
}

#[test]
fn one_that_nobody_hears_ends_all_the_same() {
    let world = world();
    // A queue that is full and that nobody empties.
    let above = UnixDatagram::bind(world.path("notify")).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.set_nonblocking(true).unwrap();
    while stranger.send_to(b"STATUS=full\n", world.path("notify")).is_ok() {}
    let mut command = world.command(&["run"]);
    command.env("NOTIFY_SOCKET", world.path("notify")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut engine = command.spawn().unwrap();
    status_until(&world, |status| status["tick"].as_u64() >= Some(1));
    signal(u64::from(engine.id()), Signal::TERM);
    assert!(engine.wait().unwrap().success());
    drop(above);
}

#[test]
fn what_lies_in_the_place_of_its_own_files_is_named_and_never_waited_for() {
    let world = world();
    let refused = |place: &Path, words: &[&str], expected: &str| {
        let ended = world.sched(words);
        assert_eq!(ended.code, 1, "{}", ended.out);
        assert!(ended.err.contains(&place.display().to_string()) && ended.err.contains(expected), "{}", ended.err);
    };
    let ticket = world.path("data/turns/7");
    std::fs::create_dir_all(&ticket).unwrap();
    refused(&ticket, &["start"], "what does not belong there is to be removed");
    std::fs::remove_dir(&ticket).unwrap();
    let ticket = world.path(&format!("data/turns/{}", u64::MAX));
    std::fs::write(&ticket, "").unwrap();
    refused(&world.path("data/turns"), &["stop"], "no number after its last file");
    std::fs::remove_file(&ticket).unwrap();
    for name in ["daemon", "supervisor", "stopped"] {
        std::fs::write(world.path(&format!("data/{name}.json")), "{\"pid\":").unwrap();
    }
    world.ok(&["start"]);
    world.ok(&["stop"]);
    let marker = world.path("data/daemon.json");
    std::fs::create_dir(&marker).unwrap();
    refused(&marker, &["start"], "Is a directory");
    std::fs::remove_dir(&marker).unwrap();
    world.ok(&["start"]);
    assert_eq!(world.status()["death"], json!(null));
}
