//! What operators say beside the daemon.

use clap::Args as ClapArgs;

#[derive(Debug, ClapArgs)]
pub(crate) struct Install {
    /// For this user only, without root: a unit in ~/.config/systemd/user
    #[arg(long)]
    pub(crate) user: bool,
    /// Print the unit, and write nothing
    #[arg(long, visible_alias = "print")]
    pub(crate) dry_run: bool,
    /// The unit's name
    #[arg(long, default_value = "sched", value_name = "NAME")]
    pub(crate) name: String,
    /// The user that the service runs as; without it the owner of the data folder, or of the configuration
    #[arg(long, value_name = "USER", conflicts_with = "user")]
    pub(crate) run_as: Option<String>,
    /// Leave jobs everything that the service's user may do
    #[arg(long)]
    pub(crate) trust_jobs: bool,
    /// Write over a unit that differs
    #[arg(long)]
    pub(crate) force: bool,
}
