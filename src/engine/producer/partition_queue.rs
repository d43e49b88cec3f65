//! The batches of one target partition: which wait, which are in flight, which are acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::EngineError;
use crate::kafka::{BrokerId, ProduceBatch, ProducerIdentity, TopicPartition};
use crate::record::{
    HEADER_LEN, LeaderEpoch, Offset, ProducerStamp, next_sequence, stamp_of_header,
};

use super::ProduceError;

/// How many batches of a partition an idempotent producer may have in flight: a broker recognises a repeat of the last five (KIP-98).
const IN_FLIGHT: usize = 5;

/// The place of a partition among those of its producer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) struct PartitionIndex(pub usize);

/// A partition to be written to.
#[derive(Debug, Clone)]
pub(in crate::engine) struct TargetLeader {
    /// Topic and number.
    pub key: TopicPartition,
    /// The broker that leads it.
    pub leader: BrokerId,
    /// The epoch of that leader.
    pub leader_epoch: LeaderEpoch,
}

/// A batch to be written. Its header holds the stamp that the producer gave for it.
#[derive(Debug)]
pub(in crate::engine) struct Batch<N> {
    /// Its 61 bytes of header.
    pub header: [u8; HEADER_LEN],
    /// All behind the header.
    pub payload: Bytes,
    /// How many offsets it takes.
    pub records: u32,
    /// The offset that its first record must get. None accepts any.
    pub expected_offset: Option<Offset>,
    /// The caller's own; returned with the acknowledgement.
    pub note: N,
}

/// A batch that the target has. A repeat is answered with the offset that the first try got.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) struct Acknowledged<N> {
    /// Its partition.
    pub partition: PartitionIndex,
    /// Where its first record lies.
    pub base_offset: Offset,
    /// How many offsets it takes.
    pub records: u32,
    /// Header and payload.
    pub bytes: u64,
    /// The caller's own.
    pub note: N,
}

/// The number of a batch in the order of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(u64);

pub(super) struct PartitionQueue<N> {
    index: PartitionIndex,
    pub key: Arc<TopicPartition>,
    pub leader: BrokerId,
    leader_epoch: LeaderEpoch,
    /// The stamp of the next batch to be added.
    stamp: ProducerStamp,
    /// In order, from the first that is not acknowledged on.
    entries: VecDeque<Entry<N>>,
    /// The number of the first entry, and of the next to be sent.
    first: u64,
    next: u64,
    in_flight: usize,
    window: usize,
    health: Health,
    /// Failures since the last acknowledgement.
    pub failures: u32,
}

struct Entry<N> {
    /// The payload is gone once it is acknowledged.
    batch: Batch<N>,
    bytes: u64,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    InFlight,
    At(Offset),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Healthy,
    /// A batch failed: nothing more is sent until all in flight are answered and a leader is found.
    Failing,
    /// Its leader is being looked for.
    FindingLeader,
}

impl<N> PartitionQueue<N> {
    /// Of batches that `producer` numbers from `first_sequence` on.
    ///
    /// A broker accepts any sequence number from a producer that it does not know yet. Unless `is_known`, the second batch
    /// therefore waits until the first is acknowledged: it would hide that the first was lost.
    pub fn new(
        index: PartitionIndex,
        target: TargetLeader,
        producer: ProducerIdentity,
        first_sequence: i32,
        is_known: bool,
    ) -> Self {
        Self {
            index,
            key: Arc::new(target.key),
            leader: target.leader,
            leader_epoch: target.leader_epoch,
            stamp: ProducerStamp {
                producer_id: producer.producer_id,
                producer_epoch: producer.producer_epoch,
                base_sequence: first_sequence,
            },
            entries: VecDeque::new(),
            first: 0,
            next: 0,
            in_flight: 0,
            window: if is_known { IN_FLIGHT } else { 1 },
            health: Health::Healthy,
            failures: 0,
        }
    }

    /// The stamp for the next batch.
    pub fn stamp(&self) -> ProducerStamp {
        self.stamp
    }

    /// Passes over sequence numbers of records that the target has already.
    pub fn skip(&mut self, records: u32) {
        self.stamp.base_sequence = next_sequence(self.stamp.base_sequence, records);
    }

    /// Adds a batch behind all others.
    pub fn push(&mut self, batch: Batch<N>) -> Result<(), EngineError> {
        if stamp_of_header(&batch.header) != self.stamp {
            return Err(EngineError::Lost("the numbering of batches"));
        }
        self.skip(batch.records);
        self.entries.push_back(Entry {
            bytes: (batch.header.len() + batch.payload.len()) as u64,
            place: Place::Waiting,
            batch,
        });
        Ok(())
    }

