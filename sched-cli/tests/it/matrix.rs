//! The ways in which people start a daemon, each with what is known to kill one. The long form prints its table:
//!
//!     MATRIX_TIMES=25 MATRIX_TICKS=60 cargo test --release -p sched-cli --all-features --test it matrix -- --nocapture

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use crate::world::World;

/// So many are started at once; more are only slow on few processors.
const AT_ONCE: usize = 4;
const CONFIG: &str = "[heartbeat]\nevery = \"1s\"\n[[schedule]]\nname = \"often\"\njob = \"command\"\n\
     trigger = { every = \"10s\" }\nparams = { argv = [\"true\"] }\n";

/// A way to start: its name, a shell's line in which `$S` is the start, and what becomes of the session afterwards.
struct Way {
    name: &'static str,
    line: &'static str,
    after: After,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    /// Everything in the session that started it is killed.
    SessionKilled,
}

const WAYS: [Way; 15] = [
    way("plain shell", "$S"),
    way("supervised", "$S --supervise"),
    way("closed stdio", "$S <&- >&- 2>&-"),
    way("setsid", "setsid $S"),
    way("nohup", "nohup $S"),
    way("pipe as stdout", "$S | cat"),
    way("a pipe left open", "exec 9>&1; $S >/dev/null 2>&1; exec 9>&-"),
    way("pipe as stdout, supervised", "$S --supervise 2>&1 | cat"),
    Way { name: "session killed", line: "$S; sleep 1000", after: After::SessionKilled },
    Way { name: "supervised, session killed", line: "$S --supervise; sleep 1000", after: After::SessionKilled },
    way(
        "tmux killed",
        "tmux -S ./tmux new-session -d \"$S; touch begun; sleep 1000\"; \
         until test -e begun; do sleep 0.05; done; tmux -S ./tmux kill-server",
    ),
    way("env -i", "env -i SCHED__HTTP__LISTEN=127.0.0.1:0 $S"),
    way("another user, read-only folder", "cd ro && setpriv --reuid=65534 --regid=65534 --clear-groups $S"),
    way("ulimit -n 64", "ulimit -n 64; $S"),
    way("umask 077", "umask 077; $S"),
];

const fn way(name: &'static str, line: &'static str) -> Way {
    Way { name, line, after: After::Nothing }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|found| found.status.success())
}

impl Way {
    fn skipped(&self) -> Option<&'static str> {
        let needs = |word: &str, program| self.line.contains(word) && !has(program);
        if needs("tmux", "tmux") {
            return Some("there is no tmux");
        }
        let user = self.line.contains("setpriv") && !(has("setpriv") && rustix::process::getuid().is_root());
        user.then_some("needs root and setpriv")
    }

    /// Starts it in a folder of its own; how the start ended.
    fn start(&self) -> (World, std::process::Output) {
        let world = World::with(CONFIG);
        let folder = world.folder.path();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(folder, 0o777);
        std::fs::create_dir(folder.join("ro")).unwrap();
        mode(&folder.join("ro"), 0o555);
        let start = format!("{} --config {}/sched.toml start", env!("CARGO_BIN_EXE_sched"), folder.display());
        let mut shell = Command::new("setsid");
        shell.args(["sh", "-c", &self.line.replace("$S", &start)]).current_dir(folder);
        shell.env_clear().env("PATH", "/usr/bin:/bin").env("SCHED__HTTP__LISTEN", "127.0.0.1:0");
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.after == After::Nothing {
            // It returns when nothing holds its pipes any more.
            return (world, shell.output().unwrap());
        }
        let mut shell = shell.spawn().unwrap();
        while !world.path("logs/scheduler.log").exists()
            || world.log().iter().all(|line| line["event"] != "supervisor_start")
        {
            std::thread::yield_now();
        }
        let leader = shell.id().to_string();
        let kill = || Command::new("pkill").args(["-KILL", "-s", &leader]).status().unwrap().success();
        assert!(kill());
        shell.wait().unwrap();
        // Until nobody is left: one that was just being started may have been overlooked.
        while kill() {
            std::thread::yield_now();
        }
        (world, shell.wait_with_output().unwrap())
    }
}

/// What became of one start.
enum Fate {
    Alive,
    Refused(String),
    Dead(String),
}

fn fate(world: &World, output: &std::process::Output, ticks: u64) -> Fate {
    let mut last = Value::Null;
    while world.path("data").exists() {
        last = world.status();
        if last["running"] != true {
            break;
        }
        if last["tick"].as_u64().is_some_and(|tick| tick >= ticks) {
            return Fate::Alive;
        }
        std::thread::yield_now();
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() && !said.is_empty() {
        return Fate::Refused(said);
    }
    Fate::Dead(format!("{last} {said} {}", String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn every_daemon_that_was_started_lives_on_or_its_start_said_why_it_does_not() {
    let (times, ticks) = (number("MATRIX_TIMES", 1), number("MATRIX_TICKS", 2));
    let ways: Vec<&Way> = WAYS.iter().filter(|way| way.skipped().is_none()).collect();
    for way in &WAYS {
        if let Some(why) = way.skipped() {
            println!("skipped: {}: {why}", way.name);
        }
    }
    let orders = Mutex::new(ways.iter().flat_map(|way| (0..times).map(move |_| *way)).collect::<Vec<_>>());
    let started = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(way) = { orders.lock().unwrap().pop() } {
                    let (world, output) = way.start();
                    started.lock().unwrap().push((way.name, world, output));
                }
            });
        }
    });
    let started = started.into_inner().unwrap();
    let fates: Vec<_> = started.iter().map(|(name, world, output)| (*name, fate(world, output, ticks))).collect();
    println!("{:<32} {:>7} {:>7} {:>7}", "way", "alive", "refused", "dead");
    for way in ways {
        let of =
            |wanted: fn(&Fate) -> bool| fates.iter().filter(|(name, fate)| *name == way.name && wanted(fate)).count();
        let alive = of(|fate| matches!(fate, Fate::Alive));
        let refused = of(|fate| matches!(fate, Fate::Refused(_)));
        let dead = of(|fate| matches!(fate, Fate::Dead(_)));
        println!("{:<32} {alive:>7} {refused:>7} {dead:>7}", way.name);
    }
    for (name, fate) in &fates {
        match fate {
            Fate::Alive => {}
            Fate::Refused(said) => println!("refused: {name}: {said}"),
            Fate::Dead(said) => panic!("{name}: started and not alive: {said}"),
        }
    }
    assert!(fates.iter().any(|(_, fate)| matches!(fate, Fate::Alive)));
}
