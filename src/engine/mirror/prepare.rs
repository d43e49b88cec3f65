//! From an answer of the source to batches that the target takes: as they are under a new header, or rebuilt where they must be.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::extents::OPEN_LIMIT;
use crate::memory::RunMemory;
use crate::record::{
    BatchRef, Numbering, Offset, ProducerId, Rebuild, RecordError, Timestamp, TimestampType,
    batches, rebuild,
};

use super::committed::{CommittedView, Seen};
use super::ready::{Destination, Ready, Skipped};
use super::transform::{ADDED_AT_ONCE, TransformError, Transformer};

/// An answer, prepared.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub ready: Vec<Ready>,
    pub skipped: Skipped,
    /// The latest timestamp of a batch that is copied.
    pub timestamp: Option<Timestamp>,
    /// Bytes that were added to records.
    pub added: usize,
    /// The first offset that was left for later, where too much was added to go on.
    pub left_from: Option<Offset>,
}

impl Prepared {
    /// How many records come into the target's topic.
    pub fn records(&self) -> u64 {
        self.copied().map(|ready| u64::from(ready.records)).sum()
    }

    /// Bytes of batches that come into the target's topic.
    pub fn bytes(&self) -> u64 {
        self.copied().map(|ready| ready.bytes.len() as u64).sum()
    }

    /// The batches that were rebuilt; the others are parts of `records`, and hold their memory.
    pub fn made(&mut self, records: &Bytes) -> impl Iterator<Item = &mut Ready> {
        let came = records.as_ptr_range();
        let is_made = move |ready: &&mut Ready| !came.contains(&ready.bytes.as_ptr());
        self.ready.iter_mut().filter(is_made)
    }

    /// All but dead letters.
    fn copied(&self) -> impl Iterator<Item = &Ready> {
        let is_copied = |ready: &&Ready| ready.destination != Destination::DeadLetter;
        self.ready.iter().filter(is_copied)
    }

    /// Leaves the first `most` records, in the source's order; the offset behind the last of them.
    pub fn cut(&mut self, most: u64) -> Result<Offset, RecordError> {
        let stretches = self.copied().flat_map(|ready| &ready.stretches);
        let mut stretches: Vec<(Offset, u32)> = stretches.copied().collect();
        stretches.sort_unstable();
        let (mut behind, mut left) = (Offset(0), most);
        for (first, count) in stretches {
            let taken = left.min(count.into());
            if taken == 0 {
                break;
            }
            behind = Offset(first.0 + i64::try_from(taken).unwrap_or(i64::MAX));
            left -= taken;
        }
        let mut kept = Vec::with_capacity(self.ready.len());
        for ready in self.ready.drain(..) {
            kept.extend(ready.before(behind)?);
        }
        self.ready = kept;
        Ok(behind)
    }
}

/// Makes batches that were rebuilt hold memory of their own. It is reserved at once for all, since whoever has such memory
/// must not wait for more.
pub(super) fn hold_memory<'a>(made: impl Iterator<Item = &'a mut Ready>, memory: &RunMemory) {
    let made: Vec<&mut Ready> = made.collect();
    let bytes: u64 = made.iter().map(|ready| ready.bytes.len() as u64).sum();
    if bytes > 0 {
        let reserved = Arc::new(memory.reserve_made_blocking(bytes));
        for ready in made {
            ready.bytes = reserved.share(std::mem::take(&mut ready.bytes));
        }
    }
}

/// Prepares the whole batches of `records` that have offsets in `wanted`. Batches of `returning` producers came from the target.
/// A transformation ends behind the record with which [`ADDED_AT_ONCE`] bytes are added, `added` before included.
pub(super) fn prepare(
    records: &Bytes,
    aborted: Vec<(ProducerId, Offset)>,
    wanted: &Range<Offset>,
    returning: &BTreeSet<ProducerId>,
    mut transformer: Option<Transformer<'_>>,
    added: usize,
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
                match &mut transformer {
                    Some(transformer) => {
                        let most = ADDED_AT_ONCE.saturating_sub(added);
                        let skipped = &mut prepared.skipped;
                        prepared.left_from = transformer.take(&batch, wanted, most, skipped)?;
                        if prepared.left_from.is_some() {
                            break;
                        }
                    }
                    None => prepared.ready.extend(made_ready(&batch, records, wanted)?),
                }
            }
        }
    }
    if let Some(transformer) = transformer {
        prepared.added = transformer.added();
        prepared.ready = transformer.finish()?;
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
            destination: Destination::Same,
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
        destination: Destination::Same,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Compression, Headers, PartitionId};

    /// A batch whose records have the values of the offsets that they had.
    fn ready(destination: Destination, stretches: &[(i64, u32)]) -> Ready {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        let offsets = |&(first, count): &(i64, u32)| first..first + i64::from(count);
        for offset in stretches.iter().flat_map(offsets) {
            let value = offset.to_string();
            builder.push_parts(
                Timestamp(7),
                None,
                Some(value.as_bytes()),
                Headers::default(),
            );
        }
        Ready {
            bytes: builder.finish().unwrap().unwrap(),
            records: stretches.iter().map(|(_, count)| count).sum(),
            stretches: stretches
                .iter()
                .map(|&(first, count)| (Offset(first), count))
                .collect(),
            destination,
        }
    }

    fn values(ready: &Ready) -> Vec<String> {
        let (batch, _) = BatchRef::parse(&ready.bytes).unwrap();
        assert_eq!(batch.record_count(), ready.records);
        let opened = batch.open(OPEN_LIMIT).unwrap();
        let values = opened
            .records()
            .map(|record| record.unwrap().value.unwrap().to_vec());
        values
            .map(|value| String::from_utf8(value).unwrap())
            .collect()
    }

    #[test]
    fn a_cut_leaves_the_first_records_of_the_source_wherever_they_go() {
        let two = || Prepared {
            ready: vec![
                ready(Destination::Partition(PartitionId(0)), &[(10, 2), (14, 2)]),
                ready(Destination::Partition(PartitionId(1)), &[(12, 2), (20, 3)]),
                ready(Destination::DeadLetter, &[(16, 1), (30, 1)]),
            ],
            ..Prepared::default()
        };
        let cut = |most| {
            let mut prepared = two();
            let behind = prepared.cut(most).unwrap();
            assert_eq!(prepared.records(), most);
            (
                behind.0,
                prepared.ready.iter().map(values).collect::<Vec<_>>(),
            )
        };
        assert_eq!(cut(1), (11, vec![vec!["10".to_owned()]]));
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(cut(3), (13, vec![texts(&["10", "11"]), texts(&["12"])]));
        let (first, second) = (texts(&["10", "11", "14", "15"]), texts(&["12", "13", "20"]));
        // Dead letters go with those before which they lay, and do not count.
        assert_eq!(cut(7), (21, vec![first, second, texts(&["16"])]));
        assert_eq!(cut(9).0, 23);
    }
}
