//! What happens to a simulated world, as plain data: made from a seed, and made shorter when it fails.

use std::time::Duration;

use sched_core::testing::Random;
use sched_core::{
    Backoff, Delivery, Misfire, MisfirePolicy, On, OnStart, Overlap, Retry, RetryOn, ScheduleSpec, TriggerKind,
    TriggerSpec,
};

const ALL_ENDS: &[RetryOn] = &[RetryOn::Failed, RetryOn::TimedOut, RetryOn::Interrupted];

pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 3600;

/// A world's whole input: the same scenario always gives the same run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) schedules: Vec<Plain>,
    /// Who is told of all of them.
    pub(crate) posts: Vec<Post>,
    /// When (in milliseconds from the begin), and what.
    pub(crate) actions: Vec<(u64, Action)>,
    pub(crate) hours: u64,
}

/// A channel.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) name: &'static str,
    /// It is told of each run, else of what needs a person.
    pub(crate) everything: bool,
    pub(crate) group: u64,
    pub(crate) most: usize,
    pub(crate) give_up: u64,
}

/// A schedule in the checker's own terms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plain {
    pub(crate) name: String,
    /// In seconds, from the epoch; none for one that comes after another.
    pub(crate) period: Option<u64>,
    pub(crate) after: Option<(String, On)>,
    pub(crate) misfire: MisfirePolicy,
    pub(crate) window: u64,
    pub(crate) max: u32,
    pub(crate) overlap: Overlap,
    pub(crate) attempts: u32,
    pub(crate) wait: u64,
    pub(crate) retry_on: &'static [RetryOn],
    pub(crate) timeout: u64,
    pub(crate) at_most_once: bool,
    pub(crate) grouped: bool,
    pub(crate) on_start: bool,
    pub(crate) told: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// The process dies at this effect from now, and comes back later (in milliseconds).
    Crash {
        effects: u64,
        down: u64,
    },
    Shutdown {
        grace: u64,
        down: u64,
    },
    /// The wall clock jumps by so many seconds.
    Step(i64),
    /// Commits fail for so many seconds.
    StoreFails(u64),
    Pause(usize),
    Resume(usize),
    Dispatch(bool),
    Trigger {
        of: usize,
        queue: bool,
        key: Option<u64>,
    },
    Retry(usize),
    Cancel(usize),
    /// The missed and skipped fires of so many past hours.
    Backfill {
        of: usize,
        hours: u64,
    },
    /// The schedule gets another period, or goes and comes back.
    Change {
        of: usize,
        period: u64,
    },
    Remove(usize),
}

impl Plain {
    pub(crate) fn spec(&self) -> ScheduleSpec {
        let trigger = match (&self.period, &self.after) {
            (Some(period), _) => TriggerSpec::every(Duration::from_secs(*period)),
            (None, Some((schedule, on))) => {
                TriggerSpec::of(TriggerKind::After { schedule: schedule.parse().unwrap(), on: *on }, None)
            }
            (None, None) => unreachable!("made with one of them"),
        };
        let mut spec = ScheduleSpec::new(&self.name, "job", trigger).unwrap();
        spec.misfire = Misfire { policy: self.misfire, window: Duration::from_secs(self.window), max: self.max };
        spec.overlap = self.overlap;
        spec.retry = Retry {
            attempts: self.attempts,
            backoff: Backoff::Fixed,
            initial: Duration::from_secs(self.wait),
            max: Duration::from_secs(self.wait),
            jitter: false,
            retry_on: self.retry_on.to_vec(),
        };
        spec.timeout = Duration::from_secs(self.timeout);
        spec.delivery = if self.at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
        spec.group = self.grouped.then(|| "pair".into());
        spec.on_start = if self.on_start { OnStart::Always } else { OnStart::No };
        let told = ["everything", "usual"].map(|name| name.parse().unwrap());
        spec.notify = if self.told { told.to_vec() } else { Vec::new() };
        spec
    }
}

