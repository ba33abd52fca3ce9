//! Another configuration without a restart; past fires; copies of the store.

use serde_json::{Value, json};

use crate::world::World;

fn config(world: &World, text: &str) {
    std::fs::write(world.path("sched.toml"), text).unwrap();
}

fn schedule(name: &str, trigger: &str) -> String {
    format!(
        "[[schedule]]\nname = \"{name}\"\njob = \"command\"\ntrigger = {trigger}\nparams = {{ argv = [\"true\"] }}\n"
    )
}

fn names(world: &World) -> Vec<String> {
    let list = world.ok(&["list", "--json"]).out;
    let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned();
    list.lines().map(name).collect()
}

#[test]
fn a_changed_configuration_is_shown_then_taken_over_and_a_wrong_one_changes_nothing() {
    let world = World::with(&[schedule("same", "{ every = \"6h\" }"), schedule("old", "{ every = \"6h\" }")].concat());
    let shown = world.ok(&["diff"]).out;
    assert!(
        shown.contains("+ schedule \"same\"") && shown.ends_with("Plan: 2 to add, 0 to change, 0 to remove.\n"),
        "{shown}"
    );
    world.ok(&["start"]);
    assert_eq!(world.ok(&["diff"]).out, "nothing changes\n");
    let pid = world.status()["pid"].clone();

    config(
        &world,
        &[schedule("same", "{ every = \"3h\" }"), schedule("new", "{ after = { schedule = \"same\" } }")].concat(),
    );
    let diff = world.ok(&["diff"]).out;
    let told = "    trigger.every: \"6h\" -> \"3h\"";
    assert!(
        diff.contains("+ schedule \"new\"") && diff.contains(told) && diff.contains("- schedule \"old\""),
        "{diff}"
    );
    assert_eq!(names(&world), ["old", "same"]);
    let done = diff.replace("Plan: 1 to add, 1 to change, 1 to remove.", "Done: 1 added, 1 changed, 1 removed.");
    assert_eq!(world.ok(&["apply"]).out, done);
    assert_eq!(names(&world), ["same", "new"]);
    assert_eq!(world.status()["pid"], pid);
    assert_eq!(world.ok(&["reload"]).out, "nothing changes\n");
    world.ok(&["trigger", "same", "--wait"]);
    world.wait_for(|line| line["event"] == "run_finished" && line["schedule"] == "new");

    config(&world, &schedule("same", "{ after = { schedule = \"same\" } }"));
    for command in ["diff", "apply", "reload"] {
        let refused = world.sched(&[command]);
        let place = format!("{}:4:34: ", world.path("sched.toml").display());
        assert_eq!(refused.code, 2, "{}", refused.err);
        assert!(refused.err.contains(&place) && refused.err.contains("same after same"), "{}", refused.err);
    }

    // The signal does the same, and says so in the log.
    hup(&world);
    let alert = world.wait_for(|line| line["event"] == "alert");
    assert!(alert["kind"] == "config" && alert["message"].as_str().unwrap().contains("nothing has changed"), "{alert}");
    config(&world, &[schedule("same", "{ every = \"3h\" }"), schedule("third", "{ every = \"6h\" }")].concat());
    hup(&world);
    world.wait_for(|line| line["event"] == "schedule_changed" && line["schedule"] == "third");
    assert_eq!(names(&world), ["same", "third"]);

    let other = world.path("other.toml");
    std::fs::copy(world.path("sched.toml"), &other).unwrap();
    let refused = world.sched(&["apply", "--config", "other.toml"]);
    assert!(refused.code == 2 && refused.err.contains("the scheduler runs with"), "{} {}", refused.code, refused.err);
    config(&world, &format!("[heartbeat]\nevery = \"5s\"\n{}", schedule("same", "{ every = \"3h\" }")));
    let applied = world.ok(&["apply"]);
    assert!(applied.err.contains("heartbeat.every differs"), "{}", applied.err);
    assert!(world.ok(&["audit", "--json"]).json()["ok"].as_bool().unwrap());
    world.ok(&["stop"]);
    assert_eq!(world.sched(&["apply"]).code, 3);
}

#[test]
fn a_broken_configuration_keeps_nobody_from_looking_at_the_scheduler_or_stopping_it() {
    for broken in
        ["[[schedule]]\nname = \"s\"\n", "timezone = \"Mars/Olympus\"\n", "data_dir = \"data\"\nthis is no toml"]
    {
        let world = World::with(&schedule("s", "{ every = \"1h\" }"));
        world.ok(&["start"]);
        std::fs::write(world.path("sched.toml"), broken).unwrap();
        assert_eq!(world.sched(&["check"]).code, 2, "{broken}");
        let refused = world.sched(&["apply"]);
        assert!(refused.code != 0 && refused.err.contains("sched.toml"), "{}", refused.err);
        for words in [&["status"][..], &["list"], &["show", "s"], &["runs"], &["trigger", "s", "--wait"], &["audit"]] {
            world.ok(words);
        }
        assert_eq!(world.sched(&["restart"]).code, 2, "what works is not stopped for it");
        assert_eq!(world.ok(&["stop"]).out.split(':').next(), Some("stopped"));
    }
}

