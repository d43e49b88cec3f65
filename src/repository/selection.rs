//! What a one-off backup is cut down to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::{Offset, PartitionId};

/// The options of a one-off backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// `--partition`: only these; all when empty.
    pub partitions: Vec<PartitionId>,
    /// `--start-offset`: where to begin; the log start without it.
    pub start_offset: Option<OffsetBound>,
    /// `--end-offset`: where to end, exclusive; the high watermark without it.
    pub end_offset: Option<OffsetBound>,
    /// `--max-messages`: the most records, of all partitions together.
    pub max_messages: Option<u64>,
    /// `--no-keys`: whether keys were removed.
    pub no_keys: bool,
    /// `--no-headers`: whether headers were removed.
    pub no_headers: bool,
}

/// An end of a range of offsets, as an operator names it. In JSON it is text, also where it is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetBound {
    /// Where the log starts.
    Earliest,
    /// The high watermark.
    Latest,
    /// This offset, as far as the log has it.
    At(Offset),
}

impl OffsetBound {
    /// The offset in a log that holds `[log_start, high_watermark)`.
    pub fn resolve(self, log_start: Offset, high_watermark: Offset) -> Offset {
        match self {
            Self::Earliest => log_start,
            Self::Latest => high_watermark,
            Self::At(offset) => offset.max(log_start).min(high_watermark),
        }
    }

    /// The offset, where a number was given.
    pub fn offset(self) -> Option<Offset> {
        match self {
            Self::At(offset) => Some(offset),
            Self::Earliest | Self::Latest => None,
        }
    }
}

/// Text that is no bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("offset `{0}`: write earliest, latest or a number from 0")]
pub struct InvalidOffsetBound(String);

impl FromStr for OffsetBound {
    type Err = InvalidOffsetBound;

    fn from_str(text: &str) -> Result<Self, InvalidOffsetBound> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            number => match number.parse::<i64>() {
                Ok(offset) if offset >= 0 => Ok(Self::At(Offset(offset))),
                _ => Err(InvalidOffsetBound(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for OffsetBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::At(offset) => write!(f, "{offset}"),
        }
    }
}

impl Serialize for OffsetBound {
    fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OffsetBound {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_held_within_the_log() {
        let (start, end) = (Offset(10), Offset(20));
        assert_eq!(OffsetBound::At(Offset(5)).resolve(start, end), start);
        assert_eq!(OffsetBound::At(Offset(15)).resolve(start, end), Offset(15));
        assert_eq!(OffsetBound::At(Offset(99)).resolve(start, end), end);
    }

    #[test]
    fn a_bound_is_text_in_json() {
        for text in ["earliest", "latest", "7"] {
            let json = format!("\"{text}\"");
            let bound: OffsetBound = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&bound).unwrap(), json);
        }
        for text in ["7", "\"-1\"", "\"first\""] {
            assert!(serde_json::from_str::<OffsetBound>(text).is_err(), "{text}");
        }
    }
}
