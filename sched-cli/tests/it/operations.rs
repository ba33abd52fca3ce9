//! What operators have beside the daemon: the doctor, the unit, rotation by logrotate.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::world::{Ended, World, command_schedule};

/// The state and the finding of each check of this name.
fn found(report: &Value, check: &str) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|one| one["check"] == check);
    checks.map(|one| (one["state"].as_str().unwrap().to_owned(), one["found"].to_string())).collect()
}

fn only(report: &Value, check: &str) -> String {
    let all = found(report, check);
    assert_eq!(all.len(), 1, "{check}: {report}");
    all[0].0.clone()
}

fn chmod(path: &std::path::Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_doctor_is_content_before_and_beside_a_healthy_scheduler_and_changes_nothing() {
    let world = World::new();
    let before = world.ok(&["doctor", "--json"]).json();
    assert_eq!(before["ok"], true, "{before}");
    assert_eq!(std::fs::read_dir(world.folder.path()).unwrap().count(), 0, "it left something");
    world.ok(&["start"]);
    let beside = world.ok(&["doctor", "--json"]).json();
    assert!(found(&beside, "holder")[0].1.contains(&world.status()["pid"].to_string()), "{beside}");
    for check in ["configuration", "data folder", "log folder", "store", "dashboard key", "clock and store", "locks"] {
        assert_eq!(only(&beside, check), "ok", "{check}");
    }
    let words = world.ok(&["doctor"]);
    assert!(words.out.lines().all(|line| line.starts_with("ok  ") || line.starts_with("warn")), "{}", words.out);
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let schedules = "[[schedule]]\nname = \"gone\"\njob = \"command\"\ntrigger = { daily = \"02:00\" }\n\
         params = { argv = [\"no-such-program\"], secrets = { TOKEN = \"env:NO_SUCH_TOKEN\", PIN = \"file:pin\" } }\n\
         [[schedule]]\nname = \"nowhere\"\njob = \"command\"\ntrigger = { daily = \"02:00\" }\n\
         params = { argv = [\"true\"], cwd = \"no-such-folder\" }\n";
    let world = World::with(schedules);
    std::fs::create_dir(world.path("data")).unwrap();
    chmod(&world.path("data"), 0o777);
    std::fs::write(world.path("data/dashboard.key"), "8f3a61c2d94b7e05a1c8f3d2e6b70914").unwrap();
    chmod(&world.path("data/dashboard.key"), 0o644);
    std::fs::write(world.path("data/sched.db"), "no store at all, but a text of some length").unwrap();
    std::fs::write(world.path("pin"), "s3cret-pin").unwrap();
    chmod(&world.path("pin"), 0o644);
    let ended: Ended = world.command(&["doctor", "--json"]).env("SCHED__HTTP__LISTEN", &port).output().unwrap().into();
    assert_eq!(ended.code, 1, "{}", ended.out);
    let report = ended.json();
    assert_eq!(report["ok"], false);
    for check in ["data folder", "store", "port", "file mode"] {
        assert!(found(&report, check).iter().any(|(state, _)| state == "bad"), "{check}: {report}");
    }
    let programs = found(&report, "program");
    assert!(programs[0].1.contains("no-such-program") && programs[1].1.contains("no-such-folder"), "{programs:?}");
    let secrets = found(&report, "secret");
    assert!(secrets.iter().any(|(state, text)| state == "bad" && text.contains("env:NO_SUCH_TOKEN")), "{secrets:?}");
    assert!(secrets.iter().any(|(state, text)| state == "warn" && text.contains("file:pin")), "{secrets:?}");
    for bad in report["checks"].as_array().unwrap().iter().filter(|one| one["state"] != "ok") {
        assert!(bad["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{bad}");
    }
    assert!(!ended.out.contains("s3cret-pin") && !ended.out.contains("8f3a61c2"), "{}", ended.out);
}

#[test]
fn the_doctor_reads_no_key_from_a_pipe() {
    let world = World::with("[http]\ndashboard_key = \"file:key\"\n");
    assert!(Command::new("mkfifo").arg(world.path("key")).status().unwrap().success());
    let told = world.ok(&["doctor"]).out;
    assert!(told.contains("dashboard key: file:key is a pipe"), "{told}");
    std::fs::remove_file(world.path("key")).unwrap();
}

#[test]
fn the_doctor_goes_on_with_a_broken_configuration() {
    let world = World::with("data_dir = \"kept\"\ntimezone = 7\n");
    let ended = world.sched(&["doctor", "--json"]);
    let report = ended.json();
    assert_eq!((ended.code, only(&report, "configuration").as_str()), (1, "bad"));
    assert!(found(&report, "configuration")[0].1.contains("sched.toml:2:"), "{report}");
    assert!(found(&report, "data folder")[0].1.contains("/kept"), "{report}");
}

#[test]
fn a_unit_is_written_once_and_what_differs_is_left() {
    let world = World::with("[shutdown]\ngrace = \"40s\"\n");
    let install = |words: &[&str]| -> Ended {
        let mut command = world.command(&[&["install", "--user"], words].concat());
        command.env("HOME", world.folder.path()).output().unwrap().into()
    };
    let first = install(&["--json"]).json();
    let path = world.path(".config/systemd/user/sched.service");
    assert_eq!((&first["written"], first["file"].as_str()), (&true.into(), path.to_str()), "{first}");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = world.path("sched.toml");
    assert!(text.contains(&format!(" --config {} run\n", config.display())), "{text}");
    assert!(text.contains("\nTimeoutStopSec=50\n") && text.contains("\nType=notify\n"), "{text}");
    assert_eq!(install(&["--json"]).json()["written"], false);
    std::fs::write(&path, text.replace("KillMode=mixed", "KillMode=process")).unwrap();
    let differs = install(&[]);
    assert_eq!(differs.code, 1);
    assert!(differs.err.contains("  - KillMode=process\n  + KillMode=mixed"), "{}", differs.err);
    assert!(std::fs::read_to_string(&path).unwrap().contains("KillMode=process"));
    assert_eq!(install(&["--force"]).code, 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(install(&["--name", "../x"]).code, 2);
    // A broken configuration gets no unit.
    std::fs::write(config, "timezone = 7\n").unwrap();
    assert_eq!(install(&["--name", "other"]).code, 2);
    assert!(!world.path(".config/systemd/user/other.service").exists());
}

#[test]
fn systemd_understands_the_units_and_finds_little_exposed() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let world = World::new();
    let odd = world.path("odd %n $x folder");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("sched.toml"), "data_dir = \"a b\"\n").unwrap();
    let config = odd.join("sched.toml");
    for (name, words) in [("plain", &[][..]), ("trusting", &["--trust-jobs"]), ("own", &["--user"])] {
        let words = [&["install", "--print", "--config", config.to_str().unwrap()], words].concat();
        let file = world.path(&format!("{name}.service"));
        let out = world.ok(&words).out;
        std::fs::write(&file, &out).unwrap();
        let mut analyze = Command::new("systemd-analyze");
        if name == "own" {
            analyze.arg("--user").env("XDG_RUNTIME_DIR", world.folder.path());
        }
        let verified = analyze.arg("verify").arg("--man=no").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        // It looks at every unit of the machine that the unit names; only what it says of ours counts.
        let ours: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(ours.is_empty() && (name == "own" || verified.status.success()), "{name}: {said}\n{out}");
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager", "../packaging/sched.service"]);
    let judged = analyze.output().unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

#[test]
fn every_block_of_the_page_of_operations_works_in_an_empty_folder() {
    let text = include_str!("../../../docs/operations.md");
    let blocks: Vec<&str> = text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 4);
    let world = World::new();
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sched")).parent().unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", &blocks.join("\n")]).current_dir(world.folder.path()).env_clear();
    bash.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("SCHED__HTTP__LISTEN", "127.0.0.1:0");
    let ended = bash.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    // What came after the turn is in the new file, what came before in the old one.
    let lines = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    assert!(lines("logs/scheduler.log.1").contains("\"event\":\"startup\""));
    assert!(lines("logs/scheduler.log").contains("\"event\":\"shutdown\""));
    assert!(world.path("logs/scheduler.out").exists(), "what is printed has a new file too");
}