    /// Whether another batch may be sent now.
    pub fn can_send(&self) -> bool {
        self.health == Health::Healthy
            && self.in_flight < self.window
            && self.next < self.first + self.entries.len() as u64
    }

    /// Whether it failed, and nothing of it is in flight any more.
    pub fn needs_leader(&self) -> bool {
        self.health == Health::Failing && self.in_flight == 0
    }

    /// The size of the next batch to be sent.
    pub fn next_bytes(&self) -> Option<u64> {
        self.entry(BatchNumber(self.next)).map(|entry| entry.bytes)
    }

    /// Takes the next batch to be sent, with its number and its count of records.
    pub fn send_next(&mut self) -> Option<(BatchNumber, ProduceBatch, u32)> {
        let number = BatchNumber(self.next);
        let key = Arc::clone(&self.key);
        let entry = self.entry_mut(number)?;
        entry.place = Place::InFlight;
        let (header, records) = (entry.batch.header, entry.batch.records);
        let batch = ProduceBatch {
            payload: entry.batch.payload.clone(),
            key,
            header,
        };
        self.in_flight += 1;
        self.next += 1;
        self.skip_acknowledged();
        Some((number, batch, records))
    }

    /// Behind a failure, some batches that were sent may be acknowledged already.
    fn skip_acknowledged(&mut self) {
        let is_acknowledged = |entry: &Entry<N>| matches!(entry.place, Place::At(_));
        while self
            .entry(BatchNumber(self.next))
            .is_some_and(is_acknowledged)
        {
            self.next += 1;
        }
    }

    /// Takes an acknowledgement in, and drops the payload, which may hold memory.
    pub fn acknowledge(&mut self, number: BatchNumber, base_offset: Offset) {
        let Some(entry) = self.entry_mut(number) else {
            return;
        };
        entry.place = Place::At(base_offset);
        entry.batch.payload = Bytes::new();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.window = IN_FLIGHT;
        self.failures = 0;
    }

    /// The next batch, in order, that is acknowledged, as are all before it.
    pub fn pop_acknowledged(&mut self) -> Option<Result<Acknowledged<N>, ProduceError<N>>> {
        let Place::At(base_offset) = self.entries.front()?.place else {
            return None;
        };
        let Entry { batch, bytes, .. } = self.entries.pop_front()?;
        self.first += 1;
        let expected = batch.expected_offset.unwrap_or(base_offset);
        if expected != base_offset {
            return Some(Err(ProduceError::Diverged {
                key: TopicPartition::clone(&self.key),
                expected,
                found: base_offset,
            }));
        }
        Some(Ok(Acknowledged {
            partition: self.index,
            base_offset,
            records: batch.records,
            bytes,
            note: batch.note,
        }))
    }

    /// Takes in that a batch failed: it waits to be sent again.
    pub fn fail(&mut self, number: BatchNumber) {
        if let Some(entry) = self.entry_mut(number) {
            entry.place = Place::Waiting;
            self.in_flight = self.in_flight.saturating_sub(1);
            self.next = self.next.min(number.0);
            self.health = Health::Failing;
        }
    }

    /// Takes in that the leader cannot be reached.
    pub fn fail_all(&mut self) {
        self.health = Health::Failing;
    }

    /// Whether a batch in front of this one is not acknowledged.
    pub fn is_behind_another(&self, number: BatchNumber) -> bool {
        number.0 > self.first
    }

    /// Takes a batch out, with what the caller noted for it.
    pub fn take_note(&mut self, number: BatchNumber) -> Option<N> {
        let index = usize::try_from(number.0.checked_sub(self.first)?).ok()?;
        self.entries.remove(index).map(|entry| entry.batch.note)
    }

    /// The size of a batch.
    pub fn bytes(&self, number: BatchNumber) -> u64 {
        self.entry(number).map_or(0, |entry| entry.bytes)
    }

    pub fn find_leader(&mut self) {
        self.health = Health::FindingLeader;
        self.failures += 1;
    }

    /// Takes in who leads the partition. A broker that was cut off for a while may name the leader of an older epoch: itself.
    pub fn found_leader(&mut self, leader: BrokerId, epoch: LeaderEpoch) {
        if epoch >= self.leader_epoch || epoch.0 < 0 {
            self.leader = leader;
            self.leader_epoch = epoch;
        }
        self.health = Health::Healthy;
    }

    fn entry(&self, number: BatchNumber) -> Option<&Entry<N>> {
        let index = number.0.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn entry_mut(&mut self, number: BatchNumber) -> Option<&mut Entry<N>> {
        let index = number.0.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }
}
