//! What `sched import` is asked.

use std::path::PathBuf;

use chrono_tz::Tz;
use clap::Subcommand;

/// Where the schedules come from.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// A crontab
    Crontab {
        /// The file, or `-` for standard input
        file: PathBuf,
        /// Its lines name a user, as those of /etc/crontab and /etc/cron.d do (assumed of files there)
        #[arg(long)]
        system: bool,
        /// The zone of its times [default: this machine's]
        #[arg(long, value_name = "ZONE")]
        tz: Option<Tz>,
        /// Compare the fires of a year with those of cron
        #[arg(long)]
        verify: bool,
    },
    /// The timers in a folder, with their services and drop-ins
    Systemd {
        folder: PathBuf,
        /// The zone of their times [default: this machine's]
        #[arg(long, value_name = "ZONE")]
        tz: Option<Tz>,
        /// Compare the fires of a year with those that systemd-analyze prints
        #[arg(long)]
        verify: bool,
    },
    /// The variables of the original system, from the environment
    Env,
}
