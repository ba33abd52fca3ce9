//! How people are reached: channels that take their time, refuse, or are cut off when the process dies. What was
//! decided to be told is told, once unless a process died over it, and never before it is durable.

use sched_core::engine::Effect;
use sched_core::store::Tried;
use sched_core::{
    ChannelName, ChannelPolicy, DeliveryError, NoticeKind, OutboxFilter, OutboxId, OutboxRow, OutboxState,
};

use super::*;
use crate::scenario::Post;

/// What is decided so long before the end has come to something by then.
const SETTLED: TimeDelta = TimeDelta::hours(2);

#[derive(Default)]
pub(super) struct Mail {
    /// What was committed.
    rows: BTreeMap<OutboxId, OutboxRow>,
    sending: Vec<Sending>,
    /// What other sides have taken.
    taken: HashSet<OutboxId>,
    /// What was taken since the process began.
    taken_in_life: HashSet<OutboxId>,
    /// What another side will never take.
    refused: HashSet<OutboxId>,
}

struct Sending {
    channel: ChannelName,
    ends: Duration,
    result: Result<(), DeliveryError>,
    rows: Vec<OutboxId>,
}

/// Of whose schedule an event is that the channel of everything tells.
fn worth_telling(event: &Event) -> Option<&str> {
    let schedule = match event {
        Event::RunStarted { schedule, .. } | Event::RunRetry { schedule, .. } | Event::FiresMissed { schedule, .. } => {
            schedule
        }
        Event::RunFinished { schedule, state, .. } if ![RunState::Cancelled, RunState::Skipped].contains(state) => {
            schedule
        }
        Event::Alert { kind: AlertKind::LateStart | AlertKind::Overrun, schedule, .. } => schedule.as_ref()?,
        _ => return None,
    };
    Some(schedule.as_str())
}

impl Post {
    fn policy(&self) -> ChannelPolicy {
        use NoticeKind::{Failed, LateStart, Missed, Overrun, Retry, Started, Succeeded};
        let everything = || [Failed, LateStart, Missed, Overrun, Retry, Started, Succeeded].into();
        let usual = ChannelPolicy::default();
        ChannelPolicy {
            on: if self.everything { everything() } else { usual.on },
            repeat: if self.everything { Duration::ZERO } else { usual.repeat },
            group: Duration::from_secs(self.group),
            most: self.most,
            give_up: Duration::from_secs(self.give_up),
            quiet: None,
        }
    }
}

impl<S: Store> World<S> {
    pub(super) fn channels(&self) -> BTreeMap<ChannelName, ChannelPolicy> {
        self.scenario.posts.iter().map(|post| (post.name.parse().unwrap(), post.policy())).collect()
    }

    /// A write is decided: whoever wants to know everything is told of each event.
    pub(super) fn told_of(&mut self, write: &Write) {
        let events: Vec<&str> = write.events.iter().filter_map(worth_telling).collect();
        let known = events.iter().filter(|name| self.wanted.iter().flatten().any(|plain| plain.name == **name)).count();
        for post in self.scenario.posts.iter().filter(|post| post.everything) {
            let rows = write.outbox.iter().filter(|row| row.channel.as_str() == post.name).count();
            if rows < known || rows > events.len() {
                let text = format!("{rows} rows for {} events: {:?}", events.len(), write.events);
                return self.fail(text);
            }
        }
    }

    /// A write is committed.
    pub(super) fn posted(&mut self, write: &Write) {
        for row in &write.outbox {
            if self.mail.rows.insert(row.id, row.clone()).is_some() {
                self.fail(format!("{} is told twice", row.id));
            }
        }
        let Intent::Deliver { deliveries, tried, at } = &write.intent else { return };
        for (id, attempt) in deliveries {
            let Some(row) = self.mail.rows.get_mut(id) else { return self.fail(format!("{id} is of nobody")) };
            row.attempt = *attempt;
            let give_up = self.scenario.posts.iter().find(|post| post.name == row.channel.as_str());
            let give_up = TimeDelta::seconds(give_up.map_or(0, |post| post.give_up as i64));
            let early = *at - row.at < give_up && !self.mail.refused.contains(id);
            let fault = match tried {
                Tried::Delivered => {
                    row.state = OutboxState::Delivered;
                    (!self.mail.taken.contains(id)).then_some("delivered, and nobody has taken it")
                }
                Tried::Again { not_before, .. } => {
                    row.not_before = *not_before;
                    None
                }
                Tried::Dead { .. } => {
                    row.state = OutboxState::Dead;
                    (early && !self.scenario.goes_back()).then_some("given up too early")
                }
            };
            if let Some(fault) = fault {
                self.fail(format!("{id}: {fault}"));
            }
        }
    }

