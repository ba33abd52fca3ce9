//! Crontabs and timers, written after the shapes that manuals and distributions have, each imported and compared with
//! its original over a year.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::world::{Ended, World};

/// All that is not carried over, as `file:line: what`, by intent.
const EXCEPTIONS: &str = include_str!("exceptions.txt");

fn import(world: &World, words: &[&str]) -> Ended {
    let words = [&["import"], words].concat();
    world.command(&words).env("HOME", "/home/me").output().unwrap().into()
}

/// What was left out, but for homes of users that this machine does not have.
fn left_out(body: &Value) -> Vec<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let stranger = |left: &&Value| {
        let user = left["why"].as_str().unwrap().split('`').nth(1).unwrap_or_default();
        left["what"] != "home" || passwd.lines().any(|line| line.starts_with(&format!("{user}:")))
    };
    let left = body["left_out"].as_array().unwrap().iter().filter(stranger);
    let told = left.map(|left| {
        let file = Path::new(left["file"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
        format!("{file}:{}: {}", left["line"], left["what"].as_str().unwrap())
    });
    told.collect()
}

/// Checks the configuration and gives the proofs and what was left out.
fn imported(words: &[&str]) -> (Vec<Value>, Vec<String>) {
    let world = World::new();
    let ended = import(&world, &[words, &["--verify", "--tz", "Europe/Berlin", "--json"]].concat());
    let body = ended.json();
    std::fs::write(world.path("sched.toml"), body["toml"].as_str().unwrap()).unwrap();
    world.ok(&["check"]);
    let left = left_out(&body);
    let differs = body["verify"].as_array().unwrap().iter().any(|proof| proof["equal"] == false);
    assert_eq!(ended.code, i32::from(!body["left_out"].as_array().unwrap().is_empty() || differs), "{}", ended.err);
    (body["verify"].as_array().unwrap().clone(), left)
}

/// Holds what was left out against what may be, for files of this kind.
fn only_exceptions(left: &[String], is_of_kind: impl Fn(&str) -> bool) {
    let of_kind = |line: &&str| is_of_kind(line.split(':').next().unwrap());
    let expected: Vec<&str> = EXCEPTIONS.lines().filter(of_kind).collect();
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    assert_eq!(left, expected, "\n{}\n", left.join("\n"));
}

#[test]
fn crontabs_fire_as_cron_does_for_a_year() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/import/crontabs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 40, "{}", files.len());
    let (mut left, mut schedules, mut fires) = (Vec::new(), 0, 0);
    for file in &files {
        let system: &[&str] = if file.extension().unwrap() == "system" { &["--system"] } else { &[] };
        let (proofs, own) = imported(&[&["crontab", file.to_str().unwrap()], system].concat());
        left.extend(own);
        for proof in proofs {
            let reboot = proof["note"].as_str().is_some_and(|note| note.contains("names no instants"));
            assert!(proof["equal"] == true || reboot, "{}: {proof}", file.display());
            schedules += 1;
            fires += proof["fires"].as_u64().unwrap();
        }
    }
    println!("{} crontabs, {schedules} schedules, {fires} fires compared", files.len());
    only_exceptions(&left, |file| file.ends_with(".user") || file.ends_with(".system"));
}

#[test]
fn timers_fire_as_systemd_does_for_a_year() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/import/timers");
    let (proofs, left) = imported(&["systemd", folder.to_str().unwrap()]);
    let untimed = |proof: &&Value| proof["note"].as_str().is_some_and(|note| note.contains("names no instants"));
    let (untimed, timed): (Vec<_>, Vec<_>) = proofs.iter().partition(untimed);
    let present = std::process::Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !present {
        println!("skipped: there is no systemd-analyze to compare with");
    }
    for proof in &timed {
        assert_eq!(proof["equal"], if present { Value::from(true) } else { Value::Null }, "{proof}");
    }
    let fires: u64 = timed.iter().map(|proof| proof["fires"].as_u64().unwrap()).sum();
    println!("{} timers with calendar events, {fires} fires compared, {} without", timed.len(), untimed.len());
    only_exceptions(&left, |file| file.ends_with(".timer") || file.ends_with(".service") || file.ends_with(".conf"));
}

