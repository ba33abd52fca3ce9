//! Deliveries on their way: each channel's wait in a line, go out together, and are tried again or given up.
//!
//! A delivery is in a line only once it is durable, so nobody is told what a crash could take back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Effect, Machine, Pending, Refusal};
use crate::channel::DeliveryError;
use crate::clock::Now;
use crate::event::{AlertKind, Event};
use crate::id::{ChannelName, OutboxId, ScheduleName};
use crate::notice::{ChannelPolicy, Content, Letter, Notice, NoticeKind, OutboxRow, OutboxState};
use crate::policy::{Backoff, Retry};
use crate::store::{Intent, Tried};

/// The waits between tries, unless the other side asks for another.
const RETRY: Retry = Retry {
    attempts: u32::MAX,
    backoff: Backoff::Exponential,
    initial: Duration::from_secs(10),
    max: Duration::from_secs(3600),
    jitter: true,
    retry_on: Vec::new(),
};
/// The longest wait that the other side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) lines: BTreeMap<ChannelName, Line>,
    /// When each line that has something to send wants to.
    due: BTreeSet<(DateTime<Utc>, ChannelName)>,
    /// When someone was last told that a schedule goes on failing, or missing fires.
    pub(super) told: HashMap<(ChannelName, ScheduleName, NoticeKind), DateTime<Utc>>,
}

/// What waits for one channel.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) policy: ChannelPolicy,
    waiting: BTreeMap<(DateTime<Utc>, OutboxId), OutboxRow>,
    sending: Vec<OutboxRow>,
    /// Decided, and not durable yet.
    pub(super) unwritten: usize,
    /// So many of the next go out one by one: together they were refused.
    apart: usize,
    /// Nothing is sent before: the last try failed.
    closed_until: Option<DateTime<Utc>>,
    due: Option<DateTime<Utc>>,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.sending.len() + self.unwritten
    }

    /// When one more may go out: with those that wait already, if they go soon. In quiet hours it joins nobody.
    pub(super) fn joins(&self, kind: NoticeKind, at: DateTime<Utc>) -> DateTime<Utc> {
        if let Some(ends) = self.policy.quiet_until(kind, at) {
            return ends;
        }
        let opens = self.policy.grouped(at);
        self.waiting.keys().next().map_or(opens, |(first, _)| opens.min((*first).max(at)))
    }

    /// Takes what goes out together now.
    fn take(&mut self, now: DateTime<Utc>) -> &[OutboxRow] {
        let most = if self.apart > 0 { 1 } else { self.policy.most };
        while self.sending.len() < most
            && let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now)
        {
            let is_letter = matches!(first.get().content, Content::Letter(_));
            if is_letter && !self.sending.is_empty() {
                break;
            }
            self.sending.push(first.remove());
            if is_letter {
                break;
            }
        }
        self.apart = self.apart.saturating_sub(self.sending.len());
        // By the time that they happened.
        self.sending.sort_by_key(|delivery| (delivery.at, delivery.id));
        &self.sending
    }
}

impl Outbox {
    pub(super) fn first_due(&self) -> Option<DateTime<Utc>> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn is_sending(&self) -> bool {
        self.lines.values().any(|line| !line.sending.is_empty())
    }

    fn reindex(&mut self, channel: &ChannelName) {
        let Some(line) = self.lines.get_mut(channel) else { return };
        if let Some(due) = line.due.take() {
            self.due.remove(&(due, channel.clone()));
        }
        let first = line.waiting.keys().next().map(|(at, _)| *at).filter(|_| line.sending.is_empty());
        line.due = first.map(|first| line.closed_until.map_or(first, |until| first.max(until)));
        self.due.extend(line.due.map(|due| (due, channel.clone())));
    }
}

impl Machine {
    /// Puts deliveries that are durable now into their lines.
    pub(super) fn post(&mut self, deliveries: Vec<OutboxRow>) {
        for delivery in deliveries {
            let channel = delivery.channel.clone();
            if let Some(line) = self.outbox.lines.get_mut(&channel)
                && delivery.state == OutboxState::Waiting
            {
                line.unwritten = line.unwritten.saturating_sub(1);
                line.waiting.insert((delivery.not_before, delivery.id), delivery);
                self.outbox.reindex(&channel);
            }
        }
    }

    /// They were not written: nobody is told.
    pub(super) fn withdraw(&mut self, deliveries: Vec<OutboxRow>) {
        for delivery in deliveries.into_iter().filter(|delivery| delivery.state == OutboxState::Waiting) {
            if let Some(line) = self.outbox.lines.get_mut(&delivery.channel) {
                line.unwritten = line.unwritten.saturating_sub(1);
            }
        }
    }

