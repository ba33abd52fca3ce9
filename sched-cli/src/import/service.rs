//! A service as the parameters of a command.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ini::{Unit, without_specifiers};
use super::systemd::{describe, leave_out, left_out};
use super::{LeftOut, Plan, SECRET, put_variables, span, unit};

/// What a service says of the run of its command.
pub(super) struct Service {
    pub(super) params: Map<String, Value>,
    pub(super) timeout: Option<Duration>,
}

/// Reads a service; what of it is not understood is left out by name.
pub(super) fn read(plan: &mut Plan, file: &str, mut service: Unit) -> Result<Service, LeftOut> {
    service.take("Install", &["WantedBy", "RequiredBy", "Also", "Alias"]);
    describe(plan, &mut service);
    let mut params = command(plan, file, &mut service)?;
    place(plan, &mut service, &mut params);
    variables(plan, &mut service, &mut params);
    limits(plan, &mut service, &mut params);
    let timeout = timeout(plan, &mut service);
    for left in service.lines {
        leave_out(plan, &left, "no counterpart");
    }
    Ok(Service { params, timeout })
}

fn command(plan: &mut Plan, file: &str, service: &mut Unit) -> Result<Map<String, Value>, LeftOut> {
    let lines = service.take("Service", &["ExecStart"]);
    let mut commands = Vec::new();
    for line in &lines {
        let found = unit::commands(&line.value);
        let found = found.map_err(|why| left_out(line, why))?;
        for command in &found {
            for without in &command.without {
                leave_out(plan, line, format!("{without} has no counterpart"));
            }
        }
        commands.extend(found);
    }
    let mut params = Map::new();
    match &commands[..] {
        [] => {
            return Err(LeftOut {
                file: file.into(),
                line: 1,
                what: "service".into(),
                why: "it has no ExecStart".into(),
            });
        }
        [one] if one.is_plain() => {
            params.insert("argv".into(), json!(one.argv()));
        }
        several => {
            let line = several.iter().map(unit::Exec::line).collect::<Vec<_>>().join(" && ");
            let patterns = if several.iter().any(unit::Exec::splits) { "set -f; " } else { "" };
            params.insert("argv".into(), json!([format!("{patterns}{line}")]));
            params.insert("shell".into(), true.into());
        }
    }
    if let Some(line) = service.last("Service", "SuccessExitStatus") {
        let codes: Result<Vec<u8>, _> = line.value.split_whitespace().map(str::parse).collect();
        match codes {
            Ok(codes) => {
                let codes: std::collections::BTreeSet<u8> = codes.into_iter().chain([0]).collect();
                params.insert("success_codes".into(), json!(codes));
            }
            Err(_) => leave_out(plan, &line, "only numbers up to 255 are known here; write `success_codes`"),
        }
    }
    Ok(params)
}

fn place(plan: &mut Plan, service: &mut Unit, params: &mut Map<String, Value>) {
    for (key, param) in [("User", "user"), ("Group", "group")] {
        if let Some(line) = service.last("Service", key) {
            match without_specifiers(&line.value) {
                Ok(value) => drop(params.insert(param.into(), value.into())),
                Err(why) => leave_out(plan, &line, why),
            }
        }
    }
    params.insert("cwd".into(), "/".into());
    if let Some(line) = service.last("Service", "WorkingDirectory") {
        match without_specifiers(&line.value) {
            Ok(folder) if folder.starts_with('/') => drop(params.insert("cwd".into(), folder.into())),
            Ok(_) => leave_out(plan, &line, "write the folder's path as `cwd`"),
            Err(why) => leave_out(plan, &line, why),
        }
    }
}

