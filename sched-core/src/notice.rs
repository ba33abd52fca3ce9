//! What people are told: notices of what happened, letters that jobs write, and the deliveries that carry them.
//!
//! Must not know: the engine, how a channel reaches people.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::id::{ChannelName, OutboxId, RunId, ScheduleName};
use crate::run::words;

/// The most deliveries of one channel that wait at a time; what comes beyond is given up at once, with that reason.
pub(crate) const MOST_WAITING: usize = 1000;

words! {
    /// What a notice is about.
    NoticeKind {
        /// A run has ended badly, and no attempt follows.
        Failed = "failed",
        /// A schedule that failed works again.
        Recovered = "recovered",
        /// Fires did not run because their time passed.
        Missed = "missed",
        /// A run has not started in time.
        LateStart = "late_start",
        /// An attempt goes on for longer than it should.
        Overrun = "overrun",
        /// Something about the scheduler itself needs a person.
        Scheduler = "scheduler",
        /// An attempt has started.
        Started = "started",
        /// A run has succeeded.
        Succeeded = "succeeded",
        /// An attempt has failed, and another follows.
        Retry = "retry",
        /// A job has written a letter.
        Letter = "letter",
        /// Someone tries the channel out.
        Test = "test",
    }
}

words! {
    /// How far a delivery is.
    OutboxState {
        /// It waits for its time, or is under way.
        Waiting = "waiting",
        /// The channel has taken it.
        Delivered = "delivered",
        /// It was given up, with the reason.
        Dead = "dead",
    }
}

/// One thing that happened, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The schedule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<ScheduleName>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run_id: Option<RunId>,
    /// The instant the trigger named; for missed fires the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nominal_at: Option<DateTime<Utc>>,
    /// The last nominal time of missed fires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<DateTime<Utc>>,
    /// The attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// The attempt's length in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_ms: Option<u64>,
    /// Since when the schedule's runs end badly.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<DateTime<Utc>>,
    /// In one sentence.
    pub message: String,
}

impl Notice {
    /// A notice with a sentence alone.
    #[must_use]
    pub fn new(kind: NoticeKind, at: DateTime<Utc>, message: impl Into<String>) -> Self {
        Self {
            kind,
            at,
            schedule: None,
            run_id: None,
            nominal_at: None,
            until: None,
            attempt: None,
            duration_ms: None,
            since: None,
            message: message.into(),
        }
    }

    /// The command with which to go on, when there is one.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let (schedule, run) = (self.schedule.as_ref()?, self.run_id);
        match (self.kind, run) {
            (NoticeKind::Failed, Some(run)) => Some(format!("sched logs {run}; then sched retry {run}")),
            (NoticeKind::Missed, _) => {
                let text = |at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
                let from = self.nominal_at?;
                // A backfill takes the fires after the first instant.
                let (from, until) = (text(from - TimeDelta::seconds(1)), text(self.until.unwrap_or(from)));
                Some(format!("sched backfill {schedule} --from {from} --until {until}"))
            }
            (NoticeKind::LateStart | NoticeKind::Overrun, _) => Some(format!("sched show {schedule}")),
            _ => None,
        }
    }
}

/// What a job has written to be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its subject, one line.
    pub subject: String,
    /// Its text, as Markdown: for channels and readers that show no HTML.
    pub text: String,
    /// The same as one self-contained HTML page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub html: Option<String>,
}

impl Letter {
    /// The most that subject, text and HTML take together, in bytes.
    pub const LONGEST: usize = 1024 * 1024;

    /// Whether it is short enough, and its subject one line.
    pub(crate) fn check(&self) -> Result<(), String> {
        let bytes = self.subject.len() + self.text.len() + self.html.as_ref().map_or(0, String::len);
        if bytes > Self::LONGEST {
            return Err(format!("the letter has {bytes} bytes, more than {}", Self::LONGEST));
        }
        if self.subject.chars().any(char::is_control) || self.subject.trim().is_empty() {
            return Err("a letter's subject is one line".into());
        }
        Ok(())
    }
}

