//! Command lines of services (systemd.service(5), "Command lines"): words, quotes, escapes, prefixes, variables.

use super::ini::without_specifiers;

/// One command of an `ExecStart=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exec {
    pub(super) words: Vec<String>,
    /// Its failure counts as success.
    pub(super) may_fail: bool,
    /// Variables are not put in.
    literal: bool,
    /// Prefixes and words that have no counterpart here.
    pub(super) without: Vec<&'static str>,
}

/// The commands of one setting.
pub(super) fn commands(value: &str) -> Result<Vec<Exec>, String> {
    let mut found = Vec::new();
    for words in words(value)?.split(|word| word.text == ";" && !word.quoted) {
        let Some((program, arguments)) = words.split_first() else { continue };
        let mut program = program.text.as_str();
        let mut exec = Exec { words: Vec::new(), may_fail: false, literal: false, without: Vec::new() };
        let mut renamed = false;
        while let Some(rest) = program.strip_prefix(['-', '@', ':', '+', '!', '|']) {
            match program.as_bytes()[0] {
                b'-' => exec.may_fail = true,
                b'@' => renamed = true,
                b':' => exec.literal = true,
                b'|' => exec.without.push("the prefix `|` (the user's shell)"),
                _ => exec.without.push("the prefix `+` or `!` (full privileges)"),
            }
            program = rest;
        }
        let mut arguments = arguments.iter();
        if renamed && arguments.next().is_some() {
            exec.without.push("the prefix `@` (another argv[0])");
        }
        if program.is_empty() {
            return Err("it names no program".into());
        }
        let all = std::iter::once(program).chain(arguments.map(|word| word.text.as_str()));
        exec.words = all.map(without_specifiers).collect::<Result<_, _>>()?;
        found.push(exec);
    }
    Ok(found)
}

impl Exec {
    /// Whether the words as they are do what systemd does.
    pub(super) fn is_plain(&self) -> bool {
        let variables = |word: &String| whole_variable(word).is_some() || word.contains("${");
        !self.may_fail && (self.literal || !self.words.iter().skip(1).any(variables))
    }

    /// The words without a shell.
    pub(super) fn argv(&self) -> Vec<String> {
        let dollar = |word: &String| if self.literal { word.clone() } else { word.replace("$$", "$") };
        self.words.iter().map(dollar).collect()
    }

    /// The command as a shell's line.
    pub(super) fn line(&self) -> String {
        let words = self
            .words
            .iter()
            .enumerate()
            .map(|(index, word)| if self.literal || index == 0 { single(word) } else { expanded(word) });
        let line = words.collect::<Vec<_>>().join(" ");
        if self.may_fail { format!("{{ {line} || :; }}") } else { line }
    }

    /// Whether a variable becomes several words, in which a shell would look for patterns.
    pub(super) fn splits(&self) -> bool {
        !self.literal && self.words.iter().skip(1).any(|word| whole_variable(word).is_some())
    }
}

/// The name of a word that is a variable and nothing else: its value becomes words.
fn whole_variable(word: &str) -> Option<&str> {
    word.strip_prefix('$').filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn single(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn expanded(word: &str) -> String {
    if let Some(name) = whole_variable(word) {
        return format!("${name}");
    }
    let (mut line, mut rest, mut text) = (String::new(), word, String::new());
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let variable =
            after.strip_prefix('{').and_then(|inner| inner.split_once('}')).filter(|(name, _)| is_name(name));
        rest = if let Some((name, rest)) = variable {
            if !text.is_empty() {
                line.push_str(&single(&std::mem::take(&mut text)));
            }
            line.push_str(&format!("\"${{{name}}}\""));
            rest
        } else {
            text.push('$');
            after.strip_prefix('$').unwrap_or(after)
        };
    }
    text.push_str(rest);
    if !text.is_empty() || line.is_empty() {
        line.push_str(&single(&text));
    }
    line
}

/// A word, and whether a quote or an escape was in it.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub(super) text: String,
    quoted: bool,
}

/// Splits at white space, with quotes and C's escapes.
pub(super) fn words(value: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_with(Word::default);
        match c {
            '\\' => {
                word.quoted = true;
                word.text.push(escape(&mut chars)?);
            }
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                word.quoted = true;
                quote = Some(c);
            }
            c => word.text.push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    if words.iter().any(|word| word.text.contains('\0')) {
        return Err("a NUL byte cannot be handed to a program".into());
    }
    Ok(words)
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    let c = chars.next().ok_or("a backslash ends it")?;
    let mut code = |first: &str, count: usize, radix: u32| {
        let digits: String = first.chars().chain(chars.by_ref().take(count)).collect();
        let value = u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32);
        value.ok_or_else(|| format!("no character `\\{c}{digits}`"))
    };
    Ok(match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        's' => ' ',
        '\\' | '"' | '\'' | ';' => c,
        'x' => code("", 2, 16)?,
        'u' => code("", 4, 16)?,
        'U' => code("", 8, 16)?,
        '0'..='7' => code(&c.to_string(), 2, 8)?,
        c => return Err(format!("no escape `\\{c}`")),
    })
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[track_caller]
    fn check(value: &str, line: &str) {
        let lines: Vec<_> = commands(value).unwrap().iter().map(super::Exec::line).collect();
        assert_eq!(lines.join(" && "), line, "{value}");
    }

    #[test]
    fn command_lines_become_lines_of_a_shell() {
        check("/bin/echo one 'two two' \"three\\tfour\"", "/bin/echo one 'two two' 'three\tfour'");
        check("-/bin/rm -f a\\x20b", "{ /bin/rm -f 'a b' || :; }");
        check("/bin/echo $ARGS ${ONE}two $$HOME it's' $", "/bin/echo $ARGS \"${ONE}\"two '$HOME' its '$'");
        check(":/bin/echo $ARGS", "/bin/echo '$ARGS'");
        check("/bin/a ; /bin/b ';' c\\;", "/bin/a && /bin/b ';' 'c;'");
        check("@/bin/sh mysh -c 100%%", "/bin/sh -c 100%");
        for (value, why) in [
            ("/bin/a %i", "specifier %i"),
            ("/bin/a 'b", "not closed"),
            ("/bin/a \\q", "no escape"),
            ("-", "no program"),
        ] {
            let error = commands(value).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
    }
}
