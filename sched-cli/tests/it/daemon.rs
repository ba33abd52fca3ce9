//! The daemon: starts, deaths, restarts, and what it leaves behind.

use std::io::BufRead as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::{Ended, World, command_schedule, silent_server};

#[test]
fn the_report_on_the_original_passes_in_the_background() {
    let world = World::new();
    let start = |words: &[&str]| {
        let output = world.command(words).env("SCHED__HEARTBEAT__EVERY", "1s").output().unwrap();
        Ended::from(output)
    };
    let started = start(&["start", "--json"]);
    assert_eq!(started.code, 0, "{}", started.err);
    let pid = started.json()["pid"].clone();
    world.wait_for(|line| line["event"] == "tick" && line["tick"] == 3);
    let status = world.status();
    assert_eq!((&status["running"], &status["state"], &status["pid"]), (&json!(true), &json!("running"), &pid));
    assert_eq!(std::fs::read_to_string(world.path("logs/scheduler.pid")).unwrap().trim(), pid.to_string());

    world.wait_for(|line| line["event"] == "self_heal_startup");
    let mut startup: Vec<_> = world
        .history()
        .iter()
        .map(|run| (run["schedule"].clone(), run["origin"].clone(), run["state"].clone()))
        .collect();
    startup.sort_by_key(|run| run.0.to_string());
    let expected = ["brief", "retention", "selfheal"].map(|name| (json!(name), json!("startup"), json!("succeeded")));
    assert_eq!(startup, expected);

    let key = std::fs::read_to_string(world.path("data/dashboard.key")).unwrap();
    let key = key.trim();
    assert_eq!(world.http("GET", "/api/automations/status", None).0, 401);
    let (code, body) = world.http("GET", "/api/automations/status", Some(key));
    assert_eq!((code, &body["running"], &body["pid"]), (200, &json!(true), &pid));
    let (code, body) = world.http("POST", "/api/exec/brief", Some(key));
    assert_eq!((code, &body["ok"]), (200, &json!(true)), "{body}");
    assert!(Path::new(body["html_path"].as_str().unwrap()).exists() && body["data"]["headline"].is_string());
    let (code, body) = world.http("POST", "/api/self-heal", Some(key));
    assert_eq!((code, &body["retried_count"]), (200, &json!(0)));
    assert_eq!(world.http("POST", "/api/automations/stop", Some(key)).1["running"], false);
    assert_eq!(world.http("POST", "/api/automations/start", Some(key)).1["running"], true);
    world.ok(&["trigger", "report", "--wait"]);

    world.ok(&["stop"]);
    assert!(!world.path("logs/scheduler.pid").exists());
    let stopped = world.sched(&["status", "--json"]);
    assert_eq!((stopped.code, &stopped.json()["state"]), (3, &json!("stopped")));

    let log = world.log();
    let first = |name: &str| log.iter().find(|line| line["event"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(first("startup")["config"]["brief_time"], "08:00");
    assert_eq!(first("startup")["config"]["selfheal_hours"], 6);
    assert_eq!((&first("self_heal_startup")["ok"], &first("self_heal_startup")["status"]), (&json!(true), &json!(200)));
    assert_eq!(first("supervisor_start")["pid"], pid);
    assert_eq!((&first("shutdown")["signal"], &first("shutdown")["pid"]), (&json!(15), &pid));
    assert_eq!(log.last().unwrap()["event"], "cleanup");
    assert_eq!(log.last().unwrap()["removed_pid"], pid);
    let ticks: Vec<_> =
        log.iter().filter(|line| line["event"] == "tick").map(|line| line["tick"].as_u64().unwrap()).collect();
    assert_eq!(ticks, (1..=ticks.len() as u64).collect::<Vec<_>>());
    assert!(first("tick")["next"]["brief"].is_string());
    let seqs: Vec<_> = log.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each committed event once, in order");
}

#[test]
fn servers_that_accept_and_never_answer_stop_neither_the_start_nor_the_ticks() {
    let url = silent_server();
    let config = format!(
        "[heartbeat]\nevery = \"1s\"\n\
         [[schedule]]\nname = \"selfheal\"\njob = \"self_heal\"\ntrigger = {{ every = \"6h\" }}\non_start = \"if_due\"\n\
         timeout = \"1s\"\nretry = {{ attempts = 1 }}\nparams = {{ health_urls = [\"{url}\"], timeout = \"1h\" }}\n\
         [[schedule]]\nname = \"brief\"\njob = \"ceo_brief\"\ntrigger = {{ daily = \"08:00\" }}\non_start = \"if_due\"\n\
         timeout = \"1s\"\nretry = {{ attempts = 1 }}\nparams = {{ sources = [{{ name = \"s\", url = \"{url}\", timeout = \"1h\" }}] }}\n\
         [[schedule]]\nname = \"other\"\njob = \"command\"\ntrigger = {{ every = \"1s\" }}\nparams = {{ argv = [\"true\"] }}\n"
    );
    let world = World::with(&config);
    world.ok(&["start"]);
    for name in ["selfheal", "brief"] {
        let ended = world.wait_for(|line| line["event"] == "run_finished" && line["schedule"] == name);
        assert_eq!(ended["state"], "timed_out");
    }
    world.wait_for(|line| line["event"] == "tick" && line["tick"] == 3);
    let other =
        world.log().into_iter().filter(|line| line["event"] == "run_finished" && line["schedule"] == "other").count();
    assert!(other >= 2, "{other} runs of the other schedule");
}

#[test]
fn after_kill_9_nothing_acknowledged_is_lost_and_a_dead_run_is_settled_once() {
    let config = [
        "[engine]\nmax_concurrent_runs = 1\n".to_owned(),
        command_schedule(
            "slow",
            "echo $SCHED_ATTEMPT >> attempts; echo $$ > pid; test $SCHED_ATTEMPT = 2 || sleep 600",
            "retry = { attempts = 2 }",
        ),
        command_schedule("once", "echo once >> attempts", "delivery = \"at_most_once\""),
    ]
    .concat();
    let world = World::with(&config);
    world.ok(&["start"]);
    let slow = world.ok(&["trigger", "slow"]).out.trim().to_owned();
    let read_pid = || std::fs::read_to_string(world.path("pid")).unwrap_or_default().trim().to_owned();
    while read_pid().is_empty() {
        std::thread::yield_now();
    }
    let orphan = read_pid();
    let queued = world.ok(&["trigger", "once"]).out.trim().to_owned();
    world.kill();
    let status = world.sched(&["status", "--json"]);
    assert_eq!((status.code, &status.json()["state"]), (1, &json!("unclean")));
    let lives = || std::fs::read_to_string(format!("/proc/{orphan}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while lives() {
        // Its shim kills it, for its scheduler is dead.
        std::thread::yield_now();
    }
    world.ok(&["start"]);
    for run in [&slow, &queued] {
        let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == **run);
        assert_eq!(ended["state"], "succeeded");
    }
    let mut attempts: Vec<_> =
        std::fs::read_to_string(world.path("attempts")).unwrap().lines().map(String::from).collect();
    attempts.sort();
    assert_eq!(attempts, ["1", "2", "once"]);
    assert_eq!(world.log().iter().filter(|line| line["event"] == "lease_lost").count(), 1);
    world.ok(&["audit"]);
}

#[test]
fn a_start_right_after_a_kill_starts_although_the_dead_still_hold_the_lock_for_a_moment() {
    let world = World::with(&command_schedule("a", "true", ""));
    let start = || world.ok(&["start", "--json"]).json();
    let mut pid = start()["pid"].as_i64().unwrap();
    for _ in 0..3 {
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
        let started = start();
        assert!(started["already"].is_null() && started["pid"] != pid, "{started}");
        pid = started["pid"].as_i64().unwrap();
    }
}

#[test]
fn twenty_starts_at_once_give_one_daemon() {
    let world = World::with(&command_schedule("a", "true", ""));
    let starts: Vec<_> =
        (0..20).map(|_| world.command(&["start"]).stdout(std::process::Stdio::null()).spawn().unwrap()).collect();
    for mut start in starts {
        assert!(start.wait().unwrap().success());
    }
    assert_eq!(world.log().iter().filter(|line| line["event"] == "startup").count(), 1);
}

#[test]
fn a_pid_file_that_names_a_stranger_harms_nobody() {
    let world = World::with(&command_schedule("a", "true", ""));
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::create_dir(world.path("logs")).unwrap();
    std::fs::write(world.path("logs/scheduler.pid"), stranger.id().to_string()).unwrap();
    assert_eq!(world.sched(&["status"]).code, 3);
    world.ok(&["stop"]);
    assert!(stranger.try_wait().unwrap().is_none());
    world.ok(&["start"]);
    world.ok(&["stop"]);
    assert!(stranger.try_wait().unwrap().is_none());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn five_restarts_run_nothing_again() {
    let world = World::with(
        "[[schedule]]\nname = \"brief\"\njob = \"ceo_brief\"\ntrigger = { daily = \"08:00\" }\non_start = \"if_due\"\n",
    );
    world.ok(&["start"]);
    world.wait_for(|line| line["event"] == "run_finished");
    let first = world.history();
    for _ in 0..5 {
        world.ok(&["restart"]);
    }
    assert_eq!(world.history(), first);
}

#[test]
fn a_command_that_runs_at_the_stop_is_stopped_within_the_grace_and_goes_on_at_the_next_start() {
    let line = "echo $$ >> pids; test $(wc -l < pids) -gt 1 || sleep 600";
    let world = World::with(&format!("[shutdown]\ngrace = \"2s\"\n{}", command_schedule("slow", line, "")));
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "slow"]).out.trim().to_owned();
    while std::fs::read_to_string(world.path("pids")).unwrap_or_default().is_empty() {
        std::thread::yield_now();
    }
    world.ok(&["stop"]);
    let pid = std::fs::read_to_string(world.path("pids")).unwrap().trim().to_owned();
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the program is gone");
    world.ok(&["start"]);
    let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == *run);
    assert_eq!((&ended["state"], &ended["attempt"]), (&json!("succeeded"), &json!(1)));
}

