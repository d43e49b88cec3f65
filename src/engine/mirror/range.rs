//! From where to where a mirror copies each partition.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::DateTime;

use crate::engine::EngineError;
use crate::kafka::{Client, KafkaError, ListedOffset, OffsetSpec, TopicPartition};
use crate::record::{Offset, Timestamp};

use super::MirrorOptions;

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
    EngineError::Refused(format!(
        "`{text}`: write {words}, an offset such as 1500, or a time such as 2026-11-24T09:00:00Z"
    ))
}

/// Where the source's logs begin and end, and where the mirror does.
pub(super) struct Offsets {
    pub starts: BTreeMap<TopicPartition, Offset>,
    pub ends: BTreeMap<TopicPartition, Offset>,
    /// Where they end for those who read what was not committed too.
    latest: BTreeMap<TopicPartition, Offset>,
    begins: From,
    ends_at: Until,
    /// By the times of the two bounds; -1 where no record is as late.
    from: BTreeMap<TopicPartition, Offset>,
    until: BTreeMap<TopicPartition, Offset>,
}

impl Offsets {
    pub async fn read(
        source: &Client,
        partitions: &[TopicPartition],
        options: &MirrorOptions,
    ) -> Result<Self, EngineError> {
        let at = async |time: Option<Timestamp>| match time {
            Some(time) => listed(source, partitions, OffsetSpec::Timestamp(time)).await,
            None => Ok(BTreeMap::new()),
        };
        let from = match options.from {
            From::Time(time) => Some(time),
            _ => None,
        };
        let until = match options.until {
            Until::Time(time) => Some(time),
            _ => None,
        };
        // Before the times: where none is found, all that is later lies behind the end.
        let starts = listed(source, partitions, OffsetSpec::Earliest).await?;
        let ends = listed(source, partitions, OffsetSpec::LastStable).await?;
        let latest = listed(source, partitions, OffsetSpec::Latest).await?;
        Ok(Self {
            starts,
            ends,
            latest,
            from: at(from).await?,
            until: at(until).await?,
            begins: options.from,
            ends_at: options.until,
        })
    }

    /// Where a partition ends that is known to begin and to end there.
    pub fn end(&self, key: &TopicPartition, end: Offset) -> Offset {
        match self.ends_at {
            Until::EndsAtStart | Until::Stopped => end,
            Until::Offset(until) => until.min(end),
            Until::Time(_) => at_or(&self.until, key, end).min(end),
        }
    }

    /// Where a log ends for those who read what was not committed too; none where nobody leads it at present.
    pub fn latest(&self, key: &TopicPartition) -> Option<Offset> {
        self.latest.get(key).copied()
    }

    /// Offsets behind the end for readers of what was committed.
    pub fn held_back(&self, key: &TopicPartition, end: Offset) -> u64 {
        let latest = at_or(&self.latest, key, end);
        u64::try_from(latest.0 - end.0).unwrap_or(0)
    }

    /// Where a partition begins that was not mirrored before.
    pub fn first(&self, key: &TopicPartition, start: Offset, end: Offset) -> Offset {
        let latest = at_or(&self.latest, key, end);
        let first = match self.begins {
            From::Earliest => start,
            From::Latest => end,
            From::Offset(from) => from.min(latest),
            From::Time(_) => at_or(&self.from, key, end).min(latest),
        };
        first.max(start)
    }
}

/// What was found for a time, or `end` when no record is as late.
fn at_or(found: &BTreeMap<TopicPartition, Offset>, key: &TopicPartition, end: Offset) -> Offset {
    found
        .get(key)
        .copied()
        .filter(|offset| offset.0 >= 0)
        .unwrap_or(end)
}

pub(super) async fn listed(
    client: &Client,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, Offset>, EngineError> {
    let wanted: Vec<_> = partitions
        .iter()
        .map(|partition| (partition.clone(), spec))
        .collect();
    let mut offsets = BTreeMap::new();
    for (partition, answer) in client.list_offsets(&wanted).await? {
        match answer {
            Ok(ListedOffset { offset, .. }) => drop(offsets.insert(partition, offset)),
            // Nobody leads it at present: it is planned when somebody does.
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(offsets)
}

/// One offset of one partition.
pub(super) async fn offset(
    client: &Client,
    key: &TopicPartition,
    spec: OffsetSpec,
) -> Result<Offset, EngineError> {
    let listed = client
        .list_offsets(&[(key.clone(), spec)])
        .await?
        .remove(key);
    match listed {
        Some(Ok(ListedOffset { offset, .. })) => Ok(offset),
        Some(Err(error)) => Err(error.into()),
        None => Err(KafkaError::leaderless(&key.topic, key.partition).into()),
    }
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
