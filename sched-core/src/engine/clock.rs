//! Steps of the wall clock: set by a person or a time server, or passed over while the machine slept.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::{Machine, Pending};
use crate::clock::Now;
use crate::event::{AlertKind, Event, ScheduleChange};
use crate::run::RangeRecord;
use crate::store::{Ahead, Intent, ScheduleRow};

/// A difference between wall and monotonic time that is told of; less is a clock being regulated.
const STEP: TimeDelta = TimeDelta::seconds(1);
/// A step back of more than this is for a person to look at.
const FAR_BACK: TimeDelta = TimeDelta::hours(1);
/// For so long a step back is shown in the status.
const SHOWN: Duration = Duration::from_secs(3600);

impl Machine {
    /// Tells of a step of the wall clock since the last moment that was seen. Fires that a step forward passes over are
    /// late ones, and the misfire policy decides on them; those that a step back repeats do not fire again. After a
    /// step back of over an hour, what did not run after the new time is reopened.
    pub(super) fn watch_clock(&mut self, now: Now) {
        let seen = std::mem::replace(&mut self.seen, now);
        self.stepped_back = self.stepped_back.filter(|until| *until > now.mono);
        let passed = now.mono.checked_sub(seen.mono).unwrap_or(Duration::ZERO);
        let expected = TimeDelta::from_std(passed).ok().and_then(|passed| seen.utc.checked_add_signed(passed));
        let Some(step) = expected.map(|expected| now.utc - expected).filter(|step| step.abs() >= STEP) else { return };
        let mut events = vec![Event::ClockJump { millis: step.num_milliseconds() }];
        if step < TimeDelta::zero() {
            self.wait_no_longer(step);
            self.move_deliveries(step);
        }
        if step >= -FAR_BACK {
            self.write(now, Intent::Note, events);
            return;
        }
        self.stepped_back = Some(now.mono + SHOWN);
        let message = format!(
            "the wall clock went back by {}, to {}: fires after that which had not run are due again at their time, and \
             those that had run do not run again; check the time source",
            humantime::format_duration(Duration::from_secs(step.num_seconds().unsigned_abs())),
            now.utc.to_rfc3339_opts(SecondsFormat::Secs, true),
        );
        events.push(Event::Alert { kind: AlertKind::ClockBack, schedule: None, run_id: None, message });
        self.write_then(now, Intent::LookAhead { after: now.utc }, events, Pending::Ahead);
    }

    /// What waits for its time (a back-off, a jitter) waits as long as it would have, although the clock went back.
    fn wait_no_longer(&mut self, step: TimeDelta) {
        let moved = |at: DateTime<Utc>| at.checked_add_signed(step).unwrap_or(at);
        for (not_before, run_id) in std::mem::take(&mut self.later) {
            let Some(run) = self.runs.get_mut(&run_id) else { continue };
            run.record.not_before = moved(not_before);
            if let Some(at) = run.expires.as_mut() {
                self.expiries.remove(&(*at, run_id));
                *at = moved(*at);
                self.expiries.insert((*at, run_id));
            }
            if let Some(at) = run.late.as_mut() {
                self.late.remove(&(*at, run_id));
                *at = moved(*at);
                self.late.insert((*at, run_id));
            }
            self.line_up(run_id);
        }
    }

    /// Reopens what lies after now, and lets the cursors follow: a new version owns the fires from now on.
    pub(super) fn reopen(&mut self, now: Now, ahead: &[Ahead]) {
        for Ahead { schedule: name, ranges, fires } in ahead {
            let Some(schedule) = self.schedules.get_mut(name) else { continue };
            if schedule.row.retired || schedule.row.cursor <= now.utc {
                continue;
            }
            let parts = ranges.iter().filter_map(|(range, planned_by)| {
                let trigger = planned_by.compile().ok()?;
                let fires = std::iter::successors(Some(range.from), |fire| trigger.next_after(*fire));
                let (until, count) = fires
                    .take_while(|fire| *fire <= now.utc)
                    .fold((range.from, 0), |(_, count), fire| (fire, count + 1));
                (count > 0).then(|| RangeRecord { until, count, ..range.clone() })
            });
            let parts = parts.collect();
            schedule.range = None;
            schedule.ahead = fires.iter().copied().collect();
            let row = ScheduleRow {
                version: schedule.row.version + 1,
                effective_from: now.utc,
                cursor: now.utc,
                ..schedule.row.clone()
            };
            schedule.row = row.clone();
            let event = Event::ScheduleChanged {
                schedule: name.clone(),
                change: ScheduleChange::Reopened,
                version: row.version,
                by: "engine".into(),
                reason: Some("the wall clock went back".into()),
            };
            self.reindex(name);
            let expected = ranges.iter().map(|(range, _)| range.clone()).collect();
            self.write_then(now, Intent::Reopen { row, expected, parts }, vec![event], Pending::Reopen);
        }
    }

    /// What went wrong with the clock, while it is shown.
    pub(super) fn clock_problem(&self) -> Option<String> {
        self.stepped_back.map(|_| "the wall clock went back by over an hour; check the time source".to_owned())
    }
}