#[test]
fn what_cannot_work_is_told_with_place_remedy_and_exit_code_and_leaves_files_untouched() {
    let check = |config: &str, prepare: &dyn Fn(&World), code: i32, expected: &str| {
        let world = World::with(config);
        prepare(&world);
        let ended = world.sched(&["start"]);
        assert_eq!(ended.code, code, "{expected}: {} {}", ended.out, ended.err);
        assert!(ended.err.contains(expected), "expected {expected}: {}", ended.err);
        assert!(!world.path("data/daemon.json").exists(), "{expected}: nothing runs");
    };
    let nothing = |_: &World| {};
    check("timezone = \"Mars/Base\"", &nothing, 2, "sched.toml:1:12: timezone: no time zone `Mars/Base`");
    check("tiemzone = \"UTC\"", &nothing, 2, "sched.toml:1:1: unknown key `tiemzone`; did you mean `timezone`?");
    check(
        &command_schedule("a", "true", "").replace("\"command\"", "\"comand\""),
        &nothing,
        2,
        "no job kind `comand`; did you mean `command`?",
    );
    check("[http]\ndashboard_key = \"short\"", &nothing, 2, "at least 32 characters");
    check(
        "[http]\ndashboard_key = \"file:key\"",
        &|w| std::fs::write(w.path("key"), "changeme").unwrap(),
        2,
        "fewer than 32",
    );
    let known = "changemechangemechangemechangeme";
    check(&format!("[http]\ndashboard_key = \"{known}\""), &nothing, 2, "known default");
    check("[http]\ndashboard_key = \"env:NO_SUCH\"", &nothing, 2, "environment variable NO_SUCH is not set");
    let corrupt = |world: &World| {
        std::fs::create_dir(world.path("data")).unwrap();
        std::fs::write(world.path("data/sched.db"), "x".repeat(5000)).unwrap();
    };
    check("", &corrupt, 4, "is damaged");
    let newer = |world: &World| {
        world.ok(&["start"]);
        world.ok(&["stop"]);
        let bytes = std::fs::read(world.path("data/sched.db")).unwrap();
        // user_version is the big-endian number at offset 60 of the header (sqlite.org/fileformat.html).
        let mut newer = bytes;
        newer[60..64].copy_from_slice(&99u32.to_be_bytes());
        std::fs::write(world.path("data/sched.db"), newer).unwrap();
    };
    check("", &newer, 4, "has schema 99, newer than this program's");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::with("");
    let taken =
        world.command(&["start"]).env("SCHED__HTTP__LISTEN", held.local_addr().unwrap().to_string()).output().unwrap();
    let ended = Ended::from(taken);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("cannot be listened on") && ended.err.contains("http.listen"), "{}", ended.err);
}

