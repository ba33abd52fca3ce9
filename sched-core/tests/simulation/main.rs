//! The production machine in simulated worlds, judged by a plain model of the rules that shares no code with it.
//!
//! `SIMULATION_SEEDS=1000000 SIMULATION_SQLITE_SEEDS=10000 cargo test --release -p sched-core --all-features --test
//! simulation -- --nocapture` is the long form; `SIMULATION_FIRST=N` begins at another seed. A failing seed prints the
//! shortest scenario that fails, and what happened in it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod bugs;
mod model;
mod scenario;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use bugs::Bug;
use scenario::Scenario;
use sched_core::{MemoryStore, SqliteStore, Store};
use world::{Fault, World};

const REPEAT: &str = "cargo test -p sched-core --all-features --test simulation";

/// Past what the test harness keeps to itself: whoever runs the tests sees it.
fn tell(line: &str) {
    let mut out = std::io::stderr();
    writeln!(out, "{}", line.chars().take(300).collect::<String>()).unwrap();
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// What a world comes to.
#[derive(Debug, Default, PartialEq)]
struct Played {
    /// How many attempts were started.
    starts: usize,
    /// What happened.
    trace: String,
    /// The state, the reason and the origin (for ranges `-`) of everything in its ledger.
    dispositions: BTreeSet<[String; 3]>,
}

/// A fault comes with what had happened before.
fn play_on<S: Store>(
    scenario: &Scenario,
    bug: Option<Bug>,
    store: S,
    reopen: fn(S) -> S,
) -> Result<Played, (Fault, String)> {
    let seen = World::new(scenario.clone(), bug, store, reopen).play()?;
    match model::check(&seen) {
        Ok(dispositions) => Ok(Played { starts: seen.starts, trace: seen.trace, dispositions }),
        Err(fault) => Err((fault, seen.trace)),
    }
}

fn play(scenario: &Scenario, bug: Option<Bug>) -> Result<Played, (Fault, String)> {
    play_on(scenario, bug, MemoryStore::new(), |store| store)
}

/// Leaves out of a failing scenario whatever is not needed for it to fail.
fn shortest(mut scenario: Scenario) -> Scenario {
    while let Some(less) = scenario.shorter().into_iter().find(|less| play(less, None).is_err()) {
        scenario = less;
    }
    scenario
}

fn explain(seed: u64, fault: &str) -> String {
    let short = shortest(Scenario::from_seed(seed));
    let (now, trace) = play(&short, None).expect_err("it failed a moment ago");
    format!("seed {seed}: {fault}\n{trace}the shortest scenario that fails: {short:?}\nwith: {now}")
}

/// Plays seeds on all cores; gives how many attempts were started, and the dispositions.
fn campaign(first: u64, seeds: u64) -> Played {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let part = |core: u64| {
        let mut all = Played::default();
        for seed in (first..first + seeds).filter(|seed| seed % cores == core) {
            match play(&Scenario::from_seed(seed), None) {
                Ok(played) => all.add(played),
                Err((fault, _)) => panic!("{}", explain(seed, &fault)),
            }
        }
        all
    };
    let mut all = Played::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..cores).map(|core| scope.spawn(move || part(core))).collect();
        for part in parts {
            all.add(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    all
}

impl Played {
    fn add(&mut self, other: Self) {
        self.starts += other.starts;
        self.dispositions.extend(other.dispositions);
    }
}

/// The rows of the table in ARCHITECTURE.md, one for each origin.
fn table_of_dispositions() -> BTreeSet<[String; 3]> {
    let text = include_str!("../../../ARCHITECTURE.md");
    let (_, table) = text.split_once("| state | reason | origin |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim()).collect();
        let (state, reason) = (cells[1].to_owned(), cells[2].to_owned());
        cells[3].split(", ").map(move |origin| [state.clone(), reason.clone(), origin.to_owned()]).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn every_seed_does_what_the_rules_say() {
    let (first, seeds) = (number("SIMULATION_FIRST", 1), number("SIMULATION_SEEDS", 10_000));
    let all = campaign(first, seeds);
    tell(&format!(
        "simulation: seeds {first} to {}, {} attempts, no fault; SIMULATION_FIRST={first} SIMULATION_SEEDS={seeds} {REPEAT}",
        first + seeds - 1,
        all.starts
    ));
    let table = table_of_dispositions();
    let beyond: Vec<_> = all.dispositions.difference(&table).collect();
    assert!(beyond.is_empty(), "not in ARCHITECTURE.md's table of dispositions: {beyond:#?}");
    if seeds >= 10_000 {
        // Not every origin of a rare end comes up among so few.
        let ends = |all: &BTreeSet<[String; 3]>| -> BTreeSet<_> {
            all.iter().map(|[state, reason, origin]| (state.clone(), reason.clone(), origin == "-")).collect()
        };
        let (table, found) = (ends(&table), ends(&all.dispositions));
        let never: Vec<_> = table.difference(&found).collect();
        assert!(never.is_empty(), "in ARCHITECTURE.md's table of dispositions, and never so: {never:#?}");
    }
}

#[test]
fn every_seed_does_the_same_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = number("SIMULATION_SQLITE_SEEDS", 200);
    for seed in 1..=seeds {
        let scenario = Scenario::from_seed(seed);
        let path = folder.path().join(format!("{seed}.db"));
        let reopen = |store: SqliteStore| {
            let path = store.path().to_path_buf();
            drop(store);
            SqliteStore::open(path).unwrap()
        };
        let played = play_on(&scenario, None, SqliteStore::open(&path).unwrap(), reopen);
        let played = played.unwrap_or_else(|(fault, trace)| panic!("seed {seed}: {fault}\n{trace}"));
        assert_eq!(Ok(played), play(&scenario, None), "seed {seed}: both stores tell one story");
        std::fs::remove_file(path).unwrap();
    }
    tell(&format!(
        "simulation: SQLite and memory tell one story, seeds 1 to {seeds}; SIMULATION_SQLITE_SEEDS={seeds} {REPEAT}"
    ));
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in 1..=50 {
        let scenario = Scenario::from_seed(seed);
        let first = play(&scenario, None).unwrap();
        assert!(first.trace.len() > 100, "seed {seed} tells nothing");
        assert_eq!(Ok(first), play(&scenario, None), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_caught_within_a_thousand_seeds() {
    let mut caught = BTreeMap::new();
    for bug in Bug::ALL {
        let found = (1..=1000).find_map(|seed| Some((seed, play(&Scenario::from_seed(seed), Some(bug)).err()?)));
        let (seed, (fault, _)) = found.unwrap_or_else(|| panic!("{bug:?} is not caught within 1,000 seeds"));
        caught.insert(format!("{bug:?}"), (seed, fault.lines().next().unwrap_or_default().to_owned()));
    }
    for (bug, (seed, fault)) in caught {
        tell(&format!("simulation: {bug} is caught by seed {seed}: {fault}"));
    }
}
