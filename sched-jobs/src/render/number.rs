//! Numbers as people read them. Pure.

/// A number with groups of thousands, and as many digits as tell something.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "not a number".into();
    }
    let size = value.abs();
    if size >= 1e15 || (size != 0.0 && size < 0.0005) {
        return format!("{value:.3e}");
    }
    let digits = match size {
        10_000.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let part = part.trim_end_matches('0');
    let sign = if value < 0.0 && (grouped != "0" || !part.is_empty()) { "\u{2212}" } else { "" };
    let dot = if part.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{dot}{part}")
}

/// A number with its unit: signs of money stand before it, all else after it.
pub(crate) fn with_unit(value: f64, unit: Option<&str>) -> String {
    match unit {
        None | Some("") => number(value),
        Some(sign @ ("€" | "$" | "£" | "¥")) => {
            // Cents of large sums tell nothing.
            let text = number(if value.abs() >= 10_000.0 { value.round() } else { value });
            let (minus, text) = text.strip_prefix('\u{2212}').map_or(("", text.as_str()), |rest| ("\u{2212}", rest));
            let cents = if text.split_once('.').is_some_and(|(_, part)| part.len() == 1) { "0" } else { "" };
            format!("{minus}{sign}{text}{cents}")
        }
        Some(unit) => format!("{}\u{a0}{unit}", number(value)),
    }
}

/// A share in percent, rounded to so many digits after the dot; never to all or nothing what is not.
pub(crate) fn percent(share: f64, digits: i32) -> f64 {
    let power = 10_f64.powi(digits);
    let rounded = (share * 100.0 * power).round();
    let least = if share > 0.0 { 1.0 } else { 0.0 };
    let most = if share < 1.0 { 100.0 * power - 1.0 } else { 100.0 * power };
    rounded.clamp(least, most) / power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_tell_something() {
        for (value, expected) in [
            (0.0, "0"),
            (0.0001, "1.000e-4"),
            (7.0, "7"),
            (1234.0, "1,234"),
            (1_234_567.891, "1,234,567.9"),
            (99.999, "100"),
            (0.1234, "0.123"),
            (-12.5, "\u{2212}12.5"),
            (999.996, "1,000"),
            (1e20, "1.000e20"),
        ] {
            assert_eq!(number(value), expected);
        }
        assert_eq!(with_unit(-1200.0, Some("€")), "\u{2212}€1,200");
        assert_eq!(with_unit(5062.3, Some("€")), "€5,062.30");
        assert_eq!(with_unit(25_062.31, Some("€")), "€25,062");
        assert_eq!(with_unit(98.5, Some("%")), "98.5\u{a0}%");
    }

    #[test]
    fn a_share_is_all_or_nothing_only_when_it_is() {
        let told = |share| [percent(share, 1), percent(share, 2)];
        assert_eq!((told(0.0), told(1.0), told(0.75)), ([0.0; 2], [100.0; 2], [75.0; 2]));
        assert_eq!((told(2.0 / 3.0), told(0.00001), told(0.99999)), ([66.7, 66.67], [0.1, 0.01], [99.9, 99.99]));
    }
}
