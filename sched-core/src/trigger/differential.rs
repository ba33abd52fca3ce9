//! Against croner 4: where the two differ, brute force is asked, and each difference is of a class that is known.
//!
//! The classes stand in `docs/croner.md` with what each side says and why. A new one fails here.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Offset as _, TimeDelta, TimeZone as _, Utc};

use super::cron::DayRule;
use super::oracle::{Case, DAYS};
use super::wall::{Dst, Fold, Gap};
use crate::testing::Random;

/// What croner names in the case's window.
fn croner(case: &Case) -> BTreeSet<DateTime<Utc>> {
    let cron: croner::Cron = case.expression().parse().unwrap();
    let until = case.after + TimeDelta::days(DAYS);
    let mut at = case.after.with_timezone(&case.zone);
    let mut fires = BTreeSet::new();
    while let Ok(next) = cron.find_next_occurrence(&at, false) {
        if next.to_utc() > until || next <= at {
            break;
        }
        fires.insert(next.to_utc());
        at = next;
    }
    fires
}

/// The change of the case's clock nearest to an instant, as its length.
fn change_near(case: &Case, at: DateTime<Utc>) -> Option<TimeDelta> {
    let offset = |at: DateTime<Utc>| {
        TimeDelta::seconds(case.zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc().into())
    };
    (1..=60)
        .map(|hours| offset(at + TimeDelta::hours(hours)) - offset(at - TimeDelta::hours(hours)))
        .find(|by| !by.is_zero())
}

fn class(case: &Case, at: DateTime<Utc>, ours: bool) -> String {
    let kind = match (case.fixed(), case.single()) {
        (true, true) => "one fixed time",
        (true, false) => "several fixed times",
        (false, _) => "rhythm",
    };
    let change = match change_near(case, at) {
        None => "no change",
        Some(by) if by >= TimeDelta::hours(3) => "long gap",
        Some(by) if by <= TimeDelta::hours(-3) => "long fold",
        Some(by) if by > TimeDelta::zero() => "gap",
        Some(_) => "fold",
    };
    format!("{kind}, {change}, {}", if ours { "only ours" } else { "only croner" })
}

#[test]
fn every_difference_from_croner_is_of_a_known_class() {
    let mut random = Random(0xc405e4);
    let mut classes: BTreeMap<String, (u32, String)> = BTreeMap::new();
    let (mut same, mut other_day_rule, mut cases) = (0, 0, 0);
    while cases < 5_000 {
        let mut case = Case::random(&mut random);
        (case.dst, case.rule) = (Dst { gap: Gap::Auto, fold: Fold::Auto }, DayRule::Debian);
        cases += 1;
        let theirs = croner(&case);
        let ours = case.expected();
        if ours == theirs {
            same += 1;
            continue;
        }
        case.rule = DayRule::Ocps;
        let by_ocps = case.expected();
        case.rule = DayRule::Debian;
        if by_ocps == theirs {
            other_day_rule += 1;
            continue;
        }
        let ours = if by_ocps.symmetric_difference(&theirs).count() < ours.symmetric_difference(&theirs).count() {
            by_ocps
        } else {
            ours
        };
        if let Some(at) = ours.symmetric_difference(&theirs).next() {
            let example = format!("`{}` in {} at {at}", case.expression(), case.zone);
            let entry = classes.entry(class(&case, *at, ours.contains(at))).or_insert((0, example));
            entry.0 += 1;
        }
    }
    println!("{cases} cases, {same} equal, {other_day_rule} by another day rule");
    for (class, (count, example)) in &classes {
        println!("{count:>5} {class:<42} {example}");
    }
    let known = ["several fixed times, fold, only croner", "several fixed times, gap, only ours"];
    let new: Vec<_> = classes.keys().filter(|class| !known.contains(&class.as_str())).collect();
    assert!(new.is_empty(), "differences of a class that docs/croner.md does not have: {new:?}");
}
