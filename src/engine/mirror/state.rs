//! How far a mirror is: written by the session, read whenever somebody looks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::engine::refusal::Refusal;
use crate::kafka::TopicPartition;
use crate::quote::quote;
use crate::record::{Offset, PartitionId, Timestamp};
use crate::words::words;

use super::ready::Skipped;

words! {
    /// What a partition does.
    pub enum PartitionState {
        /// It is copied.
        Mirroring = "mirroring",
        /// All is there that was to be copied.
        Finished = "finished",
        /// It stands still: the source's topic was deleted and created anew.
        Recreated = "recreated",
        /// It stands still: the source's log ends below what was mirrored, or is another one there.
        Truncated = "truncated",
        /// It stands still: the target holds records, and how far they were mirrored is not known.
        Unknown = "unknown",
        /// It stands still: the target's log ends below what was written to it.
        TargetTruncated = "target_truncated",
        /// It stands still: a batch cannot be read, or the target does not take it.
        Refused = "refused",
    }
}

impl PartitionState {
    /// Whether it does not go on without somebody's doing.
    pub fn is_stopped(self) -> bool {
        !matches!(self, Self::Mirroring | Self::Finished)
    }
}

words! {
    /// What became of a record that was read.
    pub enum RecordOutcome {
        /// It was copied.
        Copied = "copied",
        /// It is of an aborted transaction.
        Aborted = "aborted",
        /// It came from the target, and does not go back.
        Returning = "returning",
        /// The filter left it out.
        Filtered = "filtered",
        /// An expression failed over it, and it was left out.
        Error = "error",
        /// An expression failed over it, and it went to the topic for dead letters.
        DeadLetter = "dead_letter",
    }
}

/// One partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionStatus {
    /// The source's topic.
    pub topic: String,
    /// The partition, which has the same number in the target.
    pub partition: PartitionId,
    /// The topic in the target.
    pub target_topic: String,
    /// What it does.
    pub state: PartitionState,
    /// Why it stands still.
    pub problem: Option<Refusal>,
    /// The first offset that is not committed in the target.
    pub next_offset: Offset,
    /// Where what is to be copied ends, when it was last heard.
    pub end_offset: Offset,
    /// Offsets behind that, which a transaction that is open in the source holds back.
    pub held_back: u64,
    /// Offsets that are not copied, those held back included: an upper bound of the records.
    pub lag_records: u64,
    /// How old the last record is that was copied, while there are more; 0 when there are none.
    pub lag_seconds: f64,
    /// Records copied.
    pub records: u64,
    /// Bytes of record batches copied.
    pub bytes: u64,
    /// Offsets that the source had deleted before they were copied.
    pub lost_offsets: u64,
    /// Records of aborted transactions, which are not copied.
    pub aborted_records: u64,
    /// Records that came from the target, and do not go back.
    pub returning_records: u64,
    /// Records that the filter left out.
    pub filtered_records: u64,
    /// Records over which an expression failed, and which were left out.
    pub error_records: u64,
    /// Records over which an expression failed, and which went to the topic for dead letters.
    pub dead_letter_records: u64,
    #[serde(skip)]
    pub(super) timestamp: Option<Timestamp>,
}

impl PartitionStatus {
    pub(crate) fn new(topic: &str, partition: PartitionId, target_topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            target_topic: target_topic.to_owned(),
            state: PartitionState::Mirroring,
            problem: None,
            next_offset: Offset(0),
            end_offset: Offset(0),
            held_back: 0,
            lag_records: 0,
            lag_seconds: 0.0,
            records: 0,
            bytes: 0,
            lost_offsets: 0,
            aborted_records: 0,
            returning_records: 0,
            filtered_records: 0,
            error_records: 0,
            dead_letter_records: 0,
            timestamp: None,
        }
    }

    fn records_with(&self, outcome: RecordOutcome) -> u64 {
        match outcome {
            RecordOutcome::Copied => self.records,
            RecordOutcome::Aborted => self.aborted_records,
            RecordOutcome::Returning => self.returning_records,
            RecordOutcome::Filtered => self.filtered_records,
            RecordOutcome::Error => self.error_records,
            RecordOutcome::DeadLetter => self.dead_letter_records,
        }
    }

    fn measured(mut self) -> Self {
        let lag = self.end_offset.0.saturating_sub(self.next_offset.0);
        self.lag_records = u64::try_from(lag).unwrap_or(0) + self.held_back;
        self.lag_seconds = match self.timestamp {
            Some(Timestamp(copied)) if self.lag_records > 0 => {
                (Utc::now().timestamp_millis() - copied).max(0) as f64 / 1000.0
            }
            _ => 0.0,
        };
        self
    }
}

/// A consumer group that follows, when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// The group, which has the same name in both.
    pub group: String,
    /// Offsets that the target has.
    pub offsets: u64,
    /// Offsets that cannot be translated yet: their records are not copied, or were before this mirror last began.
    pub waiting: u64,
    /// Why the first of them waits.
    pub waits: Option<String>,
    /// Why nothing could be committed: somebody is in the group there.
    pub refused: Option<String>,
}

/// `{ problem, partitions, groups }`, as they are at the moment.
impl Serialize for MirrorState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut state = serializer.serialize_struct("MirrorState", 3)?;
        state.serialize_field("problem", &self.problem())?;
        state.serialize_field("partitions", &self.partitions())?;
        state.serialize_field("groups", &self.groups())?;
        state.end()
    }
}

