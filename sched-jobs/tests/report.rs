//! Reports run by the real engine: their formats, sections, versions and templates.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

#[expect(dead_code, reason = "this test needs no server")]
mod world;

use std::sync::Arc;

use chrono::Days;
use sched_core::{MemoryStore, Registry, RunRecord, RunState, SystemClock};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

use self::world::World;

/// No test: where this executable, run again, becomes the shim of a program.
#[test]
fn shim() {
    sched_core::process::init_within(&["--exact", "shim", "--nocapture"]);
}

/// Yesterday until tomorrow: whatever runs now lies within.
fn around_now() -> Value {
    let today = sched_core::Clock::now(&SystemClock::new()).utc.date_naive();
    json!({ "from": today - Days::new(1), "until": today + Days::new(2) })
}

/// A world with files, a report of these params, and programs that succeed and fail.
fn world(files: &[(&str, &str)], params: Value) -> World {
    shim();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let sh = |line: &str| json!({ "argv": [line], "shell": true });
    let schedules =
        [("report", "report", params), ("good", "command", sh("true")), ("bad", "command", sh("echo '<b>x'; exit 1"))];
    World::in_folder(folder, MemoryStore::new(), &schedules)
}

fn read(run: &RunRecord, key: &str) -> String {
    std::fs::read_to_string(run.data[key].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_report_has_runs_tables_and_charts_in_every_format() {
    let world = world(
        &[
            ("shop.json", "{\"orders\": 12, \"revenue\": 1234.5}"),
            ("days.csv", "day,orders,note\nmon,3,=1+1\ntue,4,<i>x\n"),
        ],
        json!({
            "period": around_now(),
            "formats": ["json", "html", "markdown", "csv"],
            "sources": [
                { "name": "shop", "file": "shop.json", "metrics": {
                    "orders": "/orders", "revenue": { "at": "/revenue", "unit": "€", "label": "<u>Revenue" }, "gone": "/gone" } },
                { "name": "days", "file": "days.csv" },
                { "name": "dead", "file": "absent.json" },
            ],
            "sections": [
                { "source": "shop", "title": "Shop" },
                { "source": "days", "title": "By day", "show": "bar", "x": "day", "y": ["orders"] },
                { "source": "days", "title": "Days" },
                { "source": "dead" },
            ],
        }),
    );
    for name in ["good", "good", "good", "bad"] {
        world.run(name).await;
    }
    let run = world.run("report").await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(run.data["headline"], "75.0 % of 4 runs succeeded; 1 of 3 sources gave no answer");
    let document: Value = serde_json::from_str(&read(&run, "json_path")).unwrap();
    let keys: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let agreed = [
        "schema",
        "title",
        "headline",
        "period",
        "before_period",
        "timezone",
        "generated_at",
        "version",
        "replaces",
        "runs",
        "rows",
        "total",
        "before",
        "reasons",
        "parts",
        "sections",
        "sources",
    ];
    assert_eq!(keys, agreed);
    assert_eq!(
        (&document["schema"], &document["version"], &document["replaces"]),
        (&json!(1), &json!(1), &Value::Null)
    );
    assert_eq!((&document["rows"][0]["schedule"], &document["rows"][0]["failed"]), (&json!("bad"), &json!(1)));
    assert_eq!(document["runs"][0]["text"], "75\u{a0}%");
    let parts = document["parts"].as_array().unwrap();
    assert_eq!((parts.len(), parts.iter().map(|part| part["succeeded"].as_u64().unwrap()).sum::<u64>()), (3, 3));
    let html = read(&run, "html_path");
    assert_eq!(html.matches("<svg").count(), 4, "two charts in two widths");
    assert!(html.contains("mon, Orders: 3") && html.contains("&lt;u&gt;Revenue") && html.contains("&lt;i&gt;x"));
    assert!(html.contains("absent.json: No such file") && html.contains("nothing is at "));
    for forbidden in ["<b>", "<i>", "<u>", "<script", "src=", "href="] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let markdown = read(&run, "markdown_path");
    assert!(markdown.contains("| mon | 3 | =1+1 |") && markdown.contains("| tue | 4 | &lt;i\\>x |"), "{markdown}");
    let csv = read(&run, "csv_path");
    assert!(csv.contains("runs,Success rate,value,75.0,%") && csv.contains("Days,1,Note,'=1+1,"), "{csv}");
    assert_eq!(run.artifacts.len(), 4);
}

#[tokio::test]
async fn a_report_made_again_replaces_the_current_one_and_the_older_file_stays() {
    let world = world(
        &[("shop.json", "{\"orders\": 12}")],
        json!({ "period": around_now(), "sources": [{ "name": "shop", "file": "shop.json" }] }),
    );
    let first = world.run("report").await;
    std::fs::write(world.path().join("shop.json"), "{\"orders\": 15}").unwrap();
    let second = world.run("report").await;
    assert_eq!((&first.data["version"], &second.data["version"]), (&json!(1), &json!(2)));
    assert_eq!(second.data["replaces"], json!(first.run_id));
    assert!(read(&first, "html_path").contains(">12<"), "the older version is as it was");
    let html = read(&second, "html_path");
    assert!(html.contains(">15<") && html.contains("It replaces version 1 of"), "{html}");
    let state = world.scheduler.handle().state("report".parse().unwrap(), "versions".into()).await.unwrap().unwrap();
    let held = &state["periods"][0];
    assert_eq!(state["periods"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&held["current"]["run_id"], &held["older"][0]["run_id"]),
        (&json!(second.run_id), &json!(first.run_id))
    );
    assert_eq!(held["current"]["files"]["json"], second.data["json_path"]);
}

#[tokio::test]
async fn figures_are_held_against_those_that_the_period_before_had() {
    let params = json!({ "sources": [{ "name": "shop", "file": "shop.json" }], "timezone": "Asia/Beirut" });
    let world = world(&[("shop.json", "{\"orders\": 15}")], params);
    let first = world.run("report").await;
    let from = first.data["period"]["from"].as_str().unwrap();
    // As if the day before had been reported.
    let document: Value = serde_json::from_str(&read(&first, "json_path")).unwrap();
    let before = format!("{}/{from}", document["before_period"]["from"].as_str().unwrap());
    let current = json!({ "version": 1, "run_id": first.run_id, "at": from });
    let held = json!({ "period": before, "current": current, "older": [], "figures": { "shop.orders": 12.0 } });
    let handle = world.scheduler.handle();
    let state = json!({ "periods": [held] });
    handle.put_state("report".parse().unwrap(), "versions".into(), state).await.unwrap();
    let run = world.run("report").await;
    let document: Value = serde_json::from_str(&read(&run, "json_path")).unwrap();
    assert_eq!(document["sections"][0]["figures"][0]["change"], "▲ 3 more (+25\u{a0}%)");
}

#[tokio::test]
async fn a_template_of_ones_own_takes_the_place_of_the_page_and_says_where_it_is_wrong() {
    let world = world(
        &[("page.html", "<h1>{{ title }}</h1>\n{{ headline }}\n{{ nobody }}")],
        json!({ "title": "<i>", "template_file": "page.html" }),
    );
    let error = world.run("report").await.error.unwrap();
    assert_eq!(error, "the template: line 3: undefined value");
    std::fs::write(world.path().join("page.html"), "<h1>{{ title }}</h1>").unwrap();
    let run = world.run("report").await;
    assert_eq!(read(&run, "html_path"), "<h1>&lt;i&gt;</h1>");
    assert_eq!(run.artifacts.len(), 2);
    std::fs::remove_file(world.path().join("page.html")).unwrap();
    let error = world.run("report").await.error.unwrap();
    assert!(error.starts_with("template_file: ") && error.contains("page.html: No such file"), "{error}");
}

#[test]
fn reports_that_cannot_work_are_refused_at_their_place() {
    let mut registry = Registry::new();
    register_all(&mut registry, &JobEnv { base_dir: ".".into(), data_dir: "data".into(), base_url: None });
    let check = |params: Value, expected: &str| {
        let error = registry.check("report", params.as_object().unwrap()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({ "period": "year" }), "write \"day\", \"week\" or \"month\"");
    check(json!({ "period": { "days": 1000 } }), "params.period: days must be 1 to 400");
    check(json!({ "formats": [] }), "params.formats: needs at least one");
    check(json!({ "formats": ["pdf"] }), "unknown variant `pdf`");
    check(json!({ "template": "a\n{{ b" }), "params.template: line 2: syntax error");
    check(json!({ "template": "a", "template_file": "b" }), "params.template_file: write `template` or");
    check(json!({ "sections": [{ "source": "x" }] }), "params.sections[0].source: `x` is not among the sources: none");
}
