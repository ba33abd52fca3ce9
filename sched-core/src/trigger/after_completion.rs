//! A fixed delay after the schedule's last run ended.
//!
//! Such a trigger needs what the others do not: the end of a run. The engine gives it as the instant to search from,
//! by moving the schedule's cursor there when the run ends, so the trigger itself stays a pure function. The first fire
//! comes one delay after the schedule was added, or at `start`; a fire that does not run counts as ended at once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Trigger, TriggerError};

#[derive(Debug, Clone)]
pub(super) struct AfterCompletion {
    delay: TimeDelta,
    start: Option<DateTime<Utc>>,
}

impl AfterCompletion {
    pub(super) fn new(delay: Duration, start: Option<DateTime<Utc>>) -> Result<Self, TriggerError> {
        if delay < Duration::from_secs(1) {
            return Err(TriggerError::Invalid("`after_completion` must be at least one second".into()));
        }
        Ok(Self { delay: TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX), start })
    }
}

impl Trigger for AfterCompletion {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = after.checked_add_signed(self.delay)?;
        Some(self.start.map_or(next, |start| start.max(next)))
    }
}
