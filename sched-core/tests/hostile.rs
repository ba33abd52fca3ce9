//! A store that someone has written into by hand, and jobs that ask for anything: it is told, or refused; nothing
//! panics, and nothing else is harmed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use sched_core::engine::{Assignment, Command, Effect, EngineConfig, Input, Machine};
use sched_core::testing::{Bench, Random};
use sched_core::{
    Admin as _, HistoryFilter, Job, JobError, NodeId, Now, Outcome, Output, PortReply, PortRequest, Query, Registry,
    RunContext, RunState, ScheduleSpec, Scheduler, SqliteReader, SqliteStore, StartOptions, Store as _, StoreError,
    TriggerRequest, TriggerSpec, async_trait,
};
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

fn specs() -> Vec<ScheduleSpec> {
    let every = |name: &str| ScheduleSpec::new(name, "job", TriggerSpec::every(HOUR)).unwrap().with_param("n", 1);
    vec![every("a"), every("b")]
}

fn begin() -> DateTime<Utc> {
    "2026-01-01T00:30:00Z".parse().unwrap()
}

/// A store with every table in use.
fn lived_in(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let mut calls = 0;
    let mut bench = Bench::start_with(store, begin(), &specs(), move |_| {
        calls += 1;
        let failed = || Outcome::Failed(JobError::new("no"));
        match calls % 3 {
            0 => Some((Duration::from_secs(9000), failed())),
            1 => Some((Duration::from_secs(60), failed())),
            _ => Some((Duration::from_secs(5), Outcome::Succeeded(Output::summary("did it")))),
        }
    });
    bench.advance(9 * HOUR);
    let schedule = || "a".parse().unwrap();
    bench.command(Command::PutState { schedule: schedule(), key: "k".into(), value: json!({"n": 1}) }).unwrap();
    bench.command(Command::Pause { schedule: schedule(), by: "t".into(), reason: "r".into() }).unwrap();
    bench.advance(2 * HOUR);
    bench.command(Command::Dispatch { run: false, by: "t".into() }).unwrap();
}

/// What columns of a STRICT table may hold, and no program of ours writes.
fn odd(random: &mut Random) -> Cell {
    let text = |text: &str| Cell::Text(text.to_owned());
    let texts = [
        "",
        "null",
        "{}",
        "[]",
        "\"x\"",
        "{\"name\":",
        "running",
        "no such word",
        "\u{0}\u{202e}",
        "-1",
        "1e400",
        "{\"by\":1}",
        "{\"every\":\"0s\"}",
        "[[[[[[[[[[[[[[[[",
        "{\"event\":\"tick\"}",
        "../../etc/passwd",
    ];
    match random.below(4) {
        0 => Cell::Null,
        1 => Cell::Integer(random.pick(&[i64::MIN, -1, 0, 1, 7, i64::from(u32::MAX) + 1, i64::MAX])),
        2 => Cell::Blob(vec![7; random.pick(&[0, 1, 15, 16, 17, 4096])]),
        _ => text(random.pick(&texts)),
    }
}

/// Changes some cells; gives what was done, for the message of a failure.
fn spoil(path: &Path, random: &mut Random) -> Vec<String> {
    let conn = Connection::open(path).unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    let mut statement =
        conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%STRICT%'").unwrap();
    let tables: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut done = Vec::new();
    while done.len() < 1 + random.below(3) as usize {
        let table = &tables[random.below(tables.len() as u64) as usize];
        let mut columns = conn.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
        let columns: Vec<String> = columns.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let column = &columns[random.below(columns.len() as u64) as usize];
        let value = odd(random);
        let all =
            if random.below(2) == 0 { String::new() } else { format!("WHERE abs(random()) % 3 = {}", random.below(3)) };
        let sql = format!("UPDATE OR IGNORE {table} SET {column} = ?1 {all}");
        // What the column's type or a constraint refuses cannot be there.
        if conn.execute(&sql, [&value]).is_ok_and(|changed| changed > 0) {
            done.push(format!("{table}.{column} = {value:?} {all}"));
        }
        if random.below(40) == 0 {
            break;
        }
    }
    done
}

