//! A source that is a program: its standard output, up to a bound.

use sched_core::process::{Lines, Printed, Waiting};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use super::Work;
use crate::command::{Command, Meaning, Params};

/// What a program prints, if it ends as it should. Whoever drops this before ends the program with all that it started.
pub(super) async fn output(params: &Params, work: &Work, largest: u64) -> Result<Vec<u8>, String> {
    let command = Command { params: params.clone(), env: work.env.clone() };
    let mut writing = JoinSet::new();
    let mut tree = command.start(&work.ctx, &mut writing, Waiting::Runtime).await.map_err(|error| error.to_string())?;
    let (Some(stdout), Some(stderr)) = (tree.stdout.take(), tree.stderr.take()) else {
        return Err("its output cannot be read".into());
    };
    let complaint = async { Ok(last_line(stderr).await) };
    let (printed, complaint) = tokio::try_join!(bounded(stdout, largest), complaint)?;
    let ending = tree.ended().await.map_err(|error| error.to_string())?;
    let complaint = complaint.map_or(String::new(), |line| format!(": {line}"));
    match ending.code {
        Some(code) if params.meaning(code) == Meaning::Success => Ok(printed),
        Some(code) => Err(format!("exited with code {code}{complaint}")),
        None => {
            let signal = ending.signal_name().unwrap_or_else(|| "an unknown signal".into());
            Err(format!("was ended by {signal}{complaint}"))
        }
    }
}

async fn bounded(pipe: Printed, largest: u64) -> Result<Vec<u8>, String> {
    let mut printed = Vec::new();
    pipe.take(largest + 1).read_to_end(&mut printed).await.map_err(|error| error.to_string())?;
    if printed.len() as u64 > largest { Err(format!("printed more than {largest} bytes")) } else { Ok(printed) }
}

async fn last_line(pipe: Printed) -> Option<String> {
    let mut lines = Lines::new(pipe);
    let mut last = None;
    while let Some(text) = lines.next().await {
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        last = line.map(|line| line.chars().take(300).collect()).or(last);
    }
    last
}
