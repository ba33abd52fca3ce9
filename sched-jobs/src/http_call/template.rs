//! A body that is made for each run. Bounded: a template runs so many instructions and writes so many bytes.

use std::io::Write;

use minijinja::{Environment, UndefinedBehavior};
use sched_core::RunInfo;
use serde_json::{Map, Value, json};

/// Instructions of the template's machine.
const FUEL: u64 = 100_000;
/// Bytes that it may write.
const LARGEST: usize = 1 << 20;

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

/// Why it is no template.
pub(super) fn check(text: &str) -> Result<(), String> {
    environment().template_from_str(text).map(drop).map_err(|error| format!("{error:#}"))
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST {
            return Err(std::io::Error::other(format!("it writes more than {LARGEST} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The body for a run.
pub(super) fn render(text: &str, run: &RunInfo, values: &Map<String, Value>) -> Result<String, String> {
    let facts = json!({
        "run_id": run.run_id,
        "schedule": run.schedule,
        "nominal_at": run.nominal_at,
        "attempt": run.attempt,
        "values": values,
    });
    let environment = environment();
    let mut written = Bounded(Vec::new());
    environment
        .template_from_str(text)
        .and_then(|template| template.render_captured_to(minijinja::value::Serde(&facts), &mut written))
        .map_err(|error| format!("body_template: {error:#}"))?;
    String::from_utf8(written.0).map_err(|error| format!("body_template: {error}"))
}
