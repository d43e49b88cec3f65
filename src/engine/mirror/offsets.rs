//! Where logs begin and end, and where a mirror of them does.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::kafka::{Client, KafkaError, ListedOffset, OffsetSpec, TopicPartition};
use crate::record::{Offset, Timestamp};

use super::MirrorOptions;
use super::range::{From, Until};

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
