//! Configuration text (TOML) to validated settings and specifications. Every fault is reported, with its line and
//! column and what to write instead.
//!
//! Must not know: files, the process environment.

mod channel;
mod decode;
mod diff;
mod schedule;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use toml::de::DeTable;

use crate::registry::Registry;
use crate::sink::Rotation;
use crate::spec::ScheduleSpec;
pub use channel::ChannelSpec;
use decode::{Faults, Reader};
pub use diff::{ChannelChange, diff_channels, diff_limits};

/// A validated configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The zone of triggers that name none.
    pub timezone: Tz,
    /// Store, artifacts, run output.
    pub data_dir: PathBuf,
    /// Log and PID file.
    pub log_dir: PathBuf,
    /// The store's file; `data_dir/sched.db` when none is written.
    pub store: Option<PathBuf>,
    /// When the log is moved away and begun anew.
    pub log: Rotation,
    /// `sched run` prints the log's lines too.
    pub log_to_stdout: bool,
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// `env:NAME`, `file:PATH` or a literal.
    pub dashboard_key: Option<String>,
    /// The heartbeat's period.
    pub heartbeat: Duration,
    /// What running jobs get at shutdown.
    pub shutdown_grace: Duration,
    /// At most so many runs at once.
    pub max_concurrent_runs: usize,
    /// At most so many runs at once in each concurrency group.
    pub groups: BTreeMap<String, usize>,
    /// Named lists of dates, for triggers' `except`.
    pub holidays: BTreeMap<String, Vec<NaiveDate>>,
    /// The channels, in the order written.
    pub channels: Vec<ChannelSpec>,
    /// The schedules, in the order written.
    pub schedules: Vec<ScheduleSpec>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timezone: Tz::UTC,
            data_dir: "data".into(),
            log_dir: "logs".into(),
            store: None,
            log: Rotation::default(),
            log_to_stdout: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 5000)),
            dashboard_key: None,
            heartbeat: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
            max_concurrent_runs: 64,
            groups: BTreeMap::new(),
            holidays: BTreeMap::new(),
            channels: Vec::new(),
            schedules: Vec::new(),
        }
    }
}

/// One fault in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// From 1; 0 for a fault in an environment variable.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what to write.
    pub message: String,
}

