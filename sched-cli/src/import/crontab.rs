//! Crontabs as crontab(5) describes them: Debian's, and what cronie and SUSE add.

use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::brute::Fields;
use super::{NEVER, Original, Part, Plan, Planned, SECRET, fault_of, is_secret, name, put_variables};

/// What is known of a crontab beside its text.
pub(crate) struct Source<'a> {
    /// What it is called in messages.
    pub(crate) file: &'a str,
    /// Whether its lines name a user.
    pub(crate) system: bool,
    /// The zone of its times.
    pub(crate) zone: Tz,
    /// The home of a user, or of the crontab's own.
    pub(crate) home: &'a dyn Fn(Option<&str>) -> Option<String>,
}

const NICKNAMES: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@every_minute", "* * * * *"),
];

/// What of the lines so far holds for the next.
struct Reader<'a> {
    source: &'a Source<'a>,
    plan: Plan,
    variables: Vec<(String, String)>,
    zone: Tz,
    zone_is_known: bool,
    delay: Option<u32>,
}

/// Reads a crontab.
pub(crate) fn crontab(text: &str, source: &Source<'_>) -> Plan {
    let mut plan = Plan {
        head: vec![
            format!("Imported from {}.", source.file),
            "cron mails what a command prints; here it is kept with the run: `sched logs RUN`.".into(),
            "A fire that was missed is not made up for, runs of a schedule may overlap, none is tried again, and none is"
                .into(),
            "stopped for taking long, as with cron. Each can be chosen otherwise, here or in a schedule.".into(),
        ],
        ..Plan::default()
    };
    plan.settings.push(("", Map::from_iter([("timezone".into(), source.zone.name().into())])));
    let policies = [
        ("misfire", json!({ "policy": "skip" })),
        ("overlap", json!("allow")),
        ("retry", json!({ "attempts": 1 })),
        ("timeout", json!("365d")),
    ];
    plan.settings.push(("defaults", policies.into_iter().map(|(key, value)| (key.into(), value)).collect()));
    let mut reader =
        Reader { source, plan, variables: Vec::new(), zone: source.zone, zone_is_known: true, delay: None };
    for (index, line) in text.lines().enumerate() {
        reader.line(index + 1, line.strip_suffix('\r').unwrap_or(line).trim_start());
    }
    reader.plan
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) {
        if line.trim_end().is_empty() {
            self.plan.parts.push(Part::Gap);
        } else if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            match secret_set_by(comment) {
                Some(name) => self.plan.comment(format!("{name}=… was set in a comment; {SECRET}")),
                None => self.plan.comment(comment),
            }
        } else if let Some((name, value)) = assignment(line) {
            self.variable(number, name, value);
        } else if let Err((what, why)) = self.entry(number, line) {
            self.leave_out(number, what, why);
        }
    }

    fn leave_out(&mut self, line: usize, what: impl Into<String>, why: impl Into<String>) {
        self.plan.leave_out(self.source.file, line, what, why);
    }

    fn variable(&mut self, number: usize, name: &str, value: &str) {
        match name {
            "MAILTO" | "MAILFROM" if !value.is_empty() => {
                let why = "write a [[channel]] of kind \"email\" and `notify` it of failures (docs/notify.md); what a \
                           command prints is kept with its run";
                self.leave_out(number, format!("{name}={value}"), why);
            }
            "MAILTO" | "MAILFROM" => self.plan.comment(format!("{name} is empty: no mail, and there is none here")),
            "CONTENT_TYPE" | "CONTENT_TRANSFER_ENCODING" => {
                self.plan.comment(format!("{name}={value} is about mails, of which there are none"));
            }
            "CRON_TZ" => {
                let zone = if value.is_empty() { Ok(self.source.zone) } else { value.parse::<Tz>() };
                self.zone_is_known = zone.is_ok();
                match zone {
                    Ok(zone) => self.zone = zone,
                    Err(_) => self.leave_out(number, format!("CRON_TZ={value}"), "no such time zone"),
                }
                return;
            }
            "RANDOM_DELAY" => {
                self.delay = value.trim().parse().ok().filter(|minutes| *minutes <= 1_000_000);
                if self.delay.is_none() {
                    self.leave_out(number, format!("RANDOM_DELAY={value}"), "not a number of minutes");
                }
                return;
            }
            "LOGNAME" | "USER" => {
                self.plan.comment(format!("{name}={value}: cron sets it itself, whatever a crontab says"));
                return;
            }
            _ => {}
        }
        if name.contains('\0') || value.contains('\0') {
            self.leave_out(number, "a variable", "a NUL byte cannot be handed to a program");
            return;
        }
        if is_secret(name) {
            self.leave_out(number, name, SECRET);
        }
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.into(), value.into()));
    }

    fn entry(&mut self, number: usize, line: &str) -> Result<(), (String, String)> {
        // A variable with a quote that is not closed may hold a secret.
        let shown = || secret_set_by(line).unwrap_or(line).trim_end().to_owned();
        let refuse = |why: String| (shown(), why);
        let (line, unlogged) = match line.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let (fields, rest) = when(line).map_err(refuse)?;
        let (user, command) = if self.source.system { word(rest) } else { ("", rest) };
        if self.source.system && user.is_empty() {
            return Err(refuse("no user stands before the command".into()));
        }
        if command.trim().is_empty() {
            let hint = if self.source.system { "; is this a crontab without users? Leave out --system" } else { "" };
            return Err(refuse(format!("no command{hint}")));
        }
        if line.contains('\0') {
            return Err(refuse("a NUL byte cannot be handed to a program".into()));
        }
        if !self.zone_is_known && fields.is_some() {
            return Err(refuse("the time zone above it is not known".into()));
        }
        let (shell_line, stdin) = split_input(command);
        if shell_line.trim().is_empty() {
            return Err(refuse("no command stands before `%`; a percent sign is written \\%".into()));
        }
        let mut trigger = json!({ "cron": fields.as_deref().unwrap_or(NEVER) });
        if self.zone != self.source.zone {
            trigger["timezone"] = self.zone.name().into();
        }
        if let Some(fault) = fault_of(&trigger) {
            return Err(refuse(fault));
        }
        if unlogged {
            self.leave_out(
                number,
                "the leading -",
                "it keeps a start out of the system's log; runs are always recorded here",
            );
        }
        let mut keys = Map::from_iter([("job".to_owned(), json!("command")), ("trigger".to_owned(), trigger)]);
        if fields.is_none() {
            keys.insert("on_start".into(), "always".into());
            self.leave_out(number, "@reboot", "it runs at each start of the scheduler, which may come more often");
        }
        if let Some(minutes) = self.delay.filter(|minutes| *minutes > 0) {
            keys.insert("jitter".into(), format!("{minutes}m").into());
        }
        let params = self.params(number, user, &shell_line, stdin);
        let name = self.plan.unique(&name::of_line(&shell_line));
        let original = fields.map_or(Original::Untimed, |fields| Original::Cron(fields, self.zone));
        self.plan.parts.push(Part::Schedule(Box::new(Planned { name, keys, params, original })));
        Ok(())
    }

    fn params(&mut self, number: usize, user: &str, line: &str, stdin: Option<String>) -> Map<String, Value> {
        let get =
            |wanted: &str| self.variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let mut params = Map::new();
        match get("SHELL").filter(|shell| !shell.is_empty() && *shell != "/bin/sh") {
            Some(shell) => params.insert("argv".into(), json!([shell, "-c", line])),
            None => {
                params.insert("argv".into(), json!([line]));
                params.insert("shell".into(), true.into())
            }
        };
        // FreeBSD's users may have a group and a login class.
        let (owner, class) = user.split_once('/').unwrap_or((user, ""));
        let (owner, group) = owner.split_once(':').unwrap_or((owner, ""));
        for (key, value) in [("user", owner), ("group", group)] {
            if !value.is_empty() {
                params.insert(key.into(), value.into());
            }
        }
        let home = get("HOME").map(str::to_owned).or_else(|| (self.source.home)(Some(owner).filter(|o| !o.is_empty())));
        if let Some(home) = &home {
            params.insert("cwd".into(), home.as_str().into());
        }
        // Debian's cron gives this path, not the scheduler's.
        let path = get("PATH").is_none().then_some(("PATH", "/usr/bin:/bin"));
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        put_variables(&mut params, path.into_iter().chain(variables));
        if let Some(stdin) = stdin {
            params.insert("stdin".into(), stdin.into());
        }
        if home.is_none() {
            let whose = if owner.is_empty() { "the user".to_owned() } else { format!("`{owner}`") };
            let why = format!("cron starts it in the home of {whose}, which this machine does not know; write `cwd`");
            self.leave_out(number, "home", why);
        }
        if !class.is_empty() {
            self.leave_out(number, format!("/{class}"), "login classes are not known here");
        }
        params
    }
}