    /// Whether anything may go out.
    pub(super) fn can_deliver(&self) -> bool {
        self.draining.is_none() && self.store_failing.is_none()
    }

    /// Hands out what is due, one message a channel at a time.
    pub(super) fn deliver(&mut self, now: Now) {
        while self.can_deliver()
            && let Some((_, channel)) = self.outbox.due.first().filter(|(at, _)| *at <= now.utc).cloned()
        {
            if let Some(line) = self.outbox.lines.get_mut(&channel) {
                let deliveries = line.take(now.utc).to_vec();
                self.effects.push(Effect::Deliver(channel.clone(), deliveries));
            }
            self.outbox.reindex(&channel);
        }
    }

    /// What came of a message.
    pub(super) fn delivered(&mut self, now: Now, channel: &ChannelName, result: Result<(), DeliveryError>) {
        let Some(line) = self.outbox.lines.get_mut(channel) else { return };
        let sent = std::mem::take(&mut line.sending);
        match result {
            Ok(()) => {
                line.closed_until = None;
                let deliveries = sent.into_iter().map(|delivery| (delivery.id, delivery.attempt + 1)).collect();
                self.write(now, Intent::Deliver { deliveries, tried: Tried::Delivered, at: now.utc }, Vec::new());
            }
            // Which of them is it?
            Err(error) if error.is_permanent() && sent.len() > 1 => {
                line.apart = sent.len();
                line.waiting.extend(sent.into_iter().map(|delivery| ((delivery.not_before, delivery.id), delivery)));
            }
            Err(error) => self.undelivered(now, channel, sent, &error),
        }
        self.outbox.reindex(channel);
    }

    /// Tries again later, or gives up.
    fn undelivered(&mut self, now: Now, channel: &ChannelName, sent: Vec<OutboxRow>, error: &DeliveryError) {
        let random = self.ids.random();
        let Some(line) = self.outbox.lines.get_mut(channel) else { return };
        let give_up = TimeDelta::from_std(line.policy.give_up).unwrap_or(TimeDelta::MAX);
        let tries = sent.iter().map(|delivery| delivery.attempt).max().unwrap_or_default();
        let wait = error.wait().map_or_else(|| RETRY.wait(tries + 1, random), |asked| asked.min(LONGEST_ASKED));
        let not_before = now.utc + TimeDelta::from_std(wait).unwrap_or_default();
        let ends = |delivery: &OutboxRow| error.is_permanent() || now.utc - delivery.at >= give_up;
        let (dead, again): (Vec<OutboxRow>, Vec<OutboxRow>) = sent.into_iter().partition(ends);
        let ids = |deliveries: &[OutboxRow]| deliveries.iter().map(|d| (d.id, d.attempt + 1)).collect::<Vec<_>>();
        if !again.is_empty() {
            // A permanent failure is of one message; any other of the channel.
            line.closed_until = Some(not_before);
            let tried = Tried::Again { not_before, error: error.to_string() };
            let deliveries = ids(&again);
            line.waiting.extend(again.into_iter().map(|mut delivery| {
                (delivery.attempt, delivery.not_before) = (delivery.attempt + 1, not_before);
                ((not_before, delivery.id), delivery)
            }));
            self.write(now, Intent::Deliver { deliveries, tried, at: now.utc }, Vec::new());
        }
        if !dead.is_empty() {
            let tried = Tried::Dead { error: error.to_string() };
            let deliveries = ids(&dead);
            let (event, told) = self.lost(now, channel, &dead, error);
            self.write_rows(now, Intent::Deliver { deliveries, tried, at: now.utc }, vec![event], told, None);
        }
    }

    /// The other channels tell that this one does not.
    fn lost(
        &mut self,
        now: Now,
        channel: &ChannelName,
        dead: &[OutboxRow],
        error: &DeliveryError,
    ) -> (Event, Vec<OutboxRow>) {
        let what = if dead.len() == 1 { "a message".into() } else { format!("{} messages", dead.len()) };
        let message = format!(
            "channel {channel} has given up {what}: {error}; see `sched notify list --dead`, try `sched notify test \
             {channel}`, then `sched notify retry`"
        );
        let schedule = dead.first().and_then(|delivery| delivery.schedule.clone());
        let event = Event::Alert { kind: AlertKind::Undelivered, schedule, run_id: None, message: message.clone() };
        let mut deliveries = Vec::new();
        // Channels that tell of each other's failures, and fail, would never end.
        if dead.iter().any(|delivery| delivery.kind != NoticeKind::Scheduler) {
            let tells = |(name, line): (&ChannelName, &Line)| {
                (name != channel && line.policy.on.contains(&NoticeKind::Scheduler)).then(|| name.clone())
            };
            let others: Vec<ChannelName> = self.outbox.lines.iter().filter_map(tells).collect();
            let content = Content::Notice(Notice::new(NoticeKind::Scheduler, now.utc, message));
            for other in others {
                deliveries.extend(self.delivery(now, &other, NoticeKind::Scheduler, None, content.clone()));
            }
        }
        (event, deliveries)
    }

