//! What an ended attempt means for its run. Pure; expired leases enter here as [`Outcome::Lost`].

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::policy::Delivery;
use crate::run::{Outcome, Reason, RunState};
use crate::spec::ScheduleSpec;
use crate::store::Ending;

/// A wait that a job asks for is no longer than this: it may have it from a stranger.
const LONGEST_WAIT: Duration = Duration::from_secs(366 * 86_400);

/// Why the engine told an attempt to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCause {
    Timeout,
    Requested,
    Replaced,
    Shutdown,
}

impl StopCause {
    /// Whether no other attempt may follow.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Requested | Self::Replaced)
    }
}

/// Where the run goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transition {
    /// It is over.
    Done(Ending),
    /// It waits for another attempt; `attempt` counts those made.
    Again { attempt: u32, not_before: DateTime<Utc>, ending: Ending },
}

/// Decides what follows the `attempt`th attempt (from 1). `random` feeds the back-off's jitter.
pub(crate) fn settle(
    spec: &ScheduleSpec,
    attempt: u32,
    outcome: Outcome,
    cause: Option<StopCause>,
    now: DateTime<Utc>,
    random: u64,
) -> Transition {
    let mut ending = Ending {
        state: RunState::Failed,
        reason: None,
        at: now,
        duration_ms: None,
        summary: None,
        data: Value::Null,
        error: None,
        abandoned: false,
        artifacts: Vec::new(),
    };
    let mut retryable = true;
    let mut wait = None;
    match outcome {
        Outcome::Succeeded(output) => {
            ending.state = RunState::Succeeded;
            ending.summary = output.summary;
            ending.data = output.data;
            return Transition::Done(ending);
        }
        Outcome::Failed(error) | Outcome::Stopped(error) => {
            retryable = error.is_retryable();
            wait = error.wait();
            ending.data = error.data().clone();
            ending.error = Some(error.message().to_owned());
        }
        Outcome::Panicked(message) => ending.error = Some(format!("the job panicked: {message}")),
        Outcome::Unstartable(message) => {
            retryable = false;
            ending.error = Some(message);
        }
        Outcome::Lost => {
            ending.state = RunState::Interrupted;
            ending.reason = Some(Reason::Lost);
            ending.error = Some("the scheduler died while it ran; what it had done is unknown".into());
            wait = Some(Duration::ZERO);
        }
    }
    match cause {
        Some(StopCause::Requested) => return Transition::Done(cancelled(ending, Reason::Requested)),
        Some(StopCause::Replaced) => return Transition::Done(cancelled(ending, Reason::Replaced)),
        Some(StopCause::Shutdown) => {
            ending.state = RunState::Interrupted;
            ending.reason = Some(Reason::Shutdown);
            return match spec.delivery {
                Delivery::AtMostOnce => Transition::Done(ending),
                Delivery::AtLeastOnce => Transition::Again { attempt: attempt - 1, not_before: now, ending },
            };
        }
        Some(StopCause::Timeout) => {
            ending.state = RunState::TimedOut;
            ending.error = Some(format!(
                "exceeded its time limit of {}; raise `timeout` if it needs longer",
                humantime::format_duration(spec.timeout)
            ));
            retryable = true;
        }
        None => {}
    }
    if !retryable || !spec.retry.follows(attempt, ending.state) || spec.delivery == Delivery::AtMostOnce {
        return Transition::Done(ending);
    }
    let wait = wait.map_or_else(|| spec.retry.wait(attempt, random), |asked| asked.min(LONGEST_WAIT));
    let not_before = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
    let not_before = not_before.unwrap_or(DateTime::<Utc>::MAX_UTC);
    Transition::Again { attempt, not_before, ending }
}

fn cancelled(ending: Ending, reason: Reason) -> Ending {
    Ending { state: RunState::Cancelled, reason: Some(reason), error: None, ..ending }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobError, Output};
    use crate::policy::Retry;
    use crate::trigger::TriggerSpec;

    fn spec(attempts: u32) -> ScheduleSpec {
        ScheduleSpec::new("a", "k", TriggerSpec::once(DateTime::UNIX_EPOCH)).unwrap().with_retry(Retry {
            attempts,
            jitter: false,
            ..Retry::default()
        })
    }

    fn check(attempts: u32, attempt: u32, outcome: Outcome, cause: Option<StopCause>) -> (RunState, Option<i64>) {
        match settle(&spec(attempts), attempt, outcome, cause, DateTime::UNIX_EPOCH, 0) {
            Transition::Done(ending) => (ending.state, None),
            Transition::Again { not_before, ending, .. } => (ending.state, Some(not_before.timestamp())),
        }
    }

    #[test]
    fn a_failure_waits_for_the_next_attempt_until_none_is_left() {
        let fail = || Outcome::Failed(JobError::new("no"));
        assert_eq!(check(3, 1, fail(), None), (RunState::Failed, Some(1)));
        assert_eq!(check(3, 2, fail(), None), (RunState::Failed, Some(2)));
        assert_eq!(check(3, 3, fail(), None), (RunState::Failed, None));
        assert_eq!(check(3, 1, Outcome::Failed(JobError::permanent("no")), None), (RunState::Failed, None));
        assert_eq!(check(3, 1, Outcome::Panicked("x".into()), None), (RunState::Failed, Some(1)));
    }

    #[test]
    fn a_lost_attempt_counts_and_is_tried_again_at_once_while_one_is_left() {
        assert_eq!(check(2, 1, Outcome::Lost, None), (RunState::Interrupted, Some(0)));
        assert_eq!(check(1, 1, Outcome::Lost, None), (RunState::Interrupted, None));
    }

    #[test]
    fn only_the_ends_that_the_policy_names_are_tried_again() {
        let mut spec = spec(3);
        spec.retry.retry_on = vec![crate::policy::RetryOn::TimedOut];
        let again = |outcome, cause| {
            matches!(settle(&spec, 1, outcome, cause, DateTime::UNIX_EPOCH, 0), Transition::Again { .. })
        };
        assert!(!again(Outcome::Failed(JobError::new("no")), None));
        assert!(!again(Outcome::Lost, None));
        assert!(again(Outcome::Stopped(JobError::new("stopped")), Some(StopCause::Timeout)));
        assert!(again(Outcome::Stopped(JobError::new("stopped")), Some(StopCause::Shutdown)), "a drain is no end");
    }

    #[test]
    fn a_job_that_succeeds_although_told_to_stop_has_succeeded() {
        let done = Outcome::Succeeded(Output::default());
        assert_eq!(check(3, 1, done, Some(StopCause::Timeout)), (RunState::Succeeded, None));
    }

    #[test]
    fn a_run_drained_at_shutdown_loses_no_attempt() {
        let stopped = Outcome::Stopped(JobError::new("stopped"));
        let transition = settle(&spec(1), 1, stopped, Some(StopCause::Shutdown), DateTime::UNIX_EPOCH, 0);
        assert!(matches!(transition, Transition::Again { attempt: 0, .. }), "{transition:?}");
    }
}
