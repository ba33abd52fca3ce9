use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sched_core::HistoryRow;
use serde_json::{Value, json};

use super::compose::{Document, Facts, Part, compose};
use super::own::{self, Writes};
use super::period::Choice;
use super::section::Section;
use super::versions::Version;
use crate::history::{Period, Statistics};
use crate::render::render;
use crate::sources::{Column, Figure, Reading, Table};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A run that was planned at an instant, started so many seconds later, and took so long.
fn run(schedule: &str, planned: &str, late: i64, ms: u64, error: Option<&str>) -> HistoryRow {
    let planned = at(planned);
    let started = planned + chrono::TimeDelta::seconds(late);
    let state = if error.is_some() { "failed" } else { "succeeded" };
    let row = json!({
        "run_id": "00000000-0000-7000-8000-000000000001", "schedule": schedule, "job": "command", "version": 1,
        "nominal_at": planned, "origin": "schedule", "state": state, "reason": null, "attempt": 1,
        "not_before": planned, "queued_at": planned, "started_at": started, "finished_at": started,
        "duration_ms": ms, "node": null, "fence": 1, "params": {}, "summary": null, "data": null, "error": error,
        "abandoned": false, "artifacts": [], "parent": null, "requested_by": null, "idempotency_key": null,
    });
    serde_json::from_value(row).unwrap()
}

fn not_run(schedule: &str, state: &str, reason: &str, until: &str, count: u64) -> HistoryRow {
    let row = json!({ "range_id": "00000000-0000-7000-8000-000000000002", "schedule": schedule, "version": 1,
        "state": state, "reason": reason, "blocker": null, "from": at(until), "until": at(until), "count": count,
        "superseded": false });
    serde_json::from_value(row).unwrap()
}

fn counted(rows: &[HistoryRow], period: Period) -> Statistics {
    let mut statistics = Statistics::default();
    rows.iter().filter(|row| period.contains(row.cursor().at)).for_each(|row| statistics.add(row));
    statistics.finish()
}

fn readings() -> Vec<Reading> {
    let read = at("2026-03-30T07:00:01Z");
    let figure = |name: &str, value: Option<f64>, unit: Option<&str>| Figure {
        source: "shop".into(),
        name: name.into(),
        label: format!("<u>{name}"),
        value,
        unit: unit.map(str::to_owned),
        missing: value.is_none().then(|| "nothing is at /gone".to_owned()),
        at: read,
    };
    let reading =
        |name: &str| Reading { name: name.into(), ok: true, error: None, at: read, figures: Vec::new(), table: None };
    let column =
        |name: &str, unit: Option<&str>| Column { name: name.into(), label: None, unit: unit.map(str::to_owned) };
    let table = Table {
        columns: vec![column("day", None), column("orders", None), column("income", Some("€"))],
        rows: vec![
            vec![json!("=cmd|' /C calc'!A0"), json!(-3), json!(12.5)],
            vec![json!("<script>|*x*"), Value::Null, json!("n/a")],
        ],
        rows_in_all: 900,
    };
    let figures = vec![
        figure("orders", Some(15.0), None),
        figure("revenue", Some(-1234.5), Some("€")),
        figure("gone", None, None),
    ];
    vec![
        Reading { figures, ..reading("shop") },
        Reading { table: Some(table), ..reading("days") },
        Reading { ok: false, error: Some("answered 503 <b>".into()), ..reading("dead") },
    ]
}

/// A report with something in every part, of the Sunday on which London's clocks went forward.
fn full() -> Document {
    let zone = Tz::Europe__London;
    let day: Choice = serde_json::from_value(json!("day")).unwrap();
    let span = day.at(zone, at("2026-03-30T07:00:00Z")).unwrap();
    let rows = [
        run("backup", "2026-03-28T23:59:59Z", 0, 900, None),
        run("backup", "2026-03-29T00:00:00Z", 0, 1000, None),
        run("backup", "2026-03-29T01:00:00Z", 90, 3000, None),
        run("backup", "2026-03-29T22:59:59Z", 1, 2000, Some("<i>disk full\nmore")),
        run("backup", "2026-03-29T23:00:00Z", 0, 1, None),
        not_run("sync", "missed", "window", "2026-03-29T12:00:00Z", 7),
        not_run("sync", "skipped", "overlap", "2026-03-29T13:00:00Z", 2),
        not_run("sync", "missed", "window", "2026-03-28T12:00:00Z", 1),
    ];
    let sections = json!([
        { "source": "shop", "title": "Shop" },
        { "source": "days", "title": "By day", "show": "bar", "x": "day", "y": ["orders"] },
        { "source": "days" },
        { "source": "dead" },
    ]);
    let sections: Vec<Section> = serde_json::from_value(sections).unwrap();
    let sources = readings();
    let before =
        |figure: &str| [("shop.orders", 12.0), ("shop.revenue", 0.0)].into_iter().find(|(name, _)| *name == figure);
    let shown = sections.iter().map(|section| {
        let reading = sources.iter().find(|reading| section.is_of(reading)).unwrap();
        section.show(reading, |figure| before(figure).map(|(_, value)| value))
    });
    let run_id = "00000000-0000-7000-8000-000000000009".parse().unwrap();
    let files = [("json".to_owned(), "data/artifacts/9/report.json".into())].into();
    let replaced = Version { version: 1, run_id, at: at("2026-03-30T06:00:00Z"), files };
    let parts = span.parts(zone).into_iter().map(|(label, period)| {
        let statistics = counted(&rows, period);
        Part::of((label, period), &statistics)
    });
    let facts = Facts {
        title: "Day & night".into(),
        zone,
        now: at("2026-03-30T07:00:02Z"),
        version: (2, Some(replaced)),
        statistics: counted(&rows, span.period),
        before: counted(&rows, span.before),
        parts: parts.collect(),
        sections: shown.collect(),
        sources: sources.clone(),
    };
    compose(span, facts)
}

#[test]
fn the_document_is_as_it_was_agreed() {
    let document = serde_json::to_value(full()).unwrap();
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert_eq!(document, golden, "{document:#}");
}

#[test]
fn every_format_shows_what_others_say_as_it_is() {
    let document = full();
    let page = document.page().unwrap();
    let html = render("report.html", &page).unwrap();
    for forbidden in ["<b>", "<i>", "<u>", "<script", "src=", "href=", "url(", "@import"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("&lt;u&gt;orders") && html.contains("answered 503 &lt;b&gt;"));
    assert!(html.contains("the first 2 of 900 rows") && html.contains("It replaces version 1 of"));
    let markdown = render("report.md", &page).unwrap();
    assert!(markdown.contains("| &lt;script\\>\\|\\*x\\* | – | n/a |"), "{markdown}");
    let csv = String::from_utf8(document.csv().unwrap()).unwrap();
    assert!(csv.contains("days,1,day,'=cmd|' /C calc'!A0,\n") && csv.contains("days,1,orders,-3,\n"), "{csv}");
    // A page of one's own can show all of it, and nothing else.
    let all =
        "{% for s in sections %}{{ s.title }}: {{ s.error or s.figures|length }}\n{% endfor %}{{ rows[0].schedule }}";
    let text = String::from_utf8(own::render(all, Writes::Text, &page).unwrap()).unwrap();
    assert_eq!(text, "Shop: 3\nBy day: 0\ndays: 0\ndead: the source failed: answered 503 <b>\nbackup");
}
