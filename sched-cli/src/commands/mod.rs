//! One file a group of verbs: each parses its words, asks the core or the running scheduler, and prints.

mod backfill;
mod confirm;
mod exec;
mod explain;
mod import;
mod init;
mod inspect;
mod journal;
mod kinds;
mod lanes;
mod logs;
mod lookup;
mod next;
mod notify;
mod plan;
mod reconcile;
pub(crate) mod shell;
mod simulate;
mod steer;
mod store;
mod trigger;
mod watch;

pub(crate) use reconcile::schedule_changes;

use crate::args::{Args, Command};
use crate::daemon;
use crate::doctor;
use crate::exit::Outcome;
use crate::install;

/// Runs the command that was given.
pub(crate) fn dispatch(args: Args) -> Outcome {
    let global = &args.global;
    match args.command {
        Command::Run { watch, started } => daemon::run::run(global, watch, &started),
        Command::Start(watch) => daemon::start::start(global, watch),
        Command::Stop => daemon::stop::stop(global),
        Command::Restart(watch) => daemon::stop::restart(global, watch),
        Command::Status => daemon::status::status(global),
        Command::Reload => reconcile::reload(global),
        Command::Diff => reconcile::diff(global),
        Command::Apply(words) => reconcile::apply(global, &words),
        Command::Backup { file } => store::backup(global, &file),
        Command::Restore { file } => store::restore(global, &file),
        Command::Backfill(words) => backfill::backfill(global, &words),
        Command::Check => next::check(global),
        Command::Doctor => doctor::doctor(global),
        Command::Ended => daemon::witness::write_down(global),
        Command::Install(words) => install::install(global, &words),
        Command::Next(words) => next::next(global, &words),
        Command::Explain(words) => explain::explain(global, &words),
        Command::Simulate(words) => simulate::simulate(global, &words),
        Command::List => inspect::list(global),
        Command::Show { name } => inspect::show(global, &name),
        Command::Trigger(words) => trigger::trigger(global, &words),
        Command::Pause { name, reason } => steer::pause(global, &name, &reason),
        Command::Resume { name } => steer::resume(global, &name),
        Command::Cancel { run } => steer::cancel(global, &run),
        Command::Retry { run } => steer::retry(global, &run),
        Command::Runs(words) => inspect::runs(global, &words),
        Command::Logs(words) => match &words.run {
            Some(run) => logs::logs(global, run, words.follow),
            None => journal::journal(global, &words),
        },
        Command::Import { from } => import::import(global, &from),
        Command::Init => init::init(global),
        Command::Completions { shell } => shell::completions(&shell),
        Command::Man { out } => shell::man(global, out.as_deref()),
        Command::Notify { what } => notify::notify(global, &what),
        Command::Kinds { kind } => kinds::kinds(global, kind.as_deref()),
        Command::Exec { kind, params } => exec::exec(global, &kind, &params),
        Command::Audit { since } => inspect::audit(global, since),
    }
}
