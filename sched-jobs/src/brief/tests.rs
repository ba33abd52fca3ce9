use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use sched_core::{HistoryRow, ScheduleSpec, ScheduleView, TriggerSpec};
use serde_json::{Value, json};

use super::compose::{Brief, compose};
use super::figure::{Rated, Rule, rank};
use super::past::Past;
use super::told::Reader;
use crate::history::{Period, Statistics};
use crate::render::render;
use crate::sources::{Figure, Reading, own_figures};

fn now() -> DateTime<Utc> {
    "2026-11-25T08:00:00Z".parse().unwrap()
}

fn today() -> NaiveDate {
    now().date_naive()
}

/// A run that ended so many minutes ago.
fn run(schedule: &str, ago: i64, error: Option<&str>) -> HistoryRow {
    let at = now() - TimeDelta::minutes(ago);
    let state = if error.is_some() { "failed" } else { "succeeded" };
    let row = json!({
        "run_id": format!("00000000-0000-7000-8000-{ago:012}"), "schedule": schedule, "job": "command", "version": 1,
        "nominal_at": at, "origin": "schedule", "state": state, "reason": null, "attempt": 1, "not_before": at,
        "queued_at": at, "started_at": at, "finished_at": at, "duration_ms": 40, "node": null, "fence": 1,
        "params": {}, "summary": null, "data": null, "error": error, "abandoned": false, "artifacts": [],
        "parent": null, "requested_by": null, "idempotency_key": null,
    });
    serde_json::from_value(row).unwrap()
}

fn missed(schedule: &str, count: u64) -> HistoryRow {
    let at = now() - TimeDelta::hours(3);
    let row = json!({ "range_id": "00000000-0000-7000-8000-000000000001", "schedule": schedule, "version": 1,
        "state": "missed", "reason": "window", "blocker": null, "from": at, "until": at, "count": count,
        "superseded": false });
    serde_json::from_value(row).unwrap()
}

fn view(name: &str, next: i64) -> ScheduleView {
    let spec = ScheduleSpec::new(name, "command", TriggerSpec::every(std::time::Duration::from_secs(3600))).unwrap();
    let next = Some(now() + TimeDelta::minutes(next));
    ScheduleView {
        name: spec.name.clone(),
        spec,
        version: 1,
        cursor: now(),
        next,
        last: None,
        paused: None,
        open: vec![],
    }
}

fn figure(name: &str, value: Option<f64>) -> Figure {
    let missing = value.is_none().then(|| "its source failed".to_owned());
    let (source, label) = ("shop".to_owned(), name.to_owned());
    Figure { source, name: name.to_owned(), label, value, unit: None, missing, at: now() }
}

fn rules(rules: Value) -> Vec<Rule> {
    serde_json::from_value(rules).unwrap()
}

struct Facts {
    rows: Vec<HistoryRow>,
    views: Vec<ScheduleView>,
    figures: Vec<Figure>,
    rules: Vec<Rule>,
    past: Past,
    readings: Vec<Reading>,
}

impl Facts {
    fn of(mut rows: Vec<HistoryRow>) -> Self {
        rows.sort_by_key(|row| std::cmp::Reverse(row.cursor().at));
        let mut names: Vec<_> = rows.iter().map(|row| row.schedule().to_string()).collect();
        names.sort();
        names.dedup();
        let views = names.iter().map(|name| view(name, 30)).collect();
        Self { rows, views, figures: vec![], rules: vec![], past: Past::default(), readings: vec![] }
    }

    fn brief(&mut self) -> Brief {
        let period = Period { from: now() - TimeDelta::hours(24), until: now() };
        let (mut statistics, mut reader) = (Statistics::default(), Reader::default());
        for row in &self.rows {
            statistics.add(row);
            reader.read(row, now());
        }
        let statistics = statistics.finish();
        let mut figures = own_figures(&statistics.total, now());
        figures.append(&mut self.figures.clone());
        let ranked = rank(&figures, &self.rules, &self.past, today(), now());
        let told = reader.tell(&self.views, &mut self.past.broken, period, Tz::UTC);
        compose("Brief".into(), period, Tz::UTC, &statistics, ranked, told, self.readings.clone())
    }
}

fn headline(rows: Vec<HistoryRow>) -> String {
    Facts::of(rows).brief().headline
}

