//! What was found and what came of it, for the record and for people.

use serde_json::{Value, json};

use super::health::Health;
use super::remedy::Done;

/// So many names stand in the summary.
const NAMED: usize = 5;

/// All that one run has to say.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) runs: Done,
    pub(super) health: Vec<Health>,
    /// What the checks found.
    pub(super) found: Vec<Value>,
    /// Remedies that were used.
    pub(super) done: Vec<Value>,
    /// Checks whose remedy helped.
    pub(super) verified: Vec<String>,
    /// Remedies that did not help, or could not be used.
    pub(super) failed: Vec<Value>,
    /// Remedies that their limits hold back, or whose runs go on.
    pub(super) waiting: Vec<Value>,
    /// What a dry run would have done.
    pub(super) would: Vec<Value>,
    pub(super) given_up: Vec<Value>,
    /// Whether a check is among what was given up.
    pub(super) checks_given_up: bool,
}

fn names(list: &[Value]) -> String {
    let name = |value: &Value| {
        let named = value.get("check").or_else(|| value.get("schedule"));
        named.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut names: Vec<String> = list.iter().take(NAMED).map(name).collect();
    if list.len() > NAMED {
        names.push(format!("{} more", list.len() - NAMED));
    }
    names.join(", ")
}

impl Report {
    pub(super) fn give_up(&mut self, check: &str, reason: impl Into<String>) {
        self.given_up.push(json!({ "check": check, "reason": reason.into() }));
        self.checks_given_up = true;
    }

    pub(super) fn unhealthy(&self) -> usize {
        self.health.iter().filter(|health| !health.ok).count()
    }

    /// In one line, for people.
    pub(super) fn summary(&self, checks: usize) -> String {
        let mut text = format!("{} run again, {} refused", self.runs.count(), self.runs.refused.len());
        if !self.health.is_empty() {
            text.push_str(&format!(", {} of {} URLs unhealthy", self.unhealthy(), self.health.len()));
        }
        if checks > 0 {
            text.push_str(&format!(", {} of {checks} checks well", checks.saturating_sub(self.found.len())));
        }
        if !self.verified.is_empty() {
            let verified: Vec<Value> = self.verified.iter().map(|check| json!({ "check": check })).collect();
            text.push_str(&format!("; healed: {}", names(&verified)));
        }
        for (words, list) in [
            ("would act on", &self.would),
            ("not helped yet", &self.failed),
            ("waiting", &self.waiting),
            ("given up", &self.given_up),
        ] {
            if !list.is_empty() {
                text.push_str(&format!("; {words}: {}", names(list)));
            }
        }
        text
    }

    /// For programs.
    pub(super) fn data(&self) -> Value {
        json!({
            "retried_count": self.runs.count(),
            "retried": self.runs.retried,
            "recovered": self.runs.recovered,
            "refused": self.runs.refused,
            "health": self.health,
            "found": self.found,
            "done": self.done,
            "verified": self.verified,
            "failed": self.failed,
            "waiting": self.waiting,
            "would": self.would,
            "given_up": self.given_up,
        })
    }
}
