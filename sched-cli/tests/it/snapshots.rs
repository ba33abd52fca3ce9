//! What every command prints and how it exits, as it stands beside this file: helps, plain output, `--json`, errors.
//!
//! After a change, look at what differs and keep it:
//! `INSTA_UPDATE=always cargo test -p sched-cli --all-features --test it snapshots`.

mod transcript;

use transcript::Transcript;

use crate::world::World;

const CONFIG: &str = r#"
[groups]
reports = 2

[[channel]]
name = "ops"
kind = "webhook"
params = { url = "env:OPS_URL" }

[[schedule]]
name = "backup"
job = "command"
trigger = { once = 2999-01-01T00:00:00Z }
params = { argv = ["echo copied 12 files; echo done"], shell = true }
group = "reports"

[[schedule]]
name = "flaky"
job = "command"
trigger = { once = 2999-02-01T00:00:00Z }
params = { argv = ["echo no space left >&2; exit 3"], shell = true }

[[schedule]]
name = "slow"
job = "command"
trigger = { once = 2999-03-01T00:00:00Z }
params = { argv = ["sleep 600"], shell = true }

[[schedule]]
name = "upload"
job = "command"
trigger = { after = { schedule = "backup" } }
params = { argv = ["true"] }
"#;

/// The commands of `sched --help`, or of a command's.
fn commands(world: &World, above: &[&str]) -> Vec<String> {
    let help = world.ok(&[above, &["--help"]].concat()).out;
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    // What a long description goes on in is further to the right.
    let begins = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = begins.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

#[test]
fn help() {
    let world = World::new();
    let mut told = Transcript::of(&world);
    told.plain(&["--help"]);
    for name in commands(&world, &[]) {
        told.plain(&[&name, "--help"]);
        for below in commands(&world, &[&name]) {
            told.plain(&[&name, &below, "--help"]);
        }
    }
    insta::assert_snapshot!(told.text());
}

/// The commands whose output is not here: the foreground, what only other programs read, and what tells of the machine.
const ELSEWHERE: &[&str] = &["run", "completions", "man", "doctor", "install"];

#[test]
fn output() {
    let world = World::with(CONFIG);
    let mut told = Transcript::of(&world);
    told.all(&[
        "check",
        "next backup",
        "next --cron '0 8 * * mon-fri' --tz Europe/London --after 2026-03-27T00:00:00Z --count 2",
        "explain '*/15 9-17 * * mon-fri'",
        "simulate --from 2999-01-01 --until 2999-04-01",
        "simulate --from 2998-12-31 --until 2999-04-01 --summary",
        "kinds ping",
        "exec command --param 'argv=[\"echo\",\"hello\"]'",
        "init --config new.toml",
        "import env --config new.toml",
        "diff",
        "status",
        "start",
        "start",
        "pause upload --reason 'moving house'",
        "trigger backup --wait",
        "trigger flaky --wait",
        "resume upload",
        "resume upload",
        "notify list",
        "notify retry",
        "status",
        "diff",
        "apply",
        "reload",
        "backfill upload --from 2h --until 1h --dry-run",
    ]);
    let open = || world.ok(&["trigger", "slow", "--queue"]).out.trim().to_owned();
    let (running, waiting) = (open(), open());
    told.both(&format!("cancel {waiting}"), &format!("cancel {running}"));
    world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == running.as_str());
    let failed = world.wait_for(|line| line["event"] == "run_finished" && line["state"] == "failed");
    let failed = failed["run_id"].as_str().unwrap();
    told.both("backup copy.db", "backup other.db");
    told.all(&[&format!("logs {failed}")]);
    let ended =
        || world.log().iter().filter(|line| line["event"] == "run_finished" && line["schedule"] == "flaky").count();
    for (more, count) in [("", 3), (" --json", 4)] {
        told.command(&format!("retry {failed}{more}"));
        while ended() < count {
            std::thread::yield_now();
        }
    }
    told.all(&["restart"]);
    told.command("stop");
    told.both("restore copy.db", "restore other.db");
    told.all(&[
        "list",
        "show backup",
        "show upload",
        "runs",
        "runs --schedule flaky --state failed --since 1d --limit 1",
        "logs --event startup --event run_finished -n 3",
        "audit",
        "stop",
        "status",
    ]);
    for name in commands(&world, &[]) {
        assert!(ELSEWHERE.contains(&&*name) || told.has(&name), "`sched {name}` is not shown in this file");
    }
    insta::assert_snapshot!(told.finish());
}

const NO_RUN: &str = "01900000-0000-7000-8000-000000000000";

#[test]
fn errors() {
    let world = World::with(CONFIG);
    let mut told = Transcript::of(&world);
    told.title("nothing is there yet");
    for words in ["list", "show backup", "runs", "logs", "audit", "backup copy.db", "trigger backup", "apply", "reload"]
    {
        told.command(words);
    }
    told.command(&format!("logs {NO_RUN}"));
    for words in ["status", "pause backup --reason x", "restore copy.db", "init", "--config none.toml check"] {
        told.command(words);
    }
    told.title("words that are wrong");
    for words in [
        "lsit",
        "list --jso",
        "start --hung-after 5s",
        "start --supervise --hung-after 1s",
        "pause backup",
        "trigger a/b",
        "trigger backup --param x",
        "runs --state failde",
        "runs --since yesterday",
        "audit --since 2026-02-30",
        "simulate --from 2026-02-01 --until 2026-01-01",
        "backfill backup --from 2026-02-01 --until 2026-01-01",
        "next bakcup",
        "next --cron '0 25 * * *'",
        "next --every 5",
        "next --cron '0 8 * * *' --tz Europe/Lodnon",
        "explain 'FREQ=DAYLY'",
        "kinds comand",
        "exec comand",
        "exec command",
        "exec command --param argv=[] --param shel=true",
        "notify test opz",
        "notify test ops",
        "completions csh",
        "import crontab none",
        "import systemd none",
        "cancel 123",
        "retry 123",
        "logs 123 -f",
    ] {
        told.command(words);
    }
    world.ok(&["start"]);
    let open = world.ok(&["trigger", "slow"]).out.trim().to_owned();
    told.title("while it runs");
    for words in [
        "run",
        "show bakcup",
        "show zzz --json",
        "trigger bakcup",
        "trigger bakcup --json",
        "trigger slow",
        "trigger backup --param shel=true",
        "pause bakcup --reason x",
        "resume bakcup",
        "backfill bakcup --from 2h --until 1h",
        "runs --schedule bakcup",
        "backup sched.toml",
        "restore sched.toml",
    ] {
        told.command(words);
    }
    for word in ["logs", "cancel", "retry"] {
        told.command(&format!("{word} {NO_RUN}"));
    }
    told.command(&format!("retry {open}"));
    world.ok(&["cancel", &open]);
    world.wait_for(|line| line["event"] == "run_finished");
    told.command(&format!("cancel {open}"));
    world.ok(&["stop"]);
    std::fs::write(world.path("sched.toml"), CONFIG.replace("group = \"reports\"", "grup = \"reports\"")).unwrap();
    told.title("a configuration with a fault, and a store that is none");
    for words in ["check", "start", "diff", "next"] {
        told.command(words);
    }
    std::fs::write(world.path("sched.toml"), CONFIG).unwrap();
    std::fs::write(world.path("text.db"), "this is no store").unwrap();
    told.command("restore text.db");
    std::fs::write(world.path("data/sched.db"), "this is no store").unwrap();
    for words in ["list", "audit", "backup copy.db", "diff"] {
        told.command(words);
    }
    insta::assert_snapshot!(told.finish());
}
