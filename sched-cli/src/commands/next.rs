//! `sched next` and `sched check`.

use chrono::{DateTime, Datelike as _, Utc};
use chrono_tz::Tz;
use sched_core::{Clock as _, ScheduleName, SystemClock, TriggerSpec, instants};
use serde_json::{Map, Value, json};

use super::lookup::{schedule_name, unknown_schedule};
use crate::args::{Global, Next};
use crate::compose::Setup;
use crate::doctor::newer_zones;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

pub(crate) fn check(global: &Global) -> Outcome {
    let setup = Setup::load(global)?;
    setup.key_is_usable()?;
    let count = setup.config.schedules.len();
    let place = setup.file.as_ref().map_or("the built-in schedules".into(), |path| path.display().to_string());
    let now = SystemClock::new().now().utc;
    let mut warnings = Vec::new();
    for spec in &setup.config.schedules {
        let found = spec.trigger.warnings(now).map_err(Failure::usage)?;
        warnings.extend(found.iter().map(|warning| format!("schedule `{}` ({}): {warning}", spec.name, spec.trigger)));
    }
    warnings.extend(newer_zones().map(|found| format!("{found}: where rules changed, update the program")));
    if global.json {
        output::json(&json!({ "ok": true, "schedules": count, "warnings": warnings }));
    } else {
        for warning in &warnings {
            output::note(&format!("warning: {warning}"));
        }
        if !global.quiet {
            output::line(&format!("{place}: {}, no fault", output::counted(count, "schedule")));
        }
    }
    Ok(Exit::Done)
}

pub(crate) fn next(global: &Global, words: &Next) -> Outcome {
    let after = words.after.unwrap_or_else(|| SystemClock::new().now().utc);
    let kinds = [
        ("cron", &words.cron),
        ("every", &words.every),
        ("daily", &words.daily),
        ("calendar", &words.calendar),
        ("rrule", &words.rrule),
    ];
    let key = kinds.into_iter().find_map(|(key, text)| Some((key, text.as_ref()?)));
    if let Some((key, text)) = key {
        let mut table = Map::from_iter([(key.to_owned(), json!(text))]);
        for (key, value) in [("timezone", &words.tz), ("day_rule", &words.day_rule), ("dialect", &words.dialect)] {
            if let Some(value) = value {
                table.insert(key.into(), json!(value));
            }
        }
        let dst = [("gap", &words.gap), ("fold", &words.fold)];
        let dst: Map<_, _> =
            dst.iter().filter_map(|(key, value)| Some(((*key).to_owned(), json!(value.as_ref()?)))).collect();
        table.insert("dst".into(), Value::Object(dst));
        let spec: TriggerSpec = serde_json::from_value(Value::Object(table)).map_err(Failure::usage)?;
        print(global, None, &spec, after, words.count)?;
        return Ok(Exit::Done);
    }
    let setup = Setup::load(global)?;
    let wanted = words.name.as_deref().map(schedule_name).transpose()?;
    let specs = &setup.config.schedules;
    if let Some(name) = wanted.as_ref().filter(|name| specs.iter().all(|spec| spec.name != **name)) {
        return Err(unknown_schedule(name, specs.iter().map(|spec| spec.name.as_str())));
    }
    for spec in specs {
        if wanted.as_ref().is_none_or(|name| *name == spec.name) {
            print(global, Some(&spec.name), &spec.trigger, after, words.count)?;
        }
    }
    Ok(Exit::Done)
}

fn print(
    global: &Global,
    name: Option<&ScheduleName>,
    spec: &TriggerSpec,
    after: DateTime<Utc>,
    count: u16,
) -> Result<(), Failure> {
    let trigger = spec.compile().map_err(Failure::usage)?;
    let zone = spec.timezone.unwrap_or(Tz::UTC);
    let next: Vec<_> = instants(&*trigger, after).take(usize::from(count)).collect();
    let local = |at: &DateTime<Utc>| at.with_timezone(&zone).to_rfc3339();
    if global.json {
        let utc: Vec<_> = next.iter().map(|at| output::time(*at)).collect();
        let locals: Vec<_> = next.iter().map(local).collect();
        let mut body = json!({ "trigger": spec.to_string(), "timezone": zone.name(), "next": utc, "local": locals });
        if let Some(name) = name {
            body["schedule"] = json!(name);
        }
        if let Some(note) = note(&next, spec) {
            body["note"] = json!(note);
        }
        output::json(&body);
        return Ok(());
    }
    if let Some(name) = name {
        output::line(&format!("{name} ({spec})"));
    }
    for at in &next {
        output::line(&format!("{}  {}", output::time(*at), local(at)));
    }
    if let Some(note) = note(&next, spec) {
        output::note(note);
    }
    Ok(())
}

/// What must be known of an answer beside its instants.
fn note(next: &[DateTime<Utc>], spec: &TriggerSpec) -> Option<&'static str> {
    let zoned = spec.timezone.is_some_and(|zone| zone != Tz::UTC);
    if next.is_empty() {
        Some("it never fires after this instant")
    } else if spec.is_after_completion() {
        Some("each fire comes after the end of a run; these are counted as if runs took no time")
    } else if zoned && next.last().is_some_and(|at| at.year() > 2099) {
        Some("the rules of time zones are known until 2099; later instants take the last offset")
    } else {
        None
    }
}
