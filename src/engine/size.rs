//! Sizes as an operator writes them.

use std::str::FromStr;

use super::EngineError;

/// Bytes: a number with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, or none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        bytes(text).map(Self).ok_or_else(|| {
            EngineError::Refused(format!(
                "size `{text}`: write a size such as 64MiB or 100MB"
            ))
        })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_are_told_apart() {
        assert_eq!("64MiB".parse::<Size>().unwrap(), Size(64 << 20));
        assert_eq!("64 MB".parse::<Size>().unwrap(), Size(64_000_000));
        assert_eq!("7".parse::<Size>().unwrap(), Size(7));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "-1", "1.5GiB", "1 TiB", "99999999999999999999"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
