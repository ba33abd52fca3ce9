//! Newtype identifiers: what a thing is called, never what it does.
//!
//! Must not know: the engine, stores, or any wire format beyond serde.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` cannot name a {what}: use 1 to 100 letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
)]
pub struct InvalidName {
    text: String,
    what: &'static str,
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal $(, $schema:meta)?) => {
        $(#[$doc])*
        ///
        /// One to 100 characters: ASCII letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
        /// The narrow alphabet keeps names safe in paths, URLs, shells and pages.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        $(#[$schema])?
        pub struct $name(#[schemars(with = "String")] std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid = (1..=100).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
                    && text.as_bytes()[0].is_ascii_alphanumeric();
                let refused = || InvalidName { text: text.chars().take(120).collect(), what: $what };
                if valid { Ok(Self(text.into())) } else { Err(refused()) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_id! {
    /// The name of a schedule, which is its identity: adding the same name again resumes it.
    ///
    /// ```
    /// use sched_core::ScheduleName;
    /// let name: ScheduleName = "brief".parse()?;
    /// assert_eq!(name.as_str(), "brief");
    /// assert!("../etc".parse::<ScheduleName>().is_err());
    /// # Ok::<(), sched_core::InvalidName>(())
    /// ```
    ScheduleName, "schedule"
}
name_id! {
    /// The name of a channel, by which schedules and jobs say whom to tell.
    ChannelName, "channel", schemars(extend("format" = "channel"))
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps an existing UUID.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One execution record. A UUID v7, so ids sort by the time they were made.
    RunId
}
uuid_id! {
    /// One counted range of fires that did not run.
    RangeId
}
uuid_id! {
    /// One thing that someone is to be told through a channel. It is the same in each try, so that who gets it twice
    /// can see that.
    OutboxId
}
uuid_id! {
    /// One scheduler process, random for each start, so that a recycled host name or PID is never mistaken for it.
    NodeId
}

impl NodeId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// The growing number of a claim: what a stale holder writes under an older fence changes nothing.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// The position of a committed event. Grows by at least one an event, never reused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes time-ordered ids from a seed, so that a replayed simulation makes the same ids.
///
/// RFC 9562 section 6.2, method 1: a counter in the 12 bits after the millisecond keeps the order inside one.
#[derive(Debug, Clone)]
pub(crate) struct IdSource {
    state: u64,
    last_millis: u64,
    counter: u16,
}

impl IdSource {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self { state: seed, last_millis: 0, counter: 0 }
    }

    pub(crate) fn run_id(&mut self, now: DateTime<Utc>) -> RunId {
        RunId(self.uuid(now))
    }

    pub(crate) fn range_id(&mut self, now: DateTime<Utc>) -> RangeId {
        RangeId(self.uuid(now))
    }

    pub(crate) fn outbox_id(&mut self, now: DateTime<Utc>) -> OutboxId {
        OutboxId(self.uuid(now))
    }

    fn uuid(&mut self, now: DateTime<Utc>) -> Uuid {
        let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0).max(self.last_millis);
        if millis > self.last_millis {
            (self.last_millis, self.counter) = (millis, 0);
        } else if self.counter == 0xfff {
            (self.last_millis, self.counter) = (millis + 1, 0);
        } else {
            self.counter += 1;
        }
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&self.counter.to_be_bytes());
        tail[2..].copy_from_slice(&self.random().to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(self.last_millis, &tail).into_uuid()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_in_one_millisecond_sort_in_the_order_made() {
        let mut source = IdSource::seeded(7);
        let now = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
        let ids: Vec<_> = (0..10_000).map(|_| source.run_id(now)).collect();
        assert!(ids.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn a_seed_makes_the_same_ids_again() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(IdSource::seeded(1).run_id(now), IdSource::seeded(1).run_id(now));
        assert_ne!(IdSource::seeded(1).run_id(now), IdSource::seeded(2).run_id(now));
    }

    #[test]
    fn names_that_could_leave_a_folder_or_a_page_are_refused() {
        for bad in ["", "a b", "../x", "a/b", "<b>", ".hidden", "-flag", "a\n", &"x".repeat(101)] {
            assert!(bad.parse::<ScheduleName>().is_err(), "{bad:?}");
        }
        for good in ["brief", "a.b-c_9", "9lives"] {
            assert!(good.parse::<ScheduleName>().is_ok(), "{good:?}");
        }
    }
}
