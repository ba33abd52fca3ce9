//! A persistent job scheduler that you can embed: schedules, runs and their history survive restarts,
//! and every nominal fire time ends in exactly one recorded disposition.
//!
//! The rooms are listed in the project's ARCHITECTURE.md. This crate knows no HTTP client, reads no
//! configuration file, and holds no concrete job.

mod audit;
mod bus;
mod channel;
mod clock;
pub mod config;
mod context;
mod diff;
mod drive;
pub mod engine;
mod event;
pub mod heartbeat;
mod id;
mod job;
mod limits;
mod notice;
mod placement;
mod policy;
pub mod process;
mod query;
mod registry;
mod run;
pub mod runner;
pub mod sink;
mod spec;
pub mod store;
mod suggest;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trigger;

pub use async_trait::async_trait;
pub use audit::{AuditFault, AuditReport, ScheduleAudit, audit};
pub use bus::Subscription;
pub use channel::{Body, Channel, Channels, DeliveryError, Message, ReadyChannel, Told};
pub use clock::{Clock, Now, SystemClock};
pub use context::{
    JobPort, PortError, PortReply, PortRequest, PruneRule, PrunedHistory, RecoveredFire, RunContext, RunInfo,
    is_plain_file_name,
};
pub use diff::{Change, ChangeKind, FieldChange, diff};
pub use drive::{
    BackfillFire, BackfillOrder, Backfilled, EngineError, Files, FilesError, Handle, Scheduler, SchedulerBuilder,
    StartError, Wanted, views,
};
pub use engine::{EngineStatus, Refusal, StartOptions, TriggerRequest};
pub use event::{AlertKind, Event, Recorded, ScheduleChange};
pub use id::{ChannelName, Fence, InvalidName, NodeId, OutboxId, RangeId, RunId, ScheduleName, Seq};
pub use job::{Job, JobError, Output};
pub use limits::Limits;
pub use notice::{ChannelPolicy, Content, Letter, Notice, NoticeKind, OutboxLine, OutboxRow, OutboxState, Quiet};
pub use placement::Placement;
pub use policy::{
    Alerting, Backoff, Delivery, Misfire, MisfirePolicy, OnStart, Overlap, Retry, RetryOn, duration_text,
};
pub use query::{HistoryCursor, HistoryFilter, Hold, OutboxFilter, ScheduleView, Upcoming};
pub use registry::{ChannelKind, JobKind, ParamError, Registry};
pub use run::{Artifact, HistoryRow, Origin, Outcome, RangeRecord, Reason, RunRecord, RunState, UnknownWord};
pub use spec::{ScheduleSpec, SpecError, check_chains};
#[cfg(feature = "sqlite")]
pub use store::sqlite::{SqliteReader, SqliteStore, StoreLock};
pub use store::{Admin, MemoryStore, Query, Store, StoreError};
pub use suggest::near;
pub use trigger::{
    CronError, DayRule, Dialect, Dst, Effect, Fold, Gap, On, Surprise, Trigger, TriggerError, TriggerKind, TriggerSpec,
    instants,
};
