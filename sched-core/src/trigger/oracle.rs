//! The engine against brute force: every minute of some days, looked up one by one in chrono's calendar.
//!
//! It shares no code with the engine: expressions are made from sets of values, times on the wall are tried one
//! after the other, and what a gap or a fold does is read from what chrono-tz says of each of them.

use std::collections::BTreeSet;

use chrono::{
    DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta, TimeZone as _, Timelike, Utc,
};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::cron::{Cron, DayRule, Dialect};
use super::wall::{Dst, Fold, Gap, InZone};
use super::{Trigger as _, instants};
use crate::testing::Random;

/// A field as text and as the values it allows.
struct Field {
    text: String,
    /// Bit n is value n.
    values: u64,
}

impl Field {
    fn random(random: &mut Random, low: u32, high: u32, likely: u32) -> Self {
        let some = |random: &mut Random| {
            let top = if random.below(4) > 0 { likely } else { high };
            low + random.below(u64::from(top - low + 1)) as u32
        };
        let (text, values): (String, BTreeSet<u32>) = match random.below(6) {
            0 => ("*".into(), (low..=high).collect()),
            1 => {
                let step = random.pick(&[2, 3, 5, 10, 20]).min(high);
                (format!("*/{step}"), (low..=high).step_by(step as usize).collect())
            }
            2 => {
                let (first, second) = (some(random), some(random));
                (format!("{first},{second}"), [first, second].into())
            }
            3 => {
                let (low, high) = (some(random), some(random));
                let (low, high) = (low.min(high), low.max(high));
                (format!("{low}-{high}"), (low..=high).collect())
            }
            _ => {
                let value = some(random);
                (value.to_string(), [value].into())
            }
        };
        Self { text, values: values.into_iter().fold(0, |mask, value| mask | 1 << value) }
    }

    fn allows(&self, value: u32) -> bool {
        self.values & (1 << value) != 0
    }

    fn star(&self, rule: DayRule) -> bool {
        if rule == DayRule::Debian { self.text.starts_with('*') } else { self.text == "*" }
    }
}

pub(super) struct Case {
    fields: [Field; 5],
    pub(super) rule: DayRule,
    pub(super) zone: Tz,
    pub(super) dst: Dst,
    pub(super) after: DateTime<Utc>,
}

pub(super) const DAYS: i64 = 4;

impl Case {
    pub(super) fn random(random: &mut Random) -> Self {
        let zone = random.pick(&TZ_VARIANTS);
        Self {
            fields: [
                Field::random(random, 0, 59, 45),
                Field::random(random, 0, 23, 4),
                Field::random(random, 1, 31, 31),
                Field::random(random, 1, 12, 12),
                Field::random(random, 0, 6, 6),
            ],
            rule: random.pick(&[DayRule::Debian, DayRule::Ocps]),
            zone,
            dst: Dst {
                gap: random.pick(&[Gap::Auto, Gap::RunAfter, Gap::Skip, Gap::Shift]),
                fold: random.pick(&[Fold::Auto, Fold::First, Fold::Last, Fold::Both]),
            },
            after: near_a_change(random, zone),
        }
    }

    pub(super) fn expression(&self) -> String {
        self.fields.each_ref().map(|field| field.text.as_str()).join(" ")
    }

    fn matches(&self, wall: NaiveDateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.fields;
        let by_day = day.allows(wall.day());
        let by_weekday = weekday.allows(wall.weekday().num_days_from_sunday());
        let both = day.star(self.rule) || weekday.star(self.rule);
        minute.allows(wall.minute())
            && hour.allows(wall.hour())
            && month.allows(wall.month())
            && if both { by_day && by_weekday } else { by_day || by_weekday }
    }

    /// Whether minute and hour are named.
    pub(super) fn fixed(&self) -> bool {
        !self.fields[0].text.starts_with('*') && !self.fields[1].text.starts_with('*')
    }

    /// Whether one minute and one hour are named.
    pub(super) fn single(&self) -> bool {
        self.fields[..2].iter().all(|field| field.values.count_ones() == 1)
    }