/// Every fault in a configuration, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            match error.line {
                0 => write!(f, "{end}{}", error.message)?,
                line => write!(f, "{end}{line}:{}: {}", error.column, error.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads a configuration.
    ///
    /// `overlay` holds environment variables such as `SCHED__HTTP__LISTEN`, which win over the text.
    ///
    /// ```
    /// use sched_core::{Registry, config::Config};
    /// let error = Config::parse("timezome = \"UTC\"", &[], &Registry::new()).unwrap_err();
    /// assert_eq!(error.to_string(), "1:1: unknown key `timezome`; did you mean `timezone`?");
    /// ```
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(text: &str, overlay: &[(String, String)], registry: &Registry) -> Result<Self, ConfigErrors> {
        let faults = Faults::new(text);
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                faults.add(at, error.message().trim());
                return Err(faults.finish());
            }
        };
        let mut config = Self::default();
        for key in ["defaults", "channel", "schedule"] {
            table.get_ref().get(key).into_iter().for_each(|place| decode::check_numbers(place, &faults));
        }
        let mut root = Reader::new(table.get_ref(), &faults);
        config.read_settings(&mut root);
        let mut defaults = root.table("defaults");
        let policies = schedule::defaults(defaults.as_mut(), &faults);
        // Before the schedules, which take the zone from it.
        config.apply(overlay, &faults);
        config.channels = channel::read_all(&mut root, config.timezone, registry, &faults);
        config.schedules = schedule::read_all(&mut root, &policies, &config, registry, &faults);
        root.finish();
        let faults = faults.finish();
        if faults.0.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// Reads what can be read of the settings, and no schedules: who wants to know where the store is, or to stop a
    /// scheduler, is not kept from it by a fault elsewhere. What cannot be read has its default.
    ///
    /// ```
    /// use sched_core::config::Config;
    /// let broken = "data_dir = \"/srv/sched\"\ntimezone = 7\n[[schedule]]\nname =";
    /// assert_eq!(Config::settings(broken, &[]).data_dir.to_str(), Some("/srv/sched"));
    /// ```
    #[must_use]
    pub fn settings(text: &str, overlay: &[(String, String)]) -> Self {
        let faults = Faults::new(text);
        let (table, _) = DeTable::parse_recoverable(text);
        let mut config = Self::default();
        config.read_settings(&mut Reader::new(table.get_ref(), &faults));
        config.apply(overlay, &faults);
        config
    }

    fn read_settings(&mut self, root: &mut Reader<'_>) {
        root.parsed("timezone", &mut self.timezone, crate::trigger::parse_zone);
        root.parsed("data_dir", &mut self.data_dir, |text| Ok(text.into()));
        root.parsed("log_dir", &mut self.log_dir, |text| Ok(text.into()));
        if let Some(mut store) = root.table("store") {
            store.parsed("url", &mut self.store, store_path);
            store.finish();
        }
        if let Some(mut log) = root.table("log") {
            log.parsed("max_size", &mut self.log.max_size, |text| log_size(text).map(Some));
            log.parsed("every", &mut self.log.every, |text| log_period(text).map(Some));
            let mut keep = self.log.keep as usize;
            log.count("keep", &mut keep);
            self.log.keep = u32::try_from(keep).unwrap_or(u32::MAX);
            log.flag("stdout", &mut self.log_to_stdout);
            log.finish();
        }
        if let Some(mut http) = root.table("http") {
            http.parsed("listen", &mut self.listen, listen);
            http.parsed("dashboard_key", &mut self.dashboard_key, |text| key(text).map(Some));
            http.finish();
        }
        if let Some(mut heartbeat) = root.table("heartbeat") {
            heartbeat.parsed("every", &mut self.heartbeat, heartbeat_period);
            heartbeat.finish();
        }
        if let Some(mut shutdown) = root.table("shutdown") {
            shutdown.parsed("grace", &mut self.shutdown_grace, crate::duration_text::parse);
            shutdown.finish();
        }
        if let Some(mut engine) = root.table("engine") {
            engine.count("max_concurrent_runs", &mut self.max_concurrent_runs);
            engine.finish();
        }
        if let Some(mut groups) = root.table("groups") {
            for name in groups.names() {
                let mut limit = 1;
                groups.count(&name, &mut limit);
                self.groups.insert(name, limit);
            }
            groups.finish();
        }
        if let Some(mut holidays) = root.table("holidays") {
            for name in holidays.names() {
                holidays.dates(&name, &mut self.holidays);
            }
            holidays.finish();
        }
    }

    /// Applies environment variables `SCHED__SECTION__KEY`.
    fn apply(&mut self, overlay: &[(String, String)], faults: &Faults<'_>) {
        const KNOWN: &[&str] = &[
            "TIMEZONE",
            "DATA_DIR",
            "LOG_DIR",
            "LOG__STDOUT",
            "STORE__URL",
            "HTTP__LISTEN",
            "HTTP__DASHBOARD_KEY",
            "HEARTBEAT__EVERY",
            "SHUTDOWN__GRACE",
            "ENGINE__MAX_CONCURRENT_RUNS",
        ];
        for (variable, value) in overlay {
            let Some(key_name) = variable.strip_prefix("SCHED__") else { continue };
            let result = match key_name.to_ascii_uppercase().as_str() {
                "TIMEZONE" => crate::trigger::parse_zone(value).map(|zone| self.timezone = zone),
                "DATA_DIR" => {
                    self.data_dir = value.into();
                    Ok(())
                }
                "LOG_DIR" => {
                    self.log_dir = value.into();
                    Ok(())
                }
                "LOG__STDOUT" => match value.parse() {
                    Ok(stdout) => {
                        self.log_to_stdout = stdout;
                        Ok(())
                    }
                    Err(_) => Err(format!("`{value}` is neither true nor false")),
                },
                "STORE__URL" => store_path(value).map(|path| self.store = path),
                "HTTP__LISTEN" => listen(value).map(|at| self.listen = at),
                "HTTP__DASHBOARD_KEY" => key(value).map(|key| self.dashboard_key = Some(key)),
                "HEARTBEAT__EVERY" => heartbeat_period(value).map(|every| self.heartbeat = every),
                "SHUTDOWN__GRACE" => crate::duration_text::parse(value).map(|grace| self.shutdown_grace = grace),
                "ENGINE__MAX_CONCURRENT_RUNS" => match value.parse() {
                    Ok(limit) if limit > 0 => {
                        self.max_concurrent_runs = limit;
                        Ok(())
                    }
                    _ => Err(format!("`{value}` is not a whole number from 1")),
                },
                other => Err(format!("no such setting{}", crate::suggest::near(other, KNOWN.iter().copied()))),
            };
            if let Err(message) = result {
                faults.add_global(format!("environment variable {variable}: {message}"));
            }
        }
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address and port, such as \"127.0.0.1:5000\""))
}

fn log_size(text: &str) -> Result<u64, String> {
    let size = crate::limits::size(text).ok_or("not a size; write such as \"64 MiB\"")?;
    if size < 4096 { Err("a log of less than \"4 KiB\" would hold a few lines; write more".into()) } else { Ok(size) }
}

fn log_period(text: &str) -> Result<Duration, String> {
    let period = crate::duration_text::parse(text)?;
    if period < Duration::from_secs(60) { Err("the shortest period of a log is \"1m\"".into()) } else { Ok(period) }
}

fn heartbeat_period(text: &str) -> Result<Duration, String> {
    let period = crate::duration_text::parse(text)?;
    if period < Duration::from_secs(1) { Err("the heartbeat's period is at least \"1s\"".into()) } else { Ok(period) }
}

fn store_path(url: &str) -> Result<Option<PathBuf>, String> {
    match url.split_once(':') {
        None if url == "sqlite" => Ok(None),
        Some(("sqlite", path)) if !path.is_empty() => Ok(Some(path.into())),
        Some(("postgres" | "postgresql", _)) => {
            Err("this version stores in SQLite only; write \"sqlite\" or \"sqlite:PATH\"".into())
        }
        _ => Err("not a store; write \"sqlite\" or \"sqlite:PATH\"".into()),
    }
}

/// Accepts a reference, or a literal that is long enough. Never repeats the text: it may be a secret.
fn key(text: &str) -> Result<String, String> {
    if text.starts_with("env:") || text.starts_with("file:") || text.chars().count() >= 32 {
        return Ok(text.to_owned());
    }
    Err("a literal key has at least 32 characters; write a longer one, \"env:NAME\" or \"file:PATH\"".into())
}
