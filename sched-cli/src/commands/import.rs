//! `sched import`: reads what other schedulers read, prints a configuration.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use chrono::{DateTime, Datelike as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use sched_core::config::Config;
use sched_core::{Clock as _, SystemClock, instants};
use serde_json::json;

use crate::args::{Global, Import};
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::import::{self, Files, Original, Plan, Planned, Proof, Source, Walls};
use crate::output;

/// How many instants of a calendar event are asked for at most; systemd-analyze takes its time.
const MOST: usize = 5000;

pub(crate) fn import(global: &Global, words: &Import) -> Outcome {
    let (plan, verify) = match words {
        Import::Crontab { file, system, tz, verify } => (crontab(file, *system, *tz)?, *verify),
        Import::Systemd { folder, tz, verify } => (systemd(folder, *tz)?, *verify),
        Import::Env => (import::env(&|name| std::env::var(name).ok()).map_err(Failure::usage)?, false),
    };
    let text = plan.to_toml();
    let registry = Setup::kinds(global)?;
    let config = Config::parse(&text, &[], &registry)
        .map_err(|errors| Failure::failed(format!("what was read makes no configuration: {errors}")))?;
    let proofs = if verify { proofs(&plan, &config)? } else { Vec::new() };
    let left_out: Vec<_> = plan.left_out().collect();
    if global.json {
        let names: Vec<_> = plan.schedules().map(|planned| &planned.name).collect();
        let mut body = json!({ "toml": text, "schedules": names, "left_out": left_out });
        if verify {
            body["verify"] = json!(proofs);
        }
        output::json(&body);
    } else {
        output::line(text.trim_end());
    }
    for left in &left_out {
        output::note(&format!("left out: {left}"));
    }
    for proof in &proofs {
        tell(proof);
    }
    let differs = proofs.iter().any(|proof| proof.equal == Some(false));
    Ok(if left_out.is_empty() && !differs { Exit::Done } else { Exit::Failed })
}

fn tell(proof: &Proof) {
    let Proof { schedule, fires, from, until, equal, note } = proof;
    let (from, until) = (output::time(*from), output::time(*until));
    let note = note.as_deref().unwrap_or_default();
    output::note(&match equal {
        Some(true) => format!("verified: {schedule}: {fires} fires from {from} to {until}, all equal"),
        Some(false) => format!("DIFFERENT: {schedule}: {fires} fires from {from} to {until}: {note}"),
        None => format!("not verified: {schedule}: {note}"),
    });
}

fn crontab(file: &Path, system: bool, tz: Option<Tz>) -> Result<Plan, Failure> {
    let (shown, text) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes);
        ("stdin".to_owned(), read.map_err(|error| Failure::usage(format!("standard input: {error}"))).map(|_| bytes)?)
    } else {
        let shown = file.display().to_string();
        let bytes = std::fs::read(file).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        (shown, bytes)
    };
    let text = utf8(&shown, text)?;
    let system = system || file == Path::new("/etc/crontab") || file.starts_with("/etc/cron.d");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let homes: HashMap<&str, &str> = passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(4)?))
        })
        .collect();
    let home = |user: Option<&str>| match user {
        Some(user) => homes.get(user).map(|home| (*home).to_owned()),
        None => std::env::var("HOME").ok().filter(|home| !home.is_empty()),
    };
    let source = Source { file: &shown, system, zone: tz.map_or_else(local_zone, Ok)?, home: &home };
    Ok(import::crontab(&text, &source))
}

