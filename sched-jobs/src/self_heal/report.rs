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

fn name(entry: &Value) -> &str {
    entry.get("check").or_else(|| entry.get("schedule")).and_then(Value::as_str).unwrap_or_default()
}

fn names(list: &[Value]) -> String {
    let mut names: Vec<String> = list.iter().take(NAMED).map(|entry| name(entry).to_owned()).collect();
    if list.len() > NAMED {
        names.push(format!("{} more", list.len() - NAMED));
    }
    names.join(", ")
}

/// What is given up, and why.
fn told(entry: &Value) -> String {
    let reason = entry.get("reason").and_then(Value::as_str).unwrap_or_default();
    format!("{} ({reason})", name(entry))
}

impl Report {
    pub(super) fn give_up(&mut self, check: &str, reason: impl Into<String>) {
        self.given_up.push(json!({ "check": check, "reason": reason.into() }));
        self.checks_given_up = true;
    }

    pub(super) fn unhealthy(&self) -> usize {
        self.health.iter().filter(|health| !health.ok).count()
    }

    /// In one line, for people: what is given up comes first.
    pub(super) fn summary(&self, checks: usize) -> String {
        let (of_checks, of_runs): (Vec<Value>, Vec<Value>) =
            self.given_up.iter().cloned().partition(|given_up| given_up.get("check").is_some());
        let mut parts: Vec<String> =
            of_checks.iter().take(NAMED).map(|given_up| format!("given up: {}", told(given_up))).collect();
        if of_checks.len() > NAMED {
            parts.push(format!("given up: {} more", of_checks.len() - NAMED));
        }
        let mut text = format!("{} run again, {} refused", self.runs.count(), self.runs.refused.len());
        if !self.health.is_empty() {
            text.push_str(&format!(", {} of {} URLs unhealthy", self.unhealthy(), self.health.len()));
        }
        if checks > 0 {
            text.push_str(&format!(", {} of {checks} checks well", checks.saturating_sub(self.found.len())));
        }
        parts.push(text);
        let verified: Vec<Value> = self.verified.iter().map(|check| json!({ "check": check })).collect();
        for (words, list) in [
            ("healed", &verified),
            ("would act on", &self.would),
            ("not helped yet", &self.failed),
            ("waiting", &self.waiting),
            ("left to people", &of_runs),
        ] {
            if !list.is_empty() {
                parts.push(format!("{words}: {}", names(list)));
            }
        }
        parts.join("; ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_comes_first_and_lists_are_short() {
        let mut report = Report::default();
        assert_eq!(report.summary(0), "0 run again, 0 refused");
        report.found = vec![json!({ "check": "disk" }); 2];
        report.verified = (1..=7).map(|n| format!("v{n}")).collect();
        report.given_up.push(json!({ "schedule": "import", "reason": "it failed again after a retry" }));
        report.give_up("disk", "3 MiB are free");
        assert_eq!(
            report.summary(9),
            "given up: disk (3 MiB are free); 0 run again, 0 refused, 7 of 9 checks well; \
             healed: v1, v2, v3, v4, v5, 2 more; left to people: import"
        );
    }
}
