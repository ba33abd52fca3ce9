//! `retention`: keeps what the rules keep of the files below their roots, and prunes the history.
//!
//! `rule` decides, and knows no file system; `walk` finds and removes, and knows no rules.

mod rule;
mod walk;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use glob::Pattern;
use sched_core::{Job, JobError, Output, ParamError, PruneRule, PrunedHistory, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};

use self::rule::{Rule, Scope, Verdict, check_root, options};
use self::walk::{Gone, Root, Seen};
use crate::JobEnv;
use crate::secret::resolve;

/// So many files between two words on the progress.
const BETWEEN_WORDS: usize = 2000;
/// So many files are told one by one in the run's output.
const TOLD: u32 = 5000;
/// So many problems and removed files are listed in the run's record.
const LISTED: usize = 100;

/// Parameters of `retention`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// What to keep; the scheduler's own artifacts and output unless set.
    rules: Option<Vec<Rule>>,
    /// The zone of days, weeks and other periods.
    #[schemars(with = "String")]
    timezone: Tz,
    /// Say in the run's output what would stay and go, and why; remove nothing.
    dry_run: bool,
    /// Prune the scheduler's history too.
    prune_history: bool,
    /// Days that runs and ranges stay.
    keep_days: u32,
    /// Days that failed runs stay.
    keep_failures_days: u32,
    /// The newest runs of each schedule that stay in any case.
    keep_newest: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rules: None,
            timezone: Tz::UTC,
            dry_run: false,
            prune_history: true,
            keep_days: 30,
            keep_failures_days: 90,
            keep_newest: 1000,
        }
    }
}

/// A rule with its patterns.
#[derive(Debug, Clone)]
struct Ready {
    rule: Rule,
    pattern: Pattern,
    exclude: Vec<Pattern>,
}

struct Retention {
    params: Params,
    rules: Vec<Ready>,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register("retention", "Keeps what rules keep of files, prunes the history", move |params: Params| {
        let own = |folder: &str, pattern: &str, keep| Rule::newest(env.data_dir.join(folder), pattern, keep);
        let rules = params.rules.clone().unwrap_or_else(|| {
            vec![own("artifacts", "*/*.json", 100), own("artifacts", "*/*.html", 100), own("output", "*.log", 5000)]
        });
        let ready = rules.into_iter().enumerate().map(|(index, rule)| {
            let (pattern, exclude) = rule.compile(index)?;
            Ok(Ready { rule, pattern, exclude })
        });
        let rules = ready.collect::<Result<Vec<_>, ParamError>>()?;
        Ok(Retention { params, rules, env: env.clone() })
    });
}

/// What one run came to.
#[derive(Debug, Default)]
struct Swept {
    removed: Vec<String>,
    removed_count: u64,
    freed_bytes: u64,
    kept_count: u64,
    changed_count: u64,
    problems: Vec<String>,
}

/// What the thread that walks says on the way.
enum Word {
    Line(String),
    Progress(u8, String),
}

/// The thread that walks.
struct Sweep {
    ctx: RunContext,
    words: Sender<Word>,
    now: DateTime<Utc>,
    zone: Tz,
    dry_run: bool,
    /// Of the rules.
    percent: u8,
    told: u32,
    swept: Swept,
}

impl Sweep {
    fn say(&self, word: Word) {
        // Whoever listened has gone only when the run has ended.
        let _ = self.words.blocking_send(word);
    }

    /// Tells of one file.
    fn tell(&mut self, line: impl FnOnce() -> String) {
        self.told = self.told.saturating_add(1);
        match self.told {
            ..=TOLD => self.say(Word::Line(line())),
            told if told == TOLD + 1 => self.say(Word::Line("(further files are not told one by one)".into())),
            _ => {}
        }
    }

    fn wrong(&mut self, path: &Path, error: impl std::fmt::Display) {
        let told = format!("{}: {error}", path.display());
        self.say(Word::Line(format!("problem: {told}")));
        if self.swept.problems.len() < LISTED {
            self.swept.problems.push(told);
        }
    }

