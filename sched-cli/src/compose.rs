//! The only place that wires everything: configuration, kinds, key, aliases.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sched_core::config::Config;
use sched_core::process;
use sched_core::runner::{ProcessRunner, serve};
use sched_core::{Channels, OnStart, Registry, ScheduleSpec, TriggerKind, TriggerSpec};
use sched_http::{Alias, DashboardKey};
use sched_jobs::{JobEnv, register_all};
use serde_json::{Value, json};

use crate::args::Global;
use crate::exit::{Exit, Failure};

/// A configuration with its place, its kinds and absolute paths.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) base_url: String,
    base_dir: PathBuf,
    /// The file it came from; none for the built-in schedules.
    pub(crate) file: Option<PathBuf>,
}

/// A configuration that has been found and not read yet.
struct Source {
    file: Option<PathBuf>,
    base_dir: PathBuf,
    base_url: String,
    text: String,
    overlay: Vec<(String, String)>,
}

impl Source {
    /// What the flags and the environment name.
    fn find(global: &Global) -> Result<Self, Failure> {
        let here =
            std::env::current_dir().map_err(|error| Failure::usage(format!("the working directory: {error}")))?;
        let implicit = here.join("sched.toml");
        let file = global.config.as_ref().map(|path| here.join(path)).or_else(|| implicit.exists().then_some(implicit));
        let base_dir = file.as_deref().and_then(Path::parent).unwrap_or(&here).to_path_buf();
        let base_url = std::env::var("BASE_URL").unwrap_or_else(|_| "http://localhost:5000".into());
        let text = match &file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?,
            None => String::new(),
        };
        let overlay = std::env::vars().filter(|(name, _)| name.starts_with("SCHED__")).collect();
        Ok(Self { file, base_dir, base_url, text, overlay })
    }

    fn settings(&self) -> Config {
        Config::settings(&self.text, &self.overlay)
    }

    fn parse(&self, registry: &Registry) -> Result<Config, Failure> {
        Config::parse(&self.text, &self.overlay, registry).map_err(|errors| {
            let shown = self.file.as_ref().map_or("environment".into(), |path| path.display().to_string());
            let lines = errors.0.iter().map(|e| match e.line {
                0 => e.message.clone(),
                line => format!("{shown}:{line}:{}: {}", e.column, e.message),
            });
            Failure::usage(lines.collect::<Vec<_>>().join("\n"))
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    Failure::usage(match error.kind() {
        std::io::ErrorKind::NotFound => format!("{path} is not there; `sched init --config {path}` writes one"),
        _ => format!("{path}: {error}"),
    })
}

impl Setup {
    /// Reads the configuration that the flags and the environment name.
    pub(crate) fn load(global: &Global) -> Result<Self, Failure> {
        let source = Source::find(global)?;
        // Kinds need the data folder, which the text names.
        let data_dir = source.base_dir.join(source.settings().data_dir);
        let registry = kinds(&source.base_dir, &data_dir, &source.base_url);
        let mut config = source.parse(&registry)?;
        if source.file.is_none() {
            config.schedules = original(&registry)?;
        }
        Ok(Self::new(source, config, registry))
    }

    /// Where things are, for who only looks at a scheduler or steers it: a fault in the configuration is no reason not
    /// to stop one. There are no schedules and no kinds.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        let source = Source::find(global)?;
        let config = source.settings();
        Ok(Self::new(source, config, Registry::new()))
    }

    /// The kinds of jobs and channels; whatever the configuration says, they are the same.
    pub(crate) fn kinds(global: &Global) -> Result<Registry, Failure> {
        let source = Source::find(global)?;
        Ok(kinds(&source.base_dir, &source.base_dir.join("data"), &source.base_url))
    }

    fn new(source: Source, mut config: Config, registry: Registry) -> Self {
        let Source { file, base_dir, base_url, .. } = source;
        config.data_dir = base_dir.join(&config.data_dir);
        config.log_dir = base_dir.join(&config.log_dir);
        config.store = Some(match &config.store {
            Some(path) => base_dir.join(path),
            None => config.data_dir.join("sched.db"),
        });
        Self { config, registry, base_url, base_dir, file }
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.config.store.clone().unwrap_or_else(|| self.config.data_dir.join("sched.db"))
    }

    /// Where jobs run that have a process of their own: this program, told where its kinds live.
    pub(crate) fn isolated(&self, runtime: &tokio::runtime::Handle) -> Arc<ProcessRunner> {
        let runner = ProcessRunner::new(runtime.clone()).argument(&self.base_dir).argument(&self.config.data_dir);
        let key = self.config.dashboard_key.as_deref().and_then(|key| key.strip_prefix("env:"));
        Arc::new(key.into_iter().fold(runner.argument(&self.base_url), ProcessRunner::withhold))
    }

    /// The channels that are configured.
    pub(crate) fn channels(&self) -> Result<Channels, Failure> {
        self.config.channels(&self.registry).map_err(Failure::usage)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.config.log_dir.join("scheduler.log")
    }

    /// What the log says of the configuration: the original's keys, then ours.
    pub(crate) fn describe(&self) -> Value {
        let find = |name: &str| self.config.schedules.iter().find(|spec| spec.name.as_str() == name);
        let daily = |name: &str| match find(name).map(|spec| &spec.trigger.kind) {
            Some(TriggerKind::Daily(times)) => times.first().map(|time| time.format("%H:%M").to_string()),
            _ => None,
        };
        let hours = match find("selfheal").map(|spec| &spec.trigger.kind) {
            Some(TriggerKind::Every { period, .. }) => Some(period.as_secs() / 3600),
            _ => None,
        };
        json!({
            "brief_time": daily("brief"),
            "report_time": daily("report"),
            "selfheal_hours": hours,
            "base_url": self.base_url,
            "schedules": self.config.schedules.len(),
            "file": self.file,
        })
    }

    /// The key that guards the API: configured, from the environment, or generated once.
    pub(crate) fn key(&self) -> Result<(DashboardKey, Option<PathBuf>), Failure> {
        let configured = self.config.dashboard_key.clone();
        let from_env = || std::env::var("DASHBOARD_KEY").ok().map(|_| "env:DASHBOARD_KEY".to_owned());
        let (text, place) = match configured.or_else(from_env) {
            Some(reference) => {
                let place = if reference.starts_with("env:") || reference.starts_with("file:") {
                    reference.clone()
                } else {
                    "http.dashboard_key".into()
                };
                (self.resolve(&reference)?, place)
            }
            None => {
                let path = self.config.data_dir.join("dashboard.key");
                let text =
                    generated_key(&path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
                let key = DashboardKey::new(&text);
                let key = key.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
                return Ok((key, Some(path)));
            }
        };
        let key = DashboardKey::new(&text).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        Ok((key, None))
    }

    /// Checks the configured key without making one.
    pub(crate) fn key_is_usable(&self) -> Result<(), Failure> {
        if self.config.dashboard_key.is_some() || std::env::var_os("DASHBOARD_KEY").is_some() {
            self.key()?;
        }
        Ok(())
    }

    fn resolve(&self, reference: &str) -> Result<String, Failure> {
        if let Some(name) = reference.strip_prefix("env:") {
            return std::env::var(name)
                .map_err(|_| Failure::usage(format!("http.dashboard_key: environment variable {name} is not set")));
        }
        let Some(path) = reference.strip_prefix("file:") else { return Ok(reference.to_owned()) };
        let base = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
        let text = std::fs::read_to_string(base.join(path));
        text.map(|text| text.trim_end().to_owned())
            .map_err(|error| Failure::new(Exit::Usage, format!("http.dashboard_key: {path}: {error}")))
    }
}

/// Runs the attempt that this process was started for, if it was; see [`Setup::isolated`].
pub(crate) fn serve_attempt() {
    if process::is_worker() {
        let [base_dir, data_dir, base_url] = [1, 2, 3].map(|index| std::env::args_os().nth(index).unwrap_or_default());
        serve(&kinds(Path::new(&base_dir), Path::new(&data_dir), &base_url.to_string_lossy()));
    }
}

fn kinds(base_dir: &Path, data_dir: &Path, base_url: &str) -> Registry {
    let mut registry = Registry::new();
    let env = JobEnv { base_dir: base_dir.into(), data_dir: data_dir.into(), base_url: Some(base_url.to_owned()) };
    register_all(&mut registry, &env);
    registry
}

/// Reads the generated key, or makes it: 32 random bytes, readable by the owner only. It has its name when it is whole: an
/// empty file that a crash left would keep every later start from standing.
fn generated_key(path: &Path) -> std::io::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        read => return read.map(|text| text.trim_end().to_owned()),
    }
    let key = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    let part = path.with_extension("part");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    writeln!(file, "{key}")?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    Ok(key)
}

