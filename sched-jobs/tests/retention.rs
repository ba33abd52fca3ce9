//! Retention on real trees: links, mounts, other people's renames, and a hundred thousand files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]
#![expect(clippy::disallowed_methods, reason = "files are as old as the real clock says")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use sched_core::{MemoryStore, Registry, RunRecord, RunState, ScheduleSpec, Scheduler, TriggerRequest, TriggerSpec};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

/// Runs retention once with these parameters; gives the record and what it printed.
async fn retain(folder: &Path, mut params: Value) -> (RunRecord, String) {
    let mut registry = Registry::new();
    let env = JobEnv { base_dir: folder.into(), data_dir: folder.join("data"), base_url: None };
    register_all(&mut registry, &env);
    params["prune_history"] = json!(false);
    let never = TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap());
    let mut spec = ScheduleSpec::new("r", "retention", never).unwrap();
    spec.params = params.as_object().unwrap().clone();
    spec.retry.attempts = 1;
    let builder = Scheduler::builder(MemoryStore::new()).registry(registry).schedule(spec);
    let scheduler = builder.data_dir(folder.join("data")).start().unwrap();
    let handle = scheduler.handle();
    let run_id = handle.trigger(TriggerRequest::new("r".parse().unwrap(), "test")).await.unwrap();
    let run = handle.wait(run_id).await.unwrap();
    let output = std::fs::read_to_string(handle.files().unwrap().output_path(run_id)).unwrap_or_default();
    scheduler.shutdown(Duration::from_secs(5)).await;
    (run, output)
}

/// A file so many hours old, of ten bytes.
fn file(path: impl AsRef<Path>, hours: u64) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(&path, "0123456789").unwrap();
    let modified = SystemTime::now() - Duration::from_secs(hours * 3600 + 60);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// All files below a folder, by their path in it.
fn tree(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                waiting.push(entry.path());
            } else {
                all.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn rules_say_what_stays_and_the_rest_goes_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("backups");
    for hours in [0, 1, 30, 60, 1000, 20_000] {
        file(root.join(format!("db/{hours}.dump")), hours);
        file(root.join(format!("web/{hours}.dump")), hours);
    }
    file(root.join("db/keep.me"), 50_000);
    file(root.join("db/precious.dump"), 50_000);
    let rule = json!({ "root": "backups", "pattern": "*/*.dump", "exclude": ["*/precious*"], "keep": 1, "daily": 2 });
    let (run, output) = retain(folder.path(), json!({ "rules": [rule], "dry_run": true })).await;
    assert_eq!((run.state, run.data["kept_count"].as_u64()), (RunState::Succeeded, Some(4)), "{:?}", run.error);
    assert_eq!(tree(&root).len(), 14, "a dry run removes nothing");
    assert!(output.contains("db/0.dump: among the newest 1") && output.contains("would remove"), "{output}");

    let (run, _) = retain(folder.path(), json!({ "rules": [rule] })).await;
    assert_eq!(run.data["removed_count"], 8, "{:?}", run.error);
    let left = tree(&root);
    assert_eq!(left.iter().filter(|name| name.starts_with("web/")).count(), 2, "{left:?}");
    assert!(left.contains(&"db/keep.me".into()) && left.contains(&"db/precious.dump".into()), "{left:?}");
    let (again, _) = retain(folder.path(), json!({ "rules": [rule] })).await;
    assert_eq!(again.data["removed_count"], 0);
}

#[tokio::test]
async fn what_goes_is_moved_to_the_archive_and_replaces_nothing_there() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        for hours in 1..4 {
            file(folder.path().join(format!("logs/a/{hours}.log")), hours);
        }
        let rule = json!({ "root": "logs", "pattern": "**/*.log", "scope": "tree", "keep": 1, "archive": "old" });
        let (run, output) = retain(folder.path(), json!({ "rules": [rule] })).await;
        assert_eq!(run.data["removed_count"], 2, "{round}: {:?}", run.error);
        assert!(output.contains("archived "), "{output}");
    }
    assert_eq!(tree(&folder.path().join("logs")), ["a/1.log"]);
    assert_eq!(tree(&folder.path().join("old")), ["a/2.log", "a/2.log.1", "a/3.log", "a/3.log.1"]);
}