    /// Applies one rule.
    fn apply(&mut self, root: &Path, archive: Option<&Path>, ready: &Ready) {
        // Where links on the way lead is looked at too.
        let real = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        if let Err(message) = check_root(&real) {
            return self.wrong(root, message);
        }
        let opened = match Root::open(root) {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            Err(error) => return self.wrong(root, error),
        };
        let archive = match archive.map(open_archive).transpose() {
            Ok(archive) => archive,
            Err(error) => return self.wrong(archive.unwrap_or(root), error),
        };
        for mut files in self.list(root, &opened, ready).into_values() {
            files.sort_by_cached_key(|seen| Reverse((seen.facts().modified, seen.path())));
            let facts: Vec<_> = files.iter().map(Seen::facts).collect();
            let verdicts = ready.rule.judge(&facts, self.now, self.zone);
            let mut gone: BTreeMap<&Path, Vec<(&Seen, &Verdict)>> = BTreeMap::new();
            for (seen, verdict) in files.iter().zip(&verdicts) {
                if verdict.stays {
                    self.swept.kept_count += 1;
                    if self.dry_run {
                        self.tell(|| format!("keep {}: {}", root.join(seen.path()).display(), verdict.why));
                    }
                } else {
                    gone.entry(&seen.folder).or_default().push((seen, verdict));
                }
            }
            for (within, files) in gone {
                if self.ctx.is_cancelled() {
                    return;
                }
                self.remove(root, (&opened, within), &files, archive.as_ref());
            }
        }
    }

    /// The files that the rule is about, as they are counted together.
    fn list(&mut self, root: &Path, opened: &Root, ready: &Ready) -> BTreeMap<PathBuf, Vec<Seen>> {
        let mut together: BTreeMap<PathBuf, Vec<Seen>> = BTreeMap::new();
        let (mut listed, mut faults) = (0_usize, Vec::new());
        let found = |seen: Seen| {
            listed += 1;
            if listed.is_multiple_of(BETWEEN_WORDS) {
                let text = format!("{listed} files looked at below {}", root.display());
                self.say(Word::Progress(self.percent, text));
            }
            let path = seen.path();
            let is = |pattern: &Pattern| pattern.matches_path_with(&path, options());
            if is(&ready.pattern) && !ready.exclude.iter().any(is) {
                let folder = match ready.rule.scope {
                    Scope::Folder => seen.folder.clone(),
                    Scope::Tree => PathBuf::new(),
                };
                together.entry(folder).or_default().push(seen);
            }
            !self.ctx.is_cancelled()
        };
        opened.list(found, |below, error| faults.push((root.join(below), error)));
        for (path, error) in faults {
            self.wrong(&path, error);
        }
        together
    }

    fn remove(
        &mut self,
        root: &Path,
        (opened, within): (&Root, &Path),
        files: &[(&Seen, &Verdict)],
        archive: Option<&Root>,
    ) {
        let dry_run = self.dry_run;
        let verb = match (dry_run, archive) {
            (true, None) => "would remove",
            (true, Some(_)) => "would archive",
            (false, None) => "removed",
            (false, Some(_)) => "archived",
        };
        let mut verdicts = files.iter().map(|(_, verdict)| *verdict);
        let mut done = |seen: &Seen, gone| {
            let path = root.join(seen.path());
            let why = verdicts.next().map_or("", |verdict| verdict.why.as_str());
            match gone {
                Ok(Gone::Removed) => {
                    self.swept.removed_count += 1;
                    self.swept.freed_bytes += seen.facts().bytes;
                    self.tell(|| format!("{verb} {}: {why}", path.display()));
                    if self.swept.removed.len() < LISTED {
                        self.swept.removed.push(path.display().to_string());
                    }
                }
                Ok(Gone::Changed) => {
                    self.swept.changed_count += 1;
                    self.tell(|| format!("left {}: it has changed since it was listed", path.display()));
                }
                Err(error) => self.wrong(&path, error),
            }
            !self.ctx.is_cancelled()
        };
        let mut seen = files.iter().map(|(seen, _)| *seen);
        if dry_run {
            // Until it says stop.
            let _ = seen.all(|seen| done(seen, Ok(Gone::Removed)));
        } else {
            opened.remove(within, seen, archive, done);
        }
    }
}

