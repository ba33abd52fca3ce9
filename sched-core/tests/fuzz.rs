//! Random and damaged input for every parser: it is read or refused, without a panic, and what is read can be used.
//!
//! `./test` takes a fixed number of inputs. The long form goes on for as long as it is told, and prints the input
//! that took longest:
//!
//!     FUZZ_SECONDS=60 cargo test --release -p sched-core --all-features --test fuzz -- --nocapture

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]
#![expect(clippy::print_stdout, reason = "the long form prints what took longest")]
#![expect(clippy::disallowed_methods, reason = "the long form measures real time, and nothing depends on it")]

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sched_core::config::Config;
use sched_core::testing::Random;
use sched_core::{Registry, ScheduleName, TriggerSpec};
use serde_json::{Value, json};

/// So many inputs for each parser when no time is given.
const INPUTS: u32 = 2_000;
/// No input is longer.
const LONGEST: usize = 4096;

/// A number below `limit`; 0 when there is none.
fn below(random: &mut Random, limit: usize) -> usize {
    random.below(limit.max(1) as u64) as usize
}

/// One of the seeds, changed in a few places by what parsers trip over.
fn damaged(random: &mut Random, seeds: &[&str]) -> String {
    const BITS: &[&str] = &[
        "*",
        "/",
        "-",
        ",",
        "#",
        "L",
        "W",
        "?",
        "~",
        "..",
        "0",
        "7",
        "60",
        "99999999999999999999",
        " ",
        "\t",
        "\n",
        "\"",
        "=",
        ";",
        ":",
        "é",
        "\u{0}",
        "MON",
        "+14:00",
        "Z",
        "BYDAY=",
        "-1FR",
        "COUNT=99999",
        "*/1",
        "1-59",
        "[[",
        "{",
        "INTERVAL=400",
        "UTC",
        "Europe/Berlin",
        "\u{feff}",
        "\u{202e}",
        "0x10",
        "1e9",
        "-0",
        "L-30",
        "31W",
        "5#5",
    ];
    let mut text: Vec<char> = seeds[below(random, seeds.len())].chars().collect();
    for _ in 0..below(random, 6) {
        let at = below(random, text.len() + 1);
        match below(random, 5) {
            0 if !text.is_empty() => drop(text.remove(at.min(text.len() - 1))),
            1 => {
                let end = (at + below(random, 8)).min(text.len());
                text.drain(at..end);
            }
            2 => {
                let other: Vec<char> = seeds[below(random, seeds.len())].chars().collect();
                let cut = below(random, other.len());
                text.splice(at..at, other[cut..].iter().copied());
            }
            3 => {
                let piece: Vec<char> = text[..at].to_vec();
                for _ in 0..1 << below(random, 9) {
                    if text.len() < LONGEST {
                        text.extend(&piece);
                    }
                }
            }
            _ => drop(text.splice(at..at, BITS[below(random, BITS.len())].chars())),
        }
    }
    let mut text: String = text.into_iter().collect();
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

/// Feeds `read` until the number or the time is used up; what it accepts is used. Only reading is measured.
fn feed<T>(what: &str, seeds: &[&str], read: impl Fn(&str) -> Option<T>, using: impl Fn(&T)) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut random = Random(0x5eed ^ what.len() as u64);
    let (mut inputs, mut accepted, mut slowest) = (0_u32, 0_u32, (Duration::ZERO, String::new()));
    while end.map_or(inputs < INPUTS, |end| Instant::now() < end) {
        let text = damaged(&mut random, seeds);
        let begin = Instant::now();
        let value = read(&text);
        let took = begin.elapsed();
        inputs += 1;
        if let Some(value) = value {
            accepted += 1;
            using(&value);
        }
        if took > slowest.0 {
            slowest = (took, text);
        }
    }
    let shown: String = slowest.1.chars().take(90).collect();
    println!("{what}: {inputs} inputs, {accepted} accepted; slowest {:?}: {shown:?}", slowest.0);
    assert!(accepted * 50 > inputs, "{what}: so few inputs are accepted that this tests only refusals");
    assert!(accepted < inputs, "{what}: nothing is refused");
}

fn trigger(table: Value) -> Option<TriggerSpec> {
    serde_json::from_value(table).ok()
}