#[test]
fn the_headline_says_what_matters_most() {
    assert_eq!(headline(vec![]), "No run has ended in the last 24 hours");
    assert_eq!(headline(vec![run("a", 5, None), run("b", 9, None)]), "All 2 runs of the last 24 hours succeeded");
    let twice = vec![run("a", 5, Some("x")), run("a", 9, Some("x")), missed("b", 1)];
    assert_eq!(headline(twice), "a failed twice in the last 24 hours; 1 fire was missed");
    let healed = vec![run("a", 5, None), run("a", 9, Some("x"))];
    assert_eq!(headline(healed), "a failed once in the last 24 hours and is well again");
    let mut gone = Facts::of(vec![run("a", 5, None), run("a", 9, Some("x")), run("old", 9, Some("x"))]);
    gone.views.truncate(1);
    assert_eq!(gone.brief().headline, "a failed once in the last 24 hours and is well again");
    gone.views.clear();
    let expected = "2 runs of the last 24 hours failed, of schedules that are gone";
    assert_eq!(gone.brief().headline, expected);
    let two = vec![run("a", 5, Some("x")), run("b", 9, Some("x")), run("b", 10, Some("x"))];
    assert_eq!(headline(two), "3 runs of 2 schedules failed in the last 24 hours");
    let mut facts = Facts::of(vec![run("a", 5, None)]);
    facts.views.push(view("late", -90));
    facts.readings = vec![Reading {
        name: "crm".into(),
        ok: false,
        error: Some("no answer".into()),
        at: now(),
        figures: vec![],
        table: None,
    }];
    let expected = "The one run of the last 24 hours succeeded; late is 90 minutes late; 1 of 1 sources gave no answer";
    assert_eq!(facts.brief().headline, expected);
    facts.figures = vec![figure("Tickets", Some(93.0))];
    facts.rules = rules(json!([{ "figure": "shop.Tickets", "better": "down", "warn": 60, "bad": 90 }]));
    let brief = facts.brief();
    assert!(brief.headline.starts_with("Tickets is at 93, which is bad; the one run"), "{}", brief.headline);
}

#[test]
fn a_figure_that_was_named_and_is_missing_is_told_of() {
    let mut facts = Facts::of(vec![run("a", 5, None)]);
    facts.figures = vec![figure("Orders", None), figure("Other", None)];
    let told = |facts: &mut Facts| {
        let brief = facts.brief();
        (brief.headline.clone(), serde_json::to_value(brief.level).unwrap())
    };
    let well = "The one run of the last 24 hours succeeded";
    assert_eq!(told(&mut facts), (well.into(), json!("ok")), "nobody named them");
    facts.rules = rules(json!([{ "figure": "shop.Orders" }]));
    assert_eq!(told(&mut facts), (format!("{well}; Orders is missing"), json!("warn")));
    facts.rules = rules(json!([{ "figure": "shop.Orders" }, { "figure": "shop.gone" }]));
    assert_eq!(told(&mut facts), (format!("{well}; 2 figures are missing"), json!("warn")));
    let error = Some("no answer".into());
    facts.readings = vec![Reading { name: "shop".into(), ok: false, error, at: now(), figures: vec![], table: None }];
    assert_eq!(told(&mut facts), (format!("{well}; 1 of 1 sources gave no answer"), json!("warn")));
}

#[test]
fn a_schedule_is_broken_until_it_succeeds_and_healed_once() {
    let told = |brief: &Brief| {
        let document = serde_json::to_value(brief).unwrap();
        (document["broke"].clone(), document["healed"].clone())
    };
    let mut facts = Facts::of(vec![run("a", 60, Some("e2\nmore")), run("a", 120, Some("e1"))]);
    let (broke, healed) = told(&facts.brief());
    let since = json!("2026-11-25T06:00:00Z");
    assert_eq!((&broke[0]["since"], &broke[0]["failed"], &broke[0]["last_error"]), (&since, &json!(2), &json!("e2")));
    assert_eq!(healed, json!([]));
    // The next day it has not run: what was remembered still stands.
    facts.rows.clear();
    facts.past.broken.insert("a".into(), now() - TimeDelta::days(2));
    facts.views[0].last = match run("a", 2900, Some("old")) {
        HistoryRow::Run(run) => Some(run),
        HistoryRow::Range(_) => None,
    };
    let (broke, _) = told(&facts.brief());
    assert_eq!((&broke[0]["still"], &broke[0]["failed"]), (&json!(true), &json!(0)));
    facts.rows = vec![run("a", 10, None)];
    let (broke, healed) = told(&facts.brief());
    assert_eq!((broke, &healed[0]["at"]), (json!([]), &json!("2026-11-25T07:50:00Z")));
    let (_, healed) = told(&facts.brief());
    assert_eq!(healed, json!([]), "it is told once");
}