/// What a delivery carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Something that happened.
    Notice(Notice),
    /// What a job has written.
    Letter(Letter),
}

/// One row of the outbox: something to be told through one channel, and how far that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Its id, the same in each try.
    pub id: OutboxId,
    /// Through which channel.
    pub channel: ChannelName,
    /// What it is about.
    pub kind: NoticeKind,
    /// The schedule.
    pub schedule: Option<ScheduleName>,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// Not tried before this.
    pub not_before: DateTime<Utc>,
    /// The tries so far.
    pub attempt: u32,
    /// How far it is.
    pub state: OutboxState,
    /// What went wrong in the last try.
    pub error: Option<String>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
    /// What is told.
    pub content: Content,
}

/// A row of the outbox without what it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OutboxLine {
    /// Its id, the same in each try.
    pub id: OutboxId,
    /// Through which channel.
    pub channel: ChannelName,
    /// What it is about.
    pub kind: NoticeKind,
    /// The schedule.
    pub schedule: Option<ScheduleName>,
    /// What it says, in one line.
    pub message: String,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// Not tried before this.
    pub not_before: DateTime<Utc>,
    /// The tries so far.
    pub attempt: u32,
    /// How far it is.
    pub state: OutboxState,
    /// What went wrong in the last try.
    pub error: Option<String>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

impl From<OutboxRow> for OutboxLine {
    fn from(row: OutboxRow) -> Self {
        let OutboxRow { id, channel, kind, schedule, at, not_before, attempt, state, error, ended_at, content } = row;
        let message = match content {
            Content::Notice(notice) => notice.message,
            Content::Letter(letter) => letter.subject,
        };
        Self { id, channel, kind, schedule, message, at, not_before, attempt, state, error, ended_at }
    }
}

/// When a channel tells of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPolicy {
    /// What it tells of; [`NoticeKind::Scheduler`] of every schedule, the rest of those that name it.
    pub on: BTreeSet<NoticeKind>,
    /// It waits so long for more to tell in the same message.
    pub group: Duration,
    /// The most notices in one message.
    pub most: usize,
    /// While a schedule goes on failing or missing fires, it tells of that again only after so long.
    pub repeat: Duration,
    /// It gives a delivery up after so long.
    pub give_up: Duration,
    /// When it tells of nothing.
    pub quiet: Option<Quiet>,
}

impl Default for ChannelPolicy {
    /// Tells a person of what needs one.
    fn default() -> Self {
        use NoticeKind::{Failed, LateStart, Missed, Overrun, Recovered, Scheduler};
        Self {
            on: [Failed, Recovered, Missed, LateStart, Overrun, Scheduler].into(),
            group: Duration::from_secs(10),
            most: 50,
            repeat: Duration::from_secs(4 * 3600),
            give_up: Duration::from_secs(86_400),
            quiet: None,
        }
    }
}

impl ChannelPolicy {
    /// Tells a program of each run, at once and one by one.
    #[must_use]
    pub fn each_run() -> Self {
        use NoticeKind::{Failed, Started, Succeeded};
        Self {
            on: [Started, Succeeded, Failed].into(),
            group: Duration::ZERO,
            most: 1,
            repeat: Duration::ZERO,
            give_up: Duration::from_secs(3600),
            quiet: None,
        }
    }

    /// Until when nothing of this kind is told, in quiet hours.
    pub(crate) fn quiet_until(&self, kind: NoticeKind, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.quiet.as_ref().filter(|quiet| !quiet.except.contains(&kind))?.ends(at)
    }

    /// When the group is complete that something decided at `at` begins.
    pub(crate) fn grouped(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let group = TimeDelta::from_std(self.group).unwrap_or(TimeDelta::MAX);
        at.checked_add_signed(group).unwrap_or(at)
    }
}

/// Hours of the day in which a channel tells of nothing; what happens in them is told when they end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// They begin at this time of day.
    #[serde(deserialize_with = "time_of_day")]
    pub from: NaiveTime,
    /// They end at this time of day, the next day if it is not later.
    #[serde(deserialize_with = "time_of_day")]
    pub until: NaiveTime,
    /// Of this zone.
    #[serde(default, deserialize_with = "zone")]
    pub timezone: Option<Tz>,
    /// What is told all the same.
    #[serde(default)]
    pub except: BTreeSet<NoticeKind>,
}

