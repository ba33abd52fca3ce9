//! Times as the command line tells them.

use std::collections::BTreeMap;

use crate::world::World;

#[test]
fn next_takes_every_kind_of_trigger_and_every_rule_for_clock_changes() {
    let world = World::new();
    let check = |words: &[&str], expected: &[&str]| {
        let count = expected.len().max(1).to_string();
        let all = [&["next", "--json", "--count", &count], words].concat();
        let answer = world.ok(&all).json();
        assert_eq!(answer["next"], serde_json::json!(expected), "{words:?}");
    };
    let berlin = ["--tz", "Europe/Berlin", "--after", "2026-03-28T12:00:00Z"];
    let cron = ["--cron", "30 2 * * *"];
    for (gap, expected) in [
        ("auto", "2026-03-29T01:00:00Z"),
        ("run_after", "2026-03-29T01:00:00Z"),
        ("skip", "2026-03-30T00:30:00Z"),
        ("shift", "2026-03-29T01:30:00Z"),
    ] {
        check(&[&cron[..], &berlin, &["--gap", gap]].concat(), &[expected]);
    }
    let autumn = ["--tz", "Europe/Berlin", "--after", "2026-10-24T12:00:00Z"];
    let (first, second) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    check(&[&cron[..], &autumn, &["--fold", "first"]].concat(), &[first, "2026-10-26T01:30:00Z"]);
    check(&[&cron[..], &autumn, &["--fold", "last"]].concat(), &[second, "2026-10-26T01:30:00Z"]);
    check(&[&cron[..], &autumn, &["--fold", "both"]].concat(), &[first, second]);
    let after = ["--after", "2026-01-01T00:00:00Z"];
    check(&[&["--cron", "0 0 */2 * 1", "--day-rule", "ocps"][..], &after].concat(), &["2026-01-03T00:00:00Z"]);
    check(&[&["--cron", "0 0 8 ? * 2", "--dialect", "quartz"][..], &after].concat(), &["2026-01-05T08:00:00Z"]);
    check(&[&["--calendar", "Mon *-05~07/1"][..], &after].concat(), &["2026-05-25T00:00:00Z"]);
    check(&[&["--rrule", "FREQ=MONTHLY;BYDAY=-1FR"][..], &after].concat(), &["2026-01-30T00:00:00Z"]);
    check(&["--cron", "0 0 30 2 *"], &[]);
    let never = world.ok(&["next", "--json", "--cron", "0 0 30 2 *"]).json();
    assert_eq!(never["note"], "it never fires after this instant");
    let wrong = world.sched(&["next", "--cron", "61 * * * *"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("\n  61 * * * *\n  ^"), "{}", wrong.err);
}

#[test]
fn explain_says_what_clock_changes_do() {
    let world = World::new();
    let plain = world.ok(&["explain", "30 2 * * *", "--tz", "Europe/Berlin"]).out;
    assert!(plain.starts_with("At 02:30 (Europe/Berlin)\n"), "{plain}");
    assert!(plain.contains("02:30 does not exist and runs once, at 03:00"), "{plain}");
    assert!(plain.contains("02:30 comes twice and runs the first time only"), "{plain}");
    let rules = world.ok(&["explain", "0 0 */2 * 1"]).out;
    assert!(rules.contains("both day fields must match") && rules.contains("ocps"), "{rules}");
    assert_eq!(world.sched(&["explain", "0 0 * * * * * *"]).code, 2);
}

#[test]
fn check_warns_of_clock_changes_and_of_what_never_fires() {
    let world = World::with(
        "timezone = \"Europe/London\"\n[holidays]\nuk = [2026-12-25]\n\
         [[schedule]]\nname = \"never\"\njob = \"report\"\ntrigger = { cron = \"0 0 31 2 *\" }\n\
         [[schedule]]\nname = \"early\"\njob = \"report\"\ndst = { gap = \"skip\" }\n\
         trigger = [{ daily = \"01:30\", except = \"uk\" }, { weekly = { on = \"mon\", at = \"12:00\" } }]\n",
    );
    let checked = world.ok(&["check"]);
    assert!(checked.err.contains("`never` (cron 0 0 31 2 * Europe/London): it never fires"), "{}", checked.err);
    assert!(checked.err.contains("01:30 does not exist and does not run"), "{}", checked.err);
    let holidays = world.ok(&["next", "early", "--json", "--after", "2026-12-24T12:00:00Z", "--count", "1"]).json();
    assert_eq!(holidays["next"][0], "2026-12-26T01:30:00Z");
    let wrong = world.path("sched.toml");
    std::fs::write(&wrong, std::fs::read_to_string(&wrong).unwrap().replace("\"uk\"", "\"us\"")).unwrap();
    let refused = world.sched(&["check"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("`us` is no date and no list under [holidays]"), "{}", refused.err);
}

/// Thirty days of the 56 tasks of examples/grown.toml, counted by hand: 30 days of June, a Monday first.
#[test]
fn thirty_days_of_the_grown_schedule_are_as_many_fires_as_counted_by_hand() {
    let world = World::with(include_str!("../../../examples/grown.toml"));
    let period = ["--from", "2026-05-31T23:59:59Z", "--until", "2026-06-30T23:59:59Z"];
    let lines = world.ok(&[&["simulate", "--json"][..], &period].concat()).out;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = String::new();
    for line in lines.lines() {
        let fire: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = fire["nominal_at"].as_str().unwrap().to_owned();
        assert!(at >= last, "in order");
        last = at;
        *counts.entry(fire["schedule"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let areas = ["sales", "finance", "support", "stock", "web", "mail", "hr"];
    for (index, area) in areas.into_iter().enumerate() {
        let minutes_between = [5, 10, 15, 20, 30, 6, 12][index];
        // 1 and 2 June 2026 are a Monday and a Tuesday: in 30 days those come five times.
        let weekly = if index < 2 { 5 } else { 4 };
        for (task, expected) in [
            ("brief", 30),
            ("sync", 30 * 24),
            ("health", 30 * 24 * 60 / minutes_between),
            ("report", weekly),
            ("backup", 30),
            ("close", 1),
            ("heal", 30 * 4),
            ("clean", 30 * 2),
        ] {
            assert_eq!(counts.remove(&format!("{area}-{task}")), Some(expected), "{area}-{task}");
        }
    }
    assert!(counts.is_empty(), "{counts:?}");
    world.ok(&[&["simulate", "--svg", "day.svg"][..], &period].concat());
    let picture = std::fs::read_to_string(world.path("day.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    assert!(picture.contains("class=\"mark\""), "{picture}");
    let summary = world.ok(&[&["simulate", "--summary", "--json"][..], &period].concat()).json();
    assert_eq!(summary["fires"].as_u64().unwrap(), lines.lines().count() as u64);
}
