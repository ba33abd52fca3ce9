//! `retention`: keeps the newest files of each pattern and folder, and prunes the history.
//!
//! It walks by directory handles: no symbolic link is followed, no mount is crossed, and a file is removed by
//! its name below the handle of the folder in which it was seen. So nothing outside its roots can be removed.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use glob::{MatchOptions, Pattern};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use sched_core::{Job, JobError, Output, ParamError, PruneRule, Registry, RunContext, async_trait};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::JobEnv;

/// Parameters of `retention`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Params {
    /// What to keep; the scheduler's own artifacts and output unless set.
    rules: Option<Vec<Rule>>,
    /// Say what would be removed, remove nothing.
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
            dry_run: false,
            prune_history: true,
            keep_days: 30,
            keep_failures_days: 90,
            keep_newest: 1000,
        }
    }
}

/// Keep the newest files of a pattern, folder by folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// The folder below which files may be removed.
    root: PathBuf,
    /// Which files, by their path below the root: `*.log`, `reports/*-report.html`. `*` does not cross a `/`.
    pattern: String,
    /// How many of them stay in each folder.
    keep: usize,
}

struct Retention {
    params: Params,
    rules: Vec<(Rule, Pattern)>,
    env: Arc<JobEnv>,
}

pub(crate) fn register(registry: &mut Registry, env: &Arc<JobEnv>) {
    let env = env.clone();
    registry.register(
        "retention",
        "Keeps the newest files of each pattern, prunes the history",
        move |params: Params| {
            let own = |folder: &str, pattern: &str, keep| Rule {
                root: env.data_dir.join(folder),
                pattern: pattern.into(),
                keep,
            };
            let rules = params.rules.clone().unwrap_or_else(|| {
                vec![own("artifacts", "*/*.json", 100), own("artifacts", "*/*.html", 100), own("output", "*.log", 5000)]
            });
            let rules = rules.into_iter().enumerate().map(|(index, rule)| {
                let at = |field: &str| format!("rules[{index}].{field}");
                let pattern =
                    Pattern::new(&rule.pattern).map_err(|error| ParamError::new(at("pattern"), error.to_string()))?;
                check_root(&rule.root).map_err(|message| ParamError::new(at("root"), message))?;
                Ok((rule, pattern))
            });
            let rules = rules.collect::<Result<Vec<_>, ParamError>>()?;
            Ok(Retention { params, rules, env: env.clone() })
        },
    );
}

