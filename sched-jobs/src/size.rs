//! Sizes as text: a number with `KiB`, `MiB` or `GiB`, or of bytes.

use schemars::JsonSchema;
use serde::Deserialize;

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];

/// As it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "write a size such as \"512 KiB\" or \"2 GiB\"")]
pub(crate) enum Written {
    /// Bytes.
    Number(u64),
    /// Such as "512 KiB".
    Text(String),
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "Written")]
#[schemars(with = "Written")]
pub(crate) struct Size(pub(crate) u64);

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let text = match written {
            Written::Number(size) => return Ok(Self(size)),
            Written::Text(text) => text,
        };
        let read = || {
            let (unit, shift) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
            let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            number.checked_mul(1 << shift)
        };
        read().map(Self).ok_or_else(|| format!("`{text}` is not a size; write such as \"512 KiB\" or \"2 GiB\""))
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unit, shift) = UNITS.into_iter().find(|(_, shift)| self.0 >> shift > 0).unwrap_or(("", 0));
        if unit.is_empty() {
            return write!(f, "{} bytes", self.0);
        }
        write!(f, "{:.1} {unit}", self.0 as f64 / f64::from(1 << shift))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_read_with_units_and_shown_for_people() {
        let read = |value| serde_json::from_value::<Size>(value).map_err(|error| error.to_string());
        for (written, bytes) in [(json!(7), 7), (json!("7"), 7), (json!("3 KiB"), 3072), (json!("2GiB"), 2 << 30)] {
            assert_eq!(read(written), Ok(Size(bytes)));
        }
        for wrong in [json!("much"), json!("-1 KiB"), json!("99999999999 GiB"), json!(1.5), json!(true)] {
            assert!(read(wrong.clone()).unwrap_err().contains("a size"), "{wrong}");
        }
        assert_eq!(Size(1536).to_string(), "1.5 KiB");
        assert_eq!((Size(12).to_string(), Size(3 << 30).to_string()), ("12 bytes".into(), "3.0 GiB".into()));
    }
}
