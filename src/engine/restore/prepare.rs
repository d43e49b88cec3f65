//! Makes a stored batch ready for Produce: as it is under a new header, or rebuilt where it must be.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::extents::OPEN_LIMIT;
use crate::engine::transactions::{Uncommitted, UncommittedRanges};
use crate::record::{
    BatchBuilder, BatchRef, HEADER_LEN, Numbering, Offset, PartitionId, ProducerStamp, Rebuild,
    RecordError, Timestamp, TimestampType, next_sequence, partition_for_key, rebuild, restamp,
};

use super::offset_map::{OffsetMap, Placed};
use super::report::Skipped;

/// A batch under construction is sent when it holds about this much.
const BUILT_BATCH_BYTES: usize = 256 << 10;

/// A batch ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    /// The target partition's place in the restore's table.
    pub target: usize,
    /// Its 61 bytes of header.
    pub header: [u8; HEADER_LEN],
    /// All behind the header, as it was stored.
    pub payload: Bytes,
    /// How many offsets it takes in the target.
    pub records: u32,
    /// Where groups stand on its records.
    pub offset_map: Vec<Placed>,
    /// Whether its payload is not a part of what was read.
    pub is_made: bool,
}

/// What is read of one source partition.
#[derive(Debug)]
pub(super) struct SourcePartition {
    /// Its number.
    pub partition: PartitionId,
    /// The first offset of the backup.
    pub start: Offset,
    /// The first offset beyond it.
    pub end: Offset,
    /// What belongs to no committed transaction.
    pub uncommitted: UncommittedRanges,
    /// Where its batches go.
    pub routing: Routing,
    /// Where groups stand, and no restored record has come to yet.
    pub offset_map: OffsetMap,
    /// What was left out of it.
    pub skipped: Skipped,
}

impl SourcePartition {
    /// How many records of `batch` lie within the backup's bounds; opens it only where a bound cuts it.
    fn belonging(&self, batch: &BatchRef<'_>) -> Result<u64, RecordError> {
        if batch.base_offset() >= self.start && batch.next_offset() <= self.end {
            return Ok(batch.record_count().into());
        }
        let mut count = 0;
        for record in batch.open(OPEN_LIMIT)?.records() {
            count += u64::from((self.start..self.end).contains(&record?.offset));
        }
        Ok(count)
    }
}

/// Where the batches of a source partition go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Routing {
    /// All into this target partition, by its place in the table.
    Same(usize),
    /// Each record where its key's hash puts it, among target partitions that start at `first` in the table.
    ByKey {
        /// The place of target partition 0.
        first: usize,
        /// How many there are.
        partitions: u32,
    },
}

/// Only records of these times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// From this one on.
    pub from: Option<Timestamp>,
    /// Before this one.
    pub until: Option<Timestamp>,
}

/// Prepares batches and numbers them for an idempotent producer.
pub(super) struct Preparer {
    /// Of the next batch, by target partition.
    stamps: Vec<ProducerStamp>,
    window: Window,
    building: BTreeMap<usize, BatchBuilder>,
}

impl Preparer {
    /// Each target partition is written to by the producer of its stamp, which begins with that one's sequence number.
    pub fn new(stamps: Vec<ProducerStamp>, window: Window) -> Self {
        Self {
            stamps,
            window,
            building: BTreeMap::new(),
        }
    }

    /// Prepares one stored batch; `bytes` are those that `batch` views.
    pub fn prepare(
        &mut self,
        source: &mut SourcePartition,
        batch: &BatchRef<'_>,
        bytes: Bytes,
    ) -> Result<Vec<Outgoing>, RecordError> {
        if batch.last_offset() < source.start || batch.base_offset() >= source.end {
            return Ok(Vec::new());
        }
        let count = source.belonging(batch)?;
        if batch.attributes().is_control {
            source.skipped.control += count;
            return Ok(Vec::new());
        }
        match source.uncommitted.covers(batch) {
            Some(Uncommitted::Aborted) => source.skipped.aborted += count,
            Some(Uncommitted::Open) => source.skipped.open += count,
            None if count == 0 => {}
            // A landmark in it is followed record by record.
            None if self.is_too_old(batch) && !source.offset_map.are_due(batch.last_offset()) => {
                source.skipped.cut += count;
            }
            None => return self.prepare_wanted(source, batch, bytes, count),
        }
        Ok(Vec::new())
    }

    /// What was built so far and not sent yet.
    pub fn finish(&mut self) -> Result<Vec<Outgoing>, RecordError> {
        let building = std::mem::take(&mut self.building);
        let mut outgoing = Vec::new();
        for (target, builder) in building {
            outgoing.extend(self.finish_built(target, builder)?);
        }
        Ok(outgoing)
    }

    /// Only a batch's largest timestamp is known without opening it.
    fn is_too_old(&self, batch: &BatchRef<'_>) -> bool {
        self.window
            .from
            .is_some_and(|from| batch.max_timestamp() < from)
    }

