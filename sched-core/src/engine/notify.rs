//! Who is told of what: events become deliveries, which commit with the events.

use chrono::{DateTime, TimeDelta, Utc};

use super::Machine;
use super::outbox::Line;
use crate::clock::Now;
use crate::event::{AlertKind, Event};
use crate::id::{ChannelName, ScheduleName};
use crate::notice::{Content, MOST_WAITING, Notice, NoticeKind, OutboxRow, OutboxState};
use crate::run::{Reason, RunState};

/// The longest sentence of a notice, in characters.
const LONGEST_SENTENCE: usize = 2000;

impl Machine {
    /// What is to be told of these events, and to whom.
    pub(super) fn deliveries(&mut self, now: Now, events: &[Event]) -> Vec<OutboxRow> {
        if self.outbox.lines.is_empty() {
            return Vec::new();
        }
        let (mut deliveries, mut works) = (Vec::new(), Vec::new());
        for event in events {
            let Some(mut notice) = notice(now.utc, event) else { continue };
            let schedule = notice.schedule.as_ref().and_then(|name| self.schedules.get(name));
            notice.since = schedule.and_then(|schedule| schedule.row.failing_since);
            let channels: Vec<ChannelName> = match (notice.kind, schedule) {
                (NoticeKind::Scheduler, _) => self.outbox.lines.keys().cloned().collect(),
                (_, Some(schedule)) => schedule.row.spec.notify.clone(),
                (_, None) => Vec::new(),
            };
            for channel in channels {
                if self.outbox.wants(&channel, &notice) {
                    let content = Content::Notice(notice.clone());
                    deliveries.extend(self.delivery(now, &channel, notice.kind, notice.schedule.clone(), content));
                }
            }
            if notice.kind == NoticeKind::Succeeded {
                works.extend(notice.schedule);
            }
        }
        // After the recovery that goes with it.
        for name in works {
            let channels = self.schedules.get(&name).map(|schedule| &schedule.row.spec.notify);
            for channel in channels.into_iter().flatten() {
                for kind in [NoticeKind::Failed, NoticeKind::Missed] {
                    self.outbox.told.remove(&(channel.clone(), name.clone(), kind));
                }
            }
        }
        deliveries
    }

    /// A delivery through a channel that there is.
    pub(super) fn delivery(
        &mut self,
        now: Now,
        channel: &ChannelName,
        kind: NoticeKind,
        schedule: Option<ScheduleName>,
        content: Content,
    ) -> Option<OutboxRow> {
        let id = self.ids.outbox_id(now.utc);
        let line = self.outbox.lines.get_mut(channel)?;
        let full = line.len() >= MOST_WAITING;
        if !full {
            line.unwritten += 1;
        }
        Some(OutboxRow {
            id,
            channel: channel.clone(),
            kind,
            schedule,
            at: now.utc,
            not_before: line.joins(kind, now.utc),
            attempt: 0,
            state: if full { OutboxState::Dead } else { OutboxState::Waiting },
            error: full.then(|| format!("{MOST_WAITING} others waited for this channel")),
            ended_at: full.then_some(now.utc),
            content,
        })
    }
}

impl super::outbox::Outbox {
    /// Whether a channel tells of this, and remembers that it does.
    fn wants(&mut self, channel: &ChannelName, notice: &Notice) -> bool {
        let Some(Line { policy, .. }) = self.lines.get(channel) else { return false };
        if !policy.on.contains(&notice.kind) {
            return false;
        }
        let Some(schedule) = &notice.schedule else { return true };
        let key = |kind| (channel.clone(), schedule.clone(), kind);
        match notice.kind {
            NoticeKind::Failed | NoticeKind::Missed => {
                let repeat = TimeDelta::from_std(policy.repeat).unwrap_or(TimeDelta::MAX);
                let told = self.told.get(&key(notice.kind));
                // A clock that went back has not told of it.
                let again = told.is_none_or(|told| notice.at - *told >= repeat || *told > notice.at);
                if again {
                    self.told.insert(key(notice.kind), notice.at);
                }
                again
            }
            // Who was not told that it failed need not be told that it works.
            NoticeKind::Recovered => {
                self.told.contains_key(&key(NoticeKind::Failed)) || !policy.on.contains(&NoticeKind::Failed)
            }
            _ => true,
        }
    }
}

/// The notice that an event is worth.
fn notice(at: DateTime<Utc>, event: &Event) -> Option<Notice> {
    let of = |kind, schedule: &ScheduleName, message: String| Notice {
        schedule: Some(schedule.clone()),
        ..Notice::new(kind, at, short(message))
    };
    Some(match event {
        Event::RunStarted { schedule, run_id, nominal_at, attempt, .. } => Notice {
            run_id: Some(*run_id),
            nominal_at: *nominal_at,
            attempt: Some(*attempt),
            ..of(NoticeKind::Started, schedule, format!("{schedule} has started"))
        },
        Event::RunFinished { schedule, run_id, nominal_at, attempt, state, duration_ms, summary, error, .. } => {
            let (kind, message) = match state {
                RunState::Succeeded => {
                    let what = summary.as_ref().map(|summary| format!(": {summary}")).unwrap_or_default();
                    (NoticeKind::Succeeded, format!("{schedule} has succeeded{what}"))
                }
                RunState::Missed => {
                    let why = Reason::Window.explain();
                    (NoticeKind::Missed, format!("{schedule} did not run: {why}"))
                }
                state if state.is_failure() => {
                    let how = match state {
                        RunState::TimedOut => "took longer than it may",
                        RunState::Interrupted => "was interrupted",
                        _ => "has failed",
                    };
                    let why = error.as_ref().or(summary.as_ref()).map(|why| format!(": {why}")).unwrap_or_default();
                    (NoticeKind::Failed, format!("{schedule} {how}{why}"))
                }
                _ => return None,
            };
            Notice {
                run_id: Some(*run_id),
                nominal_at: *nominal_at,
                attempt: (*attempt > 0).then_some(*attempt),
                duration_ms: (*attempt > 0).then_some(*duration_ms),
                ..of(kind, schedule, message)
            }
        }
        Event::RunRetry { schedule, run_id, attempt, error, .. } => Notice {
            run_id: Some(*run_id),
            attempt: Some(*attempt),
            ..of(NoticeKind::Retry, schedule, format!("{schedule} has failed and is tried again: {error}"))
        },
        Event::FiresMissed { schedule, from, until, count, reason, .. } => {
            let fires = if *count == 1 { "1 fire".into() } else { format!("{count} fires") };
            Notice {
                nominal_at: Some(*from),
                until: Some(*until),
                ..of(NoticeKind::Missed, schedule, format!("{schedule} missed {fires}: {}", reason.explain()))
            }
        }
        Event::Alert { kind, schedule, run_id, message } => {
            let kind = match kind {
                AlertKind::LateStart => NoticeKind::LateStart,
                AlertKind::Overrun => NoticeKind::Overrun,
                AlertKind::Recovered => NoticeKind::Recovered,
                // It is told through the others where it is decided.
                AlertKind::Undelivered => return None,
                AlertKind::ClockBack | AlertKind::Held | AlertKind::Config | AlertKind::Died => NoticeKind::Scheduler,
            };
            let notice = Notice::new(kind, at, short(message.clone()));
            Notice { schedule: schedule.clone(), run_id: *run_id, ..notice }
        }
        _ => return None,
    })
}

fn short(text: String) -> String {
    match text.char_indices().nth(LONGEST_SENTENCE) {
        None => text,
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}
