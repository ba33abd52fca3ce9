//! Writes a brief and a report of a lively month into a folder: `cargo run -p sched-jobs --example sample -- FOLDER`.
//!
//! A made-up shop with six schedules lives through seven weeks on a virtual clock, a brief each morning.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use sched_core::testing::{Random, VirtualClock};
use sched_core::{
    Artifact, HistoryRow, JobPort, PortError, PortReply, PortRequest, Registry, RunContext, RunInfo, RunRecord,
    ScheduleSpec, ScheduleView, TriggerSpec, async_trait,
};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

/// A scheduler's side of the port, whose past is made up.
struct Shop {
    folder: PathBuf,
    world: Mutex<World>,
}

struct World {
    /// Newest first.
    rows: Vec<HistoryRow>,
    views: Vec<ScheduleView>,
    state: BTreeMap<String, Value>,
}

#[async_trait]
impl JobPort for Shop {
    async fn call(&self, _: &RunInfo, request: PortRequest) -> Result<PortReply, PortError> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match request {
            PortRequest::History { filter } => {
                let rows = world.rows.iter().filter(|row| {
                    let cursor = row.cursor();
                    filter.since.is_none_or(|since| cursor.at >= since)
                        && filter.after.is_none_or(|after| cursor < after)
                });
                PortReply::History { rows: rows.take(filter.limit as usize).cloned().collect() }
            }
            PortRequest::Schedules => PortReply::Schedules { schedules: world.views.clone() },
            PortRequest::StateGet { key } => PortReply::State { value: world.state.get(&key).cloned() },
            PortRequest::StatePut { key, value } => {
                world.state.insert(key, value);
                PortReply::Done
            }
            PortRequest::Artifact { name, content } => {
                let path = self.folder.join(&name);
                std::fs::write(&path, &content).map_err(|error| PortError::new(error.to_string()))?;
                PortReply::Artifact { artifact: Artifact { name, path, bytes: content.len() as u64 } }
            }
            _ => PortReply::Done,
        })
    }
}

/// A schedule's name, how often it runs in minutes, how long it takes in milliseconds, and how many in a thousand fail.
const SCHEDULES: [(&str, i64, u64, u64); 6] = [
    ("backup", 1440, 184_000, 20),
    ("invoices", 60, 4_200, 6),
    ("newsletter", 1440, 61_000, 0),
    ("price-feed", 15, 900, 9),
    ("search-index", 180, 22_000, 12),
    ("stock-sync", 30, 2_600, 4),
];

fn run(
    name: &str,
    at: DateTime<Utc>,
    duration: u64,
    error: Option<&str>,
    random: &mut Random,
) -> Result<HistoryRow, Failure> {
    let late = TimeDelta::milliseconds(if random.below(60) == 0 { 9_000 } else { random.below(40) as i64 });
    let started = at + late;
    let record: RunRecord = serde_json::from_value(json!({
        "run_id": id(name, at), "schedule": name, "job": "command", "version": 1, "nominal_at": at,
        "origin": "schedule", "state": if error.is_some() { "failed" } else { "succeeded" }, "reason": null,
        "attempt": 1, "not_before": at, "queued_at": at, "started_at": started,
        "finished_at": started + TimeDelta::milliseconds(duration as i64), "duration_ms": duration, "node": null,
        "fence": 1, "params": {}, "summary": null, "data": null, "error": error, "abandoned": false,
        "artifacts": [], "parent": null, "requested_by": null, "idempotency_key": null,
    }))?;
    Ok(HistoryRow::Run(record))
}

/// Everything that ran from one instant to another, newest first, and each schedule as it stands then.
fn ledger(from: DateTime<Utc>, until: DateTime<Utc>) -> Result<(Vec<HistoryRow>, Vec<ScheduleView>), Failure> {
    let mut random = Random(11);
    let (mut rows, mut views) = (Vec::new(), Vec::new());
    for (name, minutes, usual, bad) in SCHEDULES {
        let (mut at, mut last) = (from + TimeDelta::minutes(minutes.min(150)), None);
        while at < until {
            let ago = (until - at).num_minutes();
            let trouble = name == "price-feed" && ago < 100 || name == "search-index" && (400..600).contains(&ago);
            let error = (trouble || random.below(1000) < bad).then_some(match name {
                "price-feed" => "exited with code 7: the feed answered 502 Bad Gateway",
                _ => "exited with code 1: no space left on device",
            });
            let row = run(name, at, usual * (70 + random.below(60)) / 100, error, &mut random)?;
            last = if let HistoryRow::Run(run) = &row { Some(run.clone()) } else { None };
            rows.push(row);
            at += TimeDelta::minutes(minutes);
        }
        if name == "stock-sync" {
            let gap = until - TimeDelta::minutes(610);
            rows.push(serde_json::from_value(json!({
                "range_id": id("range", gap), "schedule": name, "version": 1, "state": "missed", "reason": "superseded",
                "blocker": null, "from": gap - TimeDelta::minutes(60), "until": gap, "count": 3, "superseded": false,
            }))?);
        }
        let trigger = TriggerSpec::every(std::time::Duration::from_secs(minutes.unsigned_abs() * 60));
        let spec = ScheduleSpec::new(name, "command", trigger)?;
        let name = spec.name.clone();
        views.push(ScheduleView {
            name,
            spec,
            version: 1,
            cursor: until,
            next: Some(at),
            last,
            paused: None,
            open: vec![],
        });
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.cursor()));
    Ok((rows, views))
}