    pub(super) fn deliver(&mut self, channel: ChannelName, rows: Vec<OutboxRow>) {
        let rows: Vec<OutboxId> = rows.into_iter().map(|row| row.id).collect();
        let most = self.scenario.posts.iter().find(|post| post.name == channel.as_str()).map_or(0, |post| post.most);
        let durable = |id: &OutboxId| self.mail.rows.get(id).is_some_and(|row| row.state == OutboxState::Waiting);
        let due = |id: &OutboxId| self.mail.rows.get(id).is_some_and(|row| row.not_before <= self.now.utc);
        let fault = if self.mail.sending.iter().any(|sending| sending.channel == channel) {
            "is busy with another"
        } else if rows.is_empty() || rows.len() > most {
            "has too few or too many"
        } else if !rows.iter().all(durable) {
            "tells what is not durable, or was told"
        } else if rows.iter().any(|id| self.mail.taken_in_life.contains(id)) {
            "tells again"
        } else if !rows.iter().all(due) && !self.scenario.goes_back() {
            "tells too early"
        } else {
            ""
        };
        if !fault.is_empty() {
            self.fail(format!("{channel} {fault}: {rows:?}"));
        }
        let takes = if self.calm { 1 } else { self.random.pick(&[3, 900, 20_000, 30_000]) };
        let result = match self.random.below(10) {
            _ if self.calm => Ok(()),
            0 => Err(DeliveryError::permanent("no such person")),
            1 => Err(DeliveryError::new("too many").retry_after(Duration::from_secs(600))),
            2 | 3 => Err(DeliveryError::new("not now")),
            _ => Ok(()),
        };
        let ends = self.now.mono + Duration::from_millis(takes);
        self.mail.sending.push(Sending { channel, ends, result, rows });
    }

    pub(super) fn next_mail(&self) -> Option<Duration> {
        self.mail.sending.iter().map(|sending| sending.ends).min()
    }

    pub(super) fn end_mail(&mut self) {
        let now = self.now.mono;
        while let Some(index) = self.mail.sending.iter().position(|sending| sending.ends <= now) {
            let Sending { channel, result, rows, .. } = self.mail.sending.swap_remove(index);
            match &result {
                Ok(()) => {
                    self.mail.taken.extend(&rows);
                    self.mail.taken_in_life.extend(&rows);
                }
                // Together, it is not known which of them.
                Err(error) if error.is_permanent() && rows.len() == 1 => self.mail.refused.extend(&rows),
                Err(_) => {}
            }
            self.step(Input::Delivered(channel, result));
        }
    }

    /// The process is gone: what was under way may have arrived.
    pub(super) fn cut_off(&mut self) {
        for sending in std::mem::take(&mut self.mail.sending) {
            if sending.result.is_ok() && self.random.below(2) == 0 {
                self.mail.taken.extend(sending.rows);
            }
        }
        self.mail.taken_in_life.clear();
    }

    /// At the end all that was decided has come to something, and the store says the same.
    pub(super) fn all_told(&mut self) {
        let filter = OutboxFilter { state: None, after: None, limit: u32::MAX };
        let stored = self.store.as_ref().unwrap().reader().outbox(&filter).unwrap();
        if stored.len() != self.mail.rows.len() {
            return self.fail(format!("{} rows in the outbox, {} committed", stored.len(), self.mail.rows.len()));
        }
        for row in stored {
            let mirror = self.mail.rows.get(&row.id);
            if mirror.is_none_or(|mirror| (mirror.state, mirror.attempt) != (row.state, row.attempt)) {
                return self.fail(format!("the outbox has {row:?}, committed was {mirror:?}"));
            }
            let waits = row.state == OutboxState::Waiting && self.now.utc - row.at > SETTLED;
            if waits && !self.scenario.goes_back() {
                return self.fail(format!("{} is never told: {row:?}", row.id));
            }
        }
    }
}

impl Bug {
    /// What is told, spoiled.
    pub(crate) fn spoil_mail(self, effect: &mut Effect) -> Option<Effect> {
        match (self, effect) {
            (Self::NotTold, Effect::Write(_, write)) => write.outbox.clear(),
            (Self::DeliveryForgotten, Effect::Write(_, write)) if matches!(write.intent, Intent::Deliver { .. }) => {
                write.intent = Intent::Note;
            }
            (Self::ToldTwice, Effect::Deliver(channel, rows)) => {
                return Some(Effect::Deliver(channel.clone(), rows.clone()));
            }
            _ => {}
        }
        None
    }
}
