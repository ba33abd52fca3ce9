//! How long the next nominal time takes to find: `cargo bench -p sched-benches --bench next_run`.

use std::sync::Arc;

use chrono::{DateTime, NaiveTime, Utc};
use divan::{Bencher, black_box};
use sched_core::{Trigger, TriggerSpec};

fn main() {
    divan::main();
}

const EXPRESSIONS: &[&str] = &["* * * * *", "*/5 * * * *", "0 8 * * 1-5", "30 2 29 2 *", "0 0 31 12 6"];

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_000_000, 0).unwrap_or_default()
}

fn compiled(spec: &TriggerSpec) -> Arc<dyn Trigger> {
    spec.compile().unwrap_or_else(|error| panic!("{error}"))
}

#[divan::bench(args = EXPRESSIONS)]
fn cron_in_new_york(bencher: Bencher<'_, '_>, expression: &str) {
    let trigger = compiled(&TriggerSpec::cron(expression, chrono_tz::America::New_York));
    bencher.bench_local(|| trigger.next_after(black_box(now())));
}

#[divan::bench]
fn daily_in_london(bencher: Bencher<'_, '_>) {
    let eight = NaiveTime::from_hms_opt(8, 0, 0).unwrap_or_default();
    let trigger = compiled(&TriggerSpec::daily(eight, chrono_tz::Europe::London));
    bencher.bench_local(|| trigger.next_after(black_box(now())));
}

#[divan::bench]
fn every_minute(bencher: Bencher<'_, '_>) {
    let trigger = compiled(&TriggerSpec::every(std::time::Duration::from_secs(60)));
    bencher.bench_local(|| trigger.next_after(black_box(now())));
}