/// The schedules of the original system, at the times its environment variables name.
fn original(registry: &Registry) -> Result<Vec<ScheduleSpec>, Failure> {
    let daily = |variable: &str, default: &str| {
        let text = std::env::var(variable).unwrap_or_else(|_| default.into());
        let time = chrono::NaiveTime::parse_from_str(&text, "%H:%M")
            .map_err(|_| Failure::usage(format!("{variable}: `{text}` is not a time; write HH:MM")))?;
        Ok::<_, Failure>(TriggerSpec::daily(time, chrono_tz::UTC))
    };
    let hours = std::env::var("SCHED_SELFHEAL_EVERY_HOURS").unwrap_or_else(|_| "6".into());
    let hours: u64 = hours.parse().ok().filter(|hours| (1..=8784).contains(hours)).ok_or_else(|| {
        Failure::usage(format!("SCHED_SELFHEAL_EVERY_HOURS: `{hours}` is not a number of hours from 1"))
    })?;
    let every = TriggerSpec::every(Duration::from_secs(hours * 3600)).or_timezone(chrono_tz::UTC);
    let three = TriggerSpec::daily(chrono::NaiveTime::from_hms_opt(3, 0, 0).unwrap_or_default(), chrono_tz::UTC);
    let specs = [
        ("brief", "ceo_brief", daily("SCHED_BRIEF_UTC", "08:00")?, OnStart::IfDue),
        ("report", "report", daily("SCHED_REPORT_UTC", "09:00")?, OnStart::No),
        ("selfheal", "self_heal", every, OnStart::IfDue),
        ("retention", "retention", three, OnStart::Always),
    ];
    specs
        .into_iter()
        .map(|(name, job, trigger, on_start)| {
            let mut spec = ScheduleSpec::new(name, job, trigger).map_err(Failure::usage)?.with_on_start(on_start);
            spec.retry.attempts = registry.kind(job).map_err(Failure::usage)?.default_attempts();
            Ok(spec)
        })
        .collect()
}

/// The original system's paths.
pub(crate) fn aliases() -> Vec<Alias> {
    let alias = |path, schedule, kind, lift| Alias { path, schedule, kind, lift };
    vec![
        alias("/api/exec/brief", "brief", "ceo_brief", &["json_path", "html_path"]),
        alias("/api/exec/report", "report", "report", &["json_path", "html_path"]),
        alias("/api/self-heal", "selfheal", "self_heal", &["retried_count"]),
        alias("/api/retention", "retention", "retention", &["removed_count"]),
    ]
}
