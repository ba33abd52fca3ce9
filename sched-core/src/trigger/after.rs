//! After another schedule's run: no instants of its own.

use chrono::{DateTime, Utc};

use super::Trigger;

#[derive(Debug)]
pub(super) struct After;

impl Trigger for After {
    fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }
}
