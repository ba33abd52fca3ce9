//! What a process may use at most.
//!
//! Must not know: how a process is started.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::maybe_duration;

/// Limits of each process of a tree (setrlimit(2)); the kernel knows none of a whole tree but in a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory that it may have for its data, such as "512 MiB". It is RLIMIT_DATA: what a program only reserves, as
    /// virtual machines do by the gigabyte, does not count.
    #[serde(default, with = "bytes", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
    /// Files that it may have open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Time on a CPU, whole seconds from 1. It gets SIGXCPU then, and a second later SIGKILL.
    #[serde(default, with = "maybe_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cpu: Option<Duration>,
}

impl Limits {
    /// Which of them cannot work, and why.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let whole = self.cpu.is_none_or(|cpu| cpu.as_secs() > 0 && cpu.subsec_nanos() == 0);
        if !whole {
            return Some(("cpu", "the kernel counts whole seconds; write \"1s\" or more"));
        }
        if self.files.is_some_and(|files| files < 8) {
            return Some(("files", "a program needs some to start; write 8 or more"));
        }
        let enough = self.memory.is_none_or(|memory| memory >= 1024 * 1024);
        (!enough).then_some(("memory", "a program needs some to start; write \"1 MiB\" or more"))
    }
}

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];

/// A size in bytes, written as a number with `KiB`, `MiB`, `GiB` or nothing.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (unit, shift) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
    number.checked_mul(1 << shift)
}

/// Sizes as text: a number with `KiB`, `MiB` or `GiB`, or of bytes.
mod bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use super::UNITS;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }

    #[expect(clippy::ref_option, reason = "serde hands the field")]
    pub(super) fn serialize<S: Serializer>(size: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        let size = size.unwrap_or_default();
        let (unit, shift) = UNITS.into_iter().find(|(_, shift)| size.trailing_zeros() >= *shift).unwrap_or(("", 0));
        if unit.is_empty() {
            serializer.serialize_u64(size)
        } else {
            serializer.collect_str(&format_args!("{} {unit}", size >> shift))
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Number(size) => return Ok(Some(size)),
            Written::Text(text) => text,
        };
        super::size(&text)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a size; write such as \"512 MiB\" or \"2 GiB\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_with_units_and_read_back() {
        let written = serde_json::json!({ "memory": "512 MiB", "files": 64, "cpu": "10s" });
        let limits: Limits = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(limits, Limits { memory: Some(512 << 20), files: Some(64), cpu: Some(Duration::from_secs(10)) });
        assert_eq!(serde_json::to_value(&limits).unwrap(), written);
        let plain: Limits = serde_json::from_value(serde_json::json!({ "memory": 1_048_577 })).unwrap();
        assert_eq!(serde_json::to_value(&plain).unwrap(), serde_json::json!({ "memory": 1_048_577 }));
        let wrong = serde_json::from_value::<Limits>(serde_json::json!({ "memory": "much" })).unwrap_err();
        assert_eq!(wrong.to_string(), "`much` is not a size; write such as \"512 MiB\" or \"2 GiB\"");
        assert_eq!(Limits { cpu: Some(Duration::from_millis(1500)), ..Limits::default() }.fault().unwrap().0, "cpu");
    }
}