    fn prepare_wanted(
        &mut self,
        source: &mut SourcePartition,
        batch: &BatchRef<'_>,
        bytes: Bytes,
        belonging: u64,
    ) -> Result<Vec<Outgoing>, RecordError> {
        let target = match source.routing {
            Routing::ByKey { first, partitions } => {
                return self.route_by_key(source, batch, first, partitions);
            }
            Routing::Same(target) => target,
        };
        if !self.must_open(source, batch) {
            let mut outgoing = self.stamped(target, batch, &bytes)?;
            outgoing.offset_map = source
                .offset_map
                .place_dense(batch.base_offset(), outgoing.records);
            return Ok(vec![outgoing]);
        }
        let options = Rebuild {
            offsets: Some(source.start..source.end),
            timestamps: Some((self.window.from, self.window.until)),
            numbering: Numbering::Renumber,
            ..Rebuild::default()
        };
        let offset_map = place_on_kept(source, batch, &options)?;
        let Some(rebuilt) = rebuild(batch, &options, OPEN_LIMIT)? else {
            source.skipped.cut += belonging;
            return Ok(Vec::new());
        };
        let (view, _) = BatchRef::parse(&rebuilt)?;
        source.skipped.cut += belonging.saturating_sub(view.record_count().into());
        let stamped = self.stamped(target, &view, &rebuilt)?;
        Ok(vec![Outgoing {
            offset_map,
            is_made: true,
            ..stamped
        }])
    }

    /// A batch is opened to be cut, to close holes that a broker would refuse, and to write the append time,
    /// which lies only in the header, into the records.
    fn must_open(&self, source: &SourcePartition, batch: &BatchRef<'_>) -> bool {
        batch.base_offset() < source.start
            || batch.next_offset() > source.end
            || batch.has_holes()
            || batch.attributes().timestamp_type == TimestampType::LogAppendTime
            || self.window.from.is_some()
            || self
                .window
                .until
                .is_some_and(|until| batch.max_timestamp() >= until)
    }

    fn stamped(
        &mut self,
        target: usize,
        batch: &BatchRef<'_>,
        bytes: &Bytes,
    ) -> Result<Outgoing, RecordError> {
        let records = batch.record_count();
        let mut nobody = ProducerStamp::NONE;
        // The routing names only target partitions of the table that the stamps are of.
        let stamp = self.stamps.get_mut(target).unwrap_or(&mut nobody);
        let header = restamp(batch, stamp)?;
        stamp.base_sequence = next_sequence(stamp.base_sequence, records);
        Ok(Outgoing {
            target,
            header,
            payload: bytes.slice(HEADER_LEN..),
            records,
            offset_map: Vec::new(),
            is_made: false,
        })
    }

    fn route_by_key(
        &mut self,
        source: &mut SourcePartition,
        batch: &BatchRef<'_>,
        first: usize,
        partitions: u32,
    ) -> Result<Vec<Outgoing>, RecordError> {
        let mut outgoing = Vec::new();
        batch.verify_crc()?;
        let opened = batch.open(OPEN_LIMIT)?;
        for record in opened.records() {
            let record = record?;
            if record.offset < source.start || record.offset >= source.end {
                continue;
            }
            let wanted = self.window.from.is_none_or(|from| record.timestamp >= from)
                && self
                    .window
                    .until
                    .is_none_or(|until| record.timestamp < until);
            if !wanted {
                source.skipped.cut += 1;
                continue;
            }
            let number = match record.key {
                Some(key) => partition_for_key(key, partitions).0,
                None => source.partition.0 % i32::try_from(partitions).unwrap_or(i32::MAX),
            };
            let target = first + usize::try_from(number).unwrap_or(0);
            let compression = batch.attributes().compression;
            let builder = self
                .building
                .entry(target)
                .or_insert_with(|| BatchBuilder::new(compression));
            builder.push(&record);
            if builder.size() >= BUILT_BATCH_BYTES
                && let Some(full) = self.building.remove(&target)
            {
                outgoing.extend(self.finish_built(target, full)?);
            }
        }
        Ok(outgoing)
    }

    fn finish_built(
        &mut self,
        target: usize,
        builder: BatchBuilder,
    ) -> Result<Option<Outgoing>, RecordError> {
        let Some(bytes) = builder.finish()? else {
            return Ok(None);
        };
        let (view, _) = BatchRef::parse(&bytes)?;
        let built = self.stamped(target, &view, &bytes)?;
        Ok(Some(Outgoing {
            is_made: true,
            ..built
        }))
    }
}

/// Places the landmarks that `batch` has come to on its records that are kept. Opens it only when there are any.
fn place_on_kept(
    source: &mut SourcePartition,
    batch: &BatchRef<'_>,
    options: &Rebuild,
) -> Result<Vec<Placed>, RecordError> {
    if !source.offset_map.are_due(batch.last_offset()) {
        return Ok(Vec::new());
    }
    batch.verify_crc()?;
    let opened = batch.open(OPEN_LIMIT)?;
    let mut placed = Vec::new();
    let mut index = 0;
    for record in opened.records() {
        let record = record?;
        if options.keeps(&record) {
            placed.extend(source.offset_map.place(record.offset, index));
            index += 1;
        } else if record.offset < source.end {
            source.offset_map.cut(record.offset);
        }
    }
    Ok(placed)
}

#[cfg(test)]
#[path = "landmarks_tests.rs"]
mod landmarks_tests;
