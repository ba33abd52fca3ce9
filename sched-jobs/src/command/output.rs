//! What a program prints: handed to the run's output as it comes, with the lines in it that are meant for the scheduler.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use sched_core::RunContext;
use sched_core::process::Lines;
use serde_json::Value;
use tokio::io::AsyncRead;

/// The last lines that the record keeps.
const LAST_LINES: usize = 20;
/// As much of each.
const LAST_LINE: usize = 1000;

/// What has been heard so far, on both streams.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) last: VecDeque<String>,
    /// What a line `::result {…}` said.
    result: Option<Value>,
    /// The last line of standard output.
    last_of_stdout: Option<String>,
    /// The last line of standard error, shortened.
    last_of_stderr: Option<String>,
}

pub(super) type Ear = Arc<Mutex<Heard>>;

impl Heard {
    /// What the program gave: what `::result` said, or else its last line, as JSON if it is.
    pub(super) fn result(&mut self) -> Option<Value> {
        let last = self.last_of_stdout.take();
        let read = |line: String| serde_json::from_str(&line).unwrap_or_else(|_| Value::String(shortened(&line)));
        self.result.take().or_else(|| last.map(read))
    }

    /// What the program complained of last, or else said last.
    pub(super) fn complaint(&mut self) -> Option<String> {
        self.last_of_stderr.take().or_else(|| self.last.back().cloned())
    }

    fn note(&mut self, text: &str, stdout: bool) {
        let lines = text.lines().rev().filter(|line| !line.is_empty());
        let newest: Vec<&str> = lines.take(LAST_LINES).collect();
        if let Some(line) = newest.first() {
            if stdout {
                self.last_of_stdout = Some((*line).to_owned());
            } else {
                self.last_of_stderr = Some(shortened(line));
            }
        }
        for line in newest.into_iter().rev() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(shortened(line));
        }
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LAST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A line for the scheduler.
#[derive(Debug, PartialEq)]
enum Word {
    Result(Value),
    Progress(u8, String),
}

/// Reads `::result {…}` and `::progress 40 text`; what is written otherwise is an ordinary line.
fn word(line: &str) -> Option<Word> {
    let (name, rest) = line.strip_prefix("::")?.split_once(' ')?;
    match name {
        "result" => serde_json::from_str(rest).ok().map(Word::Result),
        "progress" => {
            let (percent, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let percent = percent.trim_end_matches('%').parse().ok().filter(|percent| *percent <= 100)?;
            Some(Word::Progress(percent, text.to_owned()))
        }
        _ => None,
    }
}

/// Takes the lines for the scheduler out of a text of whole lines.
fn listen(text: String) -> (String, Vec<Word>) {
    if !text.starts_with("::") && !text.contains("\n::") {
        return (text, Vec::new());
    }
    let mut words = Vec::new();
    let mut rest = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match word(line.trim_end_matches(['\n', '\r'])) {
            Some(word) => words.push(word),
            None => rest.push_str(line),
        }
    }
    (rest, words)
}

/// Follows a pipe to its end.
pub(super) async fn follow(ctx: &RunContext, pipe: impl AsyncRead + Unpin, ear: Ear, stdout: bool) {
    let mut printed = Lines::new(pipe);
    while let Some(lines) = printed.next().await {
        let (lines, words) = if stdout { listen(lines) } else { (lines, Vec::new()) };
        let mut progress = None;
        {
            let mut ear = ear.lock().unwrap_or_else(PoisonError::into_inner);
            ear.note(&lines, stdout);
            for word in words {
                match word {
                    Word::Result(value) => ear.result = Some(value),
                    // Of many at once the last one tells.
                    Word::Progress(percent, text) => progress = Some((percent, text)),
                }
            }
        }
        if !lines.is_empty() {
            ctx.print(lines).await;
        }
        if let Some((percent, text)) = progress {
            ctx.progress(percent, text).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_for_the_scheduler_are_taken_out_and_what_only_looks_like_one_stays() {
        let said = "a\n::progress 40 half way\n::result {\"n\":1}\n::progress many\n::other x\n::progress 100%\n";
        let (rest, words) = listen(said.into());
        assert_eq!(rest, "a\n::progress many\n::other x\n");
        let progress = |percent, text: &str| Word::Progress(percent, text.into());
        assert_eq!(words, [progress(40, "half way"), Word::Result(json!({ "n": 1 })), progress(100, "")]);
    }

    #[test]
    fn the_result_is_what_was_said_or_else_the_last_line() {
        let mut heard = Heard::default();
        heard.note("x\n{\"rows\": 3}\n", true);
        heard.note("warning\n", false);
        assert_eq!(heard.result(), Some(json!({ "rows": 3 })));
        heard.note("plain\n\n", true);
        assert_eq!(heard.result(), Some(json!("plain")));
        heard.result = Some(json!(1));
        assert_eq!(heard.result(), Some(json!(1)));
        assert_eq!(heard.last, ["x", "{\"rows\": 3}", "warning", "plain"]);
    }
}
