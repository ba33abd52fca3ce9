//! Disks that are full or refuse: clear errors, nothing acknowledged lost, and recovery without help.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::world::{Ended, World};

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
    std::fs::copy(env!("CARGO_BIN_EXE_sched"), &program).unwrap();
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
