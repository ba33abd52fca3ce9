//! Each kind, run by the real engine, against real servers, programs and files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use sched_core::{
    Channels, Event, MemoryStore, Registry, RunRecord, RunState, ScheduleSpec, Scheduler, TriggerRequest, TriggerSpec,
    Wanted,
};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

const HANGS: &str = "hangs";

/// A server on loopback that answers every request with the given status and body; `HANGS` never answers.
fn server(status: &'static str, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if status == HANGS {
                held.push(stream);
                continue;
            }
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // The client may stop reading a body that is too large.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    url
}

struct World {
    folder: tempfile::TempDir,
    scheduler: Scheduler,
}

impl World {
    /// An engine with one schedule for each name, kind and parameters.
    fn new(schedules: &[(&str, &str, Value)]) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), schedules)
    }

    fn in_folder(folder: tempfile::TempDir, schedules: &[(&str, &str, Value)]) -> Self {
        shim();
        let mut registry = Registry::new();
        let env = JobEnv { base_dir: folder.path().into(), data_dir: folder.path().join("data"), base_url: None };
        register_all(&mut registry, &env);
        let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
        let specs = schedules.iter().map(|(name, kind, params)| {
            let mut spec = ScheduleSpec::new(name, kind, never.clone()).unwrap();
            spec.params = params.as_object().unwrap().clone();
            spec.retry.attempts = 1;
            spec.with_timeout(Duration::from_secs(20))
        });
        let builder = Scheduler::builder(MemoryStore::new()).registry(registry).schedules(specs);
        let scheduler = builder.data_dir(folder.path().join("data")).start().unwrap();
        Self { folder, scheduler }
    }

    async fn run(&self, name: &str) -> RunRecord {
        let handle = self.scheduler.handle();
        let run_id = handle.trigger(TriggerRequest::new(name.parse().unwrap(), "test")).await.unwrap();
        handle.wait(run_id).await.unwrap()
    }

    fn output(&self, run: &RunRecord) -> String {
        let path = self.scheduler.handle().files().unwrap().output_path(run.run_id);
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

/// No test: where this executable, run again, becomes the shim of a program.
#[test]
fn shim() {
    sched_core::process::init_within(&["--exact", "shim", "--nocapture"]);
}

fn sh(line: &str) -> Value {
    json!({ "argv": [line], "shell": true })
}

#[tokio::test]
async fn a_command_leaves_its_output_its_exit_code_and_nothing_running() {
    let world = World::new(&[
        ("ok", "command", sh("echo out; echo err >&2; sleep 600 & exit 0")),
        ("both", "command", sh("for i in 1 2 3 4 5 6 7 8 9; do echo out; echo err >&2; done")),
        ("code", "command", sh("echo reason; exit 3")),
        ("complains", "command", sh("echo 'no such table' >&2; echo cleaning up; exit 3")),
        ("absent", "command", json!({ "argv": ["no-such-program"] })),
        ("stdin", "command", json!({ "argv": ["cat"], "stdin": "typed\n" })),
    ]);
    let run = world.run("ok").await;
    assert_eq!((run.state, &run.data["exit_code"]), (RunState::Succeeded, &json!(0)));
    let mut lines: Vec<_> = world.output(&run).lines().map(String::from).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    let run = world.run("both").await;
    assert!(world.output(&run).lines().all(|line| ["err", "out"].contains(&line)), "a line of one stream stays whole");
    let run = world.run("code").await;
    assert_eq!((run.state, run.error.as_deref()), (RunState::Failed, Some("exited with code 3: reason")));
    let run = world.run("complains").await;
    assert_eq!(run.error.as_deref(), Some("exited with code 3: no such table"));
    let run = world.run("absent").await;
    assert!(run.error.unwrap().contains("`no-such-program` could not be started"));
    let run = world.run("stdin").await;
    assert_eq!(world.output(&run), "typed\n");
}

#[tokio::test]
async fn a_command_sees_its_run_and_nothing_of_the_schedulers_environment() {
    let world = World::new(&[("env", "command", json!({ "argv": ["env"], "env": { "MINE": "1" } }))]);
    let run = world.run("env").await;
    let output = world.output(&run);
    let names: Vec<&str> = output.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(output.contains(&format!("SCHED_RUN_ID={}", run.run_id)) && output.contains("MINE=1"), "{output}");
    assert!(output.contains("SCHED_SCHEDULE=env") && output.contains("SCHED_ATTEMPT=1"), "{output}");
    assert!(!names.iter().any(|name| name.starts_with("CARGO") || *name == "DASHBOARD_KEY"), "{names:?}");
}

#[tokio::test]
async fn a_cancelled_command_is_stopped_with_its_children_even_if_they_ignore_term() {
    let world = World::new(&[("stubborn", "command", sh("trap '' TERM; echo $$; while :; do sleep 1; done"))]);
    let handle = world.scheduler.handle();
    let run_id = handle.trigger(TriggerRequest::new("stubborn".parse().unwrap(), "test")).await.unwrap();
    let path = handle.files().unwrap().output_path(run_id);
    let pid = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.ends_with('\n') {
            break text.trim().to_owned();
        }
        tokio::task::yield_now().await;
    };
    handle.cancel(run_id).await.unwrap();
    assert_eq!(handle.wait(run_id).await.unwrap().state, RunState::Cancelled);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

/// Whether a process is there, and no zombie.
fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_command_whose_child_left_the_group_and_holds_the_output_ends_all_the_same() {
    let line = "setsid sh -c 'echo $$; : > left; exec sleep 1000' & while [ ! -e left ]; do :; done";
    let world = World::new(&[("leaves", "command", sh(line))]);
    let run = world.run("leaves").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    let output = world.output(&run);
    assert!(output.contains("(1 processes that had left the program's group were killed)"), "{output}");
    assert!(!lives(output.lines().next().unwrap()));
}

#[tokio::test]
async fn an_http_call_succeeds_or_says_what_was_answered() {
    let ok = server("200 OK", "{\"a\":1}".into());
    let missing = server("404 Not Found", String::new());
    let hangs = server(HANGS, String::new());
    let world = World::new(&[
        ("ok", "http_call", json!({ "url": ok })),
        ("missing", "http_call", json!({ "url": missing })),
        ("hangs", "http_call", json!({ "url": hangs, "timeout": "200ms" })),
        ("refused", "http_call", json!({ "url": "http://127.0.0.1:1/" })),
    ]);
    let run = world.run("ok").await;
    assert_eq!((run.state, &run.data["body"]), (RunState::Succeeded, &json!("{\"a\":1}")));
    assert_eq!(world.run("missing").await.error.unwrap(), "answered 404 Not Found");
    assert!(world.run("hangs").await.error.unwrap().contains("no answer within 0.2s"));
    assert!(world.run("refused").await.error.unwrap().contains("refused"));
}

#[tokio::test]
async fn a_server_that_asks_for_an_endless_wait_is_asked_again_after_a_day() {
    let busy = server("503 Busy\r\nretry-after: 9000000000000", String::new());
    let world = World::new(&[("busy", "http_call", json!({ "url": busy }))]);
    let handle = world.scheduler.handle();
    let mut spec = handle.schedules().await.unwrap().remove(0).spec;
    spec.retry.attempts = 2;
    let wanted =
        Wanted { schedules: vec![spec], groups: BTreeMap::new(), channels: Channels::new(), max_concurrent_runs: 1 };
    handle.apply(wanted, "test").await.unwrap();
    let mut events = handle.subscribe(None);
    handle.trigger(TriggerRequest::new("busy".parse().unwrap(), "test")).await.unwrap();
    let wait = loop {
        let event = events.next().await.unwrap();
        if let Event::RunRetry { not_before, .. } = event.event {
            break not_before - event.ts;
        }
    };
    assert_eq!(wait.num_hours(), 24);
}

#[tokio::test]
async fn a_brief_tells_true_figures_and_shows_sources_that_fail() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kpi.json"), "{\"orders\": {\"open\": 3}}").unwrap();
    let sources = json!({ "sources": [
        { "name": "kpi", "file": "kpi.json", "pointer": "/orders" },
        { "name": "web", "url": server("200 OK", "{\"visits\": 12}".into()) },
        { "name": "dead", "url": server(HANGS, String::new()), "timeout": "200ms" },
        { "name": "broken", "url": server("503 Service Unavailable", String::new()) },
        { "name": "huge", "url": server("200 OK", format!("[{}1]", "1,".repeat(700_000))) },
        { "name": "odd", "url": server("200 OK", "<html>".into()) },
    ] });
    let world = World::in_folder(
        folder,
        &[
            ("brief", "ceo_brief", sources),
            ("good", "command", sh("true")),
            ("bad", "command", sh("echo '<b>x'; exit 1")),
        ],
    );
    world.run("good").await;
    world.run("bad").await;
    let run = world.run("brief").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.data["headline"], "bad failed once in the last 24 hours; 4 of 6 sources gave no answer");
    assert_eq!(
        (&run.data["figures"]["runs.succeeded"], &run.data["figures"]["runs.failed"]),
        (&json!(1.0), &json!(1.0))
    );
    let sources = run.data["sources"].as_array().unwrap();
    let errors: Vec<_> = sources.iter().map(|source| source["error"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(errors[..2], ["", ""]);
    assert_eq!(sources[0]["figures"][0]["value"], 3.0);
    assert_eq!(errors[2], "no answer within 0.2s");
    assert_eq!(errors[3], "answered 503 Service Unavailable");
    assert!(errors[4].contains("more than 1048576 bytes") && errors[5].contains("not JSON"), "{errors:?}");
    let html = std::fs::read_to_string(run.data["html_path"].as_str().unwrap()).unwrap();
    assert!(html.contains("&lt;b&gt;x") && !html.contains("<b>x"), "what a job prints is escaped");
    let document: Value =
        serde_json::from_str(&std::fs::read_to_string(run.data["json_path"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((&document["schema"], &document["headline"]), (&json!(1), &run.data["headline"]));
    assert_eq!(run.artifacts.len(), 3);
}

#[tokio::test]
async fn a_brief_remembers_the_days_before_and_its_own_day_only_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kpi.json"), "{\"open\": 50}").unwrap();
    let params = json!({
        "timezone": "Asia/Tokyo",
        "sources": [{ "name": "kpi", "file": "kpi.json" }],
        "figures": [{ "figure": "kpi.open", "better": "down", "warn": 40, "bad": 60 }],
    });
    let world = World::in_folder(folder, &[("brief", "ceo_brief", params)]);
    let handle = world.scheduler.handle();
    let today = handle.clock().now().utc.with_timezone(&chrono_tz::Asia::Tokyo).date_naive();
    // Ten days that end yesterday; a week ago it was 7.
    let days = [5, 6, 5, 7, 4, 5, 6, 5, 4, 5];
    let past =
        json!({ "figures": { "kpi.open": { "last": today.pred_opt().unwrap(), "values": days } }, "broken": {} });
    handle.put_state("brief".parse().unwrap(), "past".into(), past).await.unwrap();
    for value in ["50", "61"] {
        std::fs::write(world.folder.path().join("kpi.json"), format!("{{\"open\": {value}}}")).unwrap();
        let run = world.run("brief").await;
        let document: Value =
            serde_json::from_str(&std::fs::read_to_string(run.data["json_path"].as_str().unwrap()).unwrap()).unwrap();
        let figure = &document["figures"][0];
        assert_eq!(figure["level"], if value == "50" { "warn" } else { "bad" });
        assert_eq!((&figure["yesterday"]["value"], &figure["last_week"]["value"]), (&json!(5.0), &json!(7.0)));
        assert_eq!((&figure["unusual"]["days"], &figure["unusual"]["median"]), (&json!(10), &json!(5.0)));
    }
    let kept = handle.state("brief".parse().unwrap(), "past".into()).await.unwrap().unwrap();
    let values = kept["figures"]["kpi.open"]["values"].as_array().unwrap().clone();
    assert_eq!((values.len(), values.last()), (11, Some(&json!(61.0))), "the day has one figure, the newest");
}

#[tokio::test]
async fn a_report_covers_the_last_complete_day_and_says_when_nothing_ran() {
    let world = World::new(&[("report", "report", json!({ "timezone": "Europe/London" }))]);
    let run = world.run("report").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.data["headline"], "Nothing ran in this period");
    assert!(Path::new(run.data["html_path"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn self_heal_retries_the_newest_failures_once_and_reports_unhealthy_urls() {
    let folder = tempfile::tempdir().unwrap();
    let urls =
        json!({ "health_urls": [server("200 OK", String::new()), server(HANGS, String::new())], "timeout": "200ms" });
    let cured = sh("test -e cured || { touch cured; exit 1; }");
    let world = World::in_folder(
        folder,
        &[
            ("heal", "self_heal", urls),
            ("cured", "command", cured),
            ("bad", "command", sh("exit 1")),
            ("good", "command", sh("true")),
        ],
    );
    for name in ["cured", "bad", "good"] {
        world.run(name).await;
    }
    let run = world.run("heal").await;
    assert_eq!(run.data["retried_count"], 2, "{}", run.data);
    assert_eq!((&run.data["health"][0]["ok"], &run.data["health"][1]["ok"]), (&json!(true), &json!(false)));
    for retried in run.data["retried"].as_array().unwrap() {
        let again =
            world.scheduler.handle().wait(retried["new_run_id"].as_str().unwrap().parse().unwrap()).await.unwrap();
        let expected = if retried["schedule"] == "cured" { RunState::Succeeded } else { RunState::Failed };
        assert_eq!(again.state, expected);
    }
    assert_eq!(world.run("heal").await.data["retried_count"], 0, "what was retried once is left to people");
}

fn touch(path: &Path, age_seconds: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(2_000_000 - age_seconds)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn retention_keeps_the_newest_of_each_folder_and_never_leaves_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for age in 0..5 {
        touch(&root.join(format!("a/{age}.log")), age);
        touch(&root.join(format!("b/{age}.log")), age);
        touch(&folder.path().join(format!("outside/{age}.log")), age);
    }
    touch(&root.join("a/old.txt"), 100);
    std::os::unix::fs::symlink(folder.path().join("outside"), root.join("link")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside/0.log"), root.join("a/z.log")).unwrap();
    let rules = json!([{ "root": "root", "pattern": "*/*.log", "keep": 2 }]);
    let world = World::in_folder(
        folder,
        &[
            ("dry", "retention", json!({ "rules": rules, "dry_run": true })),
            ("real", "retention", json!({ "rules": rules })),
            ("all", "retention", json!({ "rules": [], "keep_days": 0, "keep_failures_days": 0, "keep_newest": 0 })),
        ],
    );
    let run = world.run("dry").await;
    assert_eq!((run.state, &run.data["removed_count"]), (RunState::Succeeded, &json!(6)), "{:?}", run.error);
    assert_eq!(names(&root.join("b")).len(), 5, "a dry run removes nothing");
    let run = world.run("real").await;
    assert_eq!(run.data["removed_count"], 6);
    assert_eq!(names(&root.join("a")), ["0.log", "1.log", "old.txt", "z.log"]);
    assert_eq!(names(&root.join("b")), ["0.log", "1.log"]);
    assert_eq!(names(&world.folder.path().join("outside")).len(), 5);
    assert_eq!(world.run("real").await.data["removed_count"], 0);
    let told = world.run("all").await.summary;
    assert_eq!(told.as_deref(), Some("removed 0 files, 0 bytes; of the history 3 runs and 0 ranges, with 2 files"));
}

#[test]
fn parameters_that_cannot_work_are_refused_before_anything_runs() {
    let mut registry = Registry::new();
    register_all(&mut registry, &JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None });
    let check = |kind: &str, params: Value, expected: &str| {
        let error = registry.check(kind, params.as_object().unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{kind}: {error}");
    };
    let rule = |root: &str| json!({ "rules": [{ "root": root, "pattern": "*", "keep": 1 }] });
    for root in ["/", "", "a/../..", "."] {
        check("retention", rule(root), "params.rules[0].root: ");
    }
    check("command", json!({ "argv": [] }), "params.argv: needs at least the program");
    check("command", json!({ "argv": ["a", "b"], "shell": true }), "one element");
    check("http_call", json!({ "url": "ftp://x" }), "params.url: a URL begins with");
    check("http_call", json!({ "url": "/x" }), "BASE_URL");
    check("http_call", json!({ "url": "http://x", "bearer": "s3cret" }), "not the token itself");
    check("ceo_brief", json!({ "sources": [{ "name": "x" }] }), "exactly one of `url`, `file`");
    check("report", json!({ "timezone": "Mars/Base" }), "params.timezone: ");
    check("self_heal", json!({ "max_retires": 1 }), "unknown field `max_retires`");
}
