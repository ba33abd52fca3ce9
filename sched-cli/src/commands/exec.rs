//! `sched exec`: runs one job once, without a scheduler, on a store in memory. It reads the real history.

use std::sync::Arc;
use std::time::Duration;

use sched_core::{
    HistoryRow, MemoryStore, OutboxFilter, OutboxState, RunState, ScheduleSpec, Scheduler, SqliteReader,
    TriggerRequest, TriggerSpec,
};

use super::trigger::parse_params;
use crate::args::Global;
use crate::compose::Setup;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// What a job gets when it is interrupted.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn exec(global: &Global, kind: &str, params: &[String]) -> Outcome {
    let setup = Setup::load(global)?;
    let never = TriggerSpec::once(chrono::DateTime::UNIX_EPOCH);
    let mut spec = ScheduleSpec::new(kind, kind, never).map_err(Failure::usage)?;
    spec.params = parse_params(params)?;
    spec.retry.attempts = 1;
    setup.registry.kind(kind).map_err(Failure::usage)?;
    setup
        .registry
        .check(kind, &spec.params)
        .map_err(|error| Failure::usage(format!("{error}; `sched kinds {kind}` shows the parameters")))?;
    let name = spec.name.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = runtime.block_on(async {
        let builder = Scheduler::builder(MemoryStore::new()).registry(setup.registry.clone()).schedule(spec);
        let mut builder = builder.channels(setup.channels()?);
        if setup.store_path().exists() {
            builder = builder.history_from(Arc::new(SqliteReader::open(setup.store_path())?));
        }
        let scheduler =
            builder.data_dir(&setup.config.data_dir).isolated_runner(setup.isolated(runtime.handle())).start()?;
        let handle = scheduler.handle().clone();
        let run_id = handle.trigger(TriggerRequest::new(name, "exec")).await.map_err(Failure::failed)?;
        let run = tokio::select! {
            run = handle.wait(run_id) => run.map_err(Failure::failed),
            _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
        };
        // What it has written to people is on its way, and goes out within the grace.
        scheduler.shutdown(GRACE).await;
        let filter = OutboxFilter { state: None, after: None, limit: 100 };
        let sent = handle.outbox(filter).await.map_err(Failure::failed)?;
        run.map(|run| (run, sent))
    })?;
    let (run, sent) = run;
    runtime.shutdown_background();
    let ok = run.state == RunState::Succeeded;
    if global.json {
        output::json(&HistoryRow::Run(run));
    } else {
        let note = run.error.as_ref().or(run.summary.as_ref()).map_or(String::new(), |note| format!(": {note}"));
        output::line(&format!("{}{note}", run.state));
        for artifact in &run.artifacts {
            output::line(&artifact.path.display().to_string());
        }
    }
    for row in sent.iter().filter(|row| row.state != OutboxState::Delivered) {
        let why = row.error.as_deref().unwrap_or("no answer in time");
        output::note(&format!("not sent through channel {}: {why}", row.channel));
    }
    let ok = ok && sent.iter().all(|row| row.state == OutboxState::Delivered);
    Ok(if ok { Exit::Done } else { Exit::Failed })
}
