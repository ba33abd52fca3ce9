//! `self_heal` with real servers, certificates, programs and files, and an engine whose jobs fail and recover.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod world;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sched_core::testing::Bench;
use sched_core::{
    Clock as _, MemoryStore, Misfire, MisfirePolicy, Registry, RunRecord, RunState, ScheduleSpec, Scheduler,
    SqliteStore, SystemClock, TriggerRequest, TriggerSpec,
};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

use self::world::{World, answers, babbler, say, server, tls_server};

/// No test: where this executable, run again, becomes the shim of a program.
#[test]
fn shim() {
    sched_core::process::init_within(&["--exact", "shim", "--nocapture"]);
}

fn world(schedules: &[(&str, &str, Value)]) -> World {
    shim();
    World::new(schedules)
}

fn sh(line: &str) -> Value {
    json!({ "argv": [line], "shell": true })
}

/// A check that looks at once whether its remedy helped, and whose remedy has no limit that a test would meet.
fn check(name: &str, check: Value, remedy: Value) -> Value {
    let mut all = json!({ "name": name, "cooldown": "0s", "per_hour": 1000, "verify_after": "0s", "verify_for": "0s" });
    all["check"] = check;
    if !remedy.is_null() {
        all["remedy"] = remedy;
    }
    all
}

