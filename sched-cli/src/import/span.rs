//! Spans of time as systemd.time(7) writes them: `1h 30min`, `90`, `2weeks`.

use std::time::Duration;

const UNITS: &[(&[&str], u64)] = &[
    (&["us", "µs", "usec"], 1),
    (&["ms", "msec"], 1_000),
    (&["s", "sec", "second", "seconds", ""], 1_000_000),
    (&["m", "min", "minute", "minutes"], 60_000_000),
    (&["h", "hr", "hour", "hours"], 3_600_000_000),
    (&["d", "day", "days"], 86_400_000_000),
    (&["w", "week", "weeks"], 604_800_000_000),
    (&["M", "month", "months"], 2_629_800_000_000),
    (&["y", "year", "years"], 31_557_600_000_000),
];

/// A hundred years; a configuration takes no longer span.
const MOST: u64 = 100 * 31_557_600_000_000;

/// A span; none when the text is not one or is longer than a hundred years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, size) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        let number: f64 = number.parse().ok()?;
        let micros = number * *size as f64;
        if !(0.0..=MOST as f64).contains(&micros) {
            return None;
        }
        total += micros as u64;
        rest = after.trim_start();
    }
    (total <= MOST).then(|| Duration::from_micros(total))
}

/// A span as a configuration writes it, with whole milliseconds.
pub(super) fn text(span: Duration) -> String {
    let mut left = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= size {
            parts.push(format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_are_read_as_the_man_page_says() {
        for (written, ours) in [
            ("2 h", Some("2h")),
            ("2hours", Some("2h")),
            ("48hr", Some("2d")),
            ("55s500ms", Some("55s 500ms")),
            ("300ms20s 5day", Some("5d 20s 300ms")),
            ("90", Some("1m 30s")),
            ("1.5h", Some("1h 30m")),
            ("1month", Some("30d 10h 30m")),
            ("0", Some("0s")),
            ("infinity", None),
            ("h", None),
            ("", None),
            ("200y", None),
        ] {
            assert_eq!(super::parse(written).map(super::text).as_deref(), ours, "{written}");
        }
    }
}
