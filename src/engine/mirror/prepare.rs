//! From an answer of the source to batches that the target takes: as they are under a new header, or rebuilt where they must be.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use crate::engine::extents::OPEN_LIMIT;
use crate::record::{
    BatchRef, Numbering, Offset, ProducerId, Rebuild, RecordError, Timestamp, TimestampType,
    batches, rebuild,
};

use super::committed::{CommittedView, Seen};
use super::transform::{TransformError, Transformer};

/// A batch that the target takes when it is stamped.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// Dense, from offset 0 on.
    pub bytes: Bytes,
    /// How many.
    pub records: u32,
    /// Offsets of the source that its records had, one behind the other: the first, and how many.
    pub stretches: Vec<(Offset, u32)>,
}

/// What was not copied of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Records of aborted transactions.
    pub aborted: u64,
    /// Records that came from the target.
    pub returning: u64,
    /// Records that the filter leaves out.
    pub filtered: u64,
    /// Records over which the filter fails.
    pub errors: u64,
}

/// An answer, prepared.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub ready: Vec<Ready>,
    pub skipped: Skipped,
    /// The latest timestamp of a batch that is copied.
    pub timestamp: Option<Timestamp>,
}

/// Prepares the whole batches of `records` that have offsets in `wanted`. Batches of `returning` producers came from the target.
pub(super) fn prepare(
    records: &Bytes,
    aborted: Vec<(ProducerId, Offset)>,
    wanted: &Range<Offset>,
    returning: &BTreeSet<ProducerId>,
    transformer: Option<&Transformer<'_>>,
) -> Result<Prepared, TransformError> {
    let mut view = CommittedView::new(aborted);
    let mut prepared = Prepared::default();
    for batch in batches(records) {
        let batch = batch?;
        let seen = view.look(&batch)?;
        if batch.last_offset() < wanted.start || batch.base_offset() >= wanted.end {
            continue;
        }
        let count = u64::from(batch.record_count());
        match seen {
            Seen::Control => {}
            Seen::Aborted => prepared.skipped.aborted += count,
            Seen::Records if returning.contains(&batch.producer_id()) => {
                prepared.skipped.returning += count;
            }
            Seen::Records if count == 0 => {}
            Seen::Records => {
                prepared.timestamp = prepared.timestamp.max(Some(batch.max_timestamp()));
                let ready = match transformer {
                    Some(transformer) => {
                        transformer.apply(&batch, wanted, &mut prepared.skipped)?
                    }
                    None => made_ready(&batch, records, wanted)?,
                };
                prepared.ready.extend(ready);
            }
        }
    }
    Ok(prepared)
}

fn made_ready(
    batch: &BatchRef<'_>,
    records: &Bytes,
    wanted: &Range<Offset>,
) -> Result<Option<Ready>, RecordError> {
    if !must_be_opened(batch, wanted) {
        return Ok(Some(Ready {
            bytes: records.slice_ref(batch.as_bytes()),
            records: batch.record_count(),
            stretches: vec![(batch.base_offset(), batch.record_count())],
        }));
    }
    let options = Rebuild {
        offsets: Some(wanted.clone()),
        numbering: Numbering::Renumber,
        ..Rebuild::default()
    };
    let Some(bytes) = rebuild(batch, &options, OPEN_LIMIT)? else {
        return Ok(None);
    };
    let records = BatchRef::parse(&bytes)?.0.record_count();
    Ok(Some(Ready {
        bytes,
        records,
        stretches: stretches(batch, wanted)?,
    }))
}

/// The offsets of a batch's records within `wanted`.
fn stretches(
    batch: &BatchRef<'_>,
    wanted: &Range<Offset>,
) -> Result<Vec<(Offset, u32)>, RecordError> {
    let mut stretches: Vec<(Offset, u32)> = Vec::new();
    for record in batch.open(OPEN_LIMIT)?.records() {
        let offset = record?.offset;
        if !wanted.contains(&offset) {
            continue;
        }
        match stretches.last_mut() {
            Some((first, count)) if first.0 + i64::from(*count) == offset.0 => *count += 1,
            _ => stretches.push((offset, 1)),
        }
    }
    Ok(stretches)
}

/// To be cut, to close holes that a broker would refuse, or to write the append time, which lies only in the header, into the
/// records.
fn must_be_opened(batch: &BatchRef<'_>, wanted: &Range<Offset>) -> bool {
    batch.base_offset() < wanted.start
        || batch.next_offset() > wanted.end
        || batch.has_holes()
        || batch.attributes().timestamp_type == TimestampType::LogAppendTime
}
