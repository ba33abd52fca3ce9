//! Steps of the wall clock: set by a person or a time server, or passed over while the machine slept.

use std::time::Duration;

use chrono::TimeDelta;

use super::Machine;
use crate::clock::Now;
use crate::event::Event;
use crate::store::Intent;

/// A difference between wall and monotonic time that is told of; less is a clock being regulated.
const STEP: TimeDelta = TimeDelta::seconds(1);
/// A step back of more than this is for a person to look at.
const FAR_BACK: TimeDelta = TimeDelta::hours(1);

impl Machine {
    /// Tells of a step of the wall clock since the last moment that was seen. Fires that a step forward passes over are
    /// late ones, and the misfire policy decides on them; those that a step back repeats do not fire again.
    pub(super) fn watch_clock(&mut self, now: Now) {
        let seen = std::mem::replace(&mut self.seen, now);
        let passed = now.mono.checked_sub(seen.mono).unwrap_or(Duration::ZERO);
        let expected = TimeDelta::from_std(passed).ok().and_then(|passed| seen.utc.checked_add_signed(passed));
        let Some(step) = expected.map(|expected| now.utc - expected).filter(|step| step.abs() >= STEP) else { return };
        let mut events = vec![Event::ClockJump { millis: step.num_milliseconds() }];
        if step < -FAR_BACK {
            let message = format!(
                "the wall clock went back by {}, to {}: nominal times that have been accounted for do not fire again, so \
                 the next ones come when the clock has passed them; check the time source",
                humantime::format_duration(Duration::from_secs(step.num_seconds().unsigned_abs())),
                now.utc.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            );
            events.push(Event::Alert { message });
        }
        self.write(now, Intent::Note, events);
    }
}
