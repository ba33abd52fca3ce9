//! Which files stay. Pure: it knows times and sizes, and no file system.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use glob::{MatchOptions, Pattern};
use sched_core::{ParamError, duration_text};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// What to keep of the files of one pattern. A file stays when any of the `keep…` and period keys keeps it; without
/// any of them all stay, until `max_total` is exceeded.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// The folder below which files may be removed; `env:NAME` reads it from the environment when it runs.
    pub(super) root: PathBuf,
    /// Which files, by their path below the root: `*.log`, `reports/*-report.html`, `**/*.gz`. `*` does not cross a `/`.
    pub(super) pattern: String,
    /// Files that always stay, by the same kind of pattern.
    #[serde(default)]
    exclude: Vec<String>,
    /// What is counted together: the files of each `folder`, or of the whole `tree`.
    #[serde(default)]
    pub(super) scope: Scope,
    /// The newest so many stay.
    keep: Option<usize>,
    /// Files younger than this stay.
    #[serde(default, deserialize_with = "duration")]
    #[schemars(with = "Option<String>")]
    keep_within: Option<Duration>,
    /// The newest of each of the last so many hours that have one stays; so for days, weeks (from Monday), months, years.
    #[serde(default)]
    hourly: usize,
    /// See `hourly`.
    #[serde(default)]
    daily: usize,
    /// See `hourly`.
    #[serde(default)]
    weekly: usize,
    /// See `hourly`.
    #[serde(default)]
    monthly: usize,
    /// See `hourly`.
    #[serde(default)]
    yearly: usize,
    /// What stays is at most so large together; the oldest go first. Such as `"10GiB"`.
    #[serde(default, deserialize_with = "size")]
    #[schemars(with = "Option<String>")]
    max_total: Option<u64>,
    /// The newest so many stay whatever else is written.
    #[serde(default)]
    min_kept: usize,
    /// Moves what goes to this folder, on the same file system and not below the root, instead of deleting it.
    #[serde(default)]
    pub(super) archive: Option<PathBuf>,
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    #[default]
    Folder,
    Tree,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration_text::parse(&text).map(Some).map_err(serde::de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || serde::de::Error::custom(format!("`{text}` is not a size; write such as \"500MB\" or \"10GiB\""));
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit: u64 = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).map(Some).ok_or_else(wrong)
}

/// What the rules look at of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) modified: DateTime<Utc>,
    pub(super) bytes: u64,
}

/// Whether a file stays, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) stays: bool,
    pub(super) why: String,
}

impl Rule {
    /// The newest so many of a pattern, in each folder.
    pub(super) fn newest(root: PathBuf, pattern: &str, keep: usize) -> Self {
        Self {
            root,
            pattern: pattern.to_owned(),
            exclude: Vec::new(),
            scope: Scope::Folder,
            keep: Some(keep),
            keep_within: None,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            max_total: None,
            min_kept: 0,
            archive: None,
        }
    }

    /// Checks what types cannot; gives the patterns of what the rule is about and of what always stays.
    pub(super) fn compile(&self, index: usize) -> Result<(Pattern, Vec<Pattern>), ParamError> {
        let at = |field: &str| format!("rules[{index}].{field}");
        let pattern =
            |field: &str, text: &str| Pattern::new(text).map_err(|error| ParamError::new(at(field), error.to_string()));
        if !self.root.to_string_lossy().starts_with("env:") {
            check_root(&self.root).map_err(|message| ParamError::new(at("root"), message))?;
        }
        if let Some(archive) = &self.archive {
            check_root(archive).map_err(|message| ParamError::new(at("archive"), message))?;
            if archive.starts_with(&self.root) {
                return Err(ParamError::new(at("archive"), "lies below the root; name a folder beside it"));
            }
        }
        if !self.keeps_some() && self.max_total.is_none() {
            let keys = "`keep`, `keep_within`, a period such as `daily`, or `max_total`";
            return Err(ParamError::new(format!("rules[{index}]"), format!("says nothing to keep; write {keys}")));
        }
        let exclude = self.exclude.iter().map(|text| pattern("exclude", text)).collect::<Result<_, _>>()?;
        Ok((pattern("pattern", &self.pattern)?, exclude))
    }

