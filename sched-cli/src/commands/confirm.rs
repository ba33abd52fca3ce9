//! A question to whoever sits at the terminal.

use std::io::{BufRead as _, IsTerminal as _};

use crate::exit::Failure;
use crate::output;

/// Whether someone can be asked.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether the answer is yes; no answer is none.
pub(super) fn agrees(question: &str) -> Result<bool, Failure> {
    output::note(&format!("{question} [y/N]"));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
