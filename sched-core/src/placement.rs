//! Which runner a schedule's runs get.
//!
//! Must not know: runners.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::limits::Limits;

/// Where the runs of a schedule go.
///
/// ```
/// use sched_core::Placement;
/// let placement: Placement = serde_json::from_str("\"process\"")?;
/// assert_eq!(placement, Placement::Process(sched_core::Limits::default()));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Into the scheduler's process.
    #[default]
    Task,
    /// Into a process of their own, which may use so much.
    Process(Limits),
}

impl Placement {
    pub(crate) fn is_task(&self) -> bool {
        *self == Self::Task
    }
}

impl<'de> Deserialize<'de> for Placement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A table, in which one key is allowed.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Limited {
            process: Limits,
        }
        let written = serde_json::Value::deserialize(deserializer)?;
        match written.as_str() {
            Some("task") => Ok(Self::Task),
            Some("process") => Ok(Self::Process(Limits::default())),
            Some(other) => Err(D::Error::custom(format!("no runner `{other}`; write \"task\" or \"process\""))),
            None => Limited::deserialize(written).map(|limited| Self::Process(limited.process)).map_err(|error| {
                let form = "write \"task\", \"process\", or { process = { memory = \"512 MiB\" } }";
                D::Error::custom(format!("{error}; {form}"))
            }),
        }
    }
}
