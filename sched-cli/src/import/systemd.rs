//! systemd's timers (systemd.timer(5)), each with the service that it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use sched_core::TriggerSpec;
use serde_json::{Map, Value, json};

use super::ini::{Line, Unit, is_yes};
use super::service::{self, Service};
use super::{LeftOut, NEVER, Original, Part, Plan, Planned, fault_of, name, span};

/// The unit files of a folder, by their paths in it.
pub(crate) struct Files {
    /// How the folder is called in messages.
    pub(crate) folder: String,
    pub(crate) texts: BTreeMap<String, String>,
    /// The zone of times that name none.
    pub(crate) zone: Tz,
}

impl Files {
    /// A unit with its drop-ins in order; none when there is no file of that name.
    fn unit(&self, name: &str) -> Option<Unit> {
        let mut unit = Unit::default();
        unit.read(&self.place(name), self.texts.get(name)?);
        let folder = format!("{name}.d/");
        for (path, text) in self.texts.iter().filter(|(path, _)| path.starts_with(&folder)) {
            unit.read(&self.place(path), text);
        }
        Some(unit)
    }

    fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.folder.trim_end_matches('/'))
    }
}

/// Reads the timers of a folder.
pub(crate) fn systemd(files: &Files) -> Plan {
    let mut plan = Plan {
        head: vec![
            format!("Imported from the timers in {}.", files.folder),
            "A timer does nothing while its service runs, and a service has no limit of time unless it names one; so it"
                .into(),
            "is here. What `[Install]` says needs no counterpart: a schedule that stands here is enabled.".into(),
        ],
        ..Plan::default()
    };
    plan.settings.push(("", Map::from_iter([("timezone".into(), files.zone.name().into())])));
    let policies = [
        ("misfire", json!({ "policy": "skip" })),
        ("overlap", json!("skip")),
        ("retry", json!({ "attempts": 1 })),
        ("timeout", json!("365d")),
    ];
    plan.settings.push(("defaults", policies.into_iter().map(|(key, value)| (key.into(), value)).collect()));
    for timer in files.texts.keys().filter(|path| path.ends_with(".timer") && !path.contains('/')) {
        plan.comment(timer.clone());
        if let Err(left) = one(&mut plan, files, timer) {
            plan.parts.push(Part::LeftOut(left));
        }
        plan.parts.push(Part::Gap);
    }
    plan
}

fn one(plan: &mut Plan, files: &Files, file: &str) -> Result<(), LeftOut> {
    let stem = file.trim_end_matches(".timer");
    let place = files.place(file);
    let refuse = |line: usize, why: String| LeftOut { file: place.clone(), line, what: file.to_owned(), why };
    let mut timer = files.unit(file).unwrap_or_default();
    if stem.ends_with('@') {
        return Err(refuse(1, "a template; import a folder that has its instances as files of their own".into()));
    }
    timer.take("Install", &["WantedBy", "RequiredBy", "Also", "Alias"]);
    let unit = timer.last("Timer", "Unit");
    let (line, service_name) = unit.map_or((1, format!("{stem}.service")), |line| (line.line, line.value));
    if !service_name.ends_with(".service") {
        return Err(refuse(line, format!("it starts `{service_name}`, which is no service")));
    }
    let service = files.unit(&service_name);
    let service = service.ok_or_else(|| refuse(line, format!("no {service_name} lies beside it")))?;
    let mut keys = Map::from_iter([("job".to_owned(), json!("command"))]);
    let original = when(plan, files.zone, &mut timer, &mut keys).map_err(|why| refuse(1, why))?;
    policies(plan, &mut timer, &mut keys);
    describe(plan, &mut timer);
    for left in timer.lines {
        leave_out(plan, &left, "no counterpart");
    }
    let Service { params, timeout } = service::read(plan, &files.place(&service_name), service)?;
    if let Some(timeout) = timeout {
        keys.insert("timeout".into(), span::text(timeout).into());
    }
    let name = plan.unique(&name::clean(stem).unwrap_or_else(|| "job".into()));
    plan.parts.push(Part::Schedule(Box::new(Planned { name, keys, params, original })));
    Ok(())
}

pub(super) fn leave_out(plan: &mut Plan, line: &Line, why: impl Into<String>) {
    plan.parts.push(Part::LeftOut(left_out(line, why)));
}

/// A setting that is left out; credentials are not shown.
pub(super) fn left_out(line: &Line, why: impl Into<String>) -> LeftOut {
    let value = if line.key.contains("Credential") { "…" } else { &line.value };
    LeftOut { file: line.file.clone(), line: line.line, what: format!("{}={value}", line.key), why: why.into() }
}