fn heal(checks: Value) -> Value {
    let mut params = json!({ "retry_failed": false, "recover_missed": false });
    params["checks"] = checks;
    params
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|entry| entry["check"].as_str().unwrap().to_owned()).collect()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn every_check_finds_what_is_wrong_and_is_silent_when_nothing_is() {
    let (well, _) = answers("204 No Content", "");
    let (ill, _) = answers("503 Busy", "");
    let (long, _) = tls_server((2100, 1, 1));
    let (ended, _) = tls_server((2021, 6, 1));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let http = |address: &str| json!({ "http": { "url": format!("http://{address}/") } });
    let find = |name: &str, probe: Value| check(name, probe, Value::Null);
    let mut mute = find("mute", json!({ "certificate": { "address": well } }));
    mute["timeout"] = json!("300ms");
    let wrong = json!([
        find("http", http(&ill)),
        find("tcp", json!({ "tcp": { "address": closed } })),
        find("metadata", json!({ "tcp": { "address": "169.254.169.254:80" } })),
        find("command", json!({ "command": sh("echo it is broken >&2; exit 4") })),
        find("file", json!({ "file_age": { "path": "old", "max_age": "1h" } })),
        find("no-file", json!({ "file_age": { "path": "none", "max_age": "1h" } })),
        find("disk", json!({ "disk": { "path": ".", "min_free_percent": 100 } })),
        find("memory", json!({ "memory": { "min_free": "1000000 GiB" } })),
        find("ended", json!({ "certificate": { "address": ended } })),
        find("soon", json!({ "certificate": { "address": long, "min_left": "36000d" } })),
        find("no-tls", json!({ "certificate": { "address": babbler() } })),
        mute,
        find("success", json!({ "last_success": { "schedule": "bad", "max_age": "1h" } })),
        find("failed", json!({ "failed_runs": { "schedules": ["b*"] } })),
        find("stuck", json!({ "stuck_runs": { "longer_than": "0s" } })),
    ]);
    let right = json!([
        find("http", http(&well)),
        find("tcp", json!({ "tcp": { "address": well } })),
        find("command", json!({ "command": sh("exit 0") })),
        find("file", json!({ "file_age": { "path": "old", "max_age": "30000d" } })),
        find("disk", json!({ "disk": { "path": ".", "min_free": "1 KiB" } })),
        find("memory", json!({ "memory": { "min_free": "1 KiB", "min_free_percent": 0.01 } })),
        find("certificate", json!({ "certificate": { "address": long, "min_left": "30d" } })),
        find("success", json!({ "last_success": { "schedule": "good", "max_age": "1h" } })),
        find("failed", json!({ "failed_runs": { "schedules": ["g*"] } })),
        find("missed", json!({ "missed_runs": {} })),
        find("stuck", json!({ "stuck_runs": { "longer_than": "10m" } })),
    ]);
    let world = world(&[
        ("wrong", "self_heal", heal(wrong.clone())),
        ("right", "self_heal", heal(right)),
        ("good", "command", sh("exit 0")),
        ("bad", "command", sh("echo no luck >&2; exit 1")),
        ("goes-on", "command", sh("echo up; sleep 1000")),
    ]);
    let old = std::fs::File::create(world.path().join("old")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    world.run("good").await;
    world.run("bad").await;
    let handle = world.scheduler.handle();
    let going_on = handle.trigger(TriggerRequest::new("goes-on".parse().unwrap(), "test")).await.unwrap();
    let output = handle.files().unwrap().output_path(going_on);
    while lines(&output) == 0 {
        tokio::task::yield_now().await;
    }
    let run = world.run("wrong").await;
    assert_eq!(names(&run.data["found"]).len(), wrong.as_array().unwrap().len(), "{:#}", run.data["found"]);
    assert_eq!(run.state, RunState::Failed, "what is found and has no remedy is given up");
    let found = run.data["found"].as_array().unwrap();
    let reason = |name: &str| found.iter().find(|found| found["check"] == name).unwrap()["reason"].as_str().unwrap();
    for (name, expected) in [
        ("http", "answered 503"),
        ("tcp", "refused"),
        ("metadata", "metadata service"),
        ("command", "exited with code 4: it is broken"),
        ("file", "old was changed last "),
        ("no-file", "No such file"),
        ("disk", "are free ("),
        ("memory", "are free ("),
        ("ended", "ended "),
        ("soon", "ends in "),
        ("no-tls", "TLS: "),
        ("mute", "no answer within 0.3s"),
        ("success", "bad has no success in the history"),
        ("failed", "bad: exited with code 1: no luck"),
        ("stuck", "goes-on has been running for "),
    ] {
        assert!(reason(name).contains(expected), "{name}: {}", reason(name));
    }
    let run = world.run("right").await;
    assert_eq!((run.state, &run.data["found"]), (RunState::Succeeded, &json!([])), "{:?}", run.error);
    assert_eq!(run.summary.unwrap(), "0 run again, 0 refused, 11 of 11 checks well");
    handle.cancel(going_on).await.unwrap();
    handle.wait(going_on).await.unwrap();
}

#[tokio::test]
async fn remedies_heal_and_it_is_looked_whether_they_did() {
    let up = Arc::new(AtomicBool::new(false));
    let state = up.clone();
    let (shop, asked) = server(move |stream, request, _| {
        if request.starts_with("POST") {
            state.store(true, Ordering::SeqCst);
        }
        say(stream, if state.load(Ordering::SeqCst) { "200 OK" } else { "503 Busy" }, "");
    });
    let url = format!("http://{shop}/");
    let there = |file: &str| json!({ "command": { "argv": ["test", "-e", file] } });
    let mut patient = check("triggered", there("by-trigger"), json!({ "trigger": { "schedule": "fixer" } }));
    patient["verify_for"] = json!("20s");
    let checks = json!([
        check("called", json!({ "http": { "url": url } }), json!({ "call": { "url": url, "method": "POST" } })),
        check("commanded", there("by-command"), json!({ "command": { "argv": ["touch", "by-command"] } })),
        patient,
    ]);
    let mut dry = heal(checks.clone());
    dry["dry_run"] = json!(true);
    let world = world(&[
        ("dry", "self_heal", dry),
        ("heal", "self_heal", heal(checks)),
        ("fixer", "command", sh("touch by-trigger")),
    ]);
    let run = world.run("dry").await;
    assert_eq!(names(&run.data["would"]), ["called", "commanded", "triggered"], "{:?}", run.error);
    assert_eq!((run.data["done"].as_array().unwrap().len(), up.load(Ordering::SeqCst)), (0, false));
    assert!(!world.path().join("by-command").exists());
    let run = world.run("heal").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?} {:#}", run.error, run.data);
    assert_eq!(run.data["verified"], json!(["called", "commanded", "triggered"]));
    assert_eq!(run.data["done"][1]["remedy"], "run the program touch");
    assert_eq!(run.data["done"][2]["runs"].as_array().unwrap().len(), 1);
    assert_eq!(run.data["retried_count"], 0);
    let posts = asked.lock().unwrap().iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(posts, 1);
    assert_eq!(world.run("heal").await.data["found"], json!([]));
}

#[tokio::test]
async fn a_run_that_is_cancelled_ends_its_programs_and_remembers_what_it_did() {
    let mut slow =
        check("slow", json!({ "command": sh("test -e used") }), json!({ "command": sh("echo x >> used; exit 1") }));
    slow["cooldown"] = json!("1d");
    let hangs =
        check("hangs", json!({ "command": sh("test ! -e hang || { echo $$ > pid; exec sleep 1000; }") }), Value::Null);
    let mut watched =
        check("watched", json!({ "command": sh("exit 1") }), json!({ "command": sh("touch acted hang") }));
    (watched["cooldown"], watched["verify_for"]) = (json!("1d"), json!("1h"));
    let world = world(&[("heal", "self_heal", heal(json!([hangs, slow, watched])))]);
    let handle = world.scheduler.handle();
    let start = || handle.trigger(TriggerRequest::new("heal".parse().unwrap(), "test"));
    // It looks again and again whether the remedy helped.
    let run_id = start().await.unwrap();
    while !world.path().join("acted").exists() {
        tokio::task::yield_now().await;
    }
    handle.cancel(run_id).await.unwrap();
    assert_eq!(handle.wait(run_id).await.unwrap().state, RunState::Cancelled);
    // A program of a check goes on and on.
    let run_id = start().await.unwrap();
    let pid = loop {
        let text = std::fs::read_to_string(world.path().join("pid")).unwrap_or_default();
        if text.ends_with('\n') {
            break text.trim().to_owned();
        }
        tokio::task::yield_now().await;
    };
    handle.cancel(run_id).await.unwrap();
    assert_eq!(handle.wait(run_id).await.unwrap().state, RunState::Cancelled);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    std::fs::remove_file(world.path().join("hang")).unwrap();
    let run = world.run("heal").await;
    assert_eq!(names(&run.data["waiting"]), ["watched"], "{:?}", run.error);
    assert_eq!(lines(&world.path().join("used")), 1);
}

#[tokio::test]
async fn a_remedy_that_does_not_help_is_given_up_and_rests() {
    let mut sick = check("sick", json!({ "command": sh("exit 1") }), json!({ "command": sh("echo x >> used") }));
    sick["breaker_after"] = json!(2);
    let mut quiet = heal(json!([sick.clone()]));
    quiet["fail_when_given_up"] = json!(false);
    let world = world(&[("heal", "self_heal", heal(json!([sick]))), ("quiet", "self_heal", quiet)]);
    let used = world.path().join("used");
    let run = world.run("heal").await;
    assert_eq!((run.state, names(&run.data["failed"])), (RunState::Succeeded, vec!["sick".to_owned()]));
    assert_eq!(run.data["given_up"], json!([]));
    for _ in 0..2 {
        let run = world.run("heal").await;
        assert_eq!((run.state, names(&run.data["given_up"])), (RunState::Failed, vec!["sick".to_owned()]));
        assert_eq!(lines(&used), 2, "the breaker is open");
    }
    let run = world.run("heal").await;
    assert!(run.error.unwrap().contains("given up: sick"));
    for expected in [RunState::Succeeded; 3] {
        assert_eq!(world.run("quiet").await.state, expected);
    }
}

#[tokio::test]
async fn what_was_done_is_remembered_over_a_restart() {
    let mut sick = check("sick", json!({ "command": sh("exit 1") }), json!({ "command": sh("echo x >> used") }));
    sick["cooldown"] = json!("1d");
    let mut often = check("often", json!({ "command": sh("exit 1") }), json!({ "command": sh("echo x >> often") }));
    (often["per_hour"], often["breaker_after"]) = (json!(2), json!(100));
    shim();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    for (start, waits) in [(1, vec![]), (2, vec!["sick"]), (3, vec!["sick", "often"])] {
        let store = SqliteStore::open(folder.path().join("store.db")).unwrap();
        let schedules = [("heal", "self_heal", heal(json!([sick, often])))];
        let world = World::in_folder(folder.clone(), store, &schedules);
        let run = world.run("heal").await;
        assert_eq!(names(&run.data["waiting"]), waits, "start {start}: {:?}", run.error);
        assert_eq!((lines(&folder.path().join("used")), lines(&folder.path().join("often"))), (1, start.min(2)));
        world.scheduler.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn failed_runs_are_tried_again_within_bounds_and_never_once_they_succeeded() {
    let probe = json!({ "failed_runs": { "schedules": ["third", "never", "fixed"] } });
    let mut failing = check("failing", probe, json!({ "retry": { "retries": 2 } }));
    failing["verify_for"] = json!("20s");
    let third = sh("echo x >> tries; test $(wc -l < tries) -ge 3");
    let world = world(&[
        ("heal", "self_heal", heal(json!([failing]))),
        ("third", "command", third),
        ("never", "command", sh("echo x >> nevers; exit 1")),
        ("fixed", "command", sh("echo x >> fixes; test $(wc -l < fixes) -ge 2")),
    ]);
    for name in ["third", "never", "fixed", "fixed"] {
        world.run(name).await;
    }
    let count = |file: &str| lines(&world.path().join(file));
    let run = world.run("heal").await;
    assert_eq!(run.data["retried_count"], 2, "{:?} {:#}", run.error, run.data);
    assert_eq!((count("tries"), count("nevers"), count("fixes")), (2, 2, 2));
    assert_eq!(names(&run.data["failed"]), ["failing"]);
    let run = world.run("heal").await;
    assert_eq!((run.state, &run.data["retried_count"]), (RunState::Succeeded, &json!(2)), "{:?}", run.error);
    assert_eq!((count("tries"), count("nevers"), count("fixes")), (3, 3, 2));
    for _ in 0..2 {
        let run = world.run("heal").await;
        assert_eq!((run.state, &run.data["retried_count"]), (RunState::Failed, &json!(0)));
        assert_eq!(run.data["given_up"][0]["reason"], "never: tried again as often as may be");
    }
    assert_eq!((count("tries"), count("nevers"), count("fixes")), (3, 3, 2));
}

#[tokio::test]
async fn a_back_off_holds_a_retry_back() {
    let retry = json!({ "retry": { "backoff": "1h" } });
    let world = world(&[
        ("heal", "self_heal", heal(json!([check("failing", json!({ "failed_runs": {} }), retry)]))),
        ("bad", "command", sh("exit 1")),
    ]);
    world.run("bad").await;
    let run = world.run("heal").await;
    assert_eq!(run.data["waiting"][0]["reason"], "its back-off", "{:?}", run.error);
    assert_eq!((run.state, &run.data["retried_count"]), (RunState::Succeeded, &json!(0)));
}

/// An engine that was up five hours ago, and is again: an hourly schedule has missed five fires, and a check looks for them.
fn after_five_hours(probe: Value, remedy: Value) -> (tempfile::TempDir, Scheduler) {
    shim();
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::new();
    let env = JobEnv { base_dir: folder.path().into(), data_dir: folder.path().join("data"), base_url: None };
    register_all(&mut registry, &env);
    let mut hourly = ScheduleSpec::new("hourly", "command", TriggerSpec::every(Duration::from_secs(3600))).unwrap();
    hourly.params = sh("echo $SCHED_NOMINAL_AT >> ran").as_object().unwrap().clone();
    hourly.misfire = Misfire { policy: MisfirePolicy::Skip, ..Misfire::default() };
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let mut healer = ScheduleSpec::new("heal", "self_heal", never).unwrap();
    let mut backfill = check("missed", probe, remedy);
    backfill["verify_for"] = json!("20s");
    healer.params = heal(json!([backfill])).as_object().unwrap().clone();
    let before = SystemClock::new().now().utc - Duration::from_secs(5 * 3600);
    let store = Bench::start(MemoryStore::new(), before, &[hourly.clone(), healer.clone()]).shutdown(Duration::ZERO);
    let builder = Scheduler::builder(store).registry(registry).schedules([hourly, healer]);
    let scheduler = builder.data_dir(folder.path().join("data")).start().unwrap();
    (folder, scheduler)
}

async fn healed(scheduler: &Scheduler) -> RunRecord {
    let handle = scheduler.handle();
    let run_id = handle.trigger(TriggerRequest::new("heal".parse().unwrap(), "test")).await.unwrap();
    let run = handle.wait(run_id).await.unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    run
}

#[tokio::test]
async fn missed_fires_are_run() {
    let (folder, scheduler) = after_five_hours(json!({ "missed_runs": {} }), json!({ "backfill": {} }));
    let run = healed(&scheduler).await;
    assert_eq!((&run.data["verified"], &run.data["retried_count"]), (&json!(["missed"]), &json!(1)));
    let reason = run.data["found"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("hourly missed 5 fires"), "{reason}");
    assert_eq!(lines(&folder.path().join("ran")), 1);
    assert_eq!(healed(&scheduler).await.data["found"], json!([]), "the newest is run, and no more was asked for");
}

#[tokio::test]
async fn every_missed_fire_is_run_the_oldest_first_and_so_many_at_a_time() {
    let probe = json!({ "missed_runs": { "every_fire": true } });
    let (folder, scheduler) = after_five_hours(probe, json!({ "backfill": { "most": 2 } }));
    let ran = folder.path().join("ran");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let mut before = Vec::new();
    for (left, now) in [(5, 2), (3, 2), (1, 1)] {
        let run = healed(&scheduler).await;
        let expected =
            if left == 1 { "hourly missed its fire of".into() } else { format!("hourly missed {left} fires") };
        let reason = run.data["found"][0]["reason"].as_str().unwrap();
        assert!(reason.starts_with(&expected), "{reason}");
        assert_eq!((&run.data["verified"], &run.data["retried_count"]), (&json!(["missed"]), &json!(now)));
        let mut all: Vec<String> = text(&ran).lines().map(str::to_owned).collect();
        let fresh = all.split_off(before.len());
        assert_eq!(fresh.len(), now);
        assert!(before.last().is_none_or(|last| fresh.iter().all(|one| one > last)), "{before:?} {fresh:?}");
        before.extend(fresh);
        before.sort();
    }
    assert_eq!(healed(&scheduler).await.data["found"], json!([]));
    assert_eq!(before.len(), 5);
}

#[tokio::test]
async fn what_has_succeeded_while_another_check_took_long_is_left_alone() {
    let (looking, looked) = std::sync::mpsc::channel();
    let (going_on, go_on) = std::sync::mpsc::channel::<()>();
    let (looking, go_on) = (std::sync::Mutex::new(looking), std::sync::Mutex::new(go_on));
    let (slow, _) = server(move |stream, _, _| {
        looking.lock().unwrap().send(()).unwrap();
        go_on.lock().unwrap().recv().unwrap();
        say(stream, "200 OK", "");
    });
    let checks = json!([
        check("slow", json!({ "http": { "url": format!("http://{slow}/") } }), Value::Null),
        check("failing", json!({ "failed_runs": {} }), json!({ "retry": {} })),
    ]);
    let world =
        world(&[("heal", "self_heal", heal(checks)), ("shaky", "command", sh("echo x >> tries; test -e fixed"))]);
    world.run("shaky").await;
    let handle = world.scheduler.handle();
    let run_id = handle.trigger(TriggerRequest::new("heal".parse().unwrap(), "test")).await.unwrap();
    tokio::task::spawn_blocking(move || looked.recv().unwrap()).await.unwrap();
    std::fs::write(world.path().join("fixed"), "").unwrap();
    world.run("shaky").await;
    going_on.send(()).unwrap();
    let run = handle.wait(run_id).await.unwrap();
    assert_eq!((&run.data["found"], &run.data["retried_count"]), (&json!([]), &json!(0)), "{:?}", run.error);
    assert_eq!(lines(&world.path().join("tries")), 2);
}

#[tokio::test]
async fn a_unit_is_restarted_where_systemd_runs_and_elsewhere_it_says_so() {
    if Path::new("/run/systemd/system").exists() {
        eprintln!("skipped: systemd runs here, and no unit of it is ours to restart");
        return;
    }
    let restart = json!({ "restart": { "unit": "no-such.service", "user": true } });
    let world =
        world(&[("heal", "self_heal", heal(json!([check("unit", json!({ "command": sh("exit 1") }), restart)])))]);
    let run = world.run("heal").await;
    let reason = run.data["failed"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("could not restart no-such.service: systemctl: "), "{reason}");
    assert!(reason.ends_with("a unit can be restarted where systemd runs, and by who may"), "{reason}");
}

#[test]
fn parameters_that_cannot_work_are_refused_with_their_place() {
    let mut registry = Registry::new();
    register_all(&mut registry, &JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None });
    let refused = |params: Value, expected: &str| {
        let error = registry.check("self_heal", params.as_object().unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let one = |probe: Value, remedy: Value| json!({ "checks": [check("a", probe, remedy)] });
    let tcp = || json!({ "tcp": { "address": "h:1" } });
    refused(
        json!({ "checks": [check("a", tcp(), Value::Null), check("a", tcp(), Value::Null)] }),
        "params.checks[1].name: ",
    );
    refused(
        one(json!({ "tcp": { "address": "h" } }), Value::Null),
        "params.checks[0].check.tcp.address: `h` is no address",
    );
    refused(one(json!({ "ping": {} }), Value::Null), "params.checks[0].check: unknown variant `ping`");
    refused(one(json!({ "http": { "url": "x" } }), Value::Null), "params.checks[0].check.http.url: a URL begins");
    refused(one(json!({ "command": { "argv": [] } }), Value::Null), "params.checks[0].check.command.argv: needs");
    refused(one(json!({ "disk": { "path": "/" } }), Value::Null), "params.checks[0].check.disk: say how much");
    refused(
        one(json!({ "memory": { "min_free_percent": 101 } }), Value::Null),
        "params.checks[0].check.memory.min_free_percent",
    );
    refused(
        one(json!({ "failed_runs": { "schedules": ["[a"] } }), Value::Null),
        "params.checks[0].check.failed_runs.schedules: ",
    );
    refused(one(tcp(), json!({ "retry": {} })), "params.checks[0].remedy.retry: ");
    refused(one(tcp(), json!({ "backfill": {} })), "params.checks[0].remedy.backfill: ");
    refused(
        one(tcp(), json!({ "restart": { "unit": "--all" } })),
        "params.checks[0].remedy.restart.unit: `--all` is no name",
    );
    refused(
        one(tcp(), json!({ "call": { "url": "http://x", "bearer": "s" } })),
        "params.checks[0].remedy.call.bearer: ",
    );
    let missed = || json!({ "missed_runs": {} });
    refused(
        one(json!({ "failed_runs": { "within": "1d" } }), json!({ "retry": { "retries": 3, "backoff": "6h" } })),
        "params.checks[0].check.failed_runs.within: is shorter than the waits of all retries (1d 18h)",
    );
    refused(json!({ "checks": [check("a\nb", tcp(), Value::Null)] }), "params.checks[0].name: must have");
    refused(one(missed(), json!({ "backfill": { "most": 0 } })), "params.checks[0].remedy.backfill.most: must be 1");
    refused(json!({ "health_urls": ["http://a/", "b"] }), "params.health_urls[1]: a URL begins");
    refused(json!({ "health_urls": ["http://u:s3cret@a/"] }), "params.health_urls[0]: it has a password in it");
    refused(json!({ "timeout": "0s" }), "params.timeout: must be longer");
    let mut zero = check("a", tcp(), Value::Null);
    zero["per_hour"] = json!(0);
    refused(json!({ "checks": [zero] }), "params.checks[0].per_hour: must be 1 to 1000");
}