/// An id that is the same each time.
fn id(name: &str, at: DateTime<Utc>) -> String {
    let name = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{name:08x}-0000-7000-8000-{:012x}", at.timestamp())
}

/// What the shop's own systems say on a day.
fn figures(folder: &std::path::Path, day: i64, last: bool, random: &mut Random) -> Result<(), Failure> {
    let weekend = matches!(day % 7, 5 | 6);
    let orders = if weekend { 420 } else { 290 } + day * 2 + random.below(40) as i64;
    let waiting = if last { 93 } else { 30 + random.below(9) as i64 };
    let shop = json!({
        "orders": orders,
        "revenue": orders as f64 * (37.0 + random.below(300) as f64 / 100.0),
        "tickets": waiting,
        "checkout_ms": if last { 412 } else { 370 + random.below(60) },
    });
    std::fs::write(folder.join("shop.json"), shop.to_string())?;
    let regions = "region,orders,revenue,returned\nNorth,2810,104250.40,61\nSouth,2244,83590.10,48\nEast,1672,60110.75,33\n\
                   West,3120,121480.20,90\nOnline only,4406,158011.00,102\n";
    std::fs::write(folder.join("regions.csv"), regions)?;
    let mut weeks = String::from("week,this year,last year\n");
    for week in 40..48 {
        weeks.push_str(&format!(
            "W{week},{},{}\n",
            2100 + (week - 40) * 64 + random.below(180) as i64,
            1900 + random.below(300)
        ));
    }
    std::fs::write(folder.join("weeks.csv"), weeks)?;
    Ok(())
}

fn sources() -> Value {
    json!([
        { "name": "shop", "file": "shop.json", "metrics": {
            "orders": { "at": "/orders", "label": "Orders" },
            "revenue": { "at": "/revenue", "label": "Revenue", "unit": "€" },
            "tickets": { "at": "/tickets", "label": "Tickets waiting" },
            "checkout": { "at": "/checkout_ms", "label": "Checkout, median", "unit": "ms" } } },
        { "name": "warehouse", "file": "warehouse.json", "metrics": { "open": { "at": "/open", "label": "Parcels not packed" } } },
    ])
}

async fn job(
    kind: &str,
    params: &Value,
    shop: &Arc<Shop>,
    registry: &Registry,
    clock: &VirtualClock,
) -> Result<(), Failure> {
    use sched_core::Clock as _;
    let params = params.as_object().ok_or("params are a table")?;
    let now = clock.now().utc;
    let info: RunInfo = serde_json::from_value(json!({
        "run_id": id(kind, now), "schedule": kind, "job": kind, "nominal_at": now, "origin": "schedule",
        "attempt": 1, "fence": 1, "started_at": now, "deadline": null,
    }))?;
    let ctx = RunContext::new(info, Default::default(), shop.clone(), Arc::new(clock.clone()));
    registry.kind(kind)?.build(params)?.run(&ctx).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("name a folder to write to")?);
    std::fs::create_dir_all(&folder)?;
    let env = JobEnv { base_dir: folder.clone(), data_dir: folder.clone(), base_url: None };
    let mut registry = Registry::new();
    register_all(&mut registry, &env);
    let first: DateTime<Utc> = "2026-10-07T06:00:00Z".parse()?;
    let days = 49;
    let clock = VirtualClock::at(first);
    let world = World { rows: vec![], views: vec![], state: BTreeMap::new() };
    let shop = Arc::new(Shop { folder: folder.clone(), world: Mutex::new(world) });
    let brief = json!({
        "title": "Morning brief", "timezone": "Europe/London", "sources": sources(),
        "figures": [
            { "figure": "shop.revenue", "better": "up", "warn": 9000, "bad": 6000 },
            { "figure": "shop.orders", "better": "up" },
            { "figure": "shop.tickets", "better": "down", "warn": 60, "bad": 90 },
            { "figure": "shop.checkout", "better": "down", "warn": 400, "bad": 800 },
            { "figure": "warehouse.open", "better": "down" },
        ],
    });
    let mut random = Random(5);
    for day in 0..=days {
        let now = first + TimeDelta::days(day);
        figures(&folder, day, day == days, &mut random)?;
        let (rows, views) = ledger(first - TimeDelta::days(60), now + TimeDelta::minutes(i64::from(now.minute())))?;
        {
            let mut world = shop.world.lock().unwrap_or_else(PoisonError::into_inner);
            (world.rows, world.views) = (rows, views);
        }
        job("ceo_brief", &brief, &shop, &registry, &clock).await?;
        if day < days {
            clock.advance(std::time::Duration::from_secs(86_400));
        }
    }
    let report = json!({
        "title": "Shop report", "period": { "days": 28 }, "timezone": "Europe/London",
        "formats": ["json", "html", "markdown", "csv"],
        "sources": [
            sources()[0],
            { "name": "regions", "file": "regions.csv", "columns": [
                { "name": "region", "label": "Region" }, { "name": "orders", "label": "Orders" },
                { "name": "revenue", "label": "Revenue", "unit": "€" }, { "name": "returned", "label": "Returned" } ] },
            { "name": "weeks", "file": "weeks.csv" },
        ],
        "sections": [
            { "title": "The shop today", "source": "shop" },
            { "title": "Orders by week", "source": "weeks", "show": "line", "x": "week", "y": ["this year", "last year"] },
            { "title": "Orders by region", "source": "regions", "show": "bar", "x": "region", "y": ["orders"] },
            { "title": "Regions", "source": "regions" },
        ],
    });
    job("report", &report, &shop, &registry, &clock).await
}