/// What a unit says of itself stays as a comment.
pub(super) fn describe(plan: &mut Plan, unit: &mut Unit) {
    for line in unit.take("Unit", &["Description", "Documentation"]) {
        plan.comment(format!("{}: {}", line.key, line.value));
    }
}

const TIMES: &[&str] =
    &["OnCalendar", "OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec"];

/// Writes the trigger.
fn when(plan: &mut Plan, zone: Tz, timer: &mut Unit, keys: &mut Map<String, Value>) -> Result<Original, String> {
    // An empty one of them resets them all.
    let times = timer.take("Timer", TIMES);
    let (mut triggers, mut events, mut idle, mut at_start) = (Vec::new(), Vec::new(), None::<Value>, false);
    let mut only_events = true;
    for line in &times {
        if line.key == "OnCalendar" {
            match event(&line.value, zone) {
                Ok(trigger) => {
                    events.push(line.value.clone());
                    triggers.push(trigger);
                }
                Err(why) => leave_out(plan, line, why),
            }
            continue;
        }
        only_events = false;
        let Some(after) = span::parse(&line.value) else {
            leave_out(plan, line, "not a span of time");
            continue;
        };
        let enough = after >= Duration::from_secs(1);
        match line.key.as_str() {
            "OnUnitActiveSec" if enough => {
                triggers.push(json!({ "every": span::text(after) }));
                leave_out(plan, line, "`every` counts from midnight UTC of 1 January 1970, not from the last start");
            }
            "OnUnitInactiveSec" if enough && idle.is_none() => {
                idle = Some(json!({ "after_completion": span::text(after) }));
            }
            "OnUnitActiveSec" | "OnUnitInactiveSec" => leave_out(plan, line, "taken is one, of at least a second"),
            _ => {
                at_start = true;
                let why = "it runs at each start of the scheduler, at once (`on_start`), which may come more often";
                leave_out(plan, line, why);
            }
        }
    }
    if let Some(idle) = idle {
        if triggers.is_empty() {
            triggers.push(idle);
        } else {
            for line in times.iter().filter(|line| line.key == "OnUnitInactiveSec") {
                leave_out(plan, line, "`after_completion` stands alone, not beside other times");
            }
        }
    }
    if at_start {
        keys.insert("on_start".into(), "always".into());
    }
    let trigger = match triggers.len() {
        0 if at_start => json!({ "cron": NEVER }),
        0 => return Err("nothing says when it starts".into()),
        1 => triggers.remove(0),
        _ => Value::Array(triggers),
    };
    keys.insert("trigger".into(), trigger);
    Ok(if only_events { Original::Calendar(events, zone) } else { Original::Untimed })
}

/// A calendar event. What falls into the hour that a day does not have, does not happen with systemd.
fn event(text: &str, zone: Tz) -> Result<Value, String> {
    let mut trigger = json!({ "calendar": text });
    if let Some(fault) = fault_of(&trigger) {
        return Err(fault);
    }
    let spec: Result<TriggerSpec, _> = serde_json::from_value(trigger.clone());
    if spec.is_ok_and(|spec| spec.or_timezone(zone).zone_data().is_some()) {
        trigger["dst"] = json!({ "gap": "skip" });
    }
    Ok(trigger)
}

fn policies(plan: &mut Plan, timer: &mut Unit, keys: &mut Map<String, Value>) {
    if timer.last("Timer", "Persistent").is_some_and(|line| is_yes(&line.value)) {
        keys.insert("misfire".into(), json!({ "policy": "latest", "window": "10y" }));
    }
    if let Some(line) = timer.last("Timer", "RandomizedDelaySec") {
        match span::parse(&line.value) {
            Some(span) if span.is_zero() => {}
            Some(span) => {
                keys.insert("jitter".into(), span::text(span).into());
            }
            None => leave_out(plan, &line, "not a span of time"),
        }
    }
    if let Some(line) = timer.last("Timer", "AccuracySec") {
        plan.comment(format!("AccuracySec={} is not needed: a run starts at its second", line.value));
    }
    for (key, why) in [
        ("FixedRandomDelay", "the delay is stable for each fire, and another for the next"),
        ("WakeSystem", "a scheduler does not wake the machine"),
        ("OnClockChange", "a step of the clock starts nothing"),
        ("OnTimezoneChange", "a change of the zone starts nothing"),
    ] {
        if let Some(line) = timer.last("Timer", key).filter(|line| is_yes(&line.value)) {
            leave_out(plan, &line, why);
        }
    }
    if let Some(line) = timer.last("Timer", "RemainAfterElapse") {
        plan.comment(format!("RemainAfterElapse={} is about systemd's own list", line.value));
    }
}
