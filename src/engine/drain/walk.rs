//! Whether raw batches hold a record that a consumer would be given, by their headers wherever those can tell.

use std::collections::{BTreeSet, VecDeque};

use crate::engine::extents::OPEN_LIMIT;
use crate::record::{
    BatchRef, ControlType, Offset, ProducerId, RecordError, Timestamp, TimestampType, batches,
};

/// What a part of a log says of a range of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walked {
    /// Nothing of the range is a record.
    Clear,
    /// There is a record, the first of which has this timestamp.
    Record(Timestamp),
    /// No record up to this offset, which lies within the range.
    UpTo(Offset),
}

/// Aborted transactions, as a fetch of committed records tells them. Without any, every record counts.
#[derive(Debug)]
pub(super) struct Aborted {
    /// In the order of their first offsets.
    ahead: VecDeque<(Offset, ProducerId)>,
    begun: BTreeSet<ProducerId>,
}

impl Aborted {
    /// Of the answer to one fetch.
    pub fn new(transactions: &[(ProducerId, Offset)]) -> Self {
        let mut ahead: Vec<(Offset, ProducerId)> = transactions
            .iter()
            .map(|(producer, first)| (*first, *producer))
            .collect();
        ahead.sort();
        Self {
            ahead: ahead.into(),
            begun: BTreeSet::new(),
        }
    }

    /// Whether the next batch belongs to one (`CompletedFetch` of Kafka's consumer).
    fn covers(&mut self, batch: &BatchRef<'_>) -> Result<bool, RecordError> {
        while let Some((_, producer)) = self
            .ahead
            .pop_front_if(|(first, _)| *first <= batch.last_offset())
        {
            self.begun.insert(producer);
        }
        if batch.control_type()? == Some(ControlType::Abort) {
            self.begun.remove(&batch.producer_id());
        }
        Ok(batch.attributes().is_transactional && self.begun.contains(&batch.producer_id()))
    }
}

/// Looks for a record in `[from, to)` in batches that were fetched from `from` on.
pub(super) fn walk(
    fetched: &[u8],
    from: Offset,
    to: Offset,
    mut aborted: Aborted,
) -> Result<Walked, RecordError> {
    let mut at = from;
    for batch in batches(fetched) {
        let batch = batch?;
        if at >= to || batch.base_offset() >= to {
            return Ok(Walked::Clear);
        }
        let is_aborted = aborted.covers(&batch)?;
        // A compacted log may answer with a batch that ends before the offset asked for.
        if batch.next_offset() <= at {
            continue;
        }
        if !is_aborted
            && !batch.attributes().is_control
            && let Some(timestamp) = first_record(&batch, at, to)?
        {
            return Ok(Walked::Record(timestamp));
        }
        at = batch.next_offset();
    }
    Ok(if at >= to {
        Walked::Clear
    } else {
        Walked::UpTo(at)
    })
}

/// The timestamp of the first record in `[from, to)` of a batch that reaches into it. A batch is opened only where its header does
/// not tell.
fn first_record(
    batch: &BatchRef<'_>,
    from: Offset,
    to: Offset,
) -> Result<Option<Timestamp>, RecordError> {
    if batch.record_count() == 0 {
        return Ok(None);
    }
    let attributes = batch.attributes();
    if !batch.has_holes() {
        match attributes.timestamp_type {
            TimestampType::LogAppendTime => return Ok(Some(batch.max_timestamp())),
            // The base timestamp is the first record's.
            TimestampType::CreateTime
                if !attributes.has_delete_horizon && batch.base_offset() >= from =>
            {
                return Ok(Some(batch.base_timestamp()));
            }
            TimestampType::CreateTime => {}
        }
    }
    let opened = batch.open(OPEN_LIMIT)?;
    for record in opened.records() {
        let record = record?;
        if record.offset >= from && record.offset < to {
            return Ok(Some(record.timestamp));
        }
    }
    Ok(None)
}