fn ask_everything(query: &dyn Query) -> Vec<StoreError> {
    let (name, ever) = ("a".parse().unwrap(), DateTime::<Utc>::UNIX_EPOCH);
    let late = DateTime::<Utc>::MAX_UTC;
    let mut errors = Vec::new();
    let mut note = |error: Option<StoreError>| errors.extend(error);
    note(query.history(&HistoryFilter::newest(1000)).err());
    note(query.schedules().err());
    note(sched_core::views(query).err());
    note(query.activity(&name).err());
    note(query.versions(&name).err());
    note(query.dispositions(&name, ever).err());
    note(query.spans(&name).err());
    note(query.ranges_in(&name, ever, late).err());
    note(query.fires_in(&name, ever, late).err());
    note(query.events_after(sched_core::Seq(0), 1000).err());
    note(query.state(&name, "k").err());
    note(query.contradictions().err());
    note(query.dispatch().err());
    note(sched_core::audit(query, None).err());
    errors
}

/// Lets an engine do what it wants for a day, as long as the store takes it.
fn live_on((mut machine, effects): (Machine, Vec<Effect>), mut store: SqliteStore, mut now: Now) {
    let mut effects = VecDeque::from(effects);
    for _ in 0..48 {
        while let Some(effect) = effects.pop_front() {
            let input = match effect {
                Effect::Write(token, write) => {
                    let Ok(committed) = store.commit(&[*write]) else { return };
                    let Some(token) = token else { continue };
                    Input::Written(token, committed.receipts.into_iter().next().unwrap())
                }
                Effect::Start(Assignment { info, .. }) => Input::Ended {
                    run_id: info.run_id,
                    fence: info.fence,
                    outcome: Outcome::Failed(JobError::new("no")),
                    artifacts: Vec::new(),
                },
                _ => continue,
            };
            effects.extend(machine.step(now, input));
        }
        let half = HOUR / 2;
        assert!(machine.wake_after(now).is_none_or(|wait| wait <= Duration::from_secs(400 * 365 * 86_400)));
        now = Now { utc: now.utc + half, mono: now.mono + half };
        effects.extend(machine.step(now, Input::Wake));
    }
}

#[test]
fn a_store_whose_cells_hold_anything_is_read_or_refused_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    lived_in(&whole);
    let mut random = Random(0x0dd);
    let (mut refused, mut started) = (0, 0);
    for round in 0..400 {
        let path = folder.path().join("spoiled.db");
        std::fs::copy(&whole, &path).unwrap();
        let done = spoil(&path, &mut random);
        let note = |what: &str| format!("round {round} {done:?}: {what}");
        match SqliteReader::open(&path) {
            Ok(reader) => {
                reader.integrity().unwrap();
                ask_everything(&reader);
            }
            Err(error) => assert!(!error.to_string().is_empty(), "{}", note("an empty error")),
        }
        let loaded = SqliteStore::open(&path).and_then(|mut store| store.load().map(|snapshot| (store, snapshot)));
        match loaded {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("spoiled.db"), "{}", note("the error names no place"));
            }
            Ok((store, snapshot)) => {
                let config = EngineConfig {
                    channels: Default::default(),
                    node: NodeId::random(),
                    max_concurrent_runs: 8,
                    groups: Default::default(),
                    seed: 1,
                };
                let now = Now { utc: begin() + Duration::from_secs(86_400), mono: Duration::ZERO };
                if let Ok(engine) = Machine::start(config, now, snapshot, &specs(), StartOptions::default()) {
                    started += 1;
                    live_on(engine, store, now);
                }
            }
        }
        std::fs::remove_file(&path).unwrap();
        for log in ["spoiled.db-wal", "spoiled.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(log));
        }
    }
    println!("400 spoiled stores: {refused} refused, {started} started");
    assert!(refused > 20 && started > 20, "{refused} refused, {started} started");
}

/// A job that asks for whatever it is given, and keeps the answers.
struct Asks {
    requests: Vec<PortRequest>,
    answers: Arc<Mutex<Vec<bool>>>,
}

