//! How long the next nominal time takes to find, with peers: `cargo bench -p sched-benches --bench next_run`.

use std::str::FromStr as _;
use std::sync::Arc;

use chrono::{DateTime, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use divan::{Bencher, black_box};
use sched_core::{Trigger, TriggerSpec};

/// Counts allocations: finding the next run makes none.
#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const EXPRESSIONS: &[&str] = &["0 8 * * *", "*/5 * * * *", "0 8 * * 1-5", "0 0 29 2 *", "0 0 13 * 5"];

/// An instant; ten years of them, an odd number of seconds apart, so that no answer is an earlier one's.
fn instants() -> impl Iterator<Item = DateTime<Utc>> {
    let begin = 1_774_000_000;
    (0..).map(move |number| Utc.timestamp_opt(begin + number * 86_413 % 315_360_000, 0).single().unwrap_or_default())
}

fn compiled(spec: &TriggerSpec) -> Arc<dyn Trigger> {
    spec.compile().unwrap_or_else(|error| panic!("{error}"))
}

fn ours(bencher: Bencher<'_, '_>, spec: &TriggerSpec) {
    let trigger = compiled(spec);
    // Once through, so that the zone's years are known, as in a scheduler that runs.
    for at in instants().take(4000) {
        black_box(trigger.next_after(at));
    }
    let mut at = instants();
    bencher.with_inputs(|| at.next().unwrap_or_default()).bench_local_values(|at| trigger.next_after(black_box(at)));
}

fn croner(bencher: Bencher<'_, '_>, expression: &str, zone: Tz) {
    let cron = croner::Cron::from_str(expression).unwrap_or_else(|error| panic!("{error}"));
    let mut at = instants();
    let input = || at.next().unwrap_or_default().with_timezone(&zone);
    bencher.with_inputs(input).bench_local_values(|at| cron.find_next_occurrence(black_box(&at), false).ok());
}

/// The crate `cron` wants seconds and counts weekdays from Sunday = 1.
fn cron(bencher: Bencher<'_, '_>, expression: &str, zone: Tz) {
    let text = format!("0 {}", expression.replace("1-5", "2-6").replace("* 5", "* 6"));
    let cron = cron::Schedule::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut at = instants();
    let input = || at.next().unwrap_or_default().with_timezone(&zone);
    bencher.with_inputs(input).bench_local_values(|at| cron.after(black_box(&at)).next());
}

#[divan::bench_group]
mod utc {
    use super::*;

    #[divan::bench(args = EXPRESSIONS)]
    fn ours(bencher: Bencher<'_, '_>, expression: &str) {
        super::ours(bencher, &TriggerSpec::cron(expression, Tz::UTC));
    }

    #[divan::bench(args = EXPRESSIONS)]
    fn croner_4(bencher: Bencher<'_, '_>, expression: &str) {
        super::croner(bencher, expression, Tz::UTC);
    }

    #[divan::bench(args = EXPRESSIONS)]
    fn cron_crate(bencher: Bencher<'_, '_>, expression: &str) {
        super::cron(bencher, expression, Tz::UTC);
    }
}

#[divan::bench_group]
mod berlin {
    use super::*;

    #[divan::bench(args = EXPRESSIONS)]
    fn ours(bencher: Bencher<'_, '_>, expression: &str) {
        super::ours(bencher, &TriggerSpec::cron(expression, Tz::Europe__Berlin));
    }

    #[divan::bench(args = EXPRESSIONS)]
    fn croner_4(bencher: Bencher<'_, '_>, expression: &str) {
        super::croner(bencher, expression, Tz::Europe__Berlin);
    }

    #[divan::bench(args = EXPRESSIONS)]
    fn cron_crate(bencher: Bencher<'_, '_>, expression: &str) {
        super::cron(bencher, expression, Tz::Europe__Berlin);
    }
}

#[divan::bench_group]
mod other_kinds {
    use super::*;

    #[divan::bench]
    fn daily_in_london(bencher: Bencher<'_, '_>) {
        let eight = NaiveTime::from_hms_opt(8, 0, 0).unwrap_or_default();
        ours(bencher, &TriggerSpec::daily(eight, Tz::Europe__London));
    }

    #[divan::bench]
    fn every_minute(bencher: Bencher<'_, '_>) {
        ours(bencher, &TriggerSpec::every(std::time::Duration::from_secs(60)));
    }
}

#[divan::bench_group]
mod parse {
    use super::*;

    #[divan::bench(args = EXPRESSIONS)]
    fn ours(bencher: Bencher<'_, '_>, expression: &str) {
        let spec = TriggerSpec::cron(expression, Tz::UTC);
        bencher.bench_local(|| black_box(&spec).compile().is_ok());
    }

    #[divan::bench(args = EXPRESSIONS)]
    fn croner_4(bencher: Bencher<'_, '_>, expression: &str) {
        bencher.bench_local(|| croner::Cron::from_str(black_box(expression)).is_ok());
    }
}
