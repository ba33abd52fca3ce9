//! "Did you mean": the remedy half of errors about names.

/// `; did you mean `x`?` when a known name is near, else `; known: …`.
pub(crate) fn near<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
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
    }
}
