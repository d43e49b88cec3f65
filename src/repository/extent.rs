//! An extent: a run of consecutive blocks of one partition in one pack.

use serde::{Deserialize, Serialize};

use super::block_header::{BlockFlags, BlockHeader};
use super::footer::BLOCKS_LIMIT;
use super::pack::{BlockPlace, PACK_HEADER_LEN, PackRef, TRAILER_LEN};
use crate::record::{LeaderEpoch, Offset, Timestamp};

/// Where some of a partition's batches lie, and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ExtentRow", into = "ExtentRow")]
pub struct Extent {
    /// Which of the index's packs.
    pub pack: u32,
    /// Where the first block begins in it.
    pub offset: u64,
    /// Bytes of the blocks, headers included.
    pub length: u64,
    /// The offset that the reader stood at: what lies between it and `base_offset` was not in the source either.
    /// Extents are a whole log when each starts at the one before's `last_offset` + 1.
    pub start_offset: Offset,
    /// Base offset of the first batch; below `start_offset` when the log began within the batch.
    pub base_offset: Offset,
    /// Last offset of the last batch.
    pub last_offset: Offset,
    /// Number of batches, control batches included.
    pub batches: u64,
    /// Records by the batches' counts, control records excluded.
    pub records: u64,
    /// Control records by the batches' counts.
    pub control_records: u64,
    /// Bytes of the batches.
    pub raw_bytes: u64,
    /// Smallest base timestamp of a batch; see [`BlockHeader::min_timestamp`].
    pub min_timestamp: Timestamp,
    /// Largest max timestamp of a batch.
    pub max_timestamp: Timestamp,
    /// Largest leader epoch of a batch.
    pub leader_epoch: LeaderEpoch,
    /// Length of the longest batch, in bytes.
    pub largest_batch: u32,
    /// Whether some batch belongs to a transaction.
    pub transactional: bool,
}

/// The columns of an extent, as an index layer names them.
pub(super) const EXTENT_FIELDS: [&str; 15] = [
    "pack",
    "offset",
    "length",
    "start_offset",
    "base_offset",
    "last_offset",
    "batches",
    "records",
    "control_records",
    "raw_bytes",
    "min_timestamp",
    "max_timestamp",
    "leader_epoch",
    "largest_batch",
    "transactional",
];

/// The fields of [`EXTENT_FIELDS`], in that order.
#[derive(Serialize, Deserialize)]
struct ExtentRow(
    u32,
    u64,
    u64,
    Offset,
    Offset,
    Offset,
    u64,
    u64,
    u64,
    u64,
    Timestamp,
    Timestamp,
    LeaderEpoch,
    u32,
    bool,
);

impl From<ExtentRow> for Extent {
    fn from(row: ExtentRow) -> Self {
        Self {
            pack: row.0,
            offset: row.1,
            length: row.2,
            start_offset: row.3,
            base_offset: row.4,
            last_offset: row.5,
            batches: row.6,
            records: row.7,
            control_records: row.8,
            raw_bytes: row.9,
            min_timestamp: row.10,
            max_timestamp: row.11,
            leader_epoch: row.12,
            largest_batch: row.13,
            transactional: row.14,
        }
    }
}

impl From<Extent> for ExtentRow {
    fn from(extent: Extent) -> Self {
        Self(
            extent.pack,
            extent.offset,
            extent.length,
            extent.start_offset,
            extent.base_offset,
            extent.last_offset,
            extent.batches,
            extent.records,
            extent.control_records,
            extent.raw_bytes,
            extent.min_timestamp,
            extent.max_timestamp,
            extent.leader_epoch,
            extent.largest_batch,
            extent.transactional,
        )
    }
}

impl Extent {
    /// The extent of one block, read from `start_offset` on.
    pub fn of_block(
        pack: u32,
        place: BlockPlace,
        start_offset: Offset,
        header: &BlockHeader,
    ) -> Self {
        Self {
            pack,
            offset: place.offset,
            length: place.len,
            start_offset,
            base_offset: header.base_offset,
            last_offset: header.last_offset,
            batches: header.batches.into(),
            records: header.records.into(),
            control_records: header.control_records.into(),
            raw_bytes: header.raw_len.into(),
            min_timestamp: header.min_timestamp,
            max_timestamp: header.max_timestamp,
            leader_epoch: header.leader_epoch,
            largest_batch: header.largest_batch,
            transactional: header.flags.contains(BlockFlags::TRANSACTIONAL)
                || header.flags.contains(BlockFlags::CONTROL),
        }
    }

    /// One past its last offset.
    pub fn end_offset(&self) -> Offset {
        Offset(self.last_offset.0.saturating_add(1))
    }

    /// One past its last byte in the pack.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// Takes in `next` when it follows in the pack, and in the partition without an offset that was not asked for.
    pub fn absorb(&mut self, next: &Self) -> bool {
        let follows = self.pack == next.pack
            && self.end() == next.offset
            && self.end_offset() == next.start_offset
            && self.last_offset < next.base_offset;
        if follows {
            self.length = self.length.saturating_add(next.length);
            self.last_offset = next.last_offset;
            self.batches = self.batches.saturating_add(next.batches);
            self.records = self.records.saturating_add(next.records);
            self.control_records = self.control_records.saturating_add(next.control_records);
            self.raw_bytes = self.raw_bytes.saturating_add(next.raw_bytes);
            self.min_timestamp = self.min_timestamp.min(next.min_timestamp);
            self.max_timestamp = self.max_timestamp.max(next.max_timestamp);
            self.leader_epoch = self.leader_epoch.max(next.leader_epoch);
            self.largest_batch = self.largest_batch.max(next.largest_batch);
            self.transactional |= next.transactional;
        }
        follows
    }

    /// Whether it can lie in `pack` at all.
    pub(super) fn fits(&self, pack: &PackRef) -> bool {
        let blocks_end = pack.length.saturating_sub(TRAILER_LEN as u64);
        // What as many blocks as a pack may have can say in their headers: so sums over extents do not overflow.
        let most = BLOCKS_LIMIT as u64 * u64::from(u32::MAX);
        let counts = [
            self.batches,
            self.records,
            self.control_records,
            self.raw_bytes,
        ];
        self.offset >= PACK_HEADER_LEN as u64
            && self.length > 0
            && self
                .offset
                .checked_add(self.length)
                .is_some_and(|end| end <= blocks_end)
            && self.base_offset.0 >= 0
            && self.start_offset.0 >= 0
            && self.start_offset <= self.last_offset
            && self.base_offset <= self.last_offset
            && self.last_offset.0 < i64::MAX
            && counts.into_iter().all(|count| count <= most)
    }
}
