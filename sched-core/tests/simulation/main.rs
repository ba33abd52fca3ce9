//! The production machine in simulated worlds, judged by a plain model of the rules that shares no code with it.
//!
//! `SIMULATION_SEEDS=1000000 cargo test --release -p sched-core --all-features --test simulation -- --nocapture` is the
//! long form; `SIMULATION_FIRST=N` begins at another seed. A failing seed prints the shortest scenario that fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod bugs;
mod model;
mod scenario;
mod world;

use std::collections::BTreeMap;

use bugs::Bug;
use scenario::Scenario;
use sched_core::{MemoryStore, SqliteStore};
use world::{Fault, World};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn play(scenario: &Scenario, bug: Option<Bug>) -> Result<(usize, String), Fault> {
    let seen = World::new(scenario.clone(), bug, MemoryStore::new(), |store| store).play()?;
    model::check(&seen)?;
    Ok((seen.starts, seen.trace))
}

/// Leaves out of a failing scenario whatever is not needed for it to fail.
fn shortest(mut scenario: Scenario, bug: Option<Bug>) -> Scenario {
    while let Some(less) = scenario.shorter().into_iter().find(|less| play(less, bug).is_err()) {
        scenario = less;
    }
    scenario
}

fn explain(seed: u64, fault: &str) -> String {
    let short = shortest(Scenario::from_seed(seed), None);
    let now = play(&short, None).expect_err("it failed a moment ago");
    format!("seed {seed}: {fault}\nthe shortest scenario that fails: {short:?}\nwith: {now}")
}

/// Plays seeds on all cores; gives how many attempts were started.
fn campaign(first: u64, seeds: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let part = |core: u64| {
        let mut starts = 0;
        for seed in (first..first + seeds).filter(|seed| seed % cores == core) {
            match play(&Scenario::from_seed(seed), None) {
                Ok((started, _)) => starts += started,
                Err(fault) => panic!("{}", explain(seed, &fault)),
            }
        }
        starts
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..cores).map(|core| scope.spawn(move || part(core))).collect();
        parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    })
}

#[test]
fn every_seed_does_what_the_rules_say() {
    let (first, seeds) = (number("SIMULATION_FIRST", 1), number("SIMULATION_SEEDS", 10_000));
    let starts = campaign(first, seeds);
    println!("seeds {first} to {}: {starts} attempts, no fault", first + seeds - 1);
}

#[test]
fn every_seed_does_the_same_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 1..=number("SIMULATION_SQLITE_SEEDS", 200) {
        let scenario = Scenario::from_seed(seed);
        let store = SqliteStore::open(folder.path().join(format!("{seed}.db"))).unwrap();
        let reopen = |store: SqliteStore| {
            let path = store.path().to_path_buf();
            drop(store);
            SqliteStore::open(path).unwrap()
        };
        let seen = World::new(scenario.clone(), None, store, reopen)
            .play()
            .unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        model::check(&seen).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert_eq!(Ok((seen.starts, seen.trace)), play(&scenario, None), "seed {seed}: both stores tell one story");
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in 1..=50 {
        let scenario = Scenario::from_seed(seed);
        let first = play(&scenario, None).unwrap();
        assert!(first.1.len() > 100, "seed {seed} tells nothing");
        assert_eq!(Ok(first), play(&scenario, None), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_caught_within_a_thousand_seeds() {
    let mut caught = BTreeMap::new();
    for bug in Bug::ALL {
        let found = (1..=1000).find_map(|seed| Some((seed, play(&Scenario::from_seed(seed), Some(bug)).err()?)));
        let (seed, fault) = found.unwrap_or_else(|| panic!("{bug:?} is not caught within 1,000 seeds"));
        caught.insert(format!("{bug:?}"), (seed, fault.lines().next().unwrap_or_default().to_owned()));
    }
    for (bug, (seed, fault)) in caught {
        println!("{bug}: seed {seed}: {fault}");
    }
}

#[test]
#[ignore = "prints"]
fn one() {
    let short = shortest(Scenario::from_seed(number("SIMULATION_FIRST", 1)), None);
    let mut world = World::new(short.clone(), None, MemoryStore::new(), |store| store);
    world.loud = true;
    println!("{short:?}");
    let seen = world.play();
    println!("{:?}", seen.and_then(|seen| model::check(&seen)));
}
