//! `sched explain`: an expression in English, its next times, and what clock changes do to it.

use chrono_tz::Tz;
use sched_core::{Clock as _, SystemClock, TriggerSpec, instants};
use serde_json::{Map, Value, json};

use crate::args::{Explain, Global};
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

const NEXT: usize = 5;

pub(crate) fn explain(global: &Global, words: &Explain) -> Outcome {
    let spec = read(words)?;
    let trigger = spec.compile().map_err(Failure::usage)?;
    let english = spec.explain().map_err(Failure::usage)?;
    let zone = spec.timezone.unwrap_or(Tz::UTC);
    let now = SystemClock::new().now().utc;
    let next: Vec<_> = instants(&*trigger, now).take(NEXT).collect();
    let surprises = trigger.surprises(now, now + chrono::TimeDelta::days(366));
    let warnings = spec.warnings(now).map_err(Failure::usage)?;
    let others = warnings.iter().filter(|warning| !surprises.iter().any(|s| s.to_string() == **warning));
    if global.json {
        let local: Vec<_> = next.iter().map(|at| at.with_timezone(&zone).to_rfc3339()).collect();
        output::json(&json!({
            "trigger": spec.to_string(),
            "explanation": english,
            "timezone": zone.name(),
            "next": next.iter().map(|at| output::time(*at)).collect::<Vec<_>>(),
            "local": local,
            "warnings": others.collect::<Vec<_>>(),
            "clock_changes": surprises.iter().map(|s| json!({ "at": output::time(s.at), "text": s.to_string() })).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    output::line(&format!("{english} ({zone})"));
    for at in &next {
        output::line(&format!("  {}", at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S %Z")));
    }
    for line in others {
        output::line(line);
    }
    for surprise in &surprises {
        output::line(&surprise.to_string());
    }
    Ok(Exit::Done)
}

/// A rule has `=` in it; what is no cron expression may be a calendar event.
fn read(words: &Explain) -> Result<TriggerSpec, Failure> {
    let parse = |key: &str| {
        let mut table = Map::from_iter([(key.to_owned(), json!(words.expression))]);
        for (key, value) in [("timezone", &words.tz), ("dialect", &words.dialect)] {
            if let Some(value) = value {
                table.insert(key.into(), json!(value));
            }
        }
        serde_json::from_value::<TriggerSpec>(Value::Object(table)).map_err(Failure::usage)
    };
    if words.expression.contains('=') {
        return parse("rrule");
    }
    parse("cron")
        .or_else(|failure| if words.dialect.is_some() { Err(failure) } else { parse("calendar").or(Err(failure)) })
}
