//! The crash campaign: the real program under load, killed again and again, and afterwards not one fact too few or
//! too many.
//!
//! `./test` kills it 15 times. The long form, of 200 kills or any other number:
//!
//!     CRASH_KILLS=200 cargo test --release -p sched-cli --test it crash -- --nocapture
//!
//! `CRASH_SEED` repeats the plan of a run that failed (the moments at which the machine lets it happen are its own).
//! Half of the kills fall into a start, a migration, an online backup or a drain. Each attempt's own process writes
//! when it began and ended; [`verdict`] holds that, and what the program acknowledged, against the store.

mod first_start;
#[path = "../../../../sched-core/tests/faults/older.rs"]
mod older;
mod verdict;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sched_core::testing::Random;
use sched_core::{Clock as _, SystemClock};

use crate::world::World;
use verdict::Acknowledged;

/// Between two looks at a file.
const LOOK: Duration = Duration::from_millis(2);
/// Between two manual runs.
const PACE: Duration = Duration::from_millis(40);
/// What a drain gets.
const GRACE_MS: u64 = 800;

/// What the program does when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Running,
    Start,
    Migration,
    Backup,
    Drain,
}

/// A schedule of the campaign: what its policy allows.
struct Kind {
    name: &'static str,
    copies: usize,
    work: &'static str,
    policies: &'static str,
    attempts: u32,
}

impl Kind {
    const fn new(name: &'static str, copies: usize, work: &'static str, policies: &'static str, attempts: u32) -> Self {
        Self { name, copies, work, policies, attempts }
    }
}

const RETRY: &str = "retry = { attempts = 3, backoff = \"fixed\", initial = \"100ms\", jitter = false }";

/// Every second each, 25 fires; the last two come after others, or by hand.
const KINDS: &[Kind] = &[
    Kind::new("quick", 6, ":", "overlap = \"skip\"\nRETRY", 3),
    Kind::new("slow", 4, "sleep 1.4", "overlap = \"skip\"\nRETRY", 3),
    Kind::new("fails", 3, "test $((SCHED_FENCE % 3)) -gt 0 || exit 1", "overlap = \"queue\"\nRETRY", 3),
    Kind::new("once", 4, "sleep 0.2", "delivery = \"at_most_once\"\noverlap = \"skip\"", 1),
    Kind::new("all", 3, "sleep 0.1", "overlap = \"queue_all\"\nmisfire = { policy = \"all\", max = 20 }\nRETRY", 3),
    Kind::new("newest", 2, "sleep 1.2", "overlap = \"cancel_running\"\nRETRY", 3),
    Kind::new("beside", 2, "sleep 0.5", "overlap = \"allow\"\nmisfire = { policy = \"skip\", window = \"10s\" }", 1),
    Kind::new("overdue", 1, "sleep 5", "timeout = \"1s\"\noverlap = \"skip\"", 1),
    Kind::new("chained", 2, ":", "overlap = \"queue_all\"\nRETRY", 3),
    Kind::new("manual", 2, "sleep 0.1", "overlap = \"allow\"\nRETRY", 3),
];

/// The configuration; once it is `calm`, nothing comes due any more.
fn config(calm: bool) -> String {
    let mut text = format!("[shutdown]\ngrace = \"{GRACE_MS}ms\"\n[heartbeat]\nevery = \"1s\"\n");
    for kind in KINDS {
        for copy in 0..kind.copies {
            let trigger = match kind.name {
                "chained" => format!("{{ after = {{ schedule = \"quick{copy}\", on = \"success\" }} }}"),
                "manual" => "{ once = 2999-01-01T00:00:00Z }".into(),
                _ if calm => "{ once = 2999-01-01T00:00:00Z }".into(),
                _ => "{ every = \"1s\" }".into(),
            };
            // One line, one write: appended lines of several processes do not mix.
            let line = format!(
                "echo \"S $SCHED_SCHEDULE $SCHED_RUN_ID $SCHED_ATTEMPT $SCHED_FENCE\" >> ledger; {}; \
                 echo \"E $SCHED_SCHEDULE $SCHED_RUN_ID $SCHED_ATTEMPT $SCHED_FENCE\" >> ledger",
                kind.work
            );
            let policies = kind.policies.replace("RETRY", RETRY);
            let name = format!("{}{copy}", kind.name);
            text += &format!(
                "[[schedule]]\nname = \"{name}\"\njob = \"command\"\ntrigger = {trigger}\n\
                 params = {{ argv = [{line:?}], shell = true }}\n{policies}\n"
            );
        }
    }
    text
}