impl Scenario {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let hours = 6 + random.below(30);
        let count = 1 + random.below(4) as usize;
        let mut schedules: Vec<Plain> = (0..count).map(|index| plain(&mut random, index)).collect();
        if count > 1 && random.below(3) == 0 {
            let on = random.pick(&[On::Success, On::Failure, On::Any]);
            let last = &mut schedules[count - 1];
            (last.period, last.after, last.on_start) = (None, Some(("s0".into(), on)), false);
        }
        let posts = if random.below(2) == 0 { posts(&mut random) } else { Vec::new() };
        for schedule in &mut schedules {
            schedule.told = !posts.is_empty();
        }
        let mut actions = Vec::new();
        for _ in 0..random.below(12) {
            // Never at a full second: what happens at one instant has an order that only the engine knows.
            let at = random.below(hours * HOUR) * 1000 + 1 + random.below(998);
            actions.extend(action(&mut random, at, count));
        }
        actions.sort_by_key(|(at, _)| *at);
        Self { seed, schedules, posts, actions, hours }
    }

    /// Whether the wall clock ever goes back, so that instants alone do not tell the order.
    pub(crate) fn goes_back(&self) -> bool {
        self.actions.iter().any(|(_, action)| matches!(action, Action::Step(by) if *by < 0))
    }

    /// Shorter scenarios that might fail as well.
    pub(crate) fn shorter(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for index in 0..self.actions.len() {
            let mut less = self.clone();
            less.actions.remove(index);
            all.push(less);
        }
        if self.schedules.len() > 1 && self.schedules.iter().all(|schedule| schedule.after.is_none()) {
            let mut less = self.clone();
            less.schedules.pop();
            all.push(less);
        }
        if self.hours > 1 {
            all.push(Self { hours: self.hours / 2, ..self.clone() });
        }
        all
    }
}

fn posts(random: &mut Random) -> Vec<Post> {
    let mut post = |name, everything| Post {
        name,
        everything,
        group: random.pick(&[0, 10, 5 * MINUTE]),
        most: random.pick(&[1, 3, 50]),
        give_up: random.pick(&[20 * MINUTE, 24 * HOUR]),
    };
    vec![post("everything", true), post("usual", false)]
}

fn plain(random: &mut Random, index: usize) -> Plain {
    let at_most_once = random.below(4) == 0;
    Plain {
        name: format!("s{index}"),
        period: Some(random.pick(&[5 * MINUTE, 15 * MINUTE, 20 * MINUTE, HOUR, 6 * HOUR])),
        after: None,
        misfire: random.pick(&[MisfirePolicy::Latest, MisfirePolicy::All, MisfirePolicy::Skip]),
        window: random.pick(&[10 * MINUTE, 2 * HOUR, 24 * HOUR]),
        max: random.pick(&[1, 3, 100]),
        overlap: random.pick(&[
            Overlap::Skip,
            Overlap::Skip,
            Overlap::Queue,
            Overlap::QueueAll,
            Overlap::CancelRunning,
            Overlap::Allow,
        ]),
        attempts: if at_most_once { 1 } else { random.pick(&[1, 2, 3]) },
        wait: random.pick(&[1, 30, 7 * MINUTE]),
        timeout: random.pick(&[40, 5 * MINUTE, 2 * HOUR]),
        at_most_once,
        grouped: random.below(2) == 0,
        on_start: random.below(8) == 0,
        told: false,
        retry_on: random.pick(&[ALL_ENDS, ALL_ENDS, &[RetryOn::Failed], &[RetryOn::TimedOut, RetryOn::Interrupted]]),
    }
}

fn action(random: &mut Random, at: u64, count: usize) -> Vec<(u64, Action)> {
    let of = random.below(count as u64) as usize;
    let later = |random: &mut Random, most: u64| at + 1000 * random.below(most) + 7;
    let down = random.pick(&[100, 20_001, 400_003, 9_000_007]);
    match random.below(20) {
        0..=4 => vec![(at, Action::Crash { effects: random.below(40), down })],
        5 => vec![(at, Action::Shutdown { grace: random.pick(&[1, 5, 60]), down })],
        6 => vec![(at, Action::Step(random.pick(&[2, 90, 1800, 9000])))],
        7 if random.below(2) == 0 => vec![(at, Action::Step(-random.pick(&[2, 600, 3000, 9000])))],
        7 | 8 => vec![(at, Action::StoreFails(random.pick(&[1, 60, 1500])))],
        9 | 10 => vec![(at, Action::Pause(of)), (later(random, 4 * HOUR), Action::Resume(of))],
        11 => vec![(at, Action::Dispatch(false)), (later(random, 2 * HOUR), Action::Dispatch(true))],
        12 | 13 => {
            let (queue, key) = (random.below(2) == 0, (random.below(3) == 0).then(|| random.below(2)));
            vec![(at, Action::Trigger { of, queue, key })]
        }
        14 => vec![(at, Action::Retry(of))],
        15 => vec![(at, Action::Cancel(of))],
        16 | 17 => vec![(at, Action::Backfill { of, hours: 1 + random.below(12) })],
        18 => vec![(at, Action::Change { of, period: random.pick(&[10 * MINUTE, HOUR]) })],
        _ => vec![(at, Action::Remove(of)), (later(random, 4 * HOUR), Action::Change { of, period: 15 * MINUTE })],
    }
}