#[tokio::test]
async fn links_and_mounts_lead_nowhere_and_a_hard_link_loses_only_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    file(root.join("a.log"), 1);
    for name in ["x.log", "y.log"] {
        file(outside.join(name), 9);
    }
    std::fs::create_dir_all(root.join("mounted")).unwrap();
    symlink(&outside, root.join("folder-link")).unwrap();
    symlink(outside.join("x.log"), root.join("file-link.log")).unwrap();
    std::fs::hard_link(outside.join("y.log"), root.join("hard.log")).unwrap();
    let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(root.join("mounted")).output();
    let mounted = mount.is_ok_and(|output| output.status.success());
    if mounted {
        file(root.join("mounted/other.log"), 9);
    } else {
        eprintln!("without a mount: a disk cannot be mounted here (needs CAP_SYS_ADMIN)");
    }
    let rule = json!({ "root": "root", "pattern": "**/*.log", "keep": 0 });
    let (run, _) = retain(folder.path(), json!({ "rules": [rule] })).await;
    let left = tree(&root);
    if mounted {
        assert!(std::process::Command::new("umount").arg("-l").arg(root.join("mounted")).status().unwrap().success());
    }
    assert_eq!(run.data["removed_count"], 2, "a.log and the name hard.log: {:?}", run.error);
    assert_eq!(left.iter().filter(|name| name.ends_with("other.log")).count(), usize::from(mounted));
    assert_eq!(tree(&outside), ["x.log", "y.log"]);
    let through_a_link = json!({ "root": "root/folder-link", "pattern": "*", "keep": 0 });
    let (refused, _) = retain(folder.path(), json!({ "rules": [through_a_link] })).await;
    assert_eq!(refused.state, RunState::Failed);
    assert_eq!(tree(&outside), ["x.log", "y.log"]);
}

#[tokio::test]
async fn roots_that_nobody_means_are_refused_also_behind_a_link_or_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/", folder.path().join("everything")).unwrap();
    for root in ["everything/etc", "env:SCHED_TEST_NO_SUCH_VARIABLE"] {
        let rule = json!({ "root": root, "pattern": "no-such-file-*", "keep": 0 });
        let (run, _) = retain(folder.path(), json!({ "rules": [rule] })).await;
        assert_eq!(run.state, RunState::Failed, "{root}");
        let error = run.error.unwrap();
        assert!(error.contains("is refused") || error.contains("is not set"), "{error}");
    }
}

/// A folder with victims is swapped for a link to one with bystanders, over and over, while retention runs. The long
/// form: `RETENTION_RACES=10000 cargo test -p sched-jobs --test retention folders_that_turn`.
#[test]
fn folders_that_turn_into_links_while_it_runs_cost_nothing_outside_the_root() {
    /// Ends the swapping, also when the test fails.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    for number in 0..20 {
        file(outside.join(format!("{number}.log")), 9);
    }
    let before = tree(&outside);
    std::fs::create_dir_all(root.join("real")).unwrap();
    let (swaps, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let wanted = std::env::var("RETENTION_RACES").map_or(300, |text| text.parse().unwrap());
    let (place, aside) = (root.join("dir"), root.join("real"));
    let swap = || {
        while !over.load(Ordering::Relaxed) {
            std::fs::rename(&aside, &place).unwrap();
            for number in 0..20 {
                // The same names as outside: only the handle of the folder tells them apart.
                let _ = std::fs::write(place.join(format!("{number}.log")), "x");
            }
            std::fs::rename(&place, &aside).unwrap();
            symlink(&outside, &place).unwrap();
            std::thread::yield_now();
            std::fs::remove_file(&place).unwrap();
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    };
    let rule = json!({ "root": "root", "pattern": "**/*.log", "scope": "tree", "keep": 0 });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let removed = std::thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(swap);
        let mut removed = 0;
        while swaps.load(Ordering::Relaxed) < wanted {
            let (run, _) = runtime.block_on(retain(folder.path(), json!({ "rules": vec![rule.clone(); 50] })));
            removed += run.data["removed_count"].as_u64().unwrap();
        }
        removed
    });
    assert!(removed > 0, "it removed nothing, so nothing was shown");
    assert_eq!(tree(&outside), before);
}

#[tokio::test]
async fn a_hundred_thousand_files_in_a_thousand_folders_need_no_thousand_handles() {
    // Making so many files is what takes long, on a disk.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root: PathBuf = folder.path().join("many");
    for outer in 0..1000 {
        let inner = root.join(format!("{outer}"));
        std::fs::create_dir_all(&inner).unwrap();
        for name in 0..100 {
            std::fs::File::create(inner.join(format!("{name}.log"))).unwrap();
        }
    }
    let rule = json!({ "root": "many", "pattern": "*/*.log", "keep": 10 });
    let (run, _) = retain(folder.path(), json!({ "rules": [rule] })).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!((run.data["removed_count"].as_u64(), run.data["kept_count"].as_u64()), (Some(90_000), Some(10_000)));
}
