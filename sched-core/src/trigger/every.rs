//! A fixed period of elapsed time. Clock changes do not shift it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Trigger, TriggerError};

/// Fires at `anchor + k * period` for every whole `k` from 0.
#[derive(Debug, Clone)]
pub(super) struct Every {
    period_us: i64,
    anchor: DateTime<Utc>,
}

impl Every {
    pub(super) fn new(period: Duration, anchor: DateTime<Utc>) -> Result<Self, TriggerError> {
        let period_us = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
        if period_us < 1_000_000 {
            return Err(TriggerError::Invalid("`every` must be at least one second".into()));
        }
        Ok(Self { period_us, anchor })
    }
}

impl Trigger for Every {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if after < self.anchor {
            return Some(self.anchor);
        }
        let elapsed = after.signed_duration_since(self.anchor).num_microseconds()?;
        let periods = elapsed.div_euclid(self.period_us) + 1;
        let offset = periods.checked_mul(self.period_us)?;
        self.anchor.checked_add_signed(TimeDelta::microseconds(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_hours_are_the_same_four_hours_of_every_utc_day() {
        let every = Every::new(Duration::from_secs(6 * 3600), DateTime::UNIX_EPOCH).unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(every.next_after(at("2026-11-24T05:59:59.999999Z")), Some(at("2026-11-24T06:00:00Z")));
        assert_eq!(every.next_after(at("2026-11-24T06:00:00Z")), Some(at("2026-11-24T12:00:00Z")));
        assert_eq!(every.next_after(at("1960-01-01T00:00:00Z")), Some(DateTime::UNIX_EPOCH));
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let every = Every::new(Duration::from_secs(3600), DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(every.next_after(DateTime::<Utc>::MAX_UTC), None);
    }
}