struct Campaign<'w> {
    world: &'w World,
    random: Random,
    start_takes: Duration,
    kills: BTreeMap<Moment, usize>,
    /// Starts killed before they stood, and drains killed before they had ended.
    inside: usize,
    backups: Vec<PathBuf>,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

#[test]
fn no_fire_attempt_or_acknowledgement_is_lost_or_doubled_however_often_the_program_is_killed() {
    let kills = usize::try_from(number("CRASH_KILLS").unwrap_or(15)).unwrap();
    let seed = number("CRASH_SEED").unwrap_or_else(|| RandomState::new().hash_one(kills) >> 16).max(1);
    let world = World::with(&config(false));
    let mut campaign = Campaign {
        world: &world,
        random: Random(seed),
        start_takes: Duration::from_millis(200),
        kills: BTreeMap::new(),
        inside: 0,
        backups: Vec::new(),
    };
    let clock = SystemClock::new();
    let over = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        // Whatever fails here, the client ends.
        let ends = Ends(&over);
        let client = scope.spawn(|| trigger_until(&over, &world, Random(seed ^ 0xc11e_0000)));
        campaign.rage(kills);
        drop(ends);
        client.join().unwrap()
    });
    campaign.calm_down();
    let took = clock.now().mono;
    let found = verdict::verdict(&world, &acknowledged, &campaign.backups, took);
    let figures = campaign.summary(seed, &found.figures);
    if !found.faults.is_empty() {
        let folder = world.folder.path().with_extension("crash");
        std::fs::rename(world.folder.path(), &folder).unwrap();
        panic!("{figures}\nkept in {}:\n{}", folder.display(), found.faults.join("\n"));
    }
    // Not captured: who runs the tests sees what was done.
    writeln!(std::io::stderr(), "{figures}").unwrap();
}