#[test]
fn the_doctor_says_when_another_user_asks_and_when_the_folder_is_closed_to_it() {
    if !rustix::process::geteuid().is_root() || Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("skipped: only root with setpriv can ask as another user");
        return;
    }
    let world = World::new();
    chmod(world.folder.path(), 0o755);
    // The build's folder may be closed to others.
    let program = world.path("sched");
    std::fs::copy(env!("CARGO_BIN_EXE_sched"), &program).unwrap();
    std::fs::create_dir(world.path("data")).unwrap();
    std::fs::create_dir(world.path("logs")).unwrap();
    let ask = || -> Ended {
        let mut other = Command::new("setpriv");
        other.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).args(["doctor", "--json"]);
        other.current_dir(world.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
        other.env("SCHED__HTTP__LISTEN", "127.0.0.1:0").output().unwrap().into()
    };
    let closed = ask();
    assert_eq!((closed.code, only(&closed.json(), "data folder").as_str()), (1, "bad"), "{}", closed.out);
    for name in ["data", "logs"] {
        rustix::fs::chown(world.path(name), Some(rustix::process::Uid::from_raw(65534)), None).unwrap();
    }
    assert_eq!(ask().code, 0);
    let as_root = world.ok(&["doctor", "--json"]).json();
    assert_eq!(only(&as_root, "data folder"), "warn", "{as_root}");
}

