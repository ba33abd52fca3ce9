//! The command line, and nothing else.

mod apply;
mod import;
mod instant;
mod ops;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use sched_core::RunState;

pub(crate) use apply::Apply;
pub(crate) use import::Import;

use crate::commands::shell;

pub(crate) use ops::Install;

/// The program's version, and that of the rules of time zones in it.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (tz database {})", env!("CARGO_PKG_VERSION"), chrono_tz::IANA_TZDB_VERSION));

/// A persistent job scheduler.
#[derive(Debug, Parser)]
#[command(name = "sched", version = VERSION.as_str())]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Whether what it prints may be longer than a screen, and is for people.
    pub(crate) const fn is_paged(&self) -> bool {
        let long = match &self.command {
            Command::List | Command::Show { .. } | Command::Runs(_) | Command::Kinds { .. } | Command::Explain(_) => {
                true
            }
            Command::Logs(words) => !words.follow,
            _ => false,
        };
        long && !self.global.json && !self.global.no_pager
    }
}

#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The configuration [default: ./sched.toml, else the built-in schedules]
    #[arg(long, global = true, env = "SCHED_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print less
    #[arg(short, global = true)]
    pub(crate) quiet: bool,
    /// Log more of what the program does to standard error; twice for all of it
    #[arg(short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print without colour
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Print what is long without a pager
    #[arg(long, global = true)]
    pub(crate) no_pager: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the scheduler in the foreground
    Run {
        #[command(flatten)]
        watch: Watch,
        #[command(flatten)]
        started: Started,
    },
    /// What systemd runs after an end, to tell its cause
    #[command(hide = true)]
    Ended,
    /// Start the scheduler in the background, and prove that it lives
    Start(Watch),
    /// Stop the scheduler: running jobs get shutdown.grace to end
    Stop,
    /// Stop the scheduler if it runs, and start it; one that was supervised is again
    Restart(Watch),
    /// Tell how the scheduler is
    Status,
    /// Let the running scheduler read its configuration again
    Reload,
    /// Tell what the configuration would add, change and remove
    Diff,
    /// Take the configuration over into the running scheduler
    Apply(Apply),
    /// Copy the store, as it is now, into a new file; the scheduler goes on
    Backup {
        /// The new file
        file: PathBuf,
    },
    /// Put a copy in the place of the store of a scheduler that is stopped; the old store is kept beside it
    Restore {
        /// What `sched backup` wrote
        file: PathBuf,
    },
    /// Run the missed and skipped fires of a past range
    Backfill(Backfill),
    /// Check the configuration
    Check,
    /// Check what the scheduler needs around it, and say what to do
    Doctor,
    /// Write a systemd unit for this program and this configuration
    Install(Install),
    /// Print when a schedule or a trigger fires next
    Next(Next),
    /// Say what an expression means, when it fires, and what clock changes do to it
    Explain(Explain),
    /// Print every fire of the configuration between two instants, on a virtual clock
    Simulate(Simulate),
    /// List the schedules
    List,
    /// Show one schedule: what it is, when it fires, how it ran
    Show {
        /// The schedule
        #[arg(add = ArgValueCompleter::new(shell::schedules))]
        name: String,
    },
    /// Run a schedule now
    Trigger(Trigger),
    /// Let a schedule's fires pass until it is resumed; runs by hand still work
    Pause {
        /// The schedule
        #[arg(add = ArgValueCompleter::new(shell::schedules))]
        name: String,
        /// Why; shown wherever the schedule is shown
        #[arg(long)]
        reason: String,
    },
    /// End a pause
    Resume {
        /// The schedule
        #[arg(add = ArgValueCompleter::new(shell::schedules))]
        name: String,
    },
    /// Cancel a run: asked first, then forced
    Cancel {
        /// The run's id; `sched runs` lists them
        #[arg(add = ArgValueCompleter::new(shell::runs))]
        run: String,
    },
    /// Run a finished run again, as a new run linked to it
    Retry {
        /// The run's id; `sched runs` lists them
        #[arg(add = ArgValueCompleter::new(shell::runs))]
        run: String,
    },
    /// List past and open runs, newest first
    Runs(Runs),
    /// Print a run's output, or without a run what the whole scheduler has done
    Logs(Logs),
    /// Write a configuration to begin with
    Init,
    /// Print as a configuration what another scheduler has: crontabs, systemd's timers, the original's variables
    Import {
        #[command(subcommand)]
        from: Import,
    },
    /// Print what a shell reads to complete commands, schedules and runs: `source <(sched completions bash)`
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: String,
    },
    /// Print the manual page, or write all of them
    Man {
        /// Write a page for each command into this folder
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// Try a channel out, list what people are told, or try again what was given up
    Notify {
        #[command(subcommand)]
        what: Notify,
    },
    /// List the kinds of jobs and channels, or show the parameters of one
    Kinds {
        /// A kind of jobs or channels; all of them unless given
        kind: Option<String>,
    },
    /// Run one job once, without a scheduler
    Exec {
        /// A kind of jobs; `sched kinds` lists them
        kind: String,
        /// A parameter; a value that is JSON is taken as JSON
        #[arg(long = "param", value_name = "KEY=VALUE")]
        params: Vec<String>,
    },
    /// Recompute every nominal time and match it to the ledger
    Audit {
        /// Only fires after this instant
        #[arg(long, value_name = "TIME", value_parser = instant::instant)]
        since: Option<DateTime<Utc>>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Notify {
    /// Send a message that says that it is a trial, at once
    Test {
        /// The channel's name
        channel: String,
    },
    /// List what people are told through channels, newest first
    List {
        /// Only what was given up
        #[arg(long)]
        dead: bool,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Try again to deliver what was given up
    Retry,
}

/// Whether a process watches over the engine.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(crate) struct Watch {
    /// Keep a small process that starts the engine again when it dies or hangs
    #[arg(long)]
    pub(crate) supervise: bool,
    /// An engine that gives no sign of life for so long hangs
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = hung_after, requires = "supervise")]
    pub(crate) hung_after: Duration,
}

