//! What a message says, as a subject, as plain text and as facts for a page. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use sched_core::{Body, Message, Notice, NoticeKind, Told};
use serde::Serialize;

/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 120;

/// One line that says what it is about.
pub(super) fn subject(message: &Message) -> String {
    let text = match &message.body {
        Body::Letter(letter) => letter.subject.clone(),
        Body::Notices(told) => match told.as_slice() {
            [one] => headline(&one.notice),
            many => summary(many),
        },
    };
    let line = text.lines().next().unwrap_or_default().replace(char::is_control, " ");
    match line.char_indices().nth(LONGEST_SUBJECT) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// The first line of what happened: an error may go on for many.
fn headline(notice: &Notice) -> String {
    notice.message.lines().next().unwrap_or_default().to_owned()
}

/// `2 failed, 1 recovered: backup, report`.
fn summary(told: &[Told]) -> String {
    let mut kinds: BTreeMap<NoticeKind, usize> = BTreeMap::new();
    let mut schedules: Vec<&str> = Vec::new();
    for Told { notice, .. } in told {
        *kinds.entry(notice.kind).or_default() += 1;
        if let Some(schedule) = notice.schedule.as_ref().map(sched_core::ScheduleName::as_str)
            && !schedules.contains(&schedule)
        {
            schedules.push(schedule);
        }
    }
    let counts: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {}", word(*kind))).collect();
    let of = if schedules.is_empty() { String::new() } else { format!(": {}", schedules.join(", ")) };
    format!("{}{of}", counts.join(", "))
}

fn word(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::LateStart => "late",
        NoticeKind::Overrun => "too long",
        NoticeKind::Scheduler => "of the scheduler",
        NoticeKind::Retry => "tried again",
        other => other.word(),
    }
}

/// What a page shows of one notice.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) kind: &'static str,
    /// `bad`, `good` or `plain`.
    pub(super) tone: &'static str,
    pub(super) message: String,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) output: Vec<String>,
    pub(super) remedy: Option<String>,
}

pub(super) fn facts(told: &Told) -> Facts {
    let Told { notice, output } = told;
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("Schedule", notice.schedule.as_ref().map(ToString::to_string));
    fact("Happened", Some(text(notice.at)));
    match notice.kind {
        NoticeKind::Missed => {
            let range = |from| match notice.until.filter(|until| *until != from) {
                Some(until) => format!("{} to {}", text(from), text(until)),
                None => text(from),
            };
            fact("Planned", notice.nominal_at.map(range));
        }
        _ => fact("Planned", notice.nominal_at.map(text)),
    }
    fact("Failing since", notice.since.filter(|_| notice.kind == NoticeKind::Failed).map(text));
    fact("Attempt", notice.attempt.map(|attempt| attempt.to_string()));
    fact("Took", notice.duration_ms.map(took));
    fact("Run", notice.run_id.map(|run| run.to_string()));
    Facts {
        kind: word(notice.kind),
        tone: match notice.kind {
            NoticeKind::Recovered | NoticeKind::Succeeded => "good",
            NoticeKind::Started | NoticeKind::Test => "plain",
            _ => "bad",
        },
        message: notice.message.clone(),
        facts,
        output: output.clone(),
        remedy: notice.remedy(),
    }
}

/// All of it as plain text.
pub(super) fn plain(message: &Message) -> String {
    let told = match &message.body {
        Body::Letter(letter) => return letter.text.clone(),
        Body::Notices(told) => told,
    };
    let parts: Vec<String> = told.iter().map(|told| plain_notice(&facts(told))).collect();
    parts.join("\n\n----\n\n")
}

fn plain_notice(facts: &Facts) -> String {
    let mut text = format!("{}\n", facts.message);
    if !facts.facts.is_empty() {
        text.push('\n');
    }
    for (name, value) in &facts.facts {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:<14} {value}");
    }
    if !facts.output.is_empty() {
        text.push_str("\nIt printed last:\n");
        for line in &facts.output {
            let _ = writeln!(text, "  {line}");
        }
    }
    if let Some(remedy) = &facts.remedy {
        let _ = write!(text, "\nTo go on: {remedy}\n");
    }
    text
}

pub(super) fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn took(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use sched_core::{Letter, OutboxId};

    use super::*;

    fn message(body: Body) -> Message {
        let id = OutboxId::from_uuid("0192e6a0-0000-7000-8000-000000000001".parse().unwrap());
        Message { id, channel: "ops".parse().unwrap(), attempt: 1, at: DateTime::UNIX_EPOCH, body }
    }

    fn told(kind: NoticeKind, schedule: &str, text: &str) -> Told {
        let notice = Notice {
            schedule: Some(schedule.parse().unwrap()),
            run_id: Some("0192e6a0-0000-7000-8000-000000000002".parse().unwrap()),
            nominal_at: Some(DateTime::UNIX_EPOCH),
            since: Some(DateTime::UNIX_EPOCH),
            attempt: Some(3),
            duration_ms: Some(61_500),
            ..Notice::new(kind, DateTime::UNIX_EPOCH, text)
        };
        Told { notice, output: vec!["disk full".into()] }
    }

    #[test]
    fn a_subject_is_one_short_line() {
        let one = told(NoticeKind::Failed, "backup", "backup has failed: exit code 1\nBcc: all@example.com");
        assert_eq!(subject(&message(Body::Notices(vec![one.clone()]))), "backup has failed: exit code 1");
        let sly = told(NoticeKind::Failed, "backup", "backup has failed: x\rBcc: all@example.com\u{1b}[31m");
        assert_eq!(subject(&message(Body::Notices(vec![sly]))), "backup has failed: x Bcc: all@example.com [31m");
        let two = told(NoticeKind::Recovered, "report", "report works again");
        let many = message(Body::Notices(vec![one.clone(), one, two]));
        assert_eq!(subject(&many), "2 failed, 1 recovered: backup, report");
        let long = Letter { subject: "ä".repeat(500), text: "t".into(), html: None };
        assert_eq!(subject(&message(Body::Letter(long))).chars().count(), 121);
    }

    #[test]
    fn a_text_says_what_since_when_and_how_to_go_on() {
        let failed = told(NoticeKind::Failed, "backup", "backup has failed: exit code 1");
        let text = plain(&message(Body::Notices(vec![failed])));
        assert_eq!(
            text,
            "backup has failed: exit code 1\n\n\
             Schedule       backup\n\
             Happened       1970-01-01T00:00:00Z\n\
             Planned        1970-01-01T00:00:00Z\n\
             Failing since  1970-01-01T00:00:00Z\n\
             Attempt        3\n\
             Took           1 min 1 s\n\
             Run            0192e6a0-0000-7000-8000-000000000002\n\n\
             It printed last:\n  disk full\n\n\
             To go on: sched logs 0192e6a0-0000-7000-8000-000000000002; then sched retry \
             0192e6a0-0000-7000-8000-000000000002\n"
        );
    }
}