/// A trigger that was read says itself again, and its instants only grow.
fn use_trigger(spec: &TriggerSpec) {
    assert_eq!(trigger(json!(spec)).unwrap(), *spec);
    assert!(!spec.explain().unwrap().is_empty());
    let trigger = spec.compile().unwrap();
    let begins = [DateTime::<Utc>::MIN_UTC, DateTime::UNIX_EPOCH, "2026-03-29T00:59:59Z".parse().unwrap()];
    for begin in begins.into_iter().chain(["9999-12-31T23:59:59Z".parse().unwrap(), DateTime::<Utc>::MAX_UTC]) {
        if let Some(next) = trigger.next_after(begin) {
            assert!(next > begin, "{spec}: {next} after {begin}");
            assert!(trigger.next_after(next).is_none_or(|later| later > next), "{spec}: after {next}");
        }
    }
}

#[test]
fn cron_expressions() {
    let standard =
        ["0 8 * * *", "*/5 9-17 * * mon-fri", "0 0 L-3,15W 1,6 5#2", "30 2 29 feb 5L", "@daily", "1 2 3 4 5 6"];
    feed("cron", &standard, |text| trigger(json!({ "cron": text, "timezone": "Europe/Berlin" })), use_trigger);
    let quartz = ["0 0 8 ? * 2", "0 0/5 14,18 * * ?", "0 15 10 LW * ? 2026-2030", "0 15 10 ? * 6#3"];
    feed("quartz", &quartz, |text| trigger(json!({ "cron": text, "dialect": "quartz" })), use_trigger);
}

#[test]
fn calendar_events() {
    let seeds =
        ["Mon..Fri *-*-* 02:00:00", "Sat,Mon *-05~07/1 18:30", "hourly", "2026-01-01 00:00 Europe/Berlin", "*:0/15"];
    feed("calendar", &seeds, |text| trigger(json!({ "calendar": text })), use_trigger);
}

#[test]
fn recurrence_rules() {
    let seeds = [
        "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9,17;BYMINUTE=30",
        "FREQ=YEARLY;INTERVAL=2;BYMONTH=1,6;BYMONTHDAY=-1;COUNT=50",
        "DTSTART=20260101T090000\nRRULE:FREQ=WEEKLY;WKST=SU;BYDAY=MO,WE;UNTIL=20301224T000000Z",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;BYSETPOS=1,-1",
        "FREQ=DAILY;BYYEARDAY=1,100,-1",
    ];
    feed("rrule", &seeds, |text| trigger(json!({ "rrule": text, "start": "2026-01-01T00:00:00Z" })), use_trigger);
}

#[test]
fn tables_of_triggers() {
    let seeds = [
        r#"{"daily":["08:00","17:30:15"],"timezone":"Europe/London","except":["2026-12-25"]}"#,
        r#"{"weekly":{"on":["mon","thu"],"at":"02:00"},"dst":{"gap":"shift","fold":"both"}}"#,
        r#"{"every":"6h","anchor":"2026-01-01T00:00:00Z","start":"2026-02-01T00:00:00Z","limit":3}"#,
        r#"[{"daily":"08:00"},{"cron":"0 9 * * 6"},{"once":"2026-07-01T00:00:00Z"}]"#,
        r#"{"after_completion":"5m","end":"2030-01-01T00:00:00Z"}"#,
    ];
    feed("tables", &seeds, |text| serde_json::from_str(text).ok(), use_trigger);
}

#[test]
fn whole_configurations_and_names() {
    let seeds = [
        "timezone = \"Europe/London\"\n[store]\nurl = \"sqlite\"\n[groups]\nreports = 2\n",
        "[defaults]\nretry = { attempts = 5, backoff = \"linear\", initial = \"1s\", max = \"1m\" }\ntimeout = \"30s\"\n",
        "[holidays]\nuk = [2026-12-25]\n[heartbeat]\nevery = \"60s\"\n[http]\nlisten = \"127.0.0.1:5000\"\n",
    ];
    let registry = Registry::new();
    feed("configuration", &seeds, |text| Config::parse(text, &[], &registry).ok(), |_| ());
    feed("name", &["brief", "self-heal.2", "a_b"], |text| text.parse::<ScheduleName>().ok(), |_| ());
}