#[async_trait]
impl Job for Asks {
    async fn run(&self, ctx: &RunContext) -> Result<Output, JobError> {
        for request in &self.requests {
            let answer = ctx.call(request.clone()).await;
            if let Ok(PortReply::Artifact { artifact }) = &answer {
                assert!(artifact.path.starts_with(std::env::temp_dir()), "{:?}", artifact.path);
            }
            self.answers.lock().unwrap().push(answer.is_ok());
        }
        Ok(Output::default())
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// Messages of a job to its scheduler, as they come over a pipe: written well, with hostile values.
fn messages() -> Vec<Value> {
    let run = "00000000-0000-7000-8000-000000000000";
    let (ever, never) = ("-262143-01-01T00:00:00Z", "+262142-12-31T23:59:59.999999999Z");
    let long = "x".repeat(1 << 20);
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let filter =
        |limit: u32| json!({"schedule": null, "since": ever, "after": {"at": never, "id": run}, "limit": limit});
    let mut all = vec![
        json!({"request": "schedules"}),
        json!({"request": "retry", "run_id": run}),
        json!({"request": "recover", "schedule": "a", "nominal_at": ever}),
        json!({"request": "recover", "schedule": "a", "nominal_at": never}),
        json!({"request": "trigger", "schedule": "none", "params": {}}),
        json!({"request": "trigger", "schedule": "asks", "params": {"__proto__": deep}}),
        json!({"request": "pause", "schedule": "none", "reason": long}),
        json!({"request": "resume", "schedule": "asks"}),
        json!({"request": "prune", "rule": {"before": never, "failures_before": ever, "keep_newest": 0, "dry_run": true}}),
        json!({"request": "prune", "rule": {"before": ever, "failures_before": never, "keep_newest": u32::MAX, "dry_run": false}}),
        json!({"request": "progress", "percent": 255, "text": "\u{1b}[2J\u{0}"}),
        json!({"request": "log", "line": long}),
        json!({"request": "log", "line": "two\nlines\r\u{0}"}),
    ];
    all.extend([0, 1, u32::MAX].map(|limit| json!({"request": "history", "filter": filter(limit)})));
    for name in
        ["../x", "/etc/passwd", "", ".hidden", "a/b", "a\u{0}b", "..", "x\u{202e}", &"n".repeat(300), "fine.txt"]
    {
        all.push(json!({"request": "artifact", "name": name, "content": [1, 2, 3]}));
        all.push(json!({"request": "state_put", "key": name, "value": deep.clone()}));
        all.push(json!({"request": "state_get", "key": name}));
    }
    all
}

#[tokio::test]
async fn whatever_a_job_asks_is_answered_and_the_engine_goes_on() {
    let requests: Vec<PortRequest> =
        messages().into_iter().map(|message| serde_json::from_value(message).unwrap()).collect();
    let asked = requests.len();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let folder = tempfile::tempdir().unwrap();
    let mut registry = Registry::new();
    let kept = answers.clone();
    registry.register("asks", "Asks for anything", move |_: NoParams| {
        Ok(Asks { requests: requests.clone(), answers: kept.clone() })
    });
    let spec = ScheduleSpec::new("asks", "asks", TriggerSpec::once("2999-01-01T00:00:00Z".parse().unwrap())).unwrap();
    let store = SqliteStore::open(folder.path().join("sched.db")).unwrap();
    let scheduler =
        Scheduler::builder(store).registry(registry).schedule(spec).data_dir(folder.path()).start().unwrap();
    let handle = scheduler.handle();
    let run_id = handle.trigger(TriggerRequest::new("asks".parse().unwrap(), "t")).await.unwrap();
    let run = handle.wait(run_id).await.unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    let answered = answers.lock().unwrap().clone();
    assert_eq!(answered.len(), asked);
    assert!(answered.iter().any(|ok| *ok) && answered.iter().any(|ok| !*ok), "{answered:?}");
    assert!(run.artifacts.iter().all(|artifact| artifact.name == "fine.txt" || artifact.name == "x\u{202e}"));
    let report = handle.audit(None).await.unwrap();
    assert!(report.ok, "{report:?}");
    scheduler.shutdown(Duration::from_secs(5)).await;
}

#[test]
fn a_damaged_message_of_a_job_is_refused_or_says_itself_again() {
    let whole: Vec<String> = messages().iter().filter(|m| m.to_string().len() < 4096).map(Value::to_string).collect();
    let mut random = Random(0xbad);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = whole[random.below(whole.len() as u64) as usize].clone().into_bytes();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len().max(1) as u64) as usize;
            match random.below(3) {
                _ if bytes.len() < 2 => {}
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        match serde_json::from_slice::<PortRequest>(&bytes) {
            Ok(request) => {
                read += 1;
                let again = serde_json::to_vec(&request).unwrap();
                assert_eq!(serde_json::from_slice::<PortRequest>(&again).unwrap(), request);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}