/// What was committed of one partition.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Advance {
    pub next: Offset,
    pub records: u64,
    pub bytes: u64,
    pub skipped: Skipped,
    pub timestamp: Option<Timestamp>,
}

/// How far a mirror is.
#[derive(Debug, Default)]
pub struct MirrorState {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: BTreeMap<TopicPartition, PartitionStatus>,
    /// Records before these partitions: see [`MirrorState::records`].
    records_before: BTreeMap<RecordOutcome, u64>,
    groups: Vec<GroupStatus>,
    moved: u64,
    copied: u64,
    interrupted: Option<String>,
}

impl Inner {
    fn records(&self) -> BTreeMap<RecordOutcome, u64> {
        let count = |outcome| {
            let partitions = self.partitions.values();
            let now = partitions.map(|partition| partition.records_with(outcome));
            let before = self.records_before.get(&outcome).copied();
            (outcome, now.sum::<u64>().max(before.unwrap_or_default()))
        };
        RecordOutcome::ALL.map(count).into()
    }
}

impl MirrorState {
    /// One whose [`records`](Self::records) go on from those of an earlier mirror of the same name.
    pub fn after(earlier: &Self) -> Self {
        let inner = Inner {
            records_before: earlier.records(),
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// Records of all partitions, by what became of them. A count never falls: when partitions are gone, it stays until the
    /// others have more.
    pub fn records(&self) -> BTreeMap<RecordOutcome, u64> {
        self.lock().records()
    }

    /// All partitions, by the source's topic.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        let partitions = self.lock().partitions.clone();
        partitions
            .into_values()
            .map(PartitionStatus::measured)
            .collect()
    }

    /// Consumer groups that follow, when they were last looked at.
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.lock().groups.clone()
    }

    pub(super) fn groups_followed(&self, groups: Vec<GroupStatus>) {
        self.lock().groups = groups;
    }

    /// Why nothing goes on at present; it is tried again.
    pub fn problem(&self) -> Option<String> {
        self.lock().interrupted.clone()
    }

    /// Rises whenever the committed progress of a partition rose.
    pub fn moved(&self) -> u64 {
        self.lock().moved
    }

    /// Records that ever came into the target, also of partitions that are gone.
    pub(super) fn copied(&self) -> u64 {
        self.lock().copied
    }

    pub(super) fn next_offset(&self, partition: &TopicPartition) -> Offset {
        let inner = self.lock();
        let status = inner.partitions.get(partition);
        status.map_or(Offset(0), |status| status.next_offset)
    }

    pub(super) fn interrupted(&self, why: &str) {
        self.lock().interrupted = Some(quote(why));
    }

    /// A session begins with these partitions; what was counted of them stays.
    pub(crate) fn begin(&self, partitions: Vec<PartitionStatus>) {
        let mut inner = self.lock();
        inner.records_before = inner.records();
        let mut before = std::mem::take(&mut inner.partitions);
        for mut status in partitions {
            let key = TopicPartition {
                topic: status.topic.clone(),
                partition: status.partition,
            };
            if let Some(before) = before.remove(&key) {
                status.records = before.records;
                status.bytes = before.bytes;
                status.lost_offsets += before.lost_offsets;
                status.aborted_records = before.aborted_records;
                status.returning_records = before.returning_records;
                status.filtered_records = before.filtered_records;
                status.error_records = before.error_records;
                status.dead_letter_records = before.dead_letter_records;
                status.timestamp = before.timestamp;
            }
            inner.partitions.insert(key, status);
        }
        inner.interrupted = None;
    }

    pub(super) fn change(
        &self,
        partition: &TopicPartition,
        change: impl FnOnce(&mut PartitionStatus),
    ) {
        if let Some(status) = self.lock().partitions.get_mut(partition) {
            change(status);
        }
    }

    pub(super) fn committed(&self, partition: &TopicPartition, advance: &Advance) {
        let mut inner = self.lock();
        inner.copied += advance.records;
        if let Some(status) = inner.partitions.get_mut(partition) {
            // What is committed again as it was, where a session begins, is no movement.
            let has_moved = advance.records > 0 || advance.next > status.next_offset;
            status.next_offset = advance.next;
            status.records += advance.records;
            status.bytes += advance.bytes;
            status.aborted_records += advance.skipped.aborted;
            status.returning_records += advance.skipped.returning;
            status.filtered_records += advance.skipped.filtered;
            status.error_records += advance.skipped.errors;
            status.dead_letter_records += advance.skipped.dead_letters;
            status.timestamp = status.timestamp.max(advance.timestamp);
            inner.moved += u64::from(has_moved);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_records_never_fall() {
        let partition = |number, records| {
            let mut status = PartitionStatus::new("orders", PartitionId(number), "dr.orders");
            status.records = records;
            status.aborted_records = 1;
            status
        };
        let counts = |state: &MirrorState| {
            let records = state.records();
            (
                records[&RecordOutcome::Copied],
                records[&RecordOutcome::Aborted],
            )
        };
        let state = MirrorState::default();
        state.begin(vec![partition(0, 100), partition(1, 40)]);
        assert_eq!(counts(&state), (140, 2));
        state.begin(vec![partition(0, 0)]);
        assert_eq!(counts(&state), (140, 2), "one partition is gone");
        let changed = MirrorState::after(&state);
        assert_eq!(counts(&changed), (140, 2));
        changed.begin(vec![partition(0, 150)]);
        assert_eq!(counts(&changed), (150, 2));
    }
}
