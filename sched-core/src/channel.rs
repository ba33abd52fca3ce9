//! How people are reached: the trait that a channel implements, and what it is handed.
//!
//! Must not know: the engine, concrete channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::id::{ChannelName, OutboxId};
use crate::notice::{ChannelPolicy, Letter, Notice};

/// What a channel is to deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The id of the first delivery in it, the same in each try: who gets it twice can see that.
    pub id: OutboxId,
    /// The channel.
    pub channel: ChannelName,
    /// The try, from 1.
    pub attempt: u32,
    /// When it is sent.
    pub at: DateTime<Utc>,
    /// What is told.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// What happened, oldest first; at least one.
    Notices(Vec<Told>),
    /// What a job has written.
    Letter(Letter),
}

/// A notice, with what its run printed last.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What happened.
    pub notice: Notice,
    /// The last lines of the run's output, oldest first; none when there is none.
    pub output: Vec<String>,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    message: String,
    hopeless: bool,
    wait: Option<Duration>,
}

impl DeliveryError {
    /// A failure that another try may cure.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hopeless: false, wait: None }
    }

    /// A failure that no other try of the same message can cure.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { hopeless: true, ..Self::new(message) }
    }

    /// Asks that the next try wait this long; a day at most.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Whether no other try can help.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.hopeless
    }

    /// The wait that was asked for.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

/// A way to tell people, or other programs, what happened.
///
/// It may be handed the same message again when the scheduler died before it could record that it was taken.
///
/// ```
/// use sched_core::{Body, Channel, DeliveryError, MemoryStore, Message, ReadyChannel, Scheduler, async_trait};
///
/// struct Pager;
///
/// #[async_trait]
/// impl Channel for Pager {
///     async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
///         match &message.body {
///             Body::Notices(told) if told.len() > 9 => Err(DeliveryError::permanent("too much for a pager")),
///             _ => Ok(()),
///         }
///     }
/// }
///
/// // A schedule tells through it that was made `with_notify`.
/// let builder = Scheduler::builder(MemoryStore::new()).channel("pager".parse()?, ReadyChannel::new(Pager));
/// # Ok::<(), sched_core::InvalidName>(())
/// ```
#[async_trait]
pub trait Channel: Send + Sync {
    /// Delivers one message. It is given half a minute.
    ///
    /// # Errors
    /// When it was not taken; it is tried again, unless the error is permanent.
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError>;

    /// When it tells of what, unless its configuration says otherwise.
    fn policy(&self) -> ChannelPolicy {
        ChannelPolicy::default()
    }
}

/// A channel that can be used: how it reaches people, and when.
#[derive(Clone)]
pub struct ReadyChannel {
    /// When it tells of what.
    pub policy: ChannelPolicy,
    /// How it reaches people.
    pub channel: Arc<dyn Channel>,
}

impl std::fmt::Debug for ReadyChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadyChannel").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl ReadyChannel {
    /// A channel with its own policy.
    #[must_use]
    pub fn new(channel: impl Channel + 'static) -> Self {
        Self { policy: channel.policy(), channel: Arc::new(channel) }
    }
}

/// The channels that a scheduler has, by name.
pub type Channels = BTreeMap<ChannelName, ReadyChannel>;
