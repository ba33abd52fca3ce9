//! Hands messages to channels, away from the engine's threads.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::{EngineError, Handle, Shared};
use crate::channel::{Body, Channels, DeliveryError, Message, ReadyChannel, Told};
use crate::context::PortError;
use crate::engine::{Command, Input, Reply};
use crate::id::{ChannelName, OutboxId, RunId, ScheduleName};
use crate::notice::{Content, Letter, Notice, NoticeKind, OutboxRow, OutboxState};
use crate::query::OutboxFilter;

/// What a channel gets to take a message.
const LIMIT: Duration = Duration::from_secs(30);
/// So many of the last lines of a run's output go with a notice, of so many of the last bytes.
const LINES: usize = 20;
const BYTES: u64 = 4096;
/// So many rows are revived at once.
const MOST_REVIVED: u32 = 1000;

impl Shared {
    pub(super) fn channels(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends these as one message, and tells the engine what came of it.
    pub(super) fn deliver(self: &Arc<Self>, name: ChannelName, rows: Vec<OutboxRow>) {
        let shared = self.clone();
        self.runtime.spawn(async move {
            let channel = shared.channels().get(&name).cloned();
            let sent = match (channel, shared.message(rows).await) {
                (Some(channel), Some(message)) => send(channel, message).await,
                (None, _) => Err(DeliveryError::permanent("its channel is configured no longer")),
                (_, None) => Ok(()),
            };
            shared.inbox.push(Input::Delivered(name, sent));
        });
    }

    /// None when there is nothing to tell.
    async fn message(self: &Arc<Self>, rows: Vec<OutboxRow>) -> Option<Message> {
        let first = rows.first()?;
        let (id, channel, attempt) = (first.id, first.channel.clone(), first.attempt + 1);
        let mut notices = Vec::new();
        let mut letters = Vec::new();
        for row in rows {
            match row.content {
                Content::Notice(notice) => {
                    let output = self.last_lines(&notice).await;
                    notices.push(Told { notice, output });
                }
                Content::Letter(letter) => letters.push(letter),
            }
        }
        let body = letters.pop().map_or(Body::Notices(notices), Body::Letter);
        Some(Message { id, channel, attempt, at: self.clock.now().utc, body })
    }

    /// What the run of a failure printed last.
    async fn last_lines(self: &Arc<Self>, notice: &Notice) -> Vec<String> {
        let of = |kind| matches!(kind, NoticeKind::Failed | NoticeKind::Retry | NoticeKind::Overrun);
        let Some(run_id) = notice.run_id.filter(|_| of(notice.kind)) else { return Vec::new() };
        let shared = self.clone();
        let read = tokio::task::spawn_blocking(move || shared.end_of_output(run_id)).await;
        // Without it the notice says enough.
        read.ok().and_then(Result::ok).unwrap_or_default()
    }

    fn end_of_output(&self, run_id: RunId) -> std::io::Result<Vec<String>> {
        let Some(files) = &self.files else { return Ok(Vec::new()) };
        let mut file = std::fs::File::open(files.output_path(run_id))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.take(BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // The first line of a piece may have lost its beginning.
        let cut = usize::from(length > BYTES);
        let lines: Vec<&str> = text.lines().skip(cut).collect();
        Ok(lines[lines.len().saturating_sub(LINES)..].iter().map(ToString::to_string).collect())
    }
}

/// Hands a message over, within the time that there is for it; a channel that panics has failed.
async fn send(channel: ReadyChannel, message: Message) -> Result<(), DeliveryError> {
    let deliver = async move { channel.channel.deliver(&message).await };
    match tokio::spawn(tokio::time::timeout(LIMIT, deliver)).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(DeliveryError::new(format!("no answer within {}s", LIMIT.as_secs()))),
        Err(error) => Err(DeliveryError::new(format!("the channel panicked: {error}"))),
    }
}

impl ReadyChannel {
    /// Sends a message that says that it is a trial, at once and past the outbox.
    ///
    /// # Errors
    /// When the channel does not take it.
    pub async fn test(&self, name: &ChannelName, at: chrono::DateTime<chrono::Utc>) -> Result<(), DeliveryError> {
        let text = format!("This is a trial of channel {name}. Nothing has happened.");
        let notice = Notice::new(NoticeKind::Test, at, text);
        let body = Body::Notices(vec![Told { notice, output: Vec::new() }]);
        let id = OutboxId::from_uuid(uuid::Uuid::now_v7());
        send(self.clone(), Message { id, channel: name.clone(), attempt: 1, at, body }).await
    }
}

impl Handle {
    /// Sends a letter through channels, for a schedule's job. When this returns, that it is to be sent is durable.
    ///
    /// # Errors
    /// When there is no such channel, or the letter is too long.
    pub async fn send(
        &self,
        channels: Vec<ChannelName>,
        schedule: ScheduleName,
        letter: Letter,
    ) -> Result<(), PortError> {
        letter.check().map_err(PortError::new)?;
        let sent = self.ask(Command::Send { channels, schedule, letter }).await;
        sent.map(drop).map_err(|error| PortError::new(error.to_string()))
    }

    /// What is told to people, and how far that is; newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn outbox(&self, filter: OutboxFilter) -> Result<Vec<OutboxRow>, EngineError> {
        self.read(move |query| query.outbox(&filter)).await
    }

    /// Tries again to deliver what was given up, the newest thousand of it; gives their number.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn redeliver(&self) -> Result<usize, EngineError> {
        self.revive(|_| true).await
    }

    /// The same, of these alone.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn redeliver_these(&self, ids: Vec<OutboxId>) -> Result<usize, EngineError> {
        self.revive(|row| ids.contains(&row.id)).await
    }

    async fn revive(&self, wanted: impl Fn(&OutboxRow) -> bool) -> Result<usize, EngineError> {
        let filter = OutboxFilter { state: Some(OutboxState::Dead), after: None, limit: MOST_REVIVED };
        let mut rows = self.outbox(filter).await?;
        rows.retain(|row| wanted(row) && self.shared.channels().contains_key(&row.channel));
        let count = rows.len();
        match self.ask(Command::Redeliver(rows)).await? {
            Reply::Done => Ok(count),
            _ => Err(EngineError::Stopped),
        }
    }
}