impl Campaign<'_> {
    fn rage(&mut self, kills: usize) {
        for round in 0..kills {
            let moment = match self.random.below(8) {
                0..=3 => Moment::Running,
                4 => Moment::Start,
                5 => Moment::Migration,
                6 => Moment::Backup,
                _ => Moment::Drain,
            };
            // Each moment has its turn in a short campaign too.
            let moment = match round {
                0 => Moment::Running,
                1 => Moment::Drain,
                2 => Moment::Start,
                3 => Moment::Backup,
                4 => Moment::Migration,
                _ => moment,
            };
            *self.kills.entry(moment).or_default() += 1;
            match moment {
                Moment::Running => self.kill_running(),
                Moment::Start => self.kill_within_start(),
                Moment::Migration => {
                    older::take_back_to_schema_1(&self.world.path("data/sched.db"));
                    self.kill_within_start();
                }
                Moment::Backup => self.kill_within_backup(),
                Moment::Drain => self.kill_within_drain(),
            }
        }
    }

    fn spawn(&self) -> Child {
        let errors = std::fs::File::create(self.world.path("run.err")).unwrap();
        let mut command = self.world.command(&["run", "-q"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap()
    }

    /// Waits until it stands; one that ends by itself is a failure.
    fn stand(&self, child: &mut Child) {
        while !self.world.is_marked_by(child.id()) {
            self.lives(child);
            std::thread::sleep(LOOK);
        }
    }

    #[track_caller]
    fn lives(&self, child: &mut Child) {
        if let Some(status) = child.try_wait().unwrap() {
            let errors = std::fs::read_to_string(self.world.path("run.err")).unwrap();
            panic!("it ended by itself ({status}): {errors}");
        }
    }

    fn pass(&mut self, limit: Duration) {
        let micros = u64::try_from(limit.as_micros()).unwrap().max(1);
        std::thread::sleep(Duration::from_micros(self.random.below(micros)));
    }

    fn running(&mut self) -> Child {
        let clock = SystemClock::new();
        let mut child = self.spawn();
        self.stand(&mut child);
        self.start_takes = clock.now().mono;
        child
    }

    fn kill_running(&mut self) {
        let mut child = self.running();
        self.pass(Duration::from_millis(1600));
        self.lives(&mut child);
        end(child);
    }

    fn kill_within_start(&mut self) {
        let mut child = self.spawn();
        self.pass(self.start_takes);
        self.lives(&mut child);
        self.inside += usize::from(!self.world.is_marked_by(child.id()));
        end(child);
    }

    /// Every other time the copying process is killed too. A file with the backup's name is a whole copy all the same.
    fn kill_within_backup(&mut self) {
        let child = self.running();
        self.pass(Duration::from_millis(500));
        let name = format!("backup-{}.db", self.kills[&Moment::Backup]);
        let mut backup = self.world.command(&["backup", &name]);
        let mut backup = backup.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.pass(Duration::from_millis(60));
        if self.random.below(2) == 0 {
            end(backup);
            end(child);
        } else {
            end(child);
            backup.wait().unwrap();
        }
        self.backups.extend(Some(self.world.path(&name)).filter(|file| file.exists()));
    }

    fn kill_within_drain(&mut self) {
        let mut child = self.running();
        self.pass(Duration::from_millis(1200));
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.pass(Duration::from_millis(GRACE_MS));
        self.inside += usize::from(child.try_wait().unwrap().is_none());
        end(child);
    }

    /// Nothing new comes due, and everything that waits or runs ends.
    fn calm_down(&mut self) {
        let mut child = self.running();
        std::fs::write(self.world.path("sched.toml"), config(true)).unwrap();
        self.world.ok(&["apply"]);
        loop {
            self.lives(&mut child);
            let status = self.world.status();
            if status["active_runs"] == 0 && status["queued_runs"] == 0 {
                break;
            }
        }
        self.world.ok(&["stop"]);
        assert!(child.wait().unwrap().success());
    }

    fn summary(&self, seed: u64, figures: &str) -> String {
        let kills: usize = self.kills.values().sum();
        let moments: Vec<_> = self.kills.iter().map(|(moment, count)| format!("{moment:?} {count}")).collect();
        format!(
            "crash campaign: seed {seed}, {kills} kills ({}; {} of the starts and drains before their end)\n{figures}\n\
             repeat: CRASH_KILLS={kills} CRASH_SEED={seed} cargo test -p sched-cli --test it crash -- --nocapture",
            moments.join(", ").to_lowercase(),
            self.inside,
        )
    }
}

fn end(mut child: Child) {
    // One that has ended already was slower than the plan.
    drop(child.kill());
    child.wait().unwrap();
}

/// Says that it is over, at the latest when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks for runs by hand, one key at a time until it is acknowledged, however often the program dies meanwhile; now and
/// then with an old key, which must give the same run.
fn trigger_until(over: &AtomicBool, world: &World, mut random: Random) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let mut next = 0;
    while !over.load(Ordering::SeqCst) {
        let again = next > 0 && random.below(6) == 0;
        let key = if again { random.below(next) } else { next };
        let name = ["manual0", "manual1", "quick0", "once0"][usize::try_from(key % 4).unwrap()];
        let key = format!("key-{key}");
        let answer = world.sched(&["trigger", name, "--queue", "--idempotency-key", &key]);
        if answer.code == 0 {
            acknowledged.note(&key, answer.out.trim());
            next += u64::from(!again);
        }
        std::thread::sleep(PACE);
    }
    acknowledged
}