fn hung_after(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if span < Duration::from_secs(2) { Err("write 2s or more".into()) } else { Ok(span) }
}

impl Watch {
    /// After how long an engine hangs, if it is supervised.
    pub(crate) fn limit(self) -> Option<Duration> {
        self.supervise.then_some(self.hung_after)
    }
}

/// The states of runs, each of which a shell completes and a slip is mended to.
fn states() -> impl TypedValueParser<Value = RunState> {
    PossibleValuesParser::new(RunState::ALL.iter().map(|state| state.word())).try_map(|word| word.parse::<RunState>())
}

/// What this program tells itself when it starts itself.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct Started {
    /// Tell a waiting parent on standard output when it stands
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
    /// It stands below another process of this program, and stays in its session
    #[arg(long, hide = true)]
    pub(crate) below: bool,
    /// A supervisor starts it again
    #[arg(long, hide = true)]
    pub(crate) restarted: bool,
    /// The session from which all was started
    #[arg(long, hide = true)]
    pub(crate) session: Option<String>,
}

impl Global {
    /// The words by which another process of this program gets the same flags.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(config) = &self.config {
            words.extend(["--config".into(), config.clone().into_os_string()]);
        }
        words.extend((0..self.verbose).map(|_| "-v".into()));
        words.extend(self.quiet.then(|| "-q".into()));
        words
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Next {
    /// A configured schedule; all of them unless a trigger is given
    #[arg(conflicts_with = "trigger", add = ArgValueCompleter::new(shell::schedules))]
    pub(crate) name: Option<String>,
    /// A cron expression
    #[arg(long, value_name = "EXPR", group = "trigger")]
    pub(crate) cron: Option<String>,
    /// A period, such as 6h
    #[arg(long, value_name = "DURATION", group = "trigger")]
    pub(crate) every: Option<String>,
    /// A time of day
    #[arg(long, value_name = "HH:MM", group = "trigger")]
    pub(crate) daily: Option<String>,
    /// A systemd calendar event, such as "Mon..Fri 02:00"
    #[arg(long, value_name = "EXPR", group = "trigger")]
    pub(crate) calendar: Option<String>,
    /// A recurrence rule of RFC 5545, such as "FREQ=MONTHLY;BYDAY=-1FR"; a leading DTSTART line is its start
    #[arg(long, value_name = "RULE", group = "trigger")]
    pub(crate) rrule: Option<String>,
    /// The zone of the trigger's times
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// What happens to times that a day does not have
    #[arg(long, value_name = "RULE", requires = "trigger", value_parser = ["auto", "run_after", "skip", "shift"])]
    pub(crate) gap: Option<String>,
    /// What happens to times that a day has twice
    #[arg(long, value_name = "RULE", requires = "trigger", value_parser = ["auto", "first", "last", "both"])]
    pub(crate) fold: Option<String>,
    /// When both day fields of a cron expression must match
    #[arg(long, value_name = "RULE", requires = "cron", value_parser = ["debian", "ocps"])]
    pub(crate) day_rule: Option<String>,
    /// Whose cron
    #[arg(long, value_name = "DIALECT", requires = "cron", value_parser = ["standard", "quartz"])]
    pub(crate) dialect: Option<String>,
    /// Strictly after this instant [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant::instant)]
    pub(crate) after: Option<DateTime<Utc>>,
    /// How many
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) count: u16,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Explain {
    /// A cron expression, a systemd calendar event or a recurrence rule
    pub(crate) expression: String,
    /// The zone of its times
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Whose cron
    #[arg(long, value_name = "DIALECT", value_parser = ["standard", "quartz"])]
    pub(crate) dialect: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Simulate {
    /// Fires after this instant
    #[arg(long, value_name = "TIME", value_parser = instant::instant)]
    pub(crate) from: DateTime<Utc>,
    /// Fires up to this instant
    #[arg(long, value_name = "TIME", value_parser = instant::instant)]
    pub(crate) until: DateTime<Utc>,
    /// Print counts, the busiest minutes and expected overlaps instead of the fires
    #[arg(long)]
    pub(crate) summary: bool,
    /// Draw the first day as lanes, one a schedule, into this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<std::path::PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Trigger {
    /// The schedule
    #[arg(add = ArgValueCompleter::new(shell::schedules))]
    pub(crate) name: String,
    /// A parameter for this run; a value that is JSON is taken as JSON
    #[arg(long = "param", value_name = "KEY=VALUE")]
    pub(crate) params: Vec<String>,
    /// Wait for the end, and exit 0 or 1 as the run ends
    #[arg(long)]
    pub(crate) wait: bool,
    /// Wait behind an open run instead of being refused
    #[arg(long)]
    pub(crate) queue: bool,
    /// Asking again with the same key gives the same run
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Backfill {
    /// The schedule
    #[arg(add = ArgValueCompleter::new(shell::schedules))]
    pub(crate) name: String,
    /// The first nominal time, included
    #[arg(long, value_name = "TIME", value_parser = instant::instant)]
    pub(crate) from: DateTime<Utc>,
    /// The last nominal time, included
    #[arg(long, value_name = "TIME", value_parser = instant::instant)]
    pub(crate) until: DateTime<Utc>,
    /// Tell what would run, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run those that have run as well
    #[arg(long)]
    pub(crate) rerun: bool,
    /// Run the schedules that come after this one as well
    #[arg(long)]
    pub(crate) chain: bool,
    /// Ask nothing
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Logs {
    /// The run; without one, the scheduler's log
    #[arg(add = ArgValueCompleter::new(shell::runs))]
    pub(crate) run: Option<String>,
    /// Go on as the run goes on, until it ends; or as the scheduler does, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// So many of the last lines of the scheduler's log
    #[arg(short = 'n', long, default_value_t = 50, conflicts_with = "run")]
    pub(crate) lines: usize,
    /// Only this event, such as run_finished; may be given again
    #[arg(long, value_name = "EVENT", conflicts_with = "run")]
    pub(crate) event: Vec<String>,
    /// Only this schedule
    #[arg(long, value_name = "NAME", conflicts_with = "run", add = ArgValueCompleter::new(shell::schedules))]
    pub(crate) schedule: Option<String>,
    /// Only what happened at or after this instant
    #[arg(long, value_name = "TIME", value_parser = instant::instant, conflicts_with = "run")]
    pub(crate) since: Option<DateTime<Utc>>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Runs {
    /// Only this schedule
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(shell::schedules))]
    pub(crate) schedule: Option<String>,
    /// Only this state; may be given again
    #[arg(long, value_name = "STATE", value_parser = states())]
    pub(crate) state: Vec<RunState>,
    /// Only what was queued at or after this instant
    #[arg(long, value_name = "TIME", value_parser = instant::instant)]
    pub(crate) since: Option<DateTime<Utc>>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
}