/// Refuses roots below which nobody means to clean up.
fn check_root(root: &Path) -> Result<(), String> {
    let names = root.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let home = std::env::var_os("HOME").is_some_and(|home| Path::new(&home) == root);
    if names == 0 || home || root.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{}` is refused: name a folder that only holds what may be removed", root.display()));
    }
    Ok(())
}

/// A file as it was seen, with the handle of its folder.
struct Seen {
    folder: Arc<OwnedFd>,
    name: CString,
    path: PathBuf,
    modified: (i64, i64),
    inode: (u64, u64),
    bytes: u64,
}

#[derive(Debug, Default)]
struct Swept {
    removed: Vec<String>,
    removed_count: u64,
    freed_bytes: u64,
    kept_count: u64,
    problems: Vec<String>,
}

/// Lists the regular files below `root`. A root that does not exist holds none.
fn list(root: &Path, ctx: &RunContext, swept: &mut Swept) -> Vec<Seen> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut seen = Vec::new();
    let top = match openat(CWD, root, flags, Mode::empty()) {
        Ok(top) => Arc::new(top),
        Err(rustix::io::Errno::NOENT) => return seen,
        Err(error) => {
            swept.problems.push(format!("{}: {error}", root.display()));
            return seen;
        }
    };
    let Ok(device) = fstat(&*top).map(|stat| stat.st_dev) else { return seen };
    let mut open = vec![(top, PathBuf::new())];
    while let Some((folder, below)) = open.pop() {
        if ctx.is_cancelled() {
            break;
        }
        let entries = match Dir::read_from(folder.as_fd()) {
            Ok(entries) => entries,
            Err(error) => {
                swept.problems.push(format!("{}: {error}", root.join(&below).display()));
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // A file that has gone meanwhile is no concern.
            let Ok(stat) = statat(&*folder, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let path = below.join(name.to_string_lossy().as_ref());
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if stat.st_dev == device => {
                    if let Ok(inner) = openat(&*folder, &name, flags, Mode::empty()) {
                        open.push((Arc::new(inner), path));
                    }
                }
                FileType::RegularFile if stat.st_dev == device => seen.push(Seen {
                    folder: folder.clone(),
                    name,
                    path,
                    modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
                    inode: (stat.st_dev, stat.st_ino),
                    bytes: u64::try_from(stat.st_size).unwrap_or(0),
                }),
                _ => {}
            }
        }
    }
    seen
}

/// Applies one rule.
fn sweep(root: &Path, rule: &Rule, pattern: &Pattern, dry_run: bool, ctx: &RunContext, swept: &mut Swept) {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let mut folders: BTreeMap<PathBuf, Vec<Seen>> = BTreeMap::new();
    for file in list(root, ctx, swept) {
        if pattern.matches_path_with(&file.path, options) {
            let folder = file.path.parent().map(Path::to_path_buf).unwrap_or_default();
            folders.entry(folder).or_default().push(file);
        }
    }
    for files in folders.values_mut() {
        files.sort_by(|a, b| (b.modified, &b.path).cmp(&(a.modified, &a.path)));
        let keep = rule.keep.min(files.len());
        swept.kept_count += keep as u64;
        for file in &files[keep..] {
            if ctx.is_cancelled() {
                return;
            }
            // What was replaced since it was listed is another file, and stays.
            let now = statat(&*file.folder, &file.name, AtFlags::SYMLINK_NOFOLLOW);
            let same = now.is_ok_and(|s| {
                (s.st_dev, s.st_ino) == file.inode
                    && (s.st_mtime, i64::try_from(s.st_mtime_nsec).unwrap_or(0)) == file.modified
            });
            if !same {
                continue;
            }
            let path = root.join(&file.path).display().to_string();
            if !dry_run && let Err(error) = unlinkat(&*file.folder, &file.name, AtFlags::empty()) {
                swept.problems.push(format!("{path}: {error}"));
                continue;
            }
            swept.removed_count += 1;
            swept.freed_bytes += file.bytes;
            if swept.removed.len() < 100 {
                swept.removed.push(path);
            }
        }
    }
}

#[async_trait]
impl Job for Retention {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        let dry_run = self.params.dry_run;
        let rules: Vec<_> = self
            .rules
            .iter()
            .map(|(rule, pattern)| (self.env.path(&rule.root), rule.clone(), pattern.clone()))
            .collect();
        let inside = ctx.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut swept = Swept::default();
            for (root, rule, pattern) in rules {
                sweep(&root, &rule, &pattern, dry_run, &inside, &mut swept);
            }
            swept
        });
        let swept = work.await.map_err(|error| JobError::new(error.to_string()))?;
        if ctx.is_cancelled() {
            return Err(JobError::new("cancelled"));
        }
        let mut history = None;
        if self.params.prune_history {
            let before = |days: u32| {
                ctx.now().checked_sub_signed(TimeDelta::days(i64::from(days))).unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
            };
            let rule = PruneRule {
                before: before(self.params.keep_days),
                failures_before: before(self.params.keep_failures_days),
                keep_newest: self.params.keep_newest,
                dry_run,
            };
            let (runs, ranges) = ctx.prune(rule).await?;
            history = Some((runs, ranges));
        }
        let verb = if dry_run { "would remove" } else { "removed" };
        let mut summary = format!("{verb} {} files, {} bytes", swept.removed_count, swept.freed_bytes);
        if let Some((runs, ranges)) = history {
            summary += &format!("; of the history {runs} runs and {ranges} ranges");
        }
        let data = json!({
            "dry_run": dry_run,
            "removed_count": swept.removed_count,
            "removed": swept.removed,
            "freed_bytes": swept.freed_bytes,
            "kept_count": swept.kept_count,
            "problems": swept.problems,
            "history": history.map(|(runs, ranges)| json!({ "runs": runs, "ranges": ranges })),
        });
        if !swept.problems.is_empty() {
            return Err(JobError::new(format!("{summary}; first problem: {}", swept.problems[0])).with_data(data));
        }
        Ok(Output::summary(summary).with_data(data))
    }
}
