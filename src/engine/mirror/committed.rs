//! The read_committed view of one answer to a fetch: which of its batches belong to aborted transactions.

use std::collections::BTreeSet;

use crate::record::{BatchRef, ControlType, Offset, ProducerId, RecordError};

/// What a batch is to a reader of what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Records.
    Records,
    /// A marker.
    Control,
    /// Records of an aborted transaction.
    Aborted,
}

/// Follows the batches of one answer, in order (Kafka's `CompletedFetch`): each answer tells of all the aborted transactions that
/// have batches in it, also of those that began before.
#[derive(Debug)]
pub(super) struct CommittedView {
    /// Descending by first offset: the next one is the last.
    to_come: Vec<(ProducerId, Offset)>,
    aborted: BTreeSet<ProducerId>,
}

impl CommittedView {
    pub fn new(mut aborted: Vec<(ProducerId, Offset)>) -> Self {
        aborted.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        Self {
            to_come: aborted,
            aborted: BTreeSet::new(),
        }
    }

    /// What the next batch is.
    pub fn look(&mut self, batch: &BatchRef<'_>) -> Result<Seen, RecordError> {
        while let Some((producer, first)) = self.to_come.last()
            && *first <= batch.last_offset()
        {
            self.aborted.insert(*producer);
            self.to_come.pop();
        }
        if batch.attributes().is_control {
            if batch.control_type()? == Some(ControlType::Abort) {
                self.aborted.remove(&batch.producer_id());
            }
            return Ok(Seen::Control);
        }
        let is_aborted =
            batch.attributes().is_transactional && self.aborted.contains(&batch.producer_id());
        Ok(if is_aborted {
            Seen::Aborted
        } else {
            Seen::Records
        })
    }
}
