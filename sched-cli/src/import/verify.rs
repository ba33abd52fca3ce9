//! Whether what was imported fires when the original does, over a year.

use chrono::{DateTime, NaiveDateTime, Utc};
use sched_core::Trigger;
use serde::Serialize;

use super::brute::{Fields, Walls};

/// What the comparison of a schedule found.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    pub(crate) schedule: String,
    /// How many fires were compared.
    pub(crate) fires: usize,
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    /// None where there was nothing to compare with.
    pub(crate) equal: Option<bool>,
    /// The first difference, or why nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Proof {
    fn compare(
        schedule: &str,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        whose: &str,
        theirs: &[DateTime<Utc>],
        trigger: &dyn Trigger,
    ) -> Self {
        let ours = trigger.between(from, until);
        let differs = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs);
        let (one, other) = match differs {
            Some((ours, theirs)) => (Some(*ours), Some(*theirs)),
            None => (ours.get(theirs.len()).copied(), theirs.get(ours.len()).copied()),
        };
        let told = |at: Option<DateTime<Utc>>| at.map_or("no more".into(), |at| at.format("%FT%TZ").to_string());
        let equal = one.is_none() && other.is_none();
        let note = (!equal).then(|| format!("first difference: here {}, by {whose} {}", told(one), told(other)));
        Self { schedule: schedule.into(), fires: theirs.len(), from, until, equal: Some(equal), note }
    }

    pub(crate) fn unproved(schedule: &str, at: DateTime<Utc>, why: impl Into<String>) -> Self {
        Self { schedule: schedule.into(), fires: 0, from: at, until: at, equal: None, note: Some(why.into()) }
    }
}

/// Compares with cron's own way of finding an entry's minutes.
pub(crate) fn cron(
    schedule: &str,
    fields: &str,
    walls: &Walls,
    range: (DateTime<Utc>, DateTime<Utc>),
    trigger: &dyn Trigger,
) -> Proof {
    match Fields::parse(fields) {
        Ok(fields) => {
            let mut theirs = walls.fires(&fields);
            theirs.retain(|at| *at > range.0 && *at <= range.1);
            Proof::compare(schedule, range, "cron", &theirs, trigger)
        }
        Err(why) => Proof::unproved(schedule, range.0, why),
    }
}

/// Compares with what `systemd-analyze calendar` printed for each event; `most` is how many it was asked for.
pub(crate) fn calendar(
    schedule: &str,
    printed: &[String],
    most: usize,
    range: (DateTime<Utc>, DateTime<Utc>),
    trigger: &dyn Trigger,
) -> Proof {
    let (from, mut until) = range;
    let mut theirs = Vec::new();
    for text in printed {
        let mut instants: Vec<_> = text.lines().filter_map(instant).collect();
        instants.sort_unstable();
        instants.dedup();
        if instants.len() >= most
            && let Some(last) = instants.last()
        {
            until = until.min(*last);
        }
        theirs.extend(instants);
    }
    theirs.retain(|at| *at > from && *at <= until);
    theirs.sort_unstable();
    theirs.dedup();
    Proof::compare(schedule, (from, until), "systemd", &theirs, trigger)
}

/// The instant of a line such as `(in UTC): Mon 2026-03-30 00:30:00 UTC`.
fn instant(line: &str) -> Option<DateTime<Utc>> {
    let text = line.trim().strip_suffix(" UTC")?;
    let date = text.rsplitn(3, ' ').take(2).collect::<Vec<_>>();
    let [time, day] = date[..] else { return None };
    Some(NaiveDateTime::parse_from_str(&format!("{day} {time}"), "%Y-%m-%d %H:%M:%S").ok()?.and_utc())
}

#[cfg(test)]
mod tests {
    use chrono_tz::Europe::Berlin;
    use sched_core::TriggerSpec;

    use super::*;

    fn range(from: &str, until: &str) -> (DateTime<Utc>, DateTime<Utc>) {
        (from.parse().unwrap(), until.parse().unwrap())
    }

    #[test]
    fn a_trigger_that_is_not_the_original_is_seen_at_its_first_difference() {
        let range = range("2026-03-27T00:00:00Z", "2026-03-31T00:00:00Z");
        let walls = Walls::new(Berlin, range.0, range.1);
        let mut spec = TriggerSpec::cron("30 2 * * *", Berlin);
        let prove = |spec: &TriggerSpec| cron("x", "30 2 * * *", &walls, range, &*spec.compile().unwrap());
        assert_eq!((prove(&spec).equal, prove(&spec).fires), (Some(true), 4));
        spec.dst.gap = sched_core::Gap::Skip;
        let proof = prove(&spec);
        let told = "first difference: here 2026-03-30T00:30:00Z, by cron 2026-03-29T01:00:00Z";
        assert_eq!((proof.equal, proof.note.as_deref()), (Some(false), Some(told)));
    }

    #[test]
    fn what_systemd_prints_is_compared_as_far_as_it_goes() {
        let printed = "    Next elapse: Mon 2026-03-30 02:30:00 CEST\n       (in UTC): Mon 2026-03-30 00:30:00 UTC\n\
                       \x20      From now: 7 months ago\n       Iter. #2: Tue 2026-03-31 02:30:00 CEST\n\
                       \x20      (in UTC): Tue 2026-03-31 00:30:00 UTC\n";
        let range = range("2026-03-29T12:00:00Z", "2026-04-30T00:00:00Z");
        let trigger = TriggerSpec::cron("30 2 * * *", Berlin).compile().unwrap();
        let prove = |most| calendar("x", &[printed.to_owned()], most, range, &*trigger);
        assert_eq!((prove(2).equal, prove(2).fires), (Some(true), 2));
        assert_eq!(prove(3).note.as_deref(), Some("first difference: here 2026-04-01T00:30:00Z, by systemd no more"));
    }
}
