//! What one target partition got so far, and what an interrupted restore wrote to it.

use crate::engine::EngineError;
use crate::engine::producer::Acknowledged;
use crate::engine::refusal::{Advice, Part, Refusal};
use crate::record::{HEADER_LEN, Offset};
use crate::repository::Sha256;

use super::content::Content;
use super::offset_map::{Placed, PositionMap};
use super::outcome::Written;
use super::prepare::Outgoing;
use super::read_back::Found;
use super::target::TargetPartition;

pub(super) struct PartitionState {
    pub target: TargetPartition,
    /// What an interrupted restore wrote and this one has not passed yet.
    already_there: Option<AlreadyThere>,
    /// Of all that the restore gives the partition, where it is to be compared.
    content: Option<Content>,
    records: u64,
    found_records: u64,
    bytes: u64,
    offsets: Option<(Offset, Offset)>,
    /// Where groups' offsets lie in it.
    positions: PositionMap,
    /// Whether offsets were taken that no batch of this restore got.
    has_other_producer: bool,
}

/// What lies in the target already, as its digest.
struct AlreadyThere {
    records_left: u64,
    digest: Sha256,
}

impl PartitionState {
    /// To `target`, which holds `found` of this restore already. With `check`, all that it gets is digested.
    pub fn new(target: TargetPartition, found: Option<Found>, check: bool) -> Self {
        let already_there = found.map(|found| AlreadyThere {
            records_left: found.content.records(),
            digest: found.content.digest(),
        });
        let content = (check || already_there.is_some()).then(|| Content::new(target.judged));
        Self {
            already_there,
            content,
            records: 0,
            found_records: 0,
            bytes: 0,
            offsets: None,
            positions: PositionMap::default(),
            has_other_producer: false,
            target,
        }
    }

    /// Takes in the next batch: whether it lies in the target already, and need not be sent.
    pub fn is_there(&mut self, batch: &Outgoing) -> Result<bool, EngineError> {
        if let Some(content) = &mut self.content {
            content
                .add(&batch.header, &batch.payload)
                .map_err(|source| EngineError::Batch {
                    topic: self.target.key.topic.clone(),
                    partition: self.target.key.partition,
                    offset: self.end(),
                    source,
                })?;
        }
        if self.already_there.is_none() {
            return Ok(false);
        }
        self.pass_over(batch)?;
        Ok(true)
    }

    /// Passes over a batch that the target holds. When it is the last of those, all of them must be what this restore
    /// would have sent.
    fn pass_over(&mut self, batch: &Outgoing) -> Result<(), EngineError> {
        let records = u64::from(batch.records);
        let bytes = (HEADER_LEN + batch.payload.len()) as u64;
        self.add(&batch.offset_map, self.end(), batch.records, bytes);
        self.found_records += records;
        let Some(there) = &mut self.already_there else {
            return Ok(());
        };
        let Some(left) = there.records_left.checked_sub(records) else {
            return Err(self.differs());
        };
        there.records_left = left;
        if left == 0 {
            let sent = self.content.as_ref().map(Content::digest);
            if sent != Some(there.digest) {
                return Err(self.differs());
            }
            self.already_there = None;
        }
        Ok(())
    }

    fn differs(&self) -> EngineError {
        let TargetPartition {
            key, start, end, ..
        } = &self.target;
        let why = format!(
            "{key} does not hold, from offset {start} to {}, what the interrupted restore would have written there: \
             somebody else changed it, or another version of kafkeep began",
            end.0 - 1
        );
        let refusal = Refusal::new(why).of(Part::TargetTopic, &key.topic);
        let advice = Advice::Forget { created: true };
        EngineError::conflict(refusal.advise(advice))
    }

    /// Takes an acknowledgement in.
    pub fn acknowledged(&mut self, batch: &Acknowledged<Vec<Placed>>) {
        let (expected, base_offset) = (self.end(), batch.base_offset);
        if self.offsets.is_some() && base_offset != expected && !self.has_other_producer {
            self.has_other_producer = true;
            let partition = &self.target.key;
            tracing::warn!(
                "another producer is writing to the target: a batch for {partition} got offset {base_offset}, not {expected}"
            );
        }
        self.add(&batch.note, base_offset, batch.records, batch.bytes);
    }

    /// Counts a batch that lies at `base_offset` in the target.
    fn add(&mut self, offset_map: &[Placed], base_offset: Offset, records: u32, bytes: u64) {
        let end = Offset(base_offset.0 + i64::from(records));
        let (first, last) = self.offsets.unwrap_or((base_offset, base_offset));
        self.offsets = Some((first, end.max(last)));
        self.positions.acknowledged(offset_map, base_offset);
        self.records += u64::from(records);
        self.bytes += bytes;
    }

    /// The first offset beyond what is known to lie in the target.
    fn end(&self) -> Offset {
        self.offsets.map_or(self.target.start, |(_, end)| end)
    }

    /// What was written, when nothing more comes.
    pub fn written(self) -> Result<Written, EngineError> {
        if self.already_there.is_some() {
            return Err(self.differs());
        }
        Ok(Written {
            target: self.target,
            records: self.records,
            found_records: self.found_records,
            bytes: self.bytes,
            offsets: self.offsets,
            content: self.content,
            positions: self.positions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::producer::PartitionIndex;
    use crate::kafka::{BrokerId, ProducerIdentity, TopicPartition};
    use crate::record::{LeaderEpoch, PartitionId, ProducerId};

    fn acknowledged(base_offset: i64) -> Acknowledged<Vec<Placed>> {
        Acknowledged {
            partition: PartitionIndex(0),
            base_offset: Offset(base_offset),
            records: 10,
            bytes: 100,
            note: Vec::new(),
        }
    }

    #[test]
    fn another_producer_is_noticed_where_offsets_are_missing_and_only_there() {
        let target = TargetPartition {
            key: TopicPartition {
                topic: "orders".into(),
                partition: PartitionId(0),
            },
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            start: Offset(500),
            end: Offset(500),
            producer: ProducerIdentity {
                producer_id: ProducerId(1),
                producer_epoch: 0,
            },
            judged: Default::default(),
        };
        let mut partition = PartitionState::new(target, None, false);
        for base_offset in [500, 510, 520] {
            partition.acknowledged(&acknowledged(base_offset));
        }
        assert!(!partition.has_other_producer);
        partition.acknowledged(&acknowledged(531));
        assert!(partition.has_other_producer);
    }
}