#[test]
fn a_stopped_process_is_told_as_hung() {
    let world = World::with(&command_schedule("a", "true", ""));
    world.ok(&["start"]);
    let pid = Pid::from_raw(i32::try_from(world.status()["pid"].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let status = world.sched(&["status", "--json"]);
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!((status.code, &status.json()["state"]), (1, &json!("hung")));
    while world.sched(&["status"]).code != 0 {
        std::thread::yield_now();
    }
}

#[test]
fn the_log_is_reopened_at_sighup() {
    let world = World::with(&command_schedule("a", "true", ""));
    world.ok(&["start"]);
    let old = world.path("logs/scheduler.log.1");
    std::fs::rename(world.path("logs/scheduler.log"), &old).unwrap();
    let pid = Pid::from_raw(i32::try_from(world.status()["pid"].as_i64().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    while !world.path("logs/scheduler.log").exists() {
        std::thread::yield_now();
    }
    world.ok(&["trigger", "a", "--wait"]);
    world.wait_for(|line| line["event"] == "run_finished");
    assert!(std::fs::read_to_string(old).unwrap().contains("\"startup\""));
}

#[test]
fn commands_that_need_a_scheduler_say_so() {
    let world = World::with(&command_schedule("a", "true", ""));
    let ended = world.sched(&["trigger", "a"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("not running; start it with `sched start`"), "{}", ended.err);
    assert_eq!(world.sched(&["runs"]).code, 3);
    assert_eq!(world.sched(&["nonsense"]).code, 2);
}

#[test]
fn the_output_of_a_run_is_followed_while_it_runs() {
    let world =
        World::with(&command_schedule("slow", "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two", ""));
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "slow"]).out;
    let run = run.trim();
    let mut following = world.command(&["logs", run, "-f"]);
    let mut following = following.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(following.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    assert_eq!(world.ok(&["logs", run]).out, "one\n");
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert!(lines.next().is_none() && following.wait().unwrap().success());
    let told = world.ok(&["logs", run, "--json"]).out;
    assert_eq!(told.lines().last().unwrap(), format!("{{\"run_id\":\"{run}\",\"line\":\"two\"}}"));
    world.ok(&["stop"]);
}

#[test]
fn exec_reads_the_real_history() {
    let world = World::with(&command_schedule("backup", "echo saved", ""));
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "backup", "--wait"]);
    assert!(run.err.starts_with("saved\n"), "its output is followed: {}", run.err);
    let brief = world.ok(&["exec", "ceo_brief", "--json"]).json();
    let headline = brief["data"]["headline"].as_str().unwrap();
    assert!(!headline.contains("No run"), "{headline}");
    world.ok(&["stop"]);
}

#[test]
fn next_check_and_exec_need_no_scheduler() {
    let world = World::with(&command_schedule("a", "true", ""));
    let next = world.ok(&[
        "next",
        "--cron",
        "30 1 * * *",
        "--tz",
        "Europe/London",
        "--after",
        "2026-03-28T12:00:00Z",
        "--count",
        "2",
        "--json",
    ]);
    assert_eq!(next.json()["next"], json!(["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]));
    assert_eq!(next.json()["local"][0], "2026-03-29T02:00:00+01:00");
    let never = world.ok(&["next", "--cron", "0 0 31 2 *", "--json"]).json();
    assert_eq!(never["next"], json!([]));
    assert!(never["note"].is_string());
    let wrong = world.sched(&["next", "--cron", "61 * * * *"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("minute: `61` is not allowed"), "{}", wrong.err);
    world.ok(&["check"]);
    let brief = world.ok(&["exec", "ceo_brief", "--json"]).json();
    assert_eq!(brief["state"], "succeeded");
    assert_eq!(world.sched(&["exec", "command", "--param", "argv=[\"false\"]"]).code, 1);
    assert_eq!(world.sched(&["exec", "comand"]).code, 2);
}

#[test]
fn the_audit_finds_a_fire_deleted_by_hand() {
    let world = World::with(
        "[[schedule]]\nname = \"s\"\njob = \"command\"\ntrigger = { every = \"1s\" }\nparams = { argv = [\"true\"] }\n",
    );
    world.ok(&["start"]);
    world.wait_for(|line| line["event"] == "run_finished");
    world.wait_for(|line| line["event"] == "tick");
    world.ok(&["stop"]);
    let before = world.ok(&["audit", "--json"]).json();
    assert!(before["expected"].as_u64().unwrap() >= 1 && before["expected"] == before["recorded"], "{before}");
    let store = rusqlite::Connection::open(world.path("data/sched.db")).unwrap();
    store.execute("DELETE FROM fires WHERE nominal_at = (SELECT min(nominal_at) FROM fires)", []).unwrap();
    drop(store);
    let after = world.sched(&["audit", "--json"]);
    assert_eq!(after.code, 1);
    assert_eq!(after.json()["missing"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_of_any_kind_appears_in_no_log_and_in_no_childs_environment() {
    let key = "0f8b1c0a6f6b4d0d9a1e2c3b4a5f6e7d";
    let world = World::with(&command_schedule("env", "env", ""));
    let start = world.command(&["start"]).env("DASHBOARD_KEY", key).output().unwrap();
    assert!(start.status.success());
    let run = world.ok(&["trigger", "env", "--wait", "--json"]).json();
    let output = world.ok(&["logs", run["run_id"].as_str().unwrap()]).out;
    assert!(output.contains("SCHED_RUN_ID") && !output.contains(key), "{output}");
    world.ok(&["stop"]);
    assert!(!std::fs::read_to_string(world.path("logs/scheduler.log")).unwrap().contains(key));
}

#[test]
fn a_schedule_is_paused_and_resumed_and_a_run_is_cancelled_and_run_again_from_the_command_line() {
    let world = World::with(&command_schedule("slow", "sleep 60", ""));
    world.ok(&["start"]);
    assert_eq!(world.ok(&["pause", "slow", "--reason", "the disk is replaced", "--json"]).json()["ok"], true);
    let shown = world.ok(&["show", "slow"]).out;
    assert!(shown.contains("the disk is replaced"), "{shown}");
    world.ok(&["resume", "slow"]);
    assert!(!world.ok(&["show", "slow"]).out.contains("the disk is replaced"));
    let run = world.ok(&["trigger", "slow"]).out.trim().to_owned();
    let refused = world.sched(&["trigger", "slow"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains(&run), "the blocker is named: {}", refused.err);
    world.ok(&["cancel", &run]);
    world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == run.as_str());
    let again = world.ok(&["retry", &run]).out.trim().to_owned();
    assert_ne!(again, run);
    world.ok(&["cancel", &again]);
    let ended = world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == again.as_str());
    assert_eq!(ended["state"], "cancelled");
    let unknown = world.sched(&["cancel", "nonsense"]);
    assert_eq!(unknown.code, 2, "{}", unknown.err);
    world.ok(&["stop"]);
    assert_eq!(world.sched(&["pause", "slow", "--reason", "x"]).code, 3);
}