    fn periods(&self) -> [(&'static str, usize); 5] {
        let Self { hourly, daily, weekly, monthly, yearly, .. } = *self;
        [("hourly", hourly), ("daily", daily), ("weekly", weekly), ("monthly", monthly), ("yearly", yearly)]
    }

    fn keeps_some(&self) -> bool {
        self.keep.is_some() || self.keep_within.is_some() || self.periods().iter().any(|(_, count)| *count > 0)
    }

    /// Judges files that are counted together, newest first.
    pub(super) fn judge(&self, files: &[Facts], now: DateTime<Utc>, zone: Tz) -> Vec<Verdict> {
        let mut stays: Vec<Option<String>> = vec![None; files.len()];
        let mut keep = |index: usize, why: &dyn Fn() -> String| {
            stays[index].get_or_insert_with(why);
        };
        for index in 0..files.len().min(self.min_kept) {
            keep(index, &|| format!("min_kept = {}", self.min_kept));
        }
        for index in 0..files.len().min(self.keep.unwrap_or(0)) {
            keep(index, &|| format!("among the newest {}", self.keep.unwrap_or(0)));
        }
        let oldest = self.keep_within.and_then(|within| {
            let within = TimeDelta::from_std(within).ok()?;
            now.checked_sub_signed(within)
        });
        for (name, count) in self.periods() {
            let mut seen = HashSet::new();
            for (index, file) in files.iter().enumerate() {
                if seen.len() == count {
                    break;
                }
                if seen.insert(period(name, file.modified, zone)) {
                    keep(index, &|| format!("{name}, the newest of its period"));
                }
            }
        }
        for (index, file) in files.iter().enumerate() {
            if oldest.is_some_and(|oldest| file.modified > oldest) {
                keep(index, &|| "younger than keep_within".to_owned());
            } else if !self.keeps_some() {
                keep(index, &|| "within max_total".to_owned());
            }
        }
        let mut left: u64 = 0;
        let verdict = |(index, why): (usize, Option<String>)| {
            let Some(why) = why else {
                return Verdict { stays: false, why: "kept by no key of its rule".into() };
            };
            left = left.saturating_add(files[index].bytes);
            if index >= self.min_kept && self.max_total.is_some_and(|most| left > most) {
                return Verdict { stays: false, why: "beyond max_total".into() };
            }
            Verdict { stays: true, why }
        };
        stays.into_iter().enumerate().map(verdict).collect()
    }
}

/// The period that an instant is in; equal for equal periods.
fn period(name: &str, at: DateTime<Utc>, zone: Tz) -> (i32, u32, u32) {
    let local = at.with_timezone(&zone);
    match name {
        "hourly" => (local.year(), local.ordinal(), local.hour()),
        "daily" => (local.year(), local.ordinal(), 0),
        "weekly" => (local.iso_week().year(), local.iso_week().week(), 0),
        "monthly" => (local.year(), local.month(), 0),
        _ => (local.year(), 0, 0),
    }
}

/// How patterns match.
pub(super) fn options() -> MatchOptions {
    MatchOptions { require_literal_separator: true, ..MatchOptions::new() }
}

/// Refuses roots below which nobody means to clean up.
pub(super) fn check_root(root: &Path) -> Result<(), String> {
    let text = root.to_string_lossy();
    if text.starts_with('~') || text.contains('$') {
        return Err(format!("`{text}` is refused: variables are not expanded; write the path, or env:NAME"));
    }
    let names = root.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let home = std::env::var_os("HOME").is_some_and(|home| Path::new(&home) == root)
        || (root.parent() == Some(Path::new("/home")));
    let shallow = names == 0 || (root.is_absolute() && names == 1);
    if shallow || home || root.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{text}` is refused: name a folder that only holds what may be removed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sched_core::testing::Random;
    use serde_json::{Value, json};

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-25T12:00:00Z".parse().unwrap()
    }

    fn rule(keys: &Value) -> Rule {
        let mut all = json!({ "root": "/srv/backups", "pattern": "*" });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    /// Files so many hours old, newest first, each of 10 bytes; gives which stay.
    fn stay(keys: &Value, hours: &[i64]) -> Vec<i64> {
        let files: Vec<_> =
            hours.iter().map(|hours| Facts { modified: now() - TimeDelta::hours(*hours), bytes: 10 }).collect();
        let verdicts = rule(keys).judge(&files, now(), Tz::UTC);
        hours.iter().zip(verdicts).filter(|(_, verdict)| verdict.stays).map(|(hours, _)| *hours).collect()
    }

    #[test]
    fn each_key_keeps_what_it_says_and_together_they_keep_all_of_it() {
        let hours = [1, 5, 13, 30, 50, 200, 900, 9000];
        assert_eq!(stay(&json!({ "keep": 3 }), &hours), [1, 5, 13]);
        assert_eq!(stay(&json!({ "keep_within": "2d" }), &hours), [1, 5, 13, 30]);
        assert_eq!(stay(&json!({ "daily": 3 }), &hours), [1, 13, 50]);
        assert_eq!(stay(&json!({ "yearly": 5 }), &hours), [1, 9000]);
        assert_eq!(stay(&json!({ "keep": 1, "monthly": 2 }), &hours), [1, 900]);
        assert_eq!(stay(&json!({ "max_total": "35B" }), &hours), [1, 5, 13]);
        assert_eq!(stay(&json!({ "keep": 4, "max_total": "20B" }), &hours), [1, 5]);
        assert_eq!(stay(&json!({ "max_total": "0B", "min_kept": 2 }), &hours), [1, 5]);
        assert_eq!(stay(&json!({ "keep": 0, "min_kept": 1 }), &hours), [1]);
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let at = |text: &str| Facts { modified: text.parse().unwrap(), bytes: 1 };
        // 23:30 and 00:30 in Berlin are one UTC day, and two there.
        let files = [at("2026-11-20T23:30:00Z"), at("2026-11-20T22:30:00Z")];
        let count = |zone| rule(&json!({ "daily": 7 })).judge(&files, now(), zone).iter().filter(|v| v.stays).count();
        assert_eq!((count(Tz::UTC), count(Tz::Europe__Berlin)), (1, 2));
    }

    #[test]
    fn a_rule_that_would_keep_nothing_or_has_an_odd_root_is_refused() {
        let refused = |keys: Value| rule(&keys).compile(0).unwrap_err().to_string();
        assert!(refused(json!({})).contains("says nothing to keep"));
        assert!(refused(json!({ "keep": 1, "archive": "/srv/backups/old" })).contains("below the root"));
        for root in ["/", "/etc", "/home/ann", "~/x", "$DIR/x", "a/../..", ""] {
            assert!(refused(json!({ "keep": 1, "root": root })).contains("is refused"), "{root}");
        }
        assert!(serde_json::from_value::<Rule>(json!({ "root": "a", "pattern": "*", "max_total": "10 lbs" })).is_err());
    }

    /// The rules once more, file by file and slowly: what must stay.
    fn must_stay(rule: &Rule, files: &[Facts], index: usize) -> bool {
        let newer = |same: &dyn Fn(&Facts) -> bool| files[..index].iter().filter(|file| same(file)).count();
        let first_of = |name: &str, count: usize| {
            let mine = period(name, files[index].modified, Tz::UTC);
            let of_mine = |file: &Facts| period(name, file.modified, Tz::UTC) == mine;
            let mut periods: Vec<_> = files[..index].iter().map(|file| period(name, file.modified, Tz::UTC)).collect();
            periods.sort_unstable();
            periods.dedup();
            newer(&of_mine) == 0 && periods.len() < count
        };
        index < rule.keep.unwrap_or(0)
            || rule.keep_within.is_some_and(|within| (now() - files[index].modified).to_std().unwrap() < within)
            || rule.periods().iter().any(|(name, count)| first_of(name, *count))
            || !rule.keeps_some()
    }

    #[test]
    fn never_more_goes_than_the_rules_allow() {
        let mut random = Random(0x9e37);
        for _ in 0..3000 {
            let mut hours: Vec<i64> = (0..random.below(40)).map(|_| random.below(30_000) as i64).collect();
            hours.sort_unstable();
            let files: Vec<_> = hours
                .iter()
                .map(|hours| Facts { modified: now() - TimeDelta::hours(*hours), bytes: random.below(100) })
                .collect();
            let mut keys = json!({ "min_kept": random.below(4) });
            for key in ["keep", "hourly", "daily", "weekly", "monthly", "yearly"] {
                if random.below(3) == 0 {
                    keys[key] = json!(random.below(6));
                }
            }
            if random.below(3) == 0 {
                keys["keep_within"] = json!(format!("{}d", 1 + random.below(400)));
            }
            let capped = random.below(2) == 0;
            if capped {
                keys["max_total"] = json!(format!("{}B", random.below(1500)));
            }
            let rule = rule(&keys);
            let verdicts = rule.judge(&files, now(), Tz::UTC);
            let mut total = 0;
            for (index, verdict) in verdicts.iter().enumerate() {
                let must = must_stay(&rule, &files, index) || index < rule.min_kept;
                total += if must { files[index].bytes } else { 0 };
                let within = index < rule.min_kept || rule.max_total.is_none_or(|most| total <= most);
                assert_eq!(verdict.stays, must && within, "{keys} {hours:?} at {index}: {verdict:?}");
            }
        }
    }
}
