//! What lies beside a log's segments about transactions: the transaction index and the producers' snapshot.

use std::collections::BTreeMap;

use crate::record::{
    BatchRef, ControlType, Offset, ProducerId, RecordError, crc32c, next_sequence,
};

/// An entry of a `.txnindex` file (`AbortedTxn`): version 0, producer id, first and last offset, last stable offset.
pub(super) type AbortedTransaction = [u8; 34];

const SNAPSHOT_VERSION: i16 = 1;

/// The transactions of a log, followed batch by batch as `ProducerStateManager` does.
#[derive(Debug, Default)]
pub(super) struct LogTransactions {
    open: BTreeMap<ProducerId, Open>,
    by_first_offset: BTreeMap<Offset, ProducerId>,
    aborted: u64,
}

/// A transaction without a marker so far, and the last batch of its producer.
#[derive(Debug)]
struct Open {
    first_offset: Offset,
    last_offset: Offset,
    last_offset_delta: i32,
    last_sequence: i32,
    epoch: i16,
    timestamp: i64,
}

impl LogTransactions {
    /// Takes in the next batch; says which transaction it aborts, for the index of the segment that it lies in.
    pub fn follow(
        &mut self,
        batch: &BatchRef<'_>,
    ) -> Result<Option<AbortedTransaction>, RecordError> {
        let attributes = batch.attributes();
        let producer = batch.producer_id();
        if producer.0 < 0 {
            return Ok(None);
        }
        if attributes.is_control {
            return Ok(match batch.control_type()? {
                Some(ControlType::Abort) => self.abort(producer, batch.last_offset()),
                Some(ControlType::Commit) => {
                    self.end(producer);
                    None
                }
                // Compaction empties a marker when all of its transaction is gone.
                Some(ControlType::Other(_)) | None => None,
            });
        }
        if attributes.is_transactional {
            self.append(producer, batch);
        }
        Ok(None)
    }

    fn append(&mut self, producer: ProducerId, batch: &BatchRef<'_>) {
        let known = self.open.get(&producer).map(|open| open.first_offset);
        let first_offset = known.unwrap_or_else(|| batch.base_offset());
        self.by_first_offset.insert(first_offset, producer);
        let delta = batch.last_offset_delta();
        let open = Open {
            first_offset,
            last_offset: batch.last_offset(),
            last_offset_delta: delta,
            last_sequence: next_sequence(batch.base_sequence(), delta.unsigned_abs()),
            epoch: batch.producer_epoch(),
            timestamp: batch.max_timestamp().0,
        };
        self.open.insert(producer, open);
    }

    fn end(&mut self, producer: ProducerId) -> Option<Open> {
        let ended = self.open.remove(&producer)?;
        self.by_first_offset.remove(&ended.first_offset);
        Some(ended)
    }

    fn abort(&mut self, producer: ProducerId, marker: Offset) -> Option<AbortedTransaction> {
        let aborted = self.end(producer)?;
        self.aborted += 1;
        let next_open = self.by_first_offset.keys().next();
        let stable = next_open.map_or(marker.0 + 1, |offset| offset.0);
        let mut entry = [0; 34];
        let fields = [producer.0, aborted.first_offset.0, marker.0, stable];
        for (place, field) in entry[2..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        Some(entry)
    }

    /// How many were aborted.
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// How many have no marker.
    pub fn open(&self) -> u64 {
        self.open.len() as u64
    }

    /// The `.snapshot` file, which keeps a broker from taking open transactions for none after a clean shutdown.
    ///
    /// It lists the producers of open transactions alone: brokers forget others a day after their last batch anyway.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        entries.extend((self.open.len() as i32).to_be_bytes());
        for (producer, open) in &self.open {
            entries.extend(producer.0.to_be_bytes());
            entries.extend(open.epoch.to_be_bytes());
            entries.extend(open.last_sequence.to_be_bytes());
            entries.extend(open.last_offset.0.to_be_bytes());
            entries.extend(open.last_offset_delta.to_be_bytes());
            entries.extend(open.timestamp.to_be_bytes());
            // The coordinator's epoch, which only markers tell.
            entries.extend((-1_i32).to_be_bytes());
            entries.extend(open.first_offset.0.to_be_bytes());
        }
        let mut snapshot = Vec::with_capacity(6 + entries.len());
        snapshot.extend(SNAPSHOT_VERSION.to_be_bytes());
        snapshot.extend(crc32c(&entries).to_be_bytes());
        snapshot.extend(entries);
        snapshot
    }
}
