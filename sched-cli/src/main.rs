//! The `sched` program: arguments, wiring, commands. Every decision about time and runs is made in the core.

mod args;
mod commands;
mod compose;
mod control;
mod daemon;
mod doctor;
mod exit;
mod import;
mod install;
mod output;

use clap::{CommandFactory as _, Parser};
use clap_complete::CompleteEnv;

use crate::args::Args;
use crate::commands::shell::ASKS;
use crate::exit::Exit;
use crate::output::Pager;

fn main() -> std::process::ExitCode {
    sched_core::process::init();
    compose::serve_attempt();
    // A shell asks for completions: this answers and ends.
    CompleteEnv::with_factory(Args::command).var(ASKS).complete();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // A closed terminal cannot be told.
            let _ = error.print();
            return code.into();
        }
    };
    let json = args.global.json;
    output::look(args.global.no_color);
    let pager = args.is_paged().then(Pager::begin).flatten();
    let outcome = commands::dispatch(args);
    drop(pager);
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::failure(&failure, json);
            failure.exit.into()
        }
    }
}