#[test]
fn what_was_imported_runs_as_cron_would_run_it() {
    let world = World::new();
    let home = world.folder.path().to_str().unwrap().to_owned();
    let crontab = format!(
        "HOME={home}\nA=\" two words \"\n* * * * * printf '[%s]' \"$A\" > out-$(date +\\%Y); pwd >> here; cat >> here%one%two\n"
    );
    std::fs::write(world.path("tab"), crontab.replace("'[%s]'", "'[\\%s]'")).unwrap();
    let ended = import(&world, &["crontab", "tab"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
    std::fs::write(world.path("sched.toml"), &ended.out).unwrap();
    world.ok(&["start"]);
    let run = world.ok(&["trigger", "printf", "--wait", "--json"]).json();
    assert_eq!(run["state"], "succeeded", "{run}");
    let year = &run["started_at"].as_str().unwrap()[..4];
    assert_eq!(std::fs::read_to_string(world.path(&format!("out-{year}"))).unwrap(), "[ two words ]");
    let here = std::fs::read_to_string(world.path("here")).unwrap();
    assert_eq!(here, format!("{}\none\ntwo\n", std::fs::canonicalize(&home).unwrap().display()));
}

#[test]
fn a_crontab_comes_from_standard_input_too_and_nothing_is_dropped_silently() {
    let world = World::new();
    let mut command = world.command(&["import", "crontab", "-"]);
    let mut child =
        command.env("HOME", "/h").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = b"# nightly\n0 2 * * * /opt/nightly\nMAILTO=me\n61 * * * * broken\n";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text).unwrap();
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("# nightly\n[[schedule]]\nname     = \"nightly\"\n"), "{}", ended.out);
    for place in ["stdin:3: MAILTO=me: ", "stdin:4: 61 * * * * broken: minute: cron knows no `61`"] {
        assert!(ended.out.contains(&format!("# LEFT OUT {place}")), "{}", ended.out);
        assert!(ended.err.contains(&format!("left out: {place}")), "{}", ended.err);
    }
}

#[test]
fn links_to_nothing_among_units_are_passed_over_as_systemd_does() {
    let world = World::new();
    std::fs::create_dir(world.path("units")).unwrap();
    std::fs::write(world.path("units/a.timer"), "[Timer]\nOnCalendar=daily\n").unwrap();
    std::fs::write(world.path("units/a.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    for (name, to) in [("gone.service", "/nonexistent"), ("masked.timer", "/dev/null")] {
        std::os::unix::fs::symlink(to, world.path("units").join(name)).unwrap();
    }
    assert!(Command::new("mkfifo").arg(world.path("units/pipe.service")).status().unwrap().success());
    let ended = import(&world, &["systemd", "units", "--json"]);
    assert_eq!((ended.code, &ended.json()["schedules"]), (0, &json!(["a"])), "{}", ended.err);
    assert_eq!(ended.err.lines().filter(|line| line.starts_with("passed over: units/")).count(), 3, "{}", ended.err);
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let world = World::new();
    std::fs::write(world.path("latin"), b"# one\n# caf\xe9\n").unwrap();
    std::fs::create_dir(world.path("empty")).unwrap();
    for (words, part) in [
        (&["crontab", "nowhere"][..], "sched: nowhere: No such file"),
        (&["crontab", "latin"], "sched: latin:2: not UTF-8; `iconv"),
        (&["systemd", "empty"], "sched: empty: no *.timer lies in it"),
        (&["systemd", "nowhere"], "sched: nowhere: No such file"),
    ] {
        let ended = import(&world, words);
        assert_eq!(ended.code, 2, "{}", ended.err);
        assert!(ended.err.starts_with(part), "{}", ended.err);
    }
}

#[test]
fn the_variables_of_the_original_become_a_configuration_without_the_key() {
    let world = World::new();
    let key = "8f3a61c2d94b7e05a1c8f3d2e6b70914";
    let variables = [("SCHED_BRIEF_UTC", "07:30"), ("SCHED_SELFHEAL_EVERY_HOURS", "4"), ("DASHBOARD_KEY", key)];
    let ended: Ended = world.command(&["import", "env"]).envs(variables).output().unwrap().into();
    assert_eq!((ended.code, ended.err.contains(key) || ended.out.contains(key)), (0, false), "{}", ended.err);
    let configured = World::with(&ended.out);
    let schedules = |world: &World| -> Vec<Value> {
        let simulate = ["simulate", "--from", "2026-01-01T00:00:00Z", "--until", "2026-01-03T00:00:00Z", "--json"];
        let fires: Ended = world.command(&simulate).envs(variables).output().unwrap().into();
        assert_eq!(fires.code, 0, "{}", fires.err);
        fires.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (built_in, imported) = (schedules(&world), schedules(&configured));
    assert!(!built_in.is_empty());
    assert_eq!(imported, built_in);
    let wrong: Ended = world.command(&["import", "env"]).env("SCHED_BRIEF_UTC", "8am").output().unwrap().into();
    assert_eq!((wrong.code, wrong.err.as_str()), (2, "sched: SCHED_BRIEF_UTC: `8am` is not a time; write HH:MM\n"));
}

#[test]
fn the_page_of_imports_works_as_pasted() {
    let text = include_str!("../../../../docs/import.md");
    let block = text.split("\n```sh\n").nth(1).unwrap().split("\n```").next().unwrap();
    let world = World::new();
    let bin = Path::new(env!("CARGO_BIN_EXE_sched")).parent().unwrap();
    let mut bash = std::process::Command::new("bash");
    bash.args(["-euxo", "pipefail", "-c", block]).current_dir(world.folder.path()).env_clear();
    bash.env("HOME", "/home/me").env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    let ended: Ended = bash.output().unwrap().into();
    assert_eq!(ended.code, 0, "{}\n{}", ended.out, ended.err);
    assert_eq!(ended.err.matches("all equal").count(), 2, "{}", ended.err);
}