/// Opens the folder that takes what goes; it is made when it is not there.
fn open_archive(path: &Path) -> std::io::Result<Root> {
    std::fs::create_dir_all(path)?;
    Root::open(path)?.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

impl Retention {
    /// Each rule with its root and archive as paths.
    fn places(&self) -> Result<Vec<(PathBuf, Option<PathBuf>, Ready)>, JobError> {
        let place = |ready: &Ready| {
            let text = ready.rule.root.to_string_lossy();
            let root = if text.starts_with("env:") {
                let root = PathBuf::from(resolve(&text, &self.env.base_dir).map_err(JobError::permanent)?);
                check_root(&root).map_err(|message| JobError::permanent(format!("{text}: {message}")))?;
                root
            } else {
                ready.rule.root.clone()
            };
            let archive = ready.rule.archive.as_ref().map(|archive| self.env.path(archive));
            Ok((self.env.path(&root), archive, ready.clone()))
        };
        self.rules.iter().map(place).collect()
    }

    async fn sweep(&self, ctx: &RunContext) -> Result<Swept, JobError> {
        let places = self.places()?;
        let (words, mut said) = channel(64);
        let (zone, dry_run) = (self.params.timezone, self.params.dry_run);
        let mut sweep = Sweep {
            ctx: ctx.clone(),
            words,
            now: ctx.now(),
            zone,
            dry_run,
            percent: 0,
            told: 0,
            swept: Swept::default(),
        };
        let work = tokio::task::spawn_blocking(move || {
            let rules = places.len();
            for (index, (root, archive, ready)) in places.into_iter().enumerate() {
                sweep.percent = u8::try_from(100 * index / rules).unwrap_or(100);
                sweep.apply(&root, archive.as_deref(), &ready);
            }
            sweep.swept
        });
        while let Some(word) = said.recv().await {
            match word {
                Word::Line(line) => ctx.log(line).await,
                Word::Progress(percent, text) => ctx.progress(percent, text).await,
            }
        }
        work.await.map_err(|error| JobError::new(error.to_string()))
    }

    async fn prune(&self, ctx: &RunContext) -> Result<PrunedHistory, JobError> {
        let before = |days: u32| {
            ctx.now().checked_sub_signed(TimeDelta::days(i64::from(days))).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
        };
        let rule = PruneRule {
            before: before(self.params.keep_days),
            failures_before: before(self.params.keep_failures_days),
            keep_newest: self.params.keep_newest,
            dry_run: self.params.dry_run,
        };
        Ok(ctx.prune(rule).await?)
    }
}

#[async_trait]
impl Job for Retention {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let swept = self.sweep(ctx).await?;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let history = if self.params.prune_history { Some(self.prune(ctx).await?) } else { None };
        let verb = if self.params.dry_run { "would remove" } else { "removed" };
        let mut summary = format!("{verb} {} files, {} bytes", swept.removed_count, swept.freed_bytes);
        if let Some(PrunedHistory { runs, ranges, files }) = history {
            summary += &format!("; of the history {runs} runs and {ranges} ranges, with {files} files");
        }
        let data = json!({
            "dry_run": self.params.dry_run,
            "removed_count": swept.removed_count,
            "removed": swept.removed,
            "freed_bytes": swept.freed_bytes,
            "kept_count": swept.kept_count,
            "changed_count": swept.changed_count,
            "problems": swept.problems,
            "history": history,
        });
        if !swept.problems.is_empty() {
            return Err(JobError::new(format!("{summary}; first problem: {}", swept.problems[0])).with_data(data));
        }
        Ok(Output::summary(summary).with_data(data))
    }
}