    /// Sends what a job has written.
    ///
    /// # Errors
    /// When there is no such channel; then none gets it.
    pub(super) fn send(
        &mut self,
        now: Now,
        channels: &[ChannelName],
        of: &ScheduleName,
        letter: &Letter,
        pending: Pending,
    ) -> Result<(), Refusal> {
        if let Some(name) = channels.iter().find(|name| !self.outbox.lines.contains_key(*name)) {
            let known = self.outbox.lines.keys().map(ChannelName::as_str);
            return Err(Refusal::UnknownChannel {
                name: name.clone(),
                near: crate::suggest::near(name.as_str(), known),
            });
        }
        let mut rows = Vec::new();
        for channel in channels {
            let content = Content::Letter(letter.clone());
            let row = self.delivery(now, channel, NoticeKind::Letter, Some(of.clone()), content);
            // It waits for no other.
            rows.extend(row.map(|row| OutboxRow { not_before: now.utc, ..row }));
        }
        self.write_rows(now, Intent::Note, Vec::new(), rows, Some(pending));
        Ok(())
    }

    /// Takes back into their lines what was given up.
    pub(super) fn redeliver(&mut self, now: Now, mut rows: Vec<OutboxRow>, pending: Pending) {
        rows.retain(|row| self.outbox.lines.contains_key(&row.channel));
        for row in &mut rows {
            // It gets as much time again as it had.
            (row.state, row.ended_at, row.not_before, row.at) = (OutboxState::Waiting, None, now.utc, now.utc);
            if let Some(line) = self.outbox.lines.get_mut(&row.channel) {
                line.unwritten += 1;
            }
        }
        self.write_rows(now, Intent::Note, Vec::new(), rows, Some(pending));
    }

    /// Takes over what waited when the last engine ended; what has no channel any more is given up.
    pub(super) fn readopt_outbox(&mut self, now: Now, waiting: Vec<OutboxRow>) {
        let (known, homeless): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|delivery| self.outbox.lines.contains_key(&delivery.channel));
        self.post(known);
        self.give_up_homeless(now, &homeless);
    }

    fn give_up_homeless(&mut self, now: Now, homeless: &[OutboxRow]) {
        if !homeless.is_empty() {
            let deliveries = homeless.iter().map(|delivery| (delivery.id, delivery.attempt)).collect();
            let tried = Tried::Dead { error: "its channel is configured no longer".into() };
            self.write(now, Intent::Deliver { deliveries, tried, at: now.utc }, Vec::new());
        }
    }

    /// Makes these the channels. What one that is gone has under way ends unseen.
    pub(super) fn set_channels(&mut self, now: Now, policies: BTreeMap<ChannelName, ChannelPolicy>) {
        let mut old = std::mem::take(&mut self.outbox.lines);
        for (name, policy) in policies {
            let mut line = old.remove(&name).unwrap_or_default();
            line.policy = policy;
            self.outbox.lines.insert(name, line);
        }
        for (name, line) in old {
            self.outbox.due.retain(|(_, channel)| *channel != name);
            let homeless: Vec<OutboxRow> = line.waiting.into_values().chain(line.sending).collect();
            self.give_up_homeless(now, &homeless);
        }
    }

    /// What waits goes out as soon as it would have, although the clock went back.
    pub(super) fn move_deliveries(&mut self, step: TimeDelta) {
        let moved = |at: DateTime<Utc>| at.checked_add_signed(step).unwrap_or(at);
        for channel in self.outbox.lines.keys().cloned().collect::<Vec<_>>() {
            if let Some(line) = self.outbox.lines.get_mut(&channel) {
                line.closed_until = line.closed_until.map(moved);
                let waiting = std::mem::take(&mut line.waiting);
                line.waiting = waiting.into_iter().map(|((at, id), delivery)| ((moved(at), id), delivery)).collect();
            }
            self.outbox.reindex(&channel);
        }
    }
}