#[test]
fn figures_are_held_against_yesterday_the_week_before_and_thresholds() {
    let mut past = Past::default();
    for (back, value) in [(7, 80.0), (1, 100.0)] {
        past.put("shop.orders", today() - Days::new(back), value);
    }
    let rules = rules(json!([{ "figure": "shop.orders", "better": "up", "warn": 95, "bad": 50, "unit": "€" }]));
    let rate = |value: f64| -> Value {
        let figures = [figure("orders", Some(value))];
        let ranked: Vec<Rated> = rank(&figures, &rules, &past, today(), now());
        serde_json::to_value(&ranked[0]).unwrap()
    };
    let told = rate(90.0);
    assert_eq!(told["level"], "warn");
    assert_eq!(told["threshold"], "worth a look: €95 or less");
    assert_eq!(told["yesterday"]["words"], "€10 less than yesterday (\u{2212}10\u{a0}%)");
    assert_eq!((&told["yesterday"]["better"], &told["yesterday"]["trend"]), (&json!(false), &json!("down")));
    assert_eq!(told["last_week"]["words"], "€10 more than last Wednesday (+12.5\u{a0}%)");
    assert_eq!((&rate(50.0)["level"], &rate(96.0)["level"]), (&json!("bad"), &json!("ok")));
    assert_eq!(rate(100.0)["yesterday"]["words"], "the same as yesterday");
    let missing = rank(&[figure("orders", None)], &rules, &past, today(), now());
    assert_eq!(serde_json::to_value(&missing[0]).unwrap()["text"], "missing");
    let silent = rank(&[], &rules, &past, today(), now());
    assert_eq!(serde_json::to_value(&silent[0]).unwrap()["missing"], "no source gave it");
}

#[test]
fn of_many_figures_the_seven_that_matter_are_shown() {
    let figures: Vec<_> = (0..12).map(|n| figure(&format!("f{n}"), Some(f64::from(n)))).collect();
    let mut facts = Facts::of(vec![run("a", 5, None)]);
    facts.figures = figures;
    facts.rules = rules(json!([
        { "figure": "shop.f3" },
        { "figure": "shop.f11", "better": "down", "warn": 10 },
        { "figure": "shop.f10", "better": "down", "bad": 10 },
        { "figure": "shop.gone" },
    ]));
    let document = serde_json::to_value(facts.brief()).unwrap();
    let names: Vec<_> = document["figures"].as_array().unwrap().iter().map(|f| f["figure"].clone()).collect();
    let expected = ["shop.f10", "shop.f11", "shop.gone", "shop.f3", "runs.failed", "runs.missed", "runs.success_rate"];
    assert_eq!(names, expected);
    assert_eq!((&document["figures_more"], document["others"].as_array().unwrap().len()), (&json!(10), 10));
}

/// Facts with something in every part of the page.
fn full() -> Facts {
    let mut facts = Facts::of(vec![
        run("bad", 5, Some("<b>no</b> | *x*")),
        run("cured", 9, None),
        run("cured", 10, Some("e")),
        missed("sync", 2),
    ]);
    facts.views.push(view("late", -90));
    let failed = Reading {
        name: "<i>crm".into(),
        ok: false,
        error: Some("\"quoted\" <script>".into()),
        at: now(),
        figures: vec![],
        table: None,
    };
    facts.readings = vec![failed];
    facts.figures = vec![figure("<u>orders", Some(1234.5))];
    for back in (1..=9).rev() {
        facts.past.put("shop.<u>orders", today() - Days::new(back), 100.0 + back as f64);
    }
    facts
}

#[test]
fn the_document_is_as_it_was_agreed() {
    let document = serde_json::to_value(full().brief()).unwrap();
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert_eq!(document, golden, "{document:#}");
}

#[test]
fn the_pages_escape_what_others_say_and_need_nothing_from_elsewhere() {
    let brief = full().brief();
    let page = render("brief.html", &brief).unwrap();
    assert!(page.contains("&lt;b&gt;no&lt;") && page.contains("&lt;i&gt;crm") && page.contains("&lt;u&gt;orders"));
    for forbidden in ["<b>", "<i>", "<u>", "<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("<tr>").count(), page.matches("</tr>").count());
    assert!(page.contains("median and MAD") && page.contains("role=\"img\" aria-label="));
    let text = render("brief.md", &brief).unwrap();
    assert!(text.contains("&lt;b\\>no&lt;/b\\> \\| \\*x\\*") && !text.contains("<b>"), "{text}");
}

#[test]
fn rules_that_cannot_work_are_refused_at_their_place() {
    let check = |rule: Value, expected: &str| {
        let error = super::figure::check(&rules(json!([rule]))).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({ "figure": "orders" }), "figures[0].figure: write \"source.figure\"");
    check(json!({ "figure": "a.b", "warn": 1 }), "figures[0].better: say which way is good");
    check(json!({ "figure": "a.b", "better": "up", "warn": 1, "bad": 2 }), "figures[0].bad: lies on the better side");
    check(json!({ "figure": "a.b", "better": "down", "warn": 2, "bad": 1 }), "figures[0].bad: lies on the better side");
    let twice = rules(json!([{ "figure": "a.b" }, { "figure": "a.b" }]));
    assert!(super::figure::check(&twice).unwrap_err().to_string().contains("figures[1].figure: is named already"));
}
