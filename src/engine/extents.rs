//! Sums over what an index holds of a partition between two offsets.

use std::ops::Range;

use crate::record::{BatchRef, Offset, PartitionId, batches};
use crate::repository::{Extent, Gap, PackRef, PartitionEntry, Repository, Sha256};

use super::EngineError;

/// The most that one batch may decompress to when it must be opened: a broker accepts no larger records.
pub(super) const OPEN_LIMIT: usize = 256 << 20;

/// Whether some of `extent` belongs to a backup of `[start, end)`.
pub(super) fn is_needed(extent: &Extent, start: Offset, end: Offset) -> bool {
    extent.last_offset >= start && extent.start_offset < end
}

/// Offsets of a backup's partition, which holds `[start, end)`, that no extent accounts for, but for the `gaps` that the
/// backup itself tells.
pub(super) fn holes(
    extents: &[Extent],
    (start, end): (Offset, Offset),
    gaps: &[Gap],
) -> Vec<Range<Offset>> {
    let mut reached = start;
    let mut holes = Vec::new();
    for extent in extents
        .iter()
        .filter(|extent| is_needed(extent, start, end))
    {
        if extent.start_offset > reached {
            holes.push(reached..extent.start_offset);
        }
        reached = reached.max(extent.end_offset());
    }
    if reached < end {
        holes.push(reached..end);
    }
    holes.retain(|hole| {
        let told = |gap: &Gap| gap.start_offset <= hole.start && gap.end_offset >= hole.end;
        !gaps.iter().any(told)
    });
    holes
}

/// How much of a partition is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Records that a consumer may see.
    pub records: u64,
    /// Transaction markers.
    pub control_records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Bytes of the blocks.
    pub stored_bytes: u64,
    /// The largest batch.
    pub largest_batch: u32,
}

impl Held {
    /// Both.
    pub fn with(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            control_records: self.control_records + other.control_records,
            bytes: self.bytes + other.bytes,
            stored_bytes: self.stored_bytes + other.stored_bytes,
            largest_batch: self.largest_batch.max(other.largest_batch),
        }
    }

    /// As a manifest says.
    pub fn of_entry(entry: &PartitionEntry) -> Self {
        Self {
            records: entry.records,
            control_records: entry.control_records,
            bytes: entry.bytes,
            stored_bytes: entry.stored_bytes,
            largest_batch: entry.largest_batch,
        }
    }

    /// A whole extent.
    pub fn of_extent(extent: &Extent) -> Self {
        Self {
            records: extent.records,
            control_records: extent.control_records,
            bytes: extent.raw_bytes,
            stored_bytes: extent.length,
            largest_batch: extent.largest_batch,
        }
    }

    fn of_batch(batch: &BatchRef<'_>, start: Offset, end: Offset) -> Result<Self, EngineError> {
        let count = u64::from(batch.record_count());
        let is_control = batch.attributes().is_control;
        let records = if is_control {
            0
        } else if batch.base_offset() >= start && batch.next_offset() <= end {
            count
        } else {
            records_between(batch, start, end)?
        };
        Ok(Self {
            records,
            control_records: if is_control { count } else { 0 },
            bytes: batch.len() as u64,
            stored_bytes: 0,
            largest_batch: u32::try_from(batch.len()).unwrap_or(u32::MAX),
        })
    }
}

fn records_between(batch: &BatchRef<'_>, start: Offset, end: Offset) -> Result<u64, EngineError> {
    let opened = batch
        .open(OPEN_LIMIT)
        .map_err(crate::repository::RepositoryError::Batch)?;
    let mut count = 0;
    for record in opened.records() {
        let offset = record
            .map_err(crate::repository::RepositoryError::Batch)?
            .offset;
        count += u64::from(start <= offset && offset < end);
    }
    Ok(count)
}

/// What the index holds of `partition` in `[start, end)`. Only extents that a bound cuts are read.
pub(super) fn held_between(
    repository: &Repository,
    index: &Sha256,
    partition: PartitionId,
    start: Offset,
    end: Offset,
) -> Result<Held, EngineError> {
    let index = repository.index(index)?;
    let mut held = Held::default();
    for extent in index.partitions.get(&partition).into_iter().flatten() {
        if extent.last_offset < start || extent.base_offset >= end {
            continue;
        }
        if extent.base_offset >= start && extent.last_offset < end {
            held = held.with(Held::of_extent(extent));
        } else if let Some(pack) = index.packs.get(extent.pack as usize) {
            held = held.with(held_in_part(repository, pack, extent, start, end)?);
        }
    }
    Ok(held)
}

fn held_in_part(
    repository: &Repository,
    pack: &PackRef,
    extent: &Extent,
    start: Offset,
    end: Offset,
) -> Result<Held, EngineError> {
    let reader = repository.open_pack(pack)?;
    let mut held = Held {
        stored_bytes: extent.length,
        ..Held::default()
    };
    for block in reader.blocks(extent.offset..extent.end()) {
        let block = block?;
        for batch in batches(&block.raw) {
            let batch = batch.map_err(crate::repository::RepositoryError::Batch)?;
            if batch.last_offset() >= start && batch.base_offset() < end {
                held = held.with(Held::of_batch(&batch, start, end)?);
            }
        }
    }
    Ok(held)
}
