//! Whether the target holds what the source does: record by record, and where the first difference is.
//!
//! Retention may have taken more of one log than of the other, so both are counted first, and compared over what both still hold: the
//! same number of records before the point up to which was mirrored.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::extents::OPEN_LIMIT;
use crate::engine::watchdog::Watchdog;
use crate::kafka::{Client, OffsetSpec, TopicPartition};
use crate::record::{Offset, PartitionId, RecordError, Timestamp, TimestampType, TopicId};
use crate::repository::Sha256;

use super::MirrorOptions;
use super::plan::{Bounds, MirrorPlan, PartitionPlan, TopicPlan};
use super::planning::plan_within;
use super::progress;
use super::range::offset;
use super::scan::{Scan, Scanned, Scanning, Whose};

/// What a comparison found.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// `equal` or `different`.
    pub status: &'static str,
    /// Records that were compared.
    pub records: u64,
    /// The partitions.
    pub partitions: Vec<Compared>,
}

/// One partition.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// The source's topic.
    pub topic: String,
    /// The topic in the target.
    pub target_topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// Records that were compared, and are equal.
    pub records: u64,
    /// Records that only the source still holds, before those.
    pub only_in_source: u64,
    /// Records that only the target still holds, before those.
    pub only_in_target: u64,
    /// The first difference.
    pub difference: Option<RecordDifference>,
}

/// Two records that ought to be one.
#[derive(Debug, Clone, Serialize)]
pub struct RecordDifference {
    /// Where it is in the source; none when the source has no more records.
    pub source_offset: Option<Offset>,
    /// Where it is in the target; none when the target has no more records.
    pub target_offset: Option<Offset>,
    /// What differs: `key`, `value`, `headers`, `timestamp`, or `missing`.
    pub differs: Vec<&'static str>,
}

/// Compares all that was mirrored.
pub async fn compare(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
) -> Result<Comparison, EngineError> {
    let scanning = Scanning {
        memory: options.memory.run(),
        watchdog: Watchdog::new(),
    };
    let comparing = compare_watched(source, target, options, &scanning);
    let deadline = target.retry().deadline;
    let Scanning { memory, watchdog } = &scanning;
    watchdog.over(deadline, memory, comparing).await
}

async fn compare_watched(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
    scanning: &Scanning,
) -> Result<Comparison, EngineError> {
    let plan = plan_within(source, target, options, &Bounds::default()).await?;
    let returning = progress::returning(source, &plan.target_cluster_id).await?;
    let returning = returning.unwrap_or_default();
    let ids = target_topic_ids(target, &plan).await?;
    let mut partitions = Vec::new();
    for (topic, partition) in plan.partitions() {
        let Some(target_id) = ids.get(&topic.target_topic).copied() else {
            continue;
        };
        let sides = (source, target);
        let pair = Pair::new(sides, topic, partition, target_id, &returning, scanning).await?;
        partitions.push(pair.compare().await?);
    }
    let differs = partitions
        .iter()
        .any(|compared| compared.difference.is_some());
    Ok(Comparison {
        status: if differs { "different" } else { "equal" },
        records: partitions.iter().map(|compared| compared.records).sum(),
        partitions,
    })
}

async fn target_topic_ids(
    target: &Client,
    plan: &MirrorPlan,
) -> Result<std::collections::BTreeMap<String, TopicId>, EngineError> {
    let names: Vec<String> = plan
        .topics
        .iter()
        .map(|topic| topic.target_topic.clone())
        .collect();
    let metadata = target.metadata(crate::kafka::Topics::Named(&names)).await?;
    let ids = metadata
        .topics
        .into_iter()
        .map(|(name, topic)| (name, topic.topic_id));
    Ok(ids.collect())
}

/// A partition on both sides.
struct Pair<'a> {
    source: Side<'a>,
    target: Side<'a>,
    topic: &'a TopicPlan,
    partition: PartitionId,
}

/// One side of a pair: what the mirror read, or what it wrote.
#[derive(Clone)]
struct Side<'a> {
    client: &'a Client,
    key: TopicPartition,
    topic_id: TopicId,
    range: Range<Offset>,
    whose: Whose,
    scanning: &'a Scanning,
}

impl<'a> Pair<'a> {
    async fn new(
        (source, target): (&'a Client, &'a Client),
        topic: &'a TopicPlan,
        partition: &PartitionPlan,
        target_id: TopicId,
        returning: &BTreeSet<crate::record::ProducerId>,
        scanning: &'a Scanning,
    ) -> Result<Self, EngineError> {
        let key = |topic: &str| TopicPartition {
            topic: topic.to_owned(),
            partition: partition.partition,
        };
        let (source_key, target_key) = (key(&topic.topic), key(&topic.target_topic));
        let source_start = offset(source, &source_key, OffsetSpec::Earliest).await?;
        let start = offset(target, &target_key, OffsetSpec::Earliest).await?;
        let end = offset(target, &target_key, OffsetSpec::LastStable).await?;
        let producers = partition.note.producers.iter().copied();
        Ok(Self {
            source: Side {
                client: source,
                key: source_key,
                topic_id: topic.topic_id,
                range: source_start..partition.start_offset,
                whose: Whose::NotBy(returning.clone()),
                scanning,
            },
            target: Side {
                client: target,
                key: target_key,
                topic_id: target_id,
                range: start..end,
                whose: Whose::By(producers.collect()),
                scanning,
            },
            topic,
            partition: partition.partition,
        })
    }

