//! Instructions for the next run and for parsing, counted by callgrind, with peers in the same run:
//!
//!     cargo bench -p sched-benches --bench instructions
//!
//! Each case is run a number of times and twice that number in processes of their own under valgrind; the
//! difference is what the case itself costs, less what making the instant costs. With `-- --guard` only ours are counted, and a count above its bound
//! ends the program with an error.

#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::process::{Command, ExitCode};
use std::str::FromStr as _;

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use divan::black_box;
use sched_core::TriggerSpec;

/// Expression, zone, and the most instructions that the guard lets pass.
const NEXT: &[(&str, Tz, u64)] = &[
    ("0 8 * * *", Tz::UTC, 400),
    ("0 8 * * *", Tz::Europe__Berlin, 600),
    ("*/5 * * * *", Tz::UTC, 450),
    ("*/5 * * * *", Tz::Europe__Berlin, 600),
    ("0 0 29 2 *", Tz::UTC, 800),
    ("0 0 29 2 *", Tz::Europe__Berlin, 1_100),
    ("0 0 13 * 5", Tz::Europe__Berlin, 1_000),
];
const PARSE: (&str, u64) = ("0 8 * * *", 2_200);
const PEERS: &[&str] = &["ours", "croner", "cron", "saffron", "cronexpr"];
const TIMES: u64 = 2_000;

/// An instant; ten years of them, an odd number of seconds apart, so that no answer is an earlier one's.
fn instant(number: u64) -> DateTime<Utc> {
    Utc.timestamp_opt(1_774_000_000 + (number * 86_413 % 315_360_000) as i64, 0).single().unwrap_or_default()
}

fn failed(error: impl std::fmt::Display) -> ! {
    panic!("{error}")
}

/// The work itself: `times` answers of one peer.
fn work(peer: &str, expression: &str, zone: Tz, times: u64) {
    match peer {
        "an instant" => {
            for number in 0..times {
                black_box(black_box(instant(number)));
            }
        }
        "a zoned instant" => {
            for number in 0..times {
                black_box(black_box(instant(number)).with_timezone(&zone));
            }
        }
        "ours" => {
            let trigger = TriggerSpec::cron(expression, zone).compile().unwrap_or_else(|error| failed(error));
            // Once through, so that the zone's years are known, as in a scheduler that runs.
            for number in 0..4_000 {
                black_box(trigger.next_after(instant(number)));
            }
            for number in 0..times {
                black_box(trigger.next_after(black_box(instant(number))));
            }
        }
        "croner" => {
            let cron = croner::Cron::from_str(expression).unwrap_or_else(|error| failed(error));
            for number in 0..times {
                let at = instant(number).with_timezone(&zone);
                let _ = black_box(cron.find_next_occurrence(black_box(&at), false));
            }
        }
        "cron" => {
            // It wants seconds, and counts weekdays from Sunday = 1.
            let text = format!("0 {}", expression.replace("* 5", "* 6"));
            let cron = cron::Schedule::from_str(&text).unwrap_or_else(|error| failed(error));
            for number in 0..times {
                let at = instant(number).with_timezone(&zone);
                black_box(cron.after(black_box(&at)).next());
            }
        }
        "cronexpr" => {
            let text = format!("{expression} {}", zone.name());
            let cron = cronexpr::parse_crontab(&text).unwrap_or_else(|error| failed(error));
            for number in 0..times {
                let at = cronexpr::MakeTimestamp::from_second(black_box(instant(number)).timestamp());
                let _ = black_box(at.and_then(|at| cron.find_next(at)));
            }
        }
        _ => {
            let cron: saffron::Cron = expression.parse().unwrap_or_else(|error| failed(format!("{error:?}")));
            for number in 0..times {
                black_box(cron.next_after(black_box(instant(number))));
            }
        }
    }
}

fn parse(peer: &str, expression: &str, times: u64) {
    for _ in 0..times {
        let text = black_box(expression);
        let read = match peer {
            "ours" => TriggerSpec::cron(text, Tz::UTC).compile().is_ok(),
            "croner" => croner::Cron::from_str(text).is_ok(),
            "cron" => cron::Schedule::from_str(&format!("0 {text}")).is_ok(),
            "cronexpr" => cronexpr::parse_crontab(&format!("{text} UTC")).is_ok(),
            _ => text.parse::<saffron::Cron>().is_ok(),
        };
        black_box(read);
    }
}

/// Runs this program under callgrind and reads how many instructions it took.
fn counted(words: &[&str], times: u64) -> u64 {
    let program = std::env::current_exe().unwrap_or_else(|error| failed(error));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg("--work")
        .args(words)
        .arg(times.to_string())
        .output()
        .unwrap_or_else(|error| failed(format!("valgrind cannot be started: {error}")));
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.split("Collected : ").nth(1));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| failed(text))
}

/// Instructions for one answer; none for what a peer does not do.
fn cost(words: &[&str]) -> u64 {
    (counted(words, TIMES * 2).saturating_sub(counted(words, TIMES))) / TIMES
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--work", kind, peer, expression, zone, times] = words[..] {
        let times = times.parse().unwrap_or_else(|error| failed(error));
        if kind == "parse" {
            parse(peer, expression, times);
        } else {
            work(peer, expression, zone.parse().unwrap_or_else(|error| failed(error)), times);
        }
        return ExitCode::SUCCESS;
    }
    let guard = words.contains(&"--guard");
    let peers = if guard { &PEERS[..1] } else { PEERS };
    let next = NEXT.iter().map(|(expression, zone, most)| ("next", *expression, *zone, *most));
    let mut good = true;
    println!("{:<6} {:<14} {:<14} {}", "", "", "", peers.iter().map(|peer| format!("{peer:>10}")).collect::<String>());
    for (kind, expression, zone, most) in next.chain([("parse", PARSE.0, Tz::UTC, PARSE.1)]) {
        let mut line = format!("{kind:<6} {expression:<14} {:<14} ", zone.name());
        for peer in peers {
            if *peer == "saffron" && zone != Tz::UTC {
                line += "         -";
                continue;
            }
            let input = if ["croner", "cron"].contains(peer) { "a zoned instant" } else { "an instant" };
            let made = if kind == "next" { cost(&[kind, input, expression, zone.name()]) } else { 0 };
            let cost = cost(&[kind, peer, expression, zone.name()]).saturating_sub(made);
            line += &format!("{cost:>10}");
            if *peer == "ours" && cost > most {
                good = false;
                line += &format!(" above its bound of {most}");
            }
        }
        println!("{line}");
    }
    if guard && !good { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
