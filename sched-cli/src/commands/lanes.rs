//! A day of fires as a picture: one lane a schedule, hours from left to right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use sched_core::ScheduleName;

const LABEL: i64 = 230;
const DAY: i64 = 1440;
const COUNT: i64 = 80;
const HEAD: i64 = 64;
const LANE: i64 = 20;

/// Draws the fires of the day that begins at `from`. A mark is as wide as the schedule's runs were measured to be,
/// two minutes at least.
pub(super) fn draw(
    from: DateTime<Utc>,
    measured: &BTreeMap<&ScheduleName, Option<TimeDelta>>,
    fires: &[(DateTime<Utc>, ScheduleName)],
) -> String {
    let mut lanes: BTreeMap<&ScheduleName, (usize, BTreeSet<i64>)> =
        measured.keys().map(|name| (*name, Default::default())).collect();
    for (at, name) in fires {
        let (count, minutes) = lanes.entry(name).or_default();
        *count += 1;
        minutes.insert((*at - from).num_minutes().min(DAY - 1));
    }
    let (width, height) = (LABEL + DAY + COUNT, HEAD + LANE * lanes.len() as i64 + 16);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Fires in the day from {from}</title>\n\
         <style>\n\
         .paper {{ fill: #fff }} text {{ fill: #1b1f24 }} .quiet {{ fill: #57606a }} .odd {{ fill: #f3f5f7 }}\n\
         .hour {{ stroke: #d0d7de }} .mark {{ fill: #0b62d6 }}\n\
         @media (prefers-color-scheme: dark) {{ .paper {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} .quiet {{ fill: #9198a1 }}\n\
         .odd {{ fill: #151b23 }} .hour {{ stroke: #30363d }} .mark {{ fill: #58a6ff }} }}\n\
         </style>\n\
         <rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\">{} fires of {} schedules in the day from {} (UTC)</text>\n",
        fires.len(),
        lanes.len(),
        from.format("%Y-%m-%d %H:%M"),
    );
    for index in (0..lanes.len() as i64).step_by(2) {
        let top = HEAD + LANE * index;
        let _ = writeln!(svg, "<rect class=\"odd\" y=\"{top}\" width=\"{width}\" height=\"{LANE}\"/>");
    }
    for hour in 0..=24 {
        let x = LABEL + hour * 60;
        let (top, bottom) = (HEAD - 8, height - 16);
        let _ = writeln!(svg, "<line class=\"hour\" x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\"/>");
        let at = (from + TimeDelta::hours(hour)).format("%H:%M");
        let y = HEAD - 14;
        let _ = writeln!(svg, "<text class=\"quiet\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{at}</text>");
    }
    for (index, (name, (count, minutes))) in lanes.iter().enumerate() {
        let top = HEAD + LANE * index as i64;
        let line = top + LANE - 6;
        let _ = writeln!(svg, "<text x=\"12\" y=\"{line}\">{}</text>", shortened(name.as_str()));
        let right = width - 12;
        let _ = writeln!(svg, "<text class=\"quiet\" x=\"{right}\" y=\"{line}\" text-anchor=\"end\">{count}</text>");
        let took = measured.get(name).copied().flatten().map_or(0, |median| median.num_minutes());
        for minute in minutes {
            let (x, wide) = (LABEL + minute, took.clamp(2, (DAY - minute).max(2)));
            let (y, high) = (top + 4, LANE - 8);
            let _ = writeln!(svg, "<rect class=\"mark\" x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\"/>");
        }
    }
    svg + "</svg>\n"
}

/// A name has letters, digits, dots, dashes and underscores only, so it needs no escaping.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(30) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
