//! From where to where a mirror is asked to copy.

use std::str::FromStr;

use chrono::DateTime;

use crate::engine::EngineError;
use crate::record::{Offset, Timestamp};

/// Where partitions begin that were not mirrored before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest record.
    Earliest,
    /// With what comes from now on.
    Latest,
    /// With this offset, or with the oldest that is left behind it.
    Offset(Offset),
    /// With the first record of this time or later.
    Time(Timestamp),
}

/// How long a mirror goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To where the source's logs end when it begins.
    EndsAtStart,
    /// Until it is told to stop.
    Stopped,
    /// To this offset, which is not copied any more, or to where a log ends when it begins.
    Offset(Offset),
    /// To the first record of this time or later, which is not copied any more, or to where a log ends when it begins.
    Time(Timestamp),
}

impl Until {
    /// Whether it ends by itself.
    pub fn is_bounded(self) -> bool {
        self != Self::Stopped
    }
}

impl FromStr for From {
    type Err = EngineError;

    /// Reads `earliest`, `latest`, an offset or a time.
    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match place(text) {
                Some(Place::Offset(offset)) => Ok(Self::Offset(offset)),
                Some(Place::Time(time)) => Ok(Self::Time(time)),
                None => Err(refused(text, "earliest, latest")),
            },
        }
    }
}

impl FromStr for Until {
    type Err = EngineError;

    /// Reads `latest`, which is where the logs end now, an offset or a time.
    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "latest" => Ok(Self::EndsAtStart),
            _ => match place(text) {
                Some(Place::Offset(offset)) => Ok(Self::Offset(offset)),
                Some(Place::Time(time)) => Ok(Self::Time(time)),
                None => Err(refused(text, "latest")),
            },
        }
    }
}

enum Place {
    Offset(Offset),
    Time(Timestamp),
}

fn place(text: &str) -> Option<Place> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .ok()
            .map(|offset| Place::Offset(Offset(offset)));
    }
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Place::Time(Timestamp(time.timestamp_millis())))
}

fn refused(text: &str, words: &str) -> EngineError {
    EngineError::refused(format!(
        "`{text}`: write {words}, an offset such as 1500, or a time such as 2026-11-24T09:00:00Z"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_offsets_and_times_are_read() {
        let from = |text: &str| text.parse::<From>().ok();
        assert_eq!(from("earliest"), Some(From::Earliest));
        assert_eq!(from("latest"), Some(From::Latest));
        assert_eq!(from("1500"), Some(From::Offset(Offset(1500))));
        let time = from("1970-01-01T01:00:01.5+01:00");
        assert_eq!(time, Some(From::Time(Timestamp(1500))));
        let until = |text: &str| text.parse::<Until>().ok();
        assert_eq!(until("latest"), Some(Until::EndsAtStart));
        assert_eq!(until("7"), Some(Until::Offset(Offset(7))));
        assert_eq!(until("earliest"), None, "nothing lies before it");
        for wrong in ["", "-1", "now", "99999999999999999999", "2026-11-24"] {
            assert_eq!((from(wrong), until(wrong)), (None, None), "{wrong}");
        }
        let said = "yesterday".parse::<From>().unwrap_err().to_string();
        assert!(said.contains("an offset such as 1500"), "{said}");
    }
}
