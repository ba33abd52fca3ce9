//! What a command would be called.

/// Words before a command that are not what it is about.
const BEFORE: &[&str] = &[
    "sudo",
    "nice",
    "ionice",
    "nohup",
    "env",
    "exec",
    "flock",
    "timeout",
    "chronic",
    "time",
    "setsid",
    "if",
    "then",
    "!",
    "test",
    "[",
    "[[",
    "command",
    "root",
    "cd",
    "export",
    "sleep",
    "{",
    "(",
    "true",
    ":",
    "umask",
    "chrt",
    "systemd-cat",
];
/// Programs that run what they are given: that is what it is about.
const INTERPRETERS: &[&str] = &[
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "php",
    "python",
    "python2",
    "python3",
    "perl",
    "ruby",
    "node",
    "java",
    "run-parts",
];

/// A readable name for a command line, in the characters that names may have.
pub(super) fn of_line(line: &str) -> String {
    let parts = line.split(['&', '|', ';', '(', ')', '{', '}', '\n']);
    let found = parts.filter_map(|part| of_part(part.trim())).next();
    found.unwrap_or_else(|| "job".into())
}

fn of_part(part: &str) -> Option<String> {
    let mut words = part.split_whitespace().filter(|word| !is_assignment(word)).peekable();
    let mut program = words.next()?;
    if ["test", "[", "[[", "cd", "export", "sleep", "umask", "if", "true", ":", "exit"].contains(&base(program)) {
        return None;
    }
    // A prefix's options, and the numbers and paths of locks that belong to them.
    while BEFORE.contains(&base(program)) {
        let lock = base(program) == "flock";
        program = words.find(|word| !word.starts_with('-') && word.parse::<f64>().is_err() && !is_span(word))?;
        if lock && program.contains(['/', '.']) {
            program = words.find(|word| !word.starts_with('-'))?;
        }
    }
    let interpreter = INTERPRETERS.contains(&base(program).trim_end_matches(|c: char| c == '.' || c.is_ascii_digit()));
    let script = interpreter.then(|| words.find(|word| !word.starts_with('-'))).flatten();
    clean(base(script.unwrap_or(program)))
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

fn is_span(word: &str) -> bool {
    word.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(|number| number.parse::<f64>().is_ok())
}

fn base(word: &str) -> &str {
    let word = word.trim_matches(['"', '\'', '`', '$']);
    word.trim_end_matches('/').rsplit('/').next().unwrap_or(word)
}

/// The allowed characters of a text, without the ending of a script.
pub(super) fn clean(text: &str) -> Option<String> {
    let stem = [".sh", ".py", ".pl", ".rb", ".php", ".js", ".bash"].iter().find_map(|end| text.strip_suffix(end));
    let stem = stem.filter(|stem| !stem.is_empty()).unwrap_or(text);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).take(80).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::of_line;

    #[track_caller]
    fn check(line: &str, name: &str) {
        assert_eq!(of_line(line), name, "{line}");
    }

    #[test]
    fn a_name_says_what_the_command_is_about() {
        check("/usr/local/bin/backup.sh --all", "backup");
        check("cd / && run-parts --report /etc/cron.hourly", "cron.hourly");
        check("test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )", "cron.daily");
        check("[ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean", "sessionclean");
        check("nice -n 19 ionice -c3 /usr/bin/updatedb", "updatedb");
        check("flock -n /run/x.lock php -d memory_limit=1G /srv/app/artisan.php schedule:run", "artisan");
        check("LANG=C timeout 5m python3 /opt/report.py", "report");
        check("\"$HOME/bin/daily.job\" >> out 2>&1", "daily.job");
        check("%%%", "job");
    }
}