    async fn compare(self) -> Result<Compared, EngineError> {
        let (in_source, in_target) = (self.source.count().await?, self.target.count().await?);
        let mut compared = Compared {
            topic: self.topic.topic.clone(),
            target_topic: self.topic.target_topic.clone(),
            partition: self.partition,
            records: 0,
            only_in_source: in_source.saturating_sub(in_target),
            only_in_target: in_target.saturating_sub(in_source),
            difference: None,
        };
        let mut source = Reader::new(&self.source, compared.only_in_source);
        let mut target = Reader::new(&self.target, compared.only_in_target);
        loop {
            match (source.next().await?, target.next().await?) {
                (None, None) => return Ok(compared),
                (Some(one), Some(other)) if one.is_same(&other) => compared.records += 1,
                (one, other) => {
                    compared.difference = Some(difference(one.as_ref(), other.as_ref()));
                    return Ok(compared);
                }
            }
        }
    }
}

impl Side<'_> {
    fn scan(&self) -> Scan {
        let (key, range) = (self.key.clone(), self.range.clone());
        let whose = self.whose.clone();
        Scan::new(self.client, key, self.topic_id, range, whose, self.scanning)
    }

    /// How many records there are; batches are opened only where a bound cuts them.
    async fn count(&self) -> Result<u64, EngineError> {
        let mut scan = self.scan();
        let mut count = 0;
        while let Some(scanned) = scan.next().await? {
            for batch in scanned.batches() {
                let batch = batch?;
                let is_whole = batch.base_offset() >= self.range.start
                    && batch.next_offset() <= self.range.end;
                count += match is_whole {
                    true => u64::from(batch.record_count()),
                    false => self.fingerprints(&batch)?.len() as u64,
                };
            }
        }
        Ok(count)
    }

    fn fingerprints(
        &self,
        batch: &crate::record::BatchRef<'_>,
    ) -> Result<Vec<Fingerprint>, EngineError> {
        fingerprints(batch, &self.range).map_err(|source| EngineError::Batch {
            topic: self.key.topic.clone(),
            partition: self.key.partition,
            offset: batch.base_offset(),
            source,
        })
    }
}

/// The records of one side, one by one.
struct Reader<'a> {
    side: &'a Side<'a>,
    scan: Scan,
    ready: VecDeque<Fingerprint>,
    passed_over: u64,
}

impl<'a> Reader<'a> {
    fn new(side: &'a Side<'a>, passed_over: u64) -> Self {
        Self {
            side,
            scan: side.scan(),
            ready: VecDeque::new(),
            passed_over,
        }
    }

    async fn next(&mut self) -> Result<Option<Fingerprint>, EngineError> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                if self.passed_over == 0 {
                    return Ok(Some(record));
                }
                self.passed_over -= 1;
                continue;
            }
            let Some(scanned) = self.scan.next().await? else {
                return Ok(None);
            };
            self.open(&scanned)?;
        }
    }

    fn open(&mut self, scanned: &Scanned) -> Result<(), EngineError> {
        for batch in scanned.batches() {
            self.ready.extend(self.side.fingerprints(&batch?)?);
        }
        Ok(())
    }
}

/// A record, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub offset: Offset,
    timestamp: Timestamp,
    key: Option<Sha256>,
    value: Option<Sha256>,
    headers: Sha256,
}

impl Fingerprint {
    fn is_same(&self, other: &Self) -> bool {
        self.differs(other).is_empty()
    }

    /// All but its place, as a number that no other record has.
    pub fn digest(&self) -> u128 {
        let absent = [0; 32];
        let mut bytes = self.timestamp.0.to_be_bytes().to_vec();
        for part in [&self.key, &self.value] {
            bytes.push(u8::from(part.is_some()));
            bytes.extend(part.as_ref().map_or(absent, |part| part.0));
        }
        bytes.extend(self.headers.0);
        let digest = Sha256::of(&bytes).0;
        digest
            .iter()
            .take(16)
            .fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    fn differs(&self, other: &Self) -> Vec<&'static str> {
        let differs = [
            ("key", self.key != other.key),
            ("value", self.value != other.value),
            ("headers", self.headers != other.headers),
            ("timestamp", self.timestamp != other.timestamp),
        ];
        differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }
}

fn difference(source: Option<&Fingerprint>, target: Option<&Fingerprint>) -> RecordDifference {
    RecordDifference {
        source_offset: source.map(|record| record.offset),
        target_offset: target.map(|record| record.offset),
        differs: match (source, target) {
            (Some(source), Some(target)) => source.differs(target),
            _ => vec!["missing"],
        },
    }
}

/// The records of a batch in `range`.
pub(super) fn fingerprints(
    batch: &crate::record::BatchRef<'_>,
    range: &Range<Offset>,
) -> Result<Vec<Fingerprint>, RecordError> {
    batch.verify_crc()?;
    let appended = match batch.attributes().timestamp_type {
        TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        TimestampType::CreateTime => None,
    };
    let opened = batch.open(OPEN_LIMIT)?;
    let mut fingerprints = Vec::new();
    for record in opened.records() {
        let record = record?;
        if !range.contains(&record.offset) {
            continue;
        }
        let mut headers = Vec::new();
        for (name, value) in record.headers.iter() {
            headers.extend(Sha256::of(name).0);
            headers.extend(value.map_or([0; 32], |value| Sha256::of(value).0));
        }
        fingerprints.push(Fingerprint {
            offset: record.offset,
            timestamp: appended.unwrap_or(record.timestamp),
            key: record.key.map(Sha256::of),
            value: record.value.map(Sha256::of),
            headers: Sha256::of(&headers),
        });
    }
    Ok(fingerprints)
}