fn time_of_day<'de, D: serde::Deserializer<'de>>(from: D) -> Result<NaiveTime, D::Error> {
    let text = String::deserialize(from)?;
    let read = NaiveTime::parse_from_str(&text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(&text, "%H:%M:%S"));
    read.map_err(|_| serde::de::Error::custom(format!("`{text}` is no time of day; write \"22:00\"")))
}

fn zone<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Tz>, D::Error> {
    let text = String::deserialize(from)?;
    crate::trigger::parse_zone(&text).map(Some).map_err(serde::de::Error::custom)
}

impl Quiet {
    /// When the quiet hours end that `at` lies in; none when it lies in none.
    ///
    /// ```
    /// use sched_core::Quiet;
    /// let quiet: Quiet = serde_json::from_str(r#"{ "from": "22:00", "until": "07:00", "timezone": "Europe/London" }"#)?;
    /// // The night in which the clocks go forward is an hour shorter.
    /// let end = quiet.ends("2026-03-28T23:00:00Z".parse()?).unwrap();
    /// assert_eq!(end.to_rfc3339(), "2026-03-29T06:00:00+00:00");
    /// assert_eq!(quiet.ends("2026-03-28T12:00:00Z".parse()?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ends(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let zone = self.timezone.unwrap_or(Tz::UTC);
        let local = at.with_timezone(&zone).naive_local();
        let time = local.time();
        let days = match self.from < self.until {
            true if (self.from..self.until).contains(&time) => 0,
            false if time < self.until => 0,
            false if time >= self.from => 1,
            _ => return None,
        };
        let mut end = local.date().checked_add_days(chrono::Days::new(days))?.and_time(self.until);
        // An end that the wall does not show is where the gap ends.
        for _ in 0..=24 * 4 {
            let found = zone.from_local_datetime(&end);
            if let Some(end) = found.earliest().filter(|end| *end > at).or(found.latest()) {
                return Some(end.with_timezone(&Utc)).filter(|end| *end > at);
            }
            end += TimeDelta::minutes(15);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: &str, until: &str, zone: &str, at: &str) -> Option<String> {
        let text = format!(r#"{{"from":"{from}","until":"{until}","timezone":"{zone}"}}"#);
        let quiet: Quiet = serde_json::from_str(&text).unwrap();
        quiet.ends(at.parse().unwrap()).map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }

    #[test]
    fn quiet_hours_end_at_their_time_on_the_wall() {
        let night = |at| ends("22:00", "07:00", "UTC", at);
        assert_eq!(night("2026-05-01T22:00:00Z").as_deref(), Some("2026-05-02T07:00:00Z"));
        assert_eq!(night("2026-05-02T06:59:59Z").as_deref(), Some("2026-05-02T07:00:00Z"));
        assert_eq!(night("2026-05-02T07:00:00Z"), None);
        assert_eq!(night("2026-05-02T21:59:59Z"), None);
        assert_eq!(ends("12:00", "13:00", "UTC", "2026-05-01T12:30:00Z").as_deref(), Some("2026-05-01T13:00:00Z"));
        // All day long.
        assert_eq!(ends("09:00", "09:00", "UTC", "2026-05-01T12:30:00Z").as_deref(), Some("2026-05-02T09:00:00Z"));
    }

    #[test]
    fn an_end_within_a_gap_is_where_the_gap_ends_and_one_that_comes_twice_is_the_one_to_come() {
        let london = |at| ends("00:30", "01:30", "Europe/London", at);
        assert_eq!(london("2026-03-29T00:45:00Z").as_deref(), Some("2026-03-29T01:00:00Z"));
        assert_eq!(london("2026-10-25T00:00:00Z").as_deref(), Some("2026-10-25T00:30:00Z"));
        assert_eq!(london("2026-10-25T01:10:00Z").as_deref(), Some("2026-10-25T01:30:00Z"));
    }
}