fn systemd(folder: &Path, tz: Option<Tz>) -> Result<Plan, Failure> {
    let mut texts = BTreeMap::new();
    let fault = |path: &Path, error: &std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let is_unit = |name: &str| name.ends_with(".timer") || name.ends_with(".service");
    for path in entries(folder).map_err(|error| fault(folder, &error))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let drop_ins = name.strip_suffix(".d").is_some_and(is_unit) && path.is_dir();
        let found = if drop_ins { entries(&path).map_err(|error| fault(&path, &error))? } else { vec![path.clone()] };
        for file in found {
            let Some(own) = file.file_name().and_then(|name| name.to_str()) else { continue };
            if drop_ins && !own.ends_with(".conf") || !drop_ins && !is_unit(name) {
                continue;
            }
            let shown = file.display().to_string();
            // A link to nothing, or to /dev/null: there is no such unit, says systemd too.
            if !file.is_file() {
                output::note(&format!("passed over: {shown} is no file"));
                continue;
            }
            let bytes = std::fs::read(&file).map_err(|error| fault(&file, &error))?;
            let key = if drop_ins { format!("{name}/{own}") } else { name.to_owned() };
            match utf8(&shown, bytes) {
                Ok(text) => drop(texts.insert(key, text)),
                // The others are none the worse for it.
                Err(failure) => output::note(&format!("passed over: {}", failure.message)),
            }
        }
    }
    if !texts.keys().any(|name| name.ends_with(".timer")) {
        return Err(Failure::usage(format!("{}: no *.timer lies in it", folder.display())));
    }
    let zone = tz.map_or_else(local_zone, Ok)?;
    Ok(import::systemd(&Files { folder: folder.display().to_string(), texts, zone }))
}

fn entries(folder: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

fn utf8(shown: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage(format!("{shown}:{line}: not UTF-8; `iconv -f latin1 -t utf-8` may make it so"))
    })
}

/// This machine's zone, where cron and systemd take theirs from.
fn local_zone() -> Result<Tz, Failure> {
    let named = std::env::var("TZ").ok().map(|name| name.trim_start_matches(':').to_owned());
    let linked = || {
        let target = std::fs::canonicalize("/etc/localtime").ok()?;
        Some(target.to_str()?.split_once("zoneinfo/")?.1.to_owned())
    };
    let written = || std::fs::read_to_string("/etc/timezone").ok().map(|text| text.trim().to_owned());
    let found = named.filter(|name| !name.is_empty()).or_else(linked).or_else(written);
    let name = found.unwrap_or_else(|| "UTC".into());
    if ["Etc/UTC", "Universal", "Zulu", "Etc/Universal", "Etc/Zulu"].contains(&name.as_str()) {
        return Ok(Tz::UTC);
    }
    name.parse()
        .map_err(|_| Failure::usage(format!("this machine's zone is `{name}`; name it with --tz, as Europe/Berlin")))
}

/// Compares the fires of this year.
fn proofs(plan: &Plan, config: &Config) -> Result<Vec<Proof>, Failure> {
    let year = SystemClock::new().now().utc.year();
    let new_year = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single().unwrap_or(DateTime::UNIX_EPOCH);
    let range = (new_year(year), new_year(year + 1));
    let mut walls = HashMap::new();
    let mut proofs = Vec::new();
    for (planned, spec) in plan.schedules().zip(&config.schedules) {
        let trigger = spec.trigger.compile().map_err(Failure::usage)?;
        // One more than there should be, so that one too many is seen.
        let most = instants(&*trigger, range.0).take_while(|at| *at <= range.1).take(MOST).count() + 1;
        proofs.push(match &planned.original {
            Original::Cron(fields, zone) => {
                let of_year = || Walls::new(*zone, range.0, range.1 + TimeDelta::minutes(1));
                let walls = walls.entry(*zone).or_insert_with(of_year);
                import::cron(&planned.name, fields, walls, range, &*trigger)
            }
            Original::Calendar(events, zone) => match analyzed(events, *zone, range.0, most) {
                Ok(printed) => import::calendar(&planned.name, &printed, most, range, &*trigger),
                Err(why) => Proof::unproved(&planned.name, range.0, why),
            },
            Original::Untimed => untimed(planned, range.0),
        });
    }
    Ok(proofs)
}

fn untimed(planned: &Planned, at: DateTime<Utc>) -> Proof {
    Proof::unproved(&planned.name, at, "the original names no instants to compare")
}

/// What systemd-analyze says of each event.
fn analyzed(events: &[String], zone: Tz, from: DateTime<Utc>, most: usize) -> Result<Vec<String>, String> {
    let base = format!("--base-time={}", from.format("%Y-%m-%d %H:%M:%S UTC"));
    let ask = |event: &String| {
        let mut command = Command::new("systemd-analyze");
        command.args(["calendar", &format!("--iterations={most}"), &base, "--", event]).env("TZ", zone.name());
        let output = command.output().map_err(|error| format!("systemd-analyze, which would prove it: {error}"))?;
        if !output.status.success() {
            return Err(format!("systemd-analyze: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    events.iter().map(ask).collect()
}
