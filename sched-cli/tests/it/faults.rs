//! Disks that are full or refuse, and stores that are held, damaged or taken away while they are in use: clear
//! errors, nothing acknowledged lost, and recovery without help where there can be one.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::world::{Ended, World, command_schedule, shim};

/// A disk of two megabytes.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where disks cannot be mounted.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(at.to_path_buf()))
    }

    fn fill(&self) {
        let full = std::fs::write(self.0.join("fill"), vec![0; 4 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that still ends holds it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_fills_up_degrades_the_scheduler_until_there_is_room_and_loses_nothing() {
    let world = World::with(
        "data_dir = \"disk/data\"\nlog_dir = \"disk/logs\"\n[heartbeat]\nevery = \"1s\"\n\
         [[schedule]]\nname = \"s\"\njob = \"command\"\ntrigger = { every = \"1s\" }\n\
         misfire = { policy = \"all\" }\nparams = { argv = [\"true\"] }\n",
    );
    let Some(disk) = SmallDisk::mount(&world.path("disk")) else {
        eprintln!("skipped: a disk cannot be mounted here (needs CAP_SYS_ADMIN)");
        return;
    };
    disk.fill();
    let refused = world.sched(&["start"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("disk/") && refused.err.contains("No space left"), "{}", refused.err);
    disk.free();

    world.ok(&["start"]);
    while world.history().len() < 2 {}
    disk.fill();
    while world.status()["state"] != "degraded" {}
    let refused = world.sched(&["trigger", "s"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("store"), "{}", refused.err);
    let pid = world.status()["pid"].clone();
    let refused = world.sched(&["restart"]);
    assert!(refused.code == 1 && refused.err.contains("nothing was stopped"), "{}", refused.err);
    assert_eq!(world.status()["pid"], pid, "it would not have stood again");
    disk.free();
    while world.status()["state"] != "running" {}
    let before = world.history().len();
    while world.history().len() < before + 2 {}
    world.ok(&["audit"]);
    world.ok(&["stop"]);
    let text = std::fs::read_to_string(world.path("disk/logs/scheduler.log")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let seqs: Vec<u64> = lines.filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "every committed event stands in the log, once");
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_stays_as_it_is() {
    let world = World::new();
    let folder = world.folder.path();
    // Root writes everywhere: another user tries.
    let program = folder.join("sched");
    // Not copied by this process: what other tests start at the same time would keep it open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_sched")).arg(&program).status().unwrap();
    assert!(copied.success());
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    let as_other = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.args(words).current_dir(folder).env_clear().env("SCHED__HTTP__LISTEN", "127.0.0.1:0");
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        Ended::from(command.output().unwrap())
    };
    for words in [["start"], ["run"]] {
        let refused = as_other(&words);
        assert_eq!(refused.code, 1, "{}", refused.err);
        assert!(refused.err.contains(folder.to_str().unwrap()), "{}", refused.err);
        assert!(refused.err.contains("Permission denied"), "{}", refused.err);
    }
    assert_eq!(as_other(&["status", "--json"]).json()["state"], json!("stopped"));
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "only the program");
}

/// A scheduler that ticks each second, with one run behind it, on a store without a log.
fn in_use() -> (World, String) {
    let every = "[[schedule]]\nname = \"each\"\njob = \"command\"\ntrigger = { every = \"1s\" }\n\
                 misfire = { policy = \"all\" }\nparams = { argv = [\"true\"] }\n";
    let heartbeat = "[heartbeat]\nevery = \"1s\"\n";
    let world = World::with(&[heartbeat, &command_schedule("s", "true", ""), every].concat());
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "s", "--wait"]).out;
    world.ok(&["restart"]);
    (world, run.split(' ').next().unwrap().to_owned())
}

impl World {
    /// Waits until the scheduler says that it is like this; gives its problem.
    fn wait_until(&self, state: &str) -> String {
        loop {
            let status = self.status();
            if status["state"] == state {
                return status["problem"].as_str().unwrap_or_default().to_owned();
            }
        }
    }

    /// Waits until it has ticked once more: a store that fails stops no heartbeat.
    fn tick_on(&self) {
        let before = self.status()["tick"].as_u64().unwrap();
        while self.status()["tick"].as_u64().unwrap() <= before {}
    }

    fn works_again_with(&self, run: &str) {
        self.wait_until("running");
        self.ok(&["trigger", "s", "--wait"]);
        assert_eq!(self.history().iter().filter(|row| row["run_id"] == run).count(), 1);
        self.ok(&["audit"]);
    }
}

#[test]
fn a_disk_that_fails_to_sync_degrades_the_scheduler_until_it_works_again() {
    let every = "trigger = { every = \"1s\" }\nmisfire = { policy = \"all\" }";
    let each = command_schedule("each", "true", "").replace("trigger = { once = 2999-01-01T00:00:00Z }", every);
    let world = World::with(&[command_schedule("s", "true", ""), each].concat());
    let Some(library) = shim(world.folder.path()) else {
        eprintln!("skipped: needs Linux and a C compiler `cc`");
        return;
    };
    // The calls are counted; each second has some, and a failing one is tried again after a second.
    let mut start = world.command(&["start"]);
    start.env("LD_PRELOAD", &library).env("FAULT_FOLDER", world.path("data/sched.db")).env("FAULT_ERROR", "EIO");
    start.env("FAULT_CALL", "sync").env("FAULT_FIRST", "25").env("FAULT_LAST", "31");
    let started = Ended::from(start.output().unwrap());
    assert_eq!(started.code, 0, "{}", started.err);
    let problem = world.wait_until("degraded");
    assert!(problem.contains("disk I/O error"), "{problem}");
    let run = world.history().pop().unwrap();
    world.works_again_with(run["run_id"].as_str().unwrap());
}

#[test]
fn a_start_that_brings_a_store_to_a_newer_version_on_a_slow_disk_says_so_and_takes_its_time() {
    let world = World::with(&command_schedule("s", "true", ""));
    let Some(library) = shim(world.folder.path()) else {
        eprintln!("skipped: needs Linux and a C compiler `cc`");
        return;
    };
    world.ok(&["start"]);
    world.ok(&["stop"]);
    // As the first version would have made it.
    let store = world.path("data/sched.db");
    let old = rusqlite::Connection::open(world.path("old.db")).unwrap();
    old.execute_batch(include_str!("../../../sched-core/src/store/sqlite/schema/001.sql")).unwrap();
    let new = rusqlite::Connection::open(&store).unwrap();
    let application: i64 = new.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
    let newest: i64 = new.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    drop(new);
    old.execute_batch(&format!("PRAGMA application_id = {application}; PRAGMA user_version = 1")).unwrap();
    drop(old);
    for file in ["sched.db-wal", "sched.db-shm"] {
        let _ = std::fs::remove_file(world.path("data").join(file));
    }
    std::fs::rename(world.path("old.db"), &store).unwrap();
    let mut start = world.command(&["start"]);
    start.env("LD_PRELOAD", &library).env("FAULT_FOLDER", &store).env("FAULT_ERROR", "SLOW");
    start.env("FAULT_CALL", "sync").env("FAULT_FIRST", "1").env("FAULT_LAST", "4");
    let started = Ended::from(start.output().unwrap());
    assert_eq!(started.code, 0, "{}", started.err);
    // More than once, for it goes on longer than a start may otherwise.
    let told = format!("bringing the store from version 1 to {newest} …\n");
    assert!(started.err.matches(&told).count() >= 3, "{}", started.err);
    world.ok(&["trigger", "s", "--wait"]);
    world.ok(&["audit"]);
}

#[test]
fn a_store_that_another_process_locks_degrades_the_scheduler_until_it_is_let_go() {
    let (world, run) = in_use();
    let other = rusqlite::Connection::open(world.path("data/sched.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let problem = world.wait_until("degraded");
    assert!(problem.contains("is held by another process"), "{problem}");
    assert_eq!(world.sched(&["trigger", "s"]).code, 1);
    world.tick_on();
    other.execute_batch("COMMIT").unwrap();
    world.works_again_with(&run);
}

#[test]
fn damage_that_a_reader_finds_stops_the_scheduler_from_building_on_it_until_the_file_is_whole_again() {
    let (world, run) = in_use();
    let store = world.path("data/sched.db");
    let whole = std::fs::read(&store).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
    std::fs::write(&store, damaged).unwrap();
    let key = std::fs::read_to_string(world.path("data/dashboard.key")).unwrap();
    let (code, answer) = world.http("GET", "/api/v1/runs", Some(key.trim()));
    assert!(code >= 500 && answer["error"]["message"].as_str().unwrap().contains("is damaged"), "{code} {answer}");
    let problem = world.wait_until("degraded");
    assert!(problem.contains("is damaged") && problem.contains("restore a backup"), "{problem}");
    assert_eq!(world.sched(&["trigger", "s"]).code, 1);
    world.tick_on();
    std::fs::write(&store, whole).unwrap();
    world.works_again_with(&run);
}

#[test]
fn a_store_that_is_cut_off_is_noticed_at_the_next_write() {
    let (world, run) = in_use();
    let store = world.path("data/sched.db");
    let whole = std::fs::read(&store).unwrap();
    for length in [4096, 0] {
        std::fs::OpenOptions::new().write(true).open(&store).unwrap().set_len(length).unwrap();
        let problem = world.wait_until("degraded");
        assert!(problem.contains("is damaged") && problem.contains("restore a backup"), "{problem}");
        world.tick_on();
        std::fs::write(&store, &whole).unwrap();
        world.works_again_with(&run);
    }
}

#[test]
fn a_store_that_is_moved_away_is_waited_for_and_one_that_is_deleted_is_saved() {
    let (world, run) = in_use();
    let (store, aside) = (world.path("data/sched.db"), world.path("data/aside.db"));
    std::fs::rename(&store, &aside).unwrap();
    let problem = world.wait_until("degraded");
    assert!(problem.contains("were deleted or replaced") && problem.contains("sched.saved-1.db"), "{problem}");
    world.tick_on();
    std::fs::rename(&aside, &store).unwrap();
    world.works_again_with(&run);

    let newest = world.history()[0]["run_id"].as_str().unwrap().to_owned();
    for file in ["data/sched.db", "data/sched.db-wal", "data/sched.db-shm"] {
        std::fs::remove_file(world.path(file)).unwrap();
    }
    let problem = world.wait_until("degraded");
    assert!(
        problem.contains("everything acknowledged is saved in") && problem.contains("sched.saved-2.db"),
        "{problem}"
    );
    assert_eq!(world.sched(&["trigger", "s"]).code, 1);
    world.kill();
    let refused = world.sched(&["start"]);
    assert!(
        refused.code == 4 && refused.err.contains("sched.saved-2.db"),
        "it does not begin anew: {} {}",
        refused.out,
        refused.err
    );
    world.ok(&["restore", "data/sched.saved-2.db"]);
    world.ok(&["start"]);
    assert_eq!(world.history().iter().filter(|row| row["run_id"] == newest.as_str()).count(), 1);
    world.works_again_with(&run);
}

#[test]
fn a_store_that_goes_away_while_nothing_comes_due_is_noticed_at_the_next_tick() {
    let world = World::with(&format!("[heartbeat]\nevery = \"1s\"\n{}", command_schedule("s", "true", "")));
    world.ok(&["start"]);
    let (store, aside) = (world.path("data/sched.db"), world.path("data/aside.db"));
    std::fs::rename(&store, &aside).unwrap();
    world.wait_until("degraded");
    std::fs::rename(&aside, &store).unwrap();
    world.wait_until("running");
}

#[test]
fn a_store_whose_log_is_deleted_is_made_whole_before_the_process_dies() {
    let (world, run) = in_use();
    let newest = world.ok(&["trigger", "s"]).out.trim().to_owned();
    std::fs::remove_file(world.path("data/sched.db-wal")).unwrap();
    let problem = world.wait_until("degraded");
    assert!(problem.contains("everything acknowledged is in the store itself: stop, and start again"), "{problem}");
    world.tick_on();
    world.kill();
    world.ok(&["start"]);
    assert_eq!(world.history().iter().filter(|row| row["run_id"] == newest.as_str()).count(), 1);
    world.works_again_with(&run);
}
