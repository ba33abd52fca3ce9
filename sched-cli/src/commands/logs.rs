//! `sched logs`: what a run has said, and with `--follow` what it says.

use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use sched_core::{Files, RunId};
use serde_json::json;

use super::lookup::{self, known_run, reader};
use crate::args::Global;
use crate::compose::Setup;
use crate::daemon::place::is_held;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Between looks at a run that goes on, by whoever waits for it.
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

pub(crate) fn logs(global: &Global, run: &str, follow: bool) -> Outcome {
    let setup = Setup::find(global)?;
    let run_id = lookup::run_id(&setup, run)?;
    let reader = reader(&setup)?;
    let mut printed = 0;
    loop {
        let record = known_run(&reader, run_id)?;
        let gained = gained(&setup, run_id, printed)?;
        printed += gained.len();
        for line in gained.lines() {
            if global.json {
                output::json(&json!({ "run_id": run_id, "line": line }));
            } else {
                output::line(line);
            }
        }
        if !follow || record.state.is_final() {
            return Ok(Exit::Done);
        }
        if !is_held(&setup.config.data_dir) {
            return Err(Failure::failed(format!("run {run_id} is {}, and the scheduler is not running", record.state)));
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// What the run's output has gained beyond `printed` bytes, in whole lines.
pub(super) fn gained(setup: &Setup, run_id: RunId, printed: usize) -> Result<String, Failure> {
    let path = Files::below(&setup.config.data_dir).output_path(run_id);
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(&path)?;
        file.seek(SeekFrom::Start(printed as u64))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let mut bytes = match read() {
        Ok(bytes) => bytes,
        // A run that has said nothing has no file.
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
    };
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    // The engine keeps lines as text.
    String::from_utf8(bytes).map_err(|_| Failure::failed(format!("{}: it is not text", path.display())))
}
