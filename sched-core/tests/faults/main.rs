//! A disk that fails: for every call that SQLite makes in a scenario, what happens when that call does not work.
//!
//! A scenario ([`scenario`]) runs in a process of its own, with a small library before the C library's calls (`shim.c`)
//! that lets the nth write, sync, truncate, open or removal of the store's files fail; or kills the process there; or
//! kills it and takes back what was not synced, as a loss of power may. The scenario says what has been acknowledged;
//! afterwards the store is opened without faults, and every word of it must be there ([`facts`]). `./test` does two of
//! these to each call, in turn; the long form does all to each:
//!
//!     FAULTS=all cargo test -p sched-core --all-features --test faults -- --nocapture

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod facts;
mod older;
mod scenario;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use facts::Fact;
use scenario::STORE;

/// One way in which calls fail.
#[derive(Debug, Clone, Copy)]
struct Way {
    error: &'static str,
    /// So many calls in a row.
    calls: u64,
    /// How often the scenario tries to commit, or to open, before it dies where it stands.
    tries: u32,
}

/// Far more than a scenario makes.
const FOR_EVER: u64 = 1_000_000;

const WAYS: &[Way] = &[
    Way { error: "EIO", calls: 1, tries: 8 },
    Way { error: "EIO", calls: 1, tries: 1 },
    Way { error: "ENOSPC", calls: FOR_EVER, tries: 2 },
    Way { error: "EIO", calls: 5, tries: 8 },
    Way { error: "ENOSPC", calls: 1, tries: 8 },
];
/// Ends the process at the call, with and without what was not synced.
const ENDS: &[Way] = &[
    Way { error: "KILL", calls: 1, tries: 1 },
    Way { error: "LOSS", calls: 1, tries: 1 },
    Way { error: "SOME", calls: 1, tries: 1 },
];
const WAYS_OF_WRITES: &[Way] = &[
    Way { error: "SHORT", calls: 1, tries: 8 },
    Way { error: "TORN", calls: 1, tries: 8 },
    Way { error: "TORN", calls: 1, tries: 1 },
];

/// Builds the library; none where there is no C compiler.
fn shim(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
    let library = folder.join("shim.so");
    let built = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    match built {
        Ok(built) => assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr)),
        Err(_) => return None,
    }
    Some(library)
}

/// What scenarios need.
struct Tools<'t> {
    library: &'t Path,
    base: &'t Path,
    /// The store that the scenario finds.
    old: Option<&'t Path>,
}

/// One scenario in a process of its own; what it said and how many calls of each kind it made.
fn play(tools: &Tools<'_>, folder: &Path, fault: Option<(&str, u64, Way)>) -> (Output, BTreeMap<String, u64>) {
    let counts = folder.join("counts");
    let store = folder.join("store");
    std::fs::create_dir(&store).unwrap();
    if let Some(old) = tools.old {
        std::fs::copy(old, scenario::path_in(&store)).unwrap();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "scenario::scenario_within_a_process_of_its_own", "--nocapture"]);
    command
        .env("LD_PRELOAD", tools.library)
        .env("FAULT_FOLDER", &store)
        .env("FAULT_COUNTS", &counts)
        .env(STORE, &store);
    if let Some((call, first, way)) = fault {
        command.env("FAULT_CALL", call).env("FAULT_FIRST", first.to_string());
        command.env("FAULT_LAST", (first + way.calls - 1).to_string()).env("FAULT_ERROR", way.error);
        command.env(scenario::TRIES, way.tries.to_string());
    }
    let output = command.output().unwrap();
    let counted = std::fs::read_to_string(&counts).unwrap_or_default();
    let counted = counted.lines().filter_map(|line| line.split_once(' '));
    (output, counted.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect())
}

#[derive(Default)]
struct Tally {
    scenarios: AtomicUsize,
    faults: AtomicUsize,
    facts: AtomicUsize,
}