#[test]
fn logrotate_with_the_sample_loses_no_line() {
    const ROTATIONS: usize = 4;
    if Command::new("/usr/sbin/logrotate").arg("--version").output().is_err() {
        eprintln!("skipped: there is no logrotate here");
        return;
    }
    let world = World::with(&command_schedule("work", "true", "overlap = \"queue_all\""));
    world.ok(&["start"]);
    let folder = world.path("logs");
    let sample =
        include_str!("../../../packaging/logrotate.conf").replace("/var/lib/sched/logs", folder.to_str().unwrap());
    std::fs::write(world.path("logrotate.conf"), sample).unwrap();
    let mut runs = Vec::new();
    for _ in 0..ROTATIONS {
        for _ in 0..5 {
            runs.push(world.ok(&["trigger", "work", "--queue", "--json"]).json()["run_id"].clone());
        }
        let mut logrotate = Command::new("/usr/sbin/logrotate");
        logrotate.arg("--force").arg("--state").arg(world.path("state")).arg(world.path("logrotate.conf"));
        let rotated = logrotate.output().unwrap();
        assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    }
    for run in &runs {
        world.sched(&["logs", "--follow", run.as_str().unwrap()]);
    }
    world.ok(&["stop"]);
    let mut lines = Vec::new();
    let mut rotated = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("scheduler.log") {
            continue;
        }
        rotated += usize::from(name != "scheduler.log");
        let text = if name.ends_with(".gz") {
            let unpacked = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
            assert!(unpacked.status.success());
            String::from_utf8(unpacked.stdout).unwrap()
        } else {
            std::fs::read_to_string(&path).unwrap()
        };
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends within a line");
        lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    assert_eq!(rotated, ROTATIONS);
    let mut seen: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    seen.sort_unstable();
    let whole: Vec<u64> = (1..=*seen.last().unwrap()).collect();
    assert_eq!(seen, whole, "a line is lost, or there twice");
    for run in runs {
        assert!(lines.iter().any(|line| line["event"] == "run_finished" && line["run_id"] == run), "{run}");
    }
}
