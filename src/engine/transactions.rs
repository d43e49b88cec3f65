//! Which transactions of a partition are open, and which of its batches belong to none that was committed.

use std::collections::BTreeMap;

use crate::record::{BatchRef, Offset, ProducerId};
use crate::repository::{OpenTransaction, TransactionEvent, TransactionEventKind};

/// Transactions that have data in a log and no marker yet: producer, first offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenTransactions(BTreeMap<ProducerId, Offset>);

impl OpenTransactions {
    /// As an earlier backup left them.
    pub fn resumed(open: &[OpenTransaction]) -> Self {
        Self(
            open.iter()
                .map(|transaction| (transaction.producer_id, transaction.first_offset))
                .collect(),
        )
    }

    /// Takes in what happened next in the log, in order.
    pub fn follow(&mut self, events: &[TransactionEvent]) {
        for event in events {
            match event.kind {
                TransactionEventKind::Begin => {
                    self.0.entry(event.producer_id).or_insert(event.offset);
                }
                TransactionEventKind::Commit | TransactionEventKind::Abort => {
                    self.0.remove(&event.producer_id);
                }
            }
        }
    }

    /// Below it no transaction is open, in a log of these bounds.
    pub fn last_stable(&self, start: Offset, end: Offset) -> Offset {
        let first = self.0.values().min().copied();
        first.map_or(end, |first| first.max(start).min(end))
    }

    /// For the manifest.
    pub fn to_list(&self) -> Vec<OpenTransaction> {
        self.0
            .iter()
            .map(|(producer_id, first_offset)| OpenTransaction {
                producer_id: *producer_id,
                first_offset: *first_offset,
            })
            .collect()
    }
}

/// Why a transactional batch is not part of what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncommitted {
    /// Its transaction was aborted.
    Aborted,
    /// Its transaction had no marker below the backup's end.
    Open,
}

/// The uncommitted stretches of one partition, below a backup's end: a transaction covers its producer's
/// batches from its first offset up to its marker (Kafka's `AbortedTxn`, per producer and first offset).
#[derive(Debug, Clone, Default)]
pub struct UncommittedRanges(BTreeMap<ProducerId, Vec<(Offset, Offset, Uncommitted)>>);

impl UncommittedRanges {
    /// From all `events` of the partition in ascending order; those at or beyond `end` did not happen yet.
    pub fn below(end: Offset, events: &[TransactionEvent]) -> Self {
        let mut open = OpenTransactions::default();
        let mut ranges = Self::default();
        for event in events.iter().filter(|event| event.offset < end) {
            if event.kind == TransactionEventKind::Abort
                && let Some(first) = open.0.get(&event.producer_id)
            {
                ranges.add(
                    event.producer_id,
                    *first,
                    event.offset,
                    Uncommitted::Aborted,
                );
            }
            open.follow(std::slice::from_ref(event));
        }
        for (producer_id, first) in open.0 {
            ranges.add(producer_id, first, end, Uncommitted::Open);
        }
        ranges
    }

    fn add(&mut self, producer_id: ProducerId, first: Offset, end: Offset, why: Uncommitted) {
        self.0
            .entry(producer_id)
            .or_default()
            .push((first, end, why));
    }

    /// Why `batch` must be left out, if it must.
    pub fn covers(&self, batch: &BatchRef<'_>) -> Option<Uncommitted> {
        if !batch.attributes().is_transactional {
            return None;
        }
        let ranges = self.0.get(&batch.producer_id())?;
        let at = ranges
            .partition_point(|(first, _, _)| *first <= batch.base_offset())
            .checked_sub(1)?;
        ranges
            .get(at)
            .filter(|(_, end, _)| batch.base_offset() < *end)
            .map(|(_, _, why)| *why)
    }
}