fn variables(plan: &mut Plan, service: &mut Unit, params: &mut Map<String, Value>) {
    // What the manager of the system gives its services.
    let path = ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut variables = vec![(path.0.to_owned(), path.1.to_owned())];
    for line in service.take("Service", &["Environment"]) {
        let words = without_specifiers(&line.value).and_then(|value| unit::words(&value));
        let words = match words {
            Ok(words) => words,
            Err(why) => {
                leave_out(plan, &named(&line), why);
                continue;
            }
        };
        for word in words {
            match word.text.split_once('=').filter(|(name, _)| !name.is_empty()) {
                Some((name, value)) => {
                    variables.retain(|(known, _)| known != name);
                    variables.push((name.into(), value.into()));
                    if super::is_secret(name) {
                        plan.leave_out(&line.file, line.line, name, SECRET);
                    }
                }
                None => plan.leave_out(&line.file, line.line, "Environment", "a word in it is no NAME=VALUE"),
            }
        }
    }
    for line in service.take("Service", &["EnvironmentFile"]) {
        leave_out(plan, &line, "write its variables under `env`, and secrets under `secrets`");
    }
    put_variables(params, variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
}

/// The setting without its value, which may hold a secret.
fn named(line: &super::ini::Line) -> super::ini::Line {
    super::ini::Line { value: "…".into(), ..line.clone() }
}

fn limits(plan: &mut Plan, service: &mut Unit, params: &mut Map<String, Value>) {
    if let Some(line) = service.last("Service", "Nice") {
        match line.value.parse::<i32>().ok().filter(|nice| (-20..=19).contains(nice)) {
            Some(nice) => drop(params.insert("nice".into(), nice.into())),
            None => leave_out(plan, &line, "not a number from -20 to 19"),
        }
    }
    if let Some(line) = service.last("Service", "UMask") {
        match u32::from_str_radix(&line.value, 8).ok().filter(|mask| *mask <= 0o777) {
            Some(mask) => drop(params.insert("umask".into(), format!("{mask:03o}").into())),
            None => leave_out(plan, &line, "not a mask in octal"),
        }
    }
    let mut limits = Map::new();
    for (key, limit) in [("LimitNOFILE", "files"), ("LimitCPU", "cpu"), ("LimitDATA", "memory")] {
        let Some(line) = service.last("Service", key) else { continue };
        let soft = line.value.split(':').next().unwrap_or_default().trim();
        if soft == "infinity" {
            continue;
        }
        let value = match limit {
            "files" => soft.parse::<u64>().ok().filter(|files| (8..=1 << 30).contains(files)).map(Value::from),
            "cpu" => {
                let cpu = span::parse(soft).filter(|cpu| cpu.as_secs() > 0 && cpu.subsec_nanos() == 0);
                cpu.map(|cpu| span::text(cpu).into())
            }
            _ => bytes(soft).filter(|bytes| *bytes >= 1 << 20).map(|bytes| format!("{} KiB", bytes >> 10).into()),
        };
        match value {
            Some(value) => drop(limits.insert(limit.into(), value)),
            None => leave_out(plan, &line, format!("not a limit that `limits.{limit}` takes")),
        }
    }
    if !limits.is_empty() {
        params.insert("limits".into(), Value::Object(limits));
    }
}

/// A size with one of systemd's suffixes, up to a few terabytes.
fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.trim_end_matches('B').strip_suffix(['K', 'M', 'G', 'T']) {
        Some(number) => (number, [('K', 10), ('M', 20), ('G', 30), ('T', 40)]),
        None => return text.parse().ok(),
    };
    let suffix = text.trim_end_matches('B').chars().last()?;
    let (_, shift) = shift.into_iter().find(|(known, _)| *known == suffix)?;
    number.trim().parse::<u64>().ok().filter(|number| *number < 1 << 20).map(|number| number << shift)
}

/// The limit of a run: that of the start where the start is all there is, else that of the running service.
fn timeout(plan: &mut Plan, service: &mut Unit) -> Option<Duration> {
    let kind = service.last("Service", "Type");
    let whole = kind.as_ref().is_some_and(|line| line.value == "oneshot");
    if let Some(line) = kind.filter(|line| !["oneshot", "simple", "exec"].contains(&line.value.as_str())) {
        leave_out(plan, &line, "a command runs until its program ends, and what it leaves behind is ended then");
    }
    let mut found = None;
    for line in service.take("Service", &["TimeoutStartSec", "TimeoutSec", "RuntimeMaxSec"]) {
        if whole != (line.key == "RuntimeMaxSec") {
            match span::parse(&line.value) {
                Some(span) => found = Some(span).filter(|span| !span.is_zero()),
                None if line.value == "infinity" => found = None,
                None => leave_out(plan, &line, "not a span of time"),
            }
        } else {
            plan.comment(format!("{}={} limits nothing of a service of this type", line.key, line.value));
        }
    }
    // What a run prints is kept anyway.
    for line in service.take("Service", &["StandardOutput", "StandardError"]) {
        if !["journal", "inherit", "syslog", "kmsg"].contains(&line.value.trim_end_matches("+console")) {
            leave_out(plan, &line, "what it prints is kept with its run: `sched logs RUN`");
        }
    }
    found
}
