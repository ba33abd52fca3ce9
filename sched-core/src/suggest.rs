//! "Did you mean": the remedy half of errors about names.

/// So many known names are told.
const TOLD: usize = 30;

/// `; did you mean `x`?` when a known name is near, else `; known: …`.
///
/// ```
/// assert_eq!(sched_core::near("repotr", ["report", "brief"].into_iter()), "; did you mean `report`?");
/// ```
#[must_use]
pub fn near<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let best = known
        .iter()
        .filter(|candidate| given.len().abs_diff(candidate.len()) <= 1 + candidate.len() / 4)
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    match best {
        Some((_, candidate)) => format!("; did you mean `{candidate}`?"),
        None if known.is_empty() => String::new(),
        None if known.len() > TOLD => {
            format!("; known: {} and {} more", known[..TOLD].join(", "), known.len() - TOLD)
        }
        None => format!("; known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn a_slip_is_mended_and_a_stranger_is_shown_the_list() {
        assert_eq!(near("repotr", ["report", "retention"].into_iter()), "; did you mean `report`?");
        assert_eq!(near("zzz", ["report", "brief"].into_iter()), "; known: report, brief");
        let many: Vec<String> = (100..200).map(|number| format!("schedule-{number}")).collect();
        let told = near("zzz", many.iter().map(String::as_str));
        assert!(told.ends_with("schedule-129 and 70 more"), "{told}");
    }
}
