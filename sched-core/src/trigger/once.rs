//! One instant.

use chrono::{DateTime, Utc};

use super::Trigger;

#[derive(Debug, Clone)]
pub(super) struct Once(DateTime<Utc>);

impl Once {
    pub(super) const fn new(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl Trigger for Once {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (after < self.0).then_some(self.0)
    }
}
