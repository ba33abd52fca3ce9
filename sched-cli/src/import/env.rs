//! The original system's variables as a configuration. Keys stay where they are.

use serde_json::{Map, Value, json};

use super::{Original, Part, Plan, Planned};

/// The configuration that these variables amount to; a variable that cannot be read is told.
pub(crate) fn env(variable: &dyn Fn(&str) -> Option<String>) -> Result<Plan, String> {
    let time = |name: &str, default: &str| {
        let text = variable(name).unwrap_or_else(|| default.into());
        match chrono::NaiveTime::parse_from_str(&text, "%H:%M") {
            Ok(time) => Ok(time.format("%H:%M").to_string()),
            Err(_) => Err(format!("{name}: `{text}` is not a time; write HH:MM")),
        }
    };
    let hours = variable("SCHED_SELFHEAL_EVERY_HOURS").unwrap_or_else(|| "6".into());
    let hours: u64 = hours
        .parse()
        .ok()
        .filter(|hours| (1..=8784).contains(hours))
        .ok_or_else(|| format!("SCHED_SELFHEAL_EVERY_HOURS: `{hours}` is not a number of hours from 1"))?;
    let mut plan = Plan {
        head: vec!["Imported from the environment: the schedules that run without a configuration, as one.".into()],
        ..Plan::default()
    };
    plan.settings.push(("", Map::from_iter([("timezone".into(), "UTC".into())])));
    if variable("DASHBOARD_KEY").is_some() {
        plan.settings.push(("http", Map::from_iter([("dashboard_key".into(), "env:DASHBOARD_KEY".into())])));
    }
    if variable("BASE_URL").is_some() {
        let why = "it has no key here; the scheduler reads it from its environment, so leave it there";
        plan.leave_out("environment", 1, "BASE_URL", why);
        plan.parts.push(Part::Gap);
    }
    let schedules = [
        ("brief", "ceo_brief", json!({ "daily": time("SCHED_BRIEF_UTC", "08:00")? }), Some("if_due")),
        ("report", "report", json!({ "daily": time("SCHED_REPORT_UTC", "09:00")? }), None),
        ("selfheal", "self_heal", json!({ "every": format!("{hours}h") }), Some("if_due")),
        ("retention", "retention", json!({ "daily": "03:00" }), Some("always")),
    ];
    for (name, job, trigger, on_start) in schedules {
        let mut keys = Map::from_iter([("job".to_owned(), Value::from(job)), ("trigger".to_owned(), trigger)]);
        keys.extend(on_start.map(|on_start| ("on_start".to_owned(), Value::from(on_start))));
        let (name, original) = (plan.unique(name), Original::Untimed);
        plan.parts.push(Part::Schedule(Box::new(Planned { name, keys, params: Map::new(), original })));
    }
    Ok(plan)
}
