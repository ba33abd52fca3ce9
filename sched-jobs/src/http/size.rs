//! Sizes as text: a number with `KiB`, `MiB` or `GiB`, or of bytes.

use serde::{Deserialize, Deserializer, de::Error as _};

const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = match Written::deserialize(deserializer)? {
        Written::Number(size) => return Ok(size),
        Written::Text(text) => text,
    };
    let read = || {
        let (unit, shift) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(1 << shift)
    };
    read().ok_or_else(|| D::Error::custom(format!("`{text}` is not a size; write such as \"512 KiB\" or \"2 GiB\"")))
}