fn hup(world: &World) {
    let pid = std::fs::read_to_string(world.path("logs/scheduler.pid")).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

#[test]
fn fires_missed_while_it_was_down_are_previewed_and_then_backfilled() {
    let world = World::with(&format!("[heartbeat]\nevery = \"1s\"\n{}", schedule("s", "{ every = \"1s\" }")));
    world.ok(&["start"]);
    world.wait_for(|line| line["event"] == "run_finished");
    world.ok(&["pause", "s", "--reason", "test"]);
    let paused = world.wait_for(|line| line["event"] == "schedule_changed" && line["change"] == "paused");
    let from = paused["ts"].as_str().unwrap().to_owned();
    let until = world.wait_for(|line| line["event"] == "tick" && line["ts"].as_str().unwrap() > from.as_str());
    let until = until["ts"].as_str().unwrap().to_owned();
    world.ok(&["resume", "s"]);
    world.ok(&["pause", "s", "--reason", "quiet"]);

    let range = ["--from", &from, "--until", &until];
    let order = |more: &[&'static str]| -> Vec<String> {
        ["backfill", "s"].iter().chain(&range).chain(more).map(|word| (*word).to_owned()).collect()
    };
    let ask = |more: &[&'static str]| {
        let words = order(more);
        world.ok(&words.iter().map(String::as_str).collect::<Vec<_>>()).json()
    };
    let preview = ask(&["--dry-run", "--json"]);
    let fires = preview["fires"].as_array().unwrap();
    assert!(
        !fires.is_empty() && fires.iter().all(|fire| fire["reason"] == "paused" && fire["run_id"].is_null()),
        "{preview}"
    );
    let before = world.history().len();
    let done = ask(&["--json"]);
    assert_eq!(done["runs"], fires.len());
    let last = done["fires"][fires.len() - 1]["run_id"].clone();
    world.wait_for(|line| line["event"] == "run_finished" && line["run_id"] == last);
    assert!(world.history().len() > before);
    let again = ask(&["--json"]);
    assert_eq!(again["runs"], json!(0), "they have run: {again}");
    let rerun = ask(&["--rerun", "--json"]);
    assert_eq!(rerun["runs"], fires.len());
    let audit = world.ok(&["audit", "--json"]).json();
    assert_eq!(audit["ok"], true, "{audit}");
    assert_eq!(world.sched(&["backfill", "s", "--from", &until, "--until", &from]).code, 2);
    let unknown = world.sched(&["backfill", "t", "--from", &from, "--until", &until]);
    assert!(unknown.code == 1 && unknown.err.contains("no schedule `t`"), "{}", unknown.err);
}

#[test]
fn a_backup_is_taken_while_it_runs_and_put_back_while_it_does_not() {
    let world = World::with(&schedule("s", "{ every = \"6h\" }"));
    world.ok(&["start"]);
    let kept = world.ok(&["trigger", "s", "--wait"]).out;
    let told = world.ok(&["backup", "copy.db"]).out;
    assert!(told.contains("1 schedule, checked"), "{told}");
    assert_eq!(world.sched(&["backup", "copy.db"]).code, 2, "it replaces nothing");
    world.ok(&["trigger", "s", "--wait"]);
    assert_eq!(world.history().len(), 2);
    assert_eq!(world.sched(&["restore", "copy.db"]).code, 1, "it runs");
    world.ok(&["stop"]);

    std::fs::write(world.path("torn.db"), &std::fs::read(world.path("copy.db")).unwrap()[..9000]).unwrap();
    assert_eq!(world.sched(&["restore", "torn.db"]).code, 4);
    assert_eq!(world.history().len(), 2, "nothing was changed");
    let restored = world.ok(&["restore", "copy.db"]);
    assert!(restored.err.contains("the old store is kept as"), "{}", restored.err);
    let history = world.history();
    assert_eq!(history.len(), 1);
    assert!(kept.contains(history[0]["run_id"].as_str().unwrap()));
    world.ok(&["start"]);
    assert_eq!(world.ok(&["audit", "--json"]).json()["ok"], true);
}

#[test]
fn rows_that_someone_deleted_doubled_or_altered_are_found() {
    let world = World::with(&schedule("s", "{ every = \"1s\" }"));
    world.ok(&["start"]);
    let ended = || world.log().iter().filter(|line| line["event"] == "run_finished").count();
    while ended() < 3 {
        std::thread::yield_now();
    }
    world.ok(&["stop"]);
    world.ok(&["audit"]);
    let whole = std::fs::read(world.path("data/sched.db")).unwrap();
    let first = "(SELECT min(nominal_at) FROM fires)";
    for (what, sql) in [
        ("missing", format!("DELETE FROM fires WHERE nominal_at = {first}")),
        ("missing", format!("UPDATE fires SET nominal_at = nominal_at + 1 WHERE nominal_at = {first}")),
        ("altered", format!("DELETE FROM runs WHERE nominal_at = {first}")),
        ("altered", format!("UPDATE runs SET state = 'failed' WHERE nominal_at = {first}")),
        ("altered", format!("UPDATE runs SET nominal_at = nominal_at + 1 WHERE nominal_at = {first}")),
        (
            "wrong",
            format!(
                "INSERT INTO ranges SELECT randomblob(16), schedule, 1, 'missed', 'window', NULL, nominal_at, nominal_at, 1, 0
                 FROM fires WHERE nominal_at = {first}"
            ),
        ),
        ("missing", "UPDATE schedules SET cursor = cursor + 5000000".to_owned()),
    ] {
        let db = rusqlite::Connection::open(world.path("data/sched.db")).unwrap();
        assert!(db.execute(&sql, []).unwrap() > 0, "{sql}");
        drop(db);
        let audit = world.sched(&["audit"]);
        assert!(audit.code == 1 && audit.out.contains(what), "{sql}: {} {}", audit.out, audit.err);
        std::fs::write(world.path("data/sched.db"), &whole).unwrap();
        world.ok(&["audit"]);
    }
    let mut torn = whole;
    let middle = torn.len() / 4096 / 2 * 4096;
    torn[middle..middle + 64].fill(0xff);
    std::fs::write(world.path("data/sched.db"), torn).unwrap();
    let audit = world.sched(&["audit"]);
    assert_eq!(audit.code, 4, "{} {}", audit.out, audit.err);
}

#[test]
fn channels_and_limits_are_part_of_the_plan_and_no_literal_is_shown() {
    let channel = |name: &str, url: &str| {
        format!("[[channel]]\nname = \"{name}\"\nkind = \"webhook\"\nparams = {{ url = \"{url}\" }}\n")
    };
    let before = [
        "[groups]\nreports = 2\n",
        &channel("ops", "https://127.0.0.1:9/s3cret"),
        &channel("old", "env:OLD"),
        &schedule("s", "{ every = \"6h\" }"),
    ];
    let world = World::with(&before.concat());
    world.ok(&["start"]);
    assert_eq!(world.ok(&["diff"]).out, "nothing changes\n");
    let after = [
        "[engine]\nmax_concurrent_runs = 8\n[groups]\nreports = 3\n",
        &channel("ops", "https://127.0.0.1:9/0ther"),
        &channel("new", "env:NEW"),
        &schedule("s", "{ every = \"6h\" }"),
    ];
    config(&world, &after.concat());
    let plan = "+ channel \"new\"
    kind = \"webhook\"
    params.url = \"env:NEW\"
- channel \"old\"
~ channel \"ops\"
    params.url: \"(not shown)\" -> \"(not shown)\"
~ engine.max_concurrent_runs: 64 -> 8
~ groups.reports: 2 -> 3
Plan: 1 to add, 3 to change, 1 to remove.
";
    assert_eq!(world.ok(&["diff"]).out, plan);
    let lines = world.ok(&["diff", "--json"]).out;
    assert_eq!(lines.lines().count(), 5);
    assert!(!lines.contains("s3cret") && !lines.contains("0ther"), "{lines}");
    assert!(lines.contains(r#"{"setting":"groups.reports","kind":"changed","from":2,"to":3}"#), "{lines}");
    // Whoever only looks changes nothing.
    assert_eq!(world.ok(&["diff"]).out, plan);

    let done = world.ok(&["apply", "--json"]).json();
    assert_eq!((&done["changes"], &done["channels"][2]["channel"]), (&json!([]), &json!("ops")), "{done}");
    assert_eq!(done["settings"][1], json!({ "field": "groups.reports", "from": 2, "to": 3 }));
    assert_eq!(world.ok(&["diff"]).out, "nothing changes\n");

    // Of another configuration than the one it runs with, the schedules are compared.
    std::fs::write(world.path("other.toml"), schedule("t", "{ every = \"6h\" }")).unwrap();
    let other = world.ok(&["diff", "--config", "other.toml"]);
    assert!(other.out.ends_with("Plan: 1 to add, 0 to change, 1 to remove.\n"), "{}", other.out);
    assert!(other.err.starts_with("channels and limits are not compared: the scheduler runs with "), "{}", other.err);
}
