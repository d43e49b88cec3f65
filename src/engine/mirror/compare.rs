//! Whether the target holds what the source does: record by record, and where the first difference is.
//!
//! Retention may have taken more of one log than of the other, so both are counted first, and compared over what both still hold: the
//! same number of records before the point up to which was mirrored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::watchdog::Watchdog;
use crate::kafka::{Client, KafkaError, OffsetSpec, TopicPartition};
use crate::record::{Offset, PartitionId, ProducerId, TopicId};
use crate::words::words;

use super::MirrorOptions;
use super::fingerprint::{Fingerprint, fingerprints};
use super::offsets::{listed, offset};
use super::plan::{MirrorBounds, MirrorPlan, PartitionPlan, TopicPlan};
use super::planning::plan_within;
use super::progress;
use super::scan::{Scan, Scanned, Scanning, Whose};

words! {
    /// How alike the two sides of a mirror are.
    pub enum Likeness {
        /// All that was compared is equal, and neither side has more.
        Equal = "equal",
        /// All that was compared is equal, and one side alone has more.
        Partial = "partial",
        /// Two records that should be one differ.
        Different = "different",
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// How alike the two sides are.
    pub status: Likeness,
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
    /// Records that only the source holds, before those, of what was to be mirrored; all of them where nothing was.
    pub only_in_source: u64,
    /// Records that only the target holds, before those.
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
    let plan = plan_within(source, target, options, &MirrorBounds::default()).await?;
    let returning = progress::returning(source, &plan.target_cluster_id).await?;
    let returning = returning.unwrap_or_default();
    let both = Both {
        source,
        target,
        source_ends: ends(source, &plan).await?,
        returning,
        scanning,
    };
    let ids = target_topic_ids(target, &plan).await?;
    let mut partitions = Vec::new();
    for (topic, partition) in plan.partitions() {
        let is_new = topic.add_partitions > 0 && partition.committed_offset.is_none();
        let target_id = ids.get(&topic.target_topic).filter(|_| !is_new);
        let pair = Pair::new(&both, topic, partition, target_id).await?;
        partitions.push(pair.compare().await?);
    }
    Ok(Comparison {
        status: likeness(&partitions),
        records: partitions.iter().map(|compared| compared.records).sum(),
        partitions,
    })
}

fn likeness(partitions: &[Compared]) -> Likeness {
    let any = |is: fn(&Compared) -> bool| partitions.iter().any(is);
    if any(|compared| compared.difference.is_some()) {
        Likeness::Different
    } else if any(|compared| compared.only_in_source + compared.only_in_target > 0) {
        Likeness::Partial
    } else {
        Likeness::Equal
    }
}

async fn target_topic_ids(
    target: &Client,
    plan: &MirrorPlan,
) -> Result<BTreeMap<String, TopicId>, EngineError> {
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

/// Where the logs of all partitions end in the source, asked at once.
async fn ends(
    source: &Client,
    plan: &MirrorPlan,
) -> Result<BTreeMap<TopicPartition, Offset>, EngineError> {
    let keys = plan.partitions().map(|(topic, partition)| TopicPartition {
        topic: topic.topic.clone(),
        partition: partition.partition,
    });
    listed(source, &keys.collect::<Vec<_>>(), OffsetSpec::LastStable).await
}

/// What all pairs share.
struct Both<'a> {
    source: &'a Client,
    target: &'a Client,
    source_ends: BTreeMap<TopicPartition, Offset>,
    /// Under which ids others have written into the source what came from the target.
    returning: BTreeSet<ProducerId>,
    scanning: &'a Scanning,
}

/// A partition on both sides.
struct Pair<'a> {
    source: Side<'a>,
    /// None where the partition does not exist.
    target: Option<Side<'a>>,
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
        both: &Both<'a>,
        topic: &'a TopicPlan,
        partition: &PartitionPlan,
        target_id: Option<&TopicId>,
    ) -> Result<Self, EngineError> {
        let Both {
            source,
            target,
            scanning,
            ..
        } = *both;
        let key = |topic: &str| TopicPartition {
            topic: topic.to_owned(),
            partition: partition.partition,
        };
        let (source_key, target_key) = (key(&topic.topic), key(&topic.target_topic));
        let source_start = offset(source, &source_key, OffsetSpec::Earliest).await?;
        let source_end = both.source_ends.get(&source_key).copied();
        let missing = || KafkaError::leaderless(&source_key.topic, source_key.partition);
        let source_end = source_end.ok_or_else(missing)?;
        // What lies before was not to be mirrored, and what lies behind is not mirrored yet.
        let first = partition.note.first.unwrap_or(source_start);
        let mirrored = partition.committed_offset.unwrap_or(source_end);
        let target = match target_id {
            Some(id) => Some(Side {
                client: target,
                topic_id: *id,
                range: offset(target, &target_key, OffsetSpec::Earliest).await?
                    ..offset(target, &target_key, OffsetSpec::LastStable).await?,
                key: target_key,
                whose: Whose::By(partition.note.producers.iter().copied().collect()),
                scanning,
            }),
            None => None,
        };
        Ok(Self {
            source: Side {
                client: source,
                key: source_key,
                topic_id: topic.topic_id,
                range: source_start.max(first)..mirrored.min(source_end),
                whose: Whose::NotBy(both.returning.clone()),
                scanning,
            },
            target,
            topic,
            partition: partition.partition,
        })
    }

    async fn compare(self) -> Result<Compared, EngineError> {
        let in_source = self.source.count().await?;
        let in_target = match &self.target {
            Some(target) => target.count().await?,
            None => 0,
        };
        let mut compared = Compared {
            topic: self.topic.topic.clone(),
            target_topic: self.topic.target_topic.clone(),
            partition: self.partition,
            records: 0,
            only_in_source: in_source.saturating_sub(in_target),
            only_in_target: in_target.saturating_sub(in_source),
            difference: None,
        };
        let Some(target) = &self.target else {
            return Ok(compared);
        };
        let mut source = Reader::new(&self.source, compared.only_in_source);
        let mut target = Reader::new(target, compared.only_in_target);
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