#[test]
fn whichever_call_on_the_disk_fails_or_is_the_last_nothing_acknowledged_is_missing_and_the_file_is_whole() {
    // Memory is quick to sync; what a process leaves when it dies is the same.
    let quick = Path::new("/dev/shm");
    let base = if quick.is_dir() { tempfile::tempdir_in(quick) } else { tempfile::tempdir() }.unwrap();
    let Some(library) = shim(base.path()) else {
        eprintln!("skipped: there is no C compiler `cc`");
        return;
    };
    let (library, base) = (library.as_path(), base.path());
    let tally = Tally::default();
    let made = fail_each_call(&Tools { library, base, old: None }, &tally, 100);
    let old = base.join("old.db");
    std::fs::copy(scenario::path_in(&made.folder.path().join("store")), &old).unwrap();
    older::take_back_to_schema_1(&old);
    let upgraded = fail_each_call(&Tools { library, base, old: Some(&old) }, &tally, 10);
    let count = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
    // Not captured: who runs the tests sees what was done.
    writeln!(
        std::io::stderr(),
        "faults on SQLite: {:?} calls in the scenario, {:?} in a migration; {} scenarios, {} faults injected, {} \
         acknowledged facts found again\n\
         all ways at each call: FAULTS=all cargo test -p sched-core --all-features --test faults -- --nocapture",
        made.counted,
        upgraded.counted,
        count(&tally.scenarios),
        count(&tally.faults),
        count(&tally.facts),
    )
    .unwrap();
}

/// A scenario without faults.
struct Clean {
    folder: tempfile::TempDir,
    counted: BTreeMap<String, u64>,
}

/// Plays the scenario once as it is, which gives `least` facts or more, and then with each of its calls failing.
fn fail_each_call(tools: &Tools<'_>, tally: &Tally, least: usize) -> Clean {
    let folder = tempfile::tempdir_in(tools.base).unwrap();
    let (output, mut counted) = play(tools, folder.path(), None);
    assert_eq!(counted.remove("injected"), Some(0));
    let acknowledged = Fact::read(&output.stdout);
    assert!(output.status.success() && acknowledged.len() > least, "{}", String::from_utf8_lossy(&output.stderr));
    facts::check(&folder.path().join("store"), &acknowledged).unwrap();

    let all = std::env::var("FAULTS").is_ok_and(|text| text == "all");
    let mut plan = Vec::new();
    for call in ["open", "write", "sync", "truncate", "unlink"] {
        let ways: Vec<Way> = WAYS.iter().chain(WAYS_OF_WRITES.iter().filter(|_| call == "write")).copied().collect();
        for number in 1..=counted[call] {
            let turn = usize::try_from(number).unwrap();
            let (fails, ends) = (turn % ways.len(), turn % ENDS.len());
            let chosen = if all { [&ways[..], ENDS] } else { [&ways[fails..=fails], &ENDS[ends..=ends]] };
            plan.extend(chosen.concat().into_iter().map(|way| (call, number, way)));
        }
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((call, number, way)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(fault) = inject(tools, (call, *number, *way), tally) {
                        failed.lock().unwrap().push(format!("{call} {number} {way:?}: {fault}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), plan.len(), failed.join("\n"));
    Clean { folder, counted }
}

fn inject(tools: &Tools<'_>, (call, number, way): (&str, u64, Way), tally: &Tally) -> Result<(), String> {
    let folder = tempfile::tempdir_in(tools.base).unwrap();
    let (output, counted) = play(tools, folder.path(), Some((call, number, way)));
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !ENDS.iter().any(|end| end.error == way.error) {
        return Err(format!("the scenario ended with {}: {told}", output.status));
    }
    let injected = counted.get("injected").copied().unwrap_or(0);
    if injected == 0 {
        return Err("no call failed".into());
    }
    let acknowledged = Fact::read(&output.stdout);
    facts::check(&folder.path().join("store"), &acknowledged).map_err(|error| format!("{error}\n{told}"))?;
    tally.scenarios.fetch_add(1, Ordering::Relaxed);
    tally.faults.fetch_add(usize::try_from(injected).unwrap(), Ordering::Relaxed);
    tally.facts.fetch_add(acknowledged.len(), Ordering::Relaxed);
    Ok(())
}
