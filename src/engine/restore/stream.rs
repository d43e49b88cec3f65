//! One target partition as its lane sees it: what waits, what is in flight, what is there.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::EngineError;
use crate::kafka::BrokerId;
use crate::record::Offset;
use crate::repository::Sha256;

use super::content::Content;
use super::landmarks::Positions;
use super::read::Loaded;
use super::read_back::Found;
use super::settle::Written;
use super::target::TargetPartition;

/// What an idempotent producer may have in flight (KIP-98).
pub(super) const IN_FLIGHT: usize = 5;

pub(super) struct Stream {
    pub target: TargetPartition,
    pub leader: BrokerId,
    /// Waiting, in order; each with its number in the order of the stream.
    pub queue: VecDeque<(u64, Loaded)>,
    /// Sent and not answered.
    pub in_flight: BTreeMap<u64, Loaded>,
    /// Something failed in passing: nothing more is sent until all in flight is answered and a leader found.
    pub stalled: bool,
    numbered: u64,
    /// What an interrupted restore wrote and this one has not passed yet.
    already_there: Option<AlreadyThere>,
    /// Of all that the restore gives the partition, where it is to be compared.
    content: Option<Content>,
    records: u64,
    found_records: u64,
    bytes: u64,
    offsets: Option<(Offset, Offset)>,
    /// Where groups' offsets lie in it.
    positions: Positions,
}

/// What lies in the target already, as its digest.
struct AlreadyThere {
    records_left: u64,
    digest: Sha256,
}

impl Stream {
    /// To `target`, which holds `found` of this restore already. With `check`, all that it gets is digested.
    pub fn new(target: TargetPartition, found: Option<Found>, check: bool) -> Self {
        let already_there = found.map(|found| AlreadyThere {
            records_left: found.content.records(),
            digest: found.content.digest(),
        });
        let content = (check || already_there.is_some()).then(|| Content::new(target.judged));
        Self {
            leader: target.leader,
            queue: VecDeque::new(),
            in_flight: BTreeMap::new(),
            stalled: false,
            numbered: 0,
            already_there,
            content,
            records: 0,
            found_records: 0,
            bytes: 0,
            offsets: None,
            positions: Positions::default(),
            target,
        }
    }

    /// Takes in the next batch: what lies in the target already is passed over, the rest waits to be sent.
    pub fn enqueue(&mut self, loaded: Loaded) -> Result<(), EngineError> {
        let (header, payload) = (&loaded.batch.header, &loaded.batch.payload);
        if let Some(content) = &mut self.content {
            content
                .add(header, payload)
                .map_err(|source| EngineError::Batch {
                    topic: self.target.key.topic.clone(),
                    partition: self.target.key.partition,
                    offset: self.end(),
                    source,
                })?;
        }
        if self.already_there.is_some() {
            return self.pass_over(&loaded);
        }
        self.queue.push_back((self.numbered, loaded));
        self.numbered += 1;
        Ok(())
    }

    /// Passes over a batch that the target holds. When it is the last of those, all of them must be what this restore
    /// would have sent.
    fn pass_over(&mut self, loaded: &Loaded) -> Result<(), EngineError> {
        let base = self.end();
        let records = u64::from(loaded.batch.records);
        self.take(loaded, base);
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
        EngineError::Refused(format!(
            "{key} does not hold, from offset {start} to {}, what the interrupted restore would have written there: \
             somebody else changed it, or another version of kafkeep began; delete the topic, or pass --forget-unfinished",
            end.0 - 1
        ))
    }

    /// How many batches may be in flight. A broker takes any sequence number from a producer that it does not
    /// know yet, so the second batch waits until the first is there: it would hide that the first was lost.
    pub fn window(&self) -> usize {
        if self.records == self.found_records {
            1
        } else {
            IN_FLIGHT
        }
    }

    pub fn requeue(&mut self, number: u64, loaded: Loaded) {
        let at = self.queue.partition_point(|(queued, _)| *queued < number);
        self.queue.insert(at, (number, loaded));
        self.stalled = true;
    }

    /// Takes an acknowledgement in. A repeat is answered with the offset that the first try got.
    pub fn acknowledged(&mut self, loaded: &Loaded, base_offset: Offset) {
        let expected = self.end();
        if self.offsets.is_some() && base_offset != expected {
            let partition = &self.target.key;
            tracing::warn!(
                "somebody else writes to the target: a batch for {partition} got offset {base_offset}, not {expected}"
            );
        }
        self.take(loaded, base_offset);
    }

    /// Counts a batch that lies at `base_offset` in the target.
    fn take(&mut self, loaded: &Loaded, base_offset: Offset) {
        let end = Offset(base_offset.0 + i64::from(loaded.batch.records));
        let (first, last) = self.offsets.unwrap_or((base_offset, base_offset));
        self.offsets = Some((first, end.max(last)));
        self.positions
            .acknowledged(&loaded.batch.landmarks, base_offset);
        self.records += u64::from(loaded.batch.records);
        self.bytes += (loaded.batch.header.len() + loaded.batch.payload.len()) as u64;
    }

    /// The first offset beyond what is known to lie in the target.
    fn end(&self) -> Offset {
        self.offsets.map_or(self.target.start, |(_, end)| end)
    }

    /// What it came to, when nothing more comes.
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