/// A line that sets a variable, as cron reads it: quotes around either side, spaces around the sign, nothing expanded.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = match quoted(line) {
        Some((name, rest)) => (name, rest.trim_start().strip_prefix('=')?),
        None => {
            let (name, rest) = line.split_once('=')?;
            (name.trim_end(), rest)
        }
    };
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '=') {
        return None;
    }
    let rest = rest.trim();
    match quoted(rest) {
        Some((value, "")) => Some((name, value)),
        Some(_) => None,
        None if rest.starts_with(['"', '\'']) => None,
        None => Some((name, rest)),
    }
}

/// The name of a secret that a line sets, or would set without a `#` before it or a fault in it.
fn secret_set_by(line: &str) -> Option<&str> {
    let name = line.split_once('=')?.0.trim();
    (is_secret(name) && (name.starts_with(['"', '\'']) || !name.contains(char::is_whitespace))).then_some(name)
}

/// What stands in quotes at the begin, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    text[1..].split_once(quote)
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// The five fields, none for `@reboot`, and what follows them.
fn when(line: &str) -> Result<(Option<String>, &str), String> {
    if line.starts_with('@') {
        let (nickname, rest) = word(line);
        if nickname.eq_ignore_ascii_case("@reboot") {
            return Ok((None, rest));
        }
        let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(nickname));
        let (_, fields) = known.ok_or_else(|| format!("no nickname `{nickname}` in cron"))?;
        return Ok((Some((*fields).to_owned()), rest));
    }
    let (mut fields, mut rest) = (Vec::new(), line);
    for _ in 0..5 {
        let (field, after) = word(rest);
        if field.is_empty() {
            return Err("neither five fields and a command nor a variable".into());
        }
        fields.push(field);
        rest = after;
    }
    let fields = fields.join(" ");
    Fields::parse(&fields)?;
    Ok((Some(fields), rest))
}

/// A command and its standard input: the first percent sign ends the one, further ones are ends of lines.
fn split_input(command: &str) -> (String, Option<String>) {
    let (mut line, mut input) = (String::new(), None::<String>);
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' if chars.next_if_eq(&'%').is_some() => '%',
            '%' if input.is_none() => {
                input = Some(String::new());
                continue;
            }
            '%' => '\n',
            c => c,
        };
        input.as_mut().unwrap_or(&mut line).push(c);
    }
    if let Some(input) = input.as_mut().filter(|input| !input.is_empty() && !input.ends_with('\n')) {
        input.push('\n');
    }
    (line.trim_end().to_owned(), input)
}
