//! Unit files (systemd.syntax(7)): sections, continued lines, comments, settings that are taken out one by one, so that
//! what is left at the end has been overlooked by nobody.

/// A setting, at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) file: String,
    pub(super) line: usize,
}

/// A unit with its drop-ins: settings in the order in which they count.
#[derive(Debug, Clone, Default)]
pub(super) struct Unit {
    pub(super) lines: Vec<Line>,
}

impl Unit {
    /// Adds a file's settings.
    pub(super) fn read(&mut self, file: &str, text: &str) {
        let mut section = String::new();
        let mut open: Option<(usize, String)> = None;
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            // A comment may stand between the parts of a continued line.
            if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && open.is_none()) {
                continue;
            }
            let (begin, mut whole) = open.take().unwrap_or((index + 1, String::new()));
            if let Some(part) = trimmed.strip_suffix('\\') {
                whole.push_str(part);
                whole.push(' ');
                open = Some((begin, whole));
                continue;
            }
            whole.push_str(trimmed);
            self.logical(file, begin, &mut section, &whole);
        }
        if let Some((begin, whole)) = open {
            self.logical(file, begin, &mut section, &whole);
        }
    }

    fn logical(&mut self, file: &str, line: usize, section: &mut String, text: &str) {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(section);
            return;
        }
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        self.lines.push(Line {
            section: section.clone(),
            key: key.trim().into(),
            value: value.trim().into(),
            file: file.into(),
            line,
        });
    }

    /// Takes out settings of these names, in order, from the last empty one of them on.
    pub(super) fn take(&mut self, section: &str, keys: &[&str]) -> Vec<Line> {
        let mut taken = Vec::new();
        self.lines.retain(|line| {
            let wanted = line.section == section && keys.contains(&line.key.as_str());
            if wanted && line.value.is_empty() {
                taken.clear();
            } else if wanted {
                taken.push(line.clone());
            }
            !wanted
        });
        taken
    }

    /// Takes out a setting of which the last one counts.
    pub(super) fn last(&mut self, section: &str, key: &str) -> Option<Line> {
        self.take(section, &[key]).pop()
    }
}

/// A value without specifiers: `%%` is a percent sign, anything else with one depends on where a unit runs.
pub(super) fn without_specifiers(value: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, chars.as_str().chars().next()) {
            ('%', Some('%')) => {
                chars.next();
                text.push('%');
            }
            ('%', next) => {
                let specifier = next.map_or(String::new(), String::from);
                return Err(format!("the specifier %{specifier} depends on the unit; write what it stands for"));
            }
            (c, _) => text.push(c),
        }
    }
    Ok(text)
}

pub(super) fn is_yes(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::Unit;

    #[test]
    fn continued_lines_comments_and_resets() {
        let mut unit = Unit::default();
        unit.read(
            "a.service",
            "[Service]\nExecStart=/bin/echo one \\\n# between\n; too\n  two\nExecStart=\n[Timer]\nA=1\n",
        );
        unit.read("b.conf", "[Service]\nExecStart=/bin/true\nUser = web\n[Timer]\nA=2\nlast\\");
        let exec = unit.take("Service", &["ExecStart"]);
        assert_eq!(exec.iter().map(|line| (line.value.as_str(), line.line)).collect::<Vec<_>>(), [("/bin/true", 2)]);
        assert_eq!(unit.last("Service", "User").unwrap().value, "web");
        assert_eq!(unit.last("Timer", "A").unwrap().value, "2");
        assert_eq!(unit.lines.iter().map(|line| line.key.as_str()).collect::<Vec<_>>(), ["last"]);
    }
}
