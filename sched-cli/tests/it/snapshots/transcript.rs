//! Commands and what they print, with a placeholder for all that differs from one time to the next.

use regex_lite::{Captures, Regex};

use crate::world::World;

/// Of longer output, as pages are, the beginning is enough.
const LINES: usize = 60;

pub(super) struct Transcript<'w> {
    world: &'w World,
    text: String,
    words: Vec<Vec<String>>,
}

impl<'w> Transcript<'w> {
    pub(super) fn of(world: &'w World) -> Self {
        Self { world, text: String::new(), words: Vec::new() }
    }

    pub(super) fn title(&mut self, title: &str) {
        self.text.push_str(&format!("# {title}\n\n"));
    }

    /// Each command, plain and with `--json`; what changes something says the second time that it is so already.
    pub(super) fn all(&mut self, commands: &[&str]) {
        for command in commands {
            self.both(command, command);
        }
    }

    pub(super) fn both(&mut self, plain: &str, as_json: &str) {
        self.command(plain);
        self.command(&format!("{as_json} --json"));
    }

    pub(super) fn command(&mut self, command: &str) {
        let words = split(command);
        self.plain(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    pub(super) fn plain(&mut self, words: &[&str]) {
        let mut command = self.world.command(words);
        command.env("COLUMNS", "100").env("USER", "someone");
        let ended = command.output().unwrap();
        self.text.push_str(&format!("$ sched {}\n", words.join(" ")));
        let streams = [("", &ended.stdout), ("! ", &ended.stderr)];
        for (sign, bytes) in streams {
            let text = std::str::from_utf8(bytes).unwrap();
            for line in text.lines().take(LINES) {
                self.text.push_str(format!("{sign}{line}").trim_end());
                self.text.push('\n');
            }
            if text.lines().count() > LINES {
                self.text.push_str("…\n");
            }
        }
        self.text.push_str(&format!("[{}]\n\n", ended.status.code().unwrap()));
        self.words.push(words.iter().map(|word| (*word).to_owned()).collect());
    }

    /// Whether this command was given, plain and with `--json`.
    pub(super) fn has(&self, name: &str) -> bool {
        let given = |json: bool| {
            self.words.iter().any(|words| words[0] == name && words.iter().any(|word| word == "--json") == json)
        };
        given(false) && given(true)
    }

    /// As it stands: nothing in it differs.
    pub(super) fn text(self) -> String {
        self.text
    }

    /// With its placeholders.
    pub(super) fn finish(self) -> String {
        let folder = self.world.folder.path().canonicalize().unwrap();
        let mut text = self.text.replace(&*folder.to_string_lossy(), "[folder]");
        for (pattern, placeholder) in PLACEHOLDERS {
            text = Regex::new(pattern).unwrap().replace_all(&text, *placeholder).into_owned();
        }
        // Ids by the order in which they come.
        let mut ids: Vec<String> = Vec::new();
        let uuid = Regex::new(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
        let number = |found: &Captures<'_>| {
            let place = ids.iter().position(|id| *id == found[0]).unwrap_or_else(|| {
                ids.push(found[0].to_owned());
                ids.len() - 1
            });
            format!("[id {}]", place + 1)
        };
        uuid.replace_all(&text, number).into_owned()
    }
}

const PLACEHOLDERS: &[(&str, &str)] = &[
    (r"2999-", "[far]-"),
    (r"20[2-9]\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d\d:\d\d)?", "[time]"),
    (r#""(pid|uptime_seconds|bytes|duration_ms|cpu_ms|peak_memory_bytes|fence|seq)":\d+"#, r#""$1":[number]"#),
    (r"\bpid( |=)\d+", "pid$1[pid]"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \[time\]", "[day] [time]"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
    (r"\b\d+ bytes", "[number] bytes"),
    (r"(^|[ (])\d+(\.\d+)? (ms|s|min|h|d)( \d+ (s|min|h))?\b", "$1[span]"),
    (r"(^|[ (])\d+(d|h|min|s)( \d+(h|min|s))?\b", "$1[span]"),
    // Whether the machine knows newer zones is its affair.
    (r"(?m)^! warning: this machine has the tz database .*\n", ""),
    (r#""this machine has the tz database [^"]*""#, ""),
    // What was filled up to the width of the real text.
    (r"(\[[a-z]+\]|\S) {2,}", "$1  "),
];

/// The words of a line, as a shell takes them; quoted ones are in single quotes.
fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}