    /// Every fire in the window, by trying each minute on the wall.
    pub(super) fn expected(&self) -> BTreeSet<DateTime<Utc>> {
        let fixed = self.fixed();
        let long = |change: TimeDelta| change >= TimeDelta::hours(3);
        let first = (self.after - TimeDelta::days(2)).naive_utc().date();
        let mut fires = BTreeSet::new();
        for day in 0..DAYS + 4 {
            let midnight = (first + TimeDelta::days(day)).and_time(NaiveTime::MIN);
            for minute in 0..1440 {
                let wall = midnight + TimeDelta::minutes(minute);
                if !self.matches(wall) {
                    continue;
                }
                match self.zone.from_local_datetime(&wall) {
                    chrono::LocalResult::Single(at) => drop(fires.insert(at.to_utc())),
                    chrono::LocalResult::Ambiguous(one, two) => {
                        let (one, two) = (one.to_utc().min(two.to_utc()), one.to_utc().max(two.to_utc()));
                        let fold = match self.dst.fold {
                            Fold::Auto if fixed && !long(two - one) => Fold::First,
                            Fold::Auto => Fold::Both,
                            fold => fold,
                        };
                        if fold != Fold::Last {
                            fires.insert(one);
                        }
                        if fold != Fold::First {
                            fires.insert(two);
                        }
                    }
                    chrono::LocalResult::None => self.in_gap(wall, fixed, &mut fires),
                }
            }
        }
        let until = self.after + TimeDelta::days(DAYS);
        fires.into_iter().filter(|at| *at > self.after && *at <= until).collect()
    }

    fn in_gap(&self, wall: NaiveDateTime, fixed: bool, fires: &mut BTreeSet<DateTime<Utc>>) {
        let exists = |wall: NaiveDateTime| self.zone.from_local_datetime(&wall).earliest();
        let offset = |at: DateTime<Tz>| TimeDelta::seconds(at.offset().fix().local_minus_utc().into());
        let before = (1..).find_map(|back| exists(wall - TimeDelta::minutes(back))).unwrap();
        let after = (1..).find_map(|on| exists(wall + TimeDelta::minutes(on))).unwrap();
        let length = offset(after) - offset(before);
        let gap = match self.dst.gap {
            Gap::Auto if fixed && length < TimeDelta::hours(3) => Gap::RunAfter,
            Gap::Auto => Gap::Skip,
            gap => gap,
        };
        match gap {
            Gap::RunAfter => {
                // The first second whose offset is the new one.
                let mut end = after.to_utc();
                while offset((end - TimeDelta::seconds(1)).with_timezone(&self.zone)) == offset(after) {
                    end -= TimeDelta::seconds(1);
                }
                fires.insert(end);
            }
            Gap::Shift => drop(fires.insert((wall - offset(before)).and_utc())),
            _ => {}
        }
    }
}

/// An instant shortly before a change of the zone's clock, where it has one near a random date from 1996 to 2037.
fn near_a_change(random: &mut Random, zone: Tz) -> DateTime<Utc> {
    let days = random.below(41 * 365) as i64;
    let begin = NaiveDate::from_ymd_opt(1996, 1, 1).unwrap().and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(days);
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix();
    let change =
        (0..400).map(|day| begin + TimeDelta::days(day)).find(|at| offset(*at) != offset(*at + TimeDelta::days(1)));
    change.unwrap_or(begin) + TimeDelta::seconds(random.below(26 * 3600) as i64) - TimeDelta::hours(3)
}

fn compare(cases: u64, seed: u64) {
    let mut random = Random(seed);
    let mut fires = 0;
    for number in 0..cases {
        let case = Case::random(&mut random);
        let cron = Cron::parse(&case.expression(), Dialect::Standard, case.rule).unwrap();
        let trigger = InZone::new(cron, case.zone, case.dst);
        let expected = case.expected();
        let until = case.after + TimeDelta::days(DAYS);
        let found: BTreeSet<_> = instants(&trigger, case.after).take_while(|at| *at <= until).collect();
        fires += found.len();
        assert_eq!(
            found,
            expected,
            "case {number} of seed {seed}: `{}` in {} after {}, {:?}, {:?}",
            case.expression(),
            case.zone,
            case.after,
            case.dst,
            case.rule
        );
        if let Some(last) = expected.last() {
            assert!(trigger.next_after(*last).is_none_or(|next| next > until));
        }
    }
    assert!(fires as u64 > cases, "the cases name enough fires to mean something");
}

#[test]
fn twenty_thousand_random_cases_around_clock_changes_agree_with_brute_force() {
    compare(20_000, 0x5eed);
}

#[test]
#[ignore = "minutes long: cargo test --release -p sched-core --all-features a_million_random_cases -- --ignored"]
fn a_million_random_cases_agree_with_brute_force() {
    compare(1_000_000, 0x0dd5_eed5);
}
