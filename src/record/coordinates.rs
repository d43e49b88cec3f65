//! Where something lies in Kafka: newtypes, so that an offset is never taken for a partition.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! coordinate {
    ($(#[$doc:meta] $name:ident($inner:ty);)*) => {$(
        #[$doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

coordinate! {
    /// The place of a record in its partition's log, from 0.
    Offset(i64);
    /// A partition's number in its topic, from 0.
    PartitionId(i32);
    /// How often a partition changed its leader; -1 where unknown (KIP-101).
    LeaderEpoch(i32);
    /// Who produced a batch, for idempotence and transactions; -1 for nobody (KIP-98).
    ProducerId(i64);
    /// Milliseconds since 1970 UTC; -1 where a record has none.
    Timestamp(i64);
}

/// The longest name of a topic (`org.apache.kafka.common.internals.Topic`).
const LONGEST_TOPIC: usize = 249;

/// Whether brokers give a topic such a name: `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`. So it is nothing but one segment
/// of a path, too.
pub fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_TOPIC).contains(&name.len())
        && name.bytes().all(legal)
        && ![".", ".."].contains(&name)
}

/// A topic's id (KIP-516): a recreated topic has another. All zero where brokers know none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// Whether it stands for "none".
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for TopicId {
    /// As Kafka's tools print it: 22 characters of URL-safe base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// A text that is not a topic id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a topic id: Kafka prints them as 22 characters of base64")]
pub struct InvalidTopicId(String);

impl FromStr for TopicId {
    type Err = InvalidTopicId;

    fn from_str(text: &str) -> Result<Self, InvalidTopicId> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| InvalidTopicId(text.to_owned()))
    }
}

impl Serialize for TopicId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TopicId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_as_kafka_prints_it() {
        let id = TopicId([0xff; 16]);
        assert_eq!(id.to_string(), "_____________________w");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("short".parse::<TopicId>().is_err());
    }

    #[test]
    fn path_like_names_are_no_topics() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "/etc/passwd",
            "a\0b",
            "ä",
            "a b",
            "a\n0 1 2",
            "\u{1b}[31m",
        ] {
            assert!(!is_topic_name(name), "{name:?}");
        }
        assert!(!is_topic_name(&"x".repeat(250)));
        for name in ["orders", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert!(is_topic_name(name), "{name:?}");
        }
    }
}
