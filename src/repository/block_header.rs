//! What the header of a block tells of the batches behind it.

use serde::{Deserialize, Serialize};

use super::layout::{Put, Take, crc32_holds};
use crate::record::{Compression, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

/// How a block's bytes are compressed: Kafka's codecs, in Kafka's framings.
pub type BlockCodec = Compression;

/// Bytes of a block header.
pub const BLOCK_HEADER_LEN: usize = 128;
const MAGIC: [u8; 4] = *b"kafB";
/// The most that the batches of one block may be long, in bytes. Blocks are about 1 MiB; only a batch that is itself
/// larger makes a larger one.
pub const BLOCK_RAW_LIMIT: u32 = 1 << 30;

/// What is true of some batch in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockFlags(pub u16);

impl BlockFlags {
    /// A batch belongs to a transaction.
    pub const TRANSACTIONAL: Self = Self(1);
    /// A batch is a control batch (a commit or abort marker).
    pub const CONTROL: Self = Self(2);
    /// A batch has fewer records than offsets: it was compacted.
    pub const HOLES: Self = Self(4);
    const KNOWN: u16 = 7;

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub(super) fn insert(&mut self, flags: Self) {
        self.0 |= flags.0;
    }
}

/// What a block holds, told without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    /// The topic's id; zero when the cluster knows none.
    pub topic_id: TopicId,
    /// The partition that all its batches are of.
    pub partition: PartitionId,
    /// Base offset of the first batch.
    pub base_offset: Offset,
    /// Last offset of the last batch.
    pub last_offset: Offset,
    /// Batches, control batches included.
    pub batches: u32,
    /// Records by the batches' own counts, control batches excluded.
    pub records: u32,
    /// Control records by the batches' own counts.
    pub control_records: u32,
    /// Smallest base timestamp of a batch: -1 when a batch has none, or has a delete horizon in its place. Not a bound:
    /// a later record of a batch may be older than its first.
    pub min_timestamp: Timestamp,
    /// Largest max timestamp of a batch.
    pub max_timestamp: Timestamp,
    /// Largest leader epoch of a batch.
    pub leader_epoch: LeaderEpoch,
    /// What is true of some batch.
    pub flags: BlockFlags,
    /// How the stored bytes are compressed, over what the producers did.
    pub compression: BlockCodec,
    /// Length of the stored bytes, which follow the header.
    pub stored_len: u32,
    /// Length of the batches.
    pub raw_len: u32,
    /// Length of the longest batch, in bytes.
    pub largest_batch: u32,
    /// CRC32 (IEEE 802.3, as in zlib) of the stored bytes.
    pub stored_crc32: u32,
}

impl BlockHeader {
    /// The header as it lies in a pack, with its own CRC32.
    pub fn encode(&self) -> [u8; BLOCK_HEADER_LEN] {
        Put::<BLOCK_HEADER_LEN>::new()
            .bytes(&MAGIC)
            .u16(BLOCK_HEADER_LEN as u16)
            .u16(self.flags.0)
            .bytes(&self.topic_id.0)
            .i32(self.partition.0)
            .i32(self.leader_epoch.0)
            .i64(self.base_offset.0)
            .i64(self.last_offset.0)
            .i64(self.min_timestamp.0)
            .i64(self.max_timestamp.0)
            .u32(self.batches)
            .u32(self.records)
            .u32(self.control_records)
            .u8(self.compression.id())
            .skip(3)
            .u32(self.stored_len)
            .u32(self.raw_len)
            .u32(self.largest_batch)
            .u32(self.stored_crc32)
            .finish_with_crc32()
    }

    /// Reads a header and checks all that it says about itself; the error says what is wrong.
    pub fn decode(bytes: &[u8; BLOCK_HEADER_LEN]) -> Result<Self, String> {
        if !crc32_holds(bytes) {
            return Err("the checksum of a block header does not match".to_owned());
        }
        let mut take = Take::new(bytes);
        if take.array() != MAGIC || usize::from(take.u16()) != BLOCK_HEADER_LEN {
            return Err("no block begins here".to_owned());
        }
        let flags = BlockFlags(take.u16());
        let topic_id = TopicId(take.array());
        let partition = PartitionId(take.i32());
        let leader_epoch = LeaderEpoch(take.i32());
        let base_offset = Offset(take.i64());
        let last_offset = Offset(take.i64());
        let min_timestamp = Timestamp(take.i64());
        let max_timestamp = Timestamp(take.i64());
        let (batches, records, control_records) = (take.u32(), take.u32(), take.u32());
        let codec = take.u8();
        let reserved: [u8; 3] = take.array();
        let compression = compression_of(codec).filter(|_| reserved == [0; 3]);
        let header = Self {
            topic_id,
            partition,
            base_offset,
            last_offset,
            batches,
            records,
            control_records,
            min_timestamp,
            max_timestamp,
            leader_epoch,
            flags,
            compression: compression.ok_or_else(|| format!("unknown block codec {codec}"))?,
            stored_len: take.u32(),
            raw_len: take.u32(),
            largest_batch: take.u32(),
            stored_crc32: take.u32(),
        };
        header.check()?;
        Ok(header)
    }

    /// Whether the header's facts go together.
    pub(super) fn check(&self) -> Result<(), String> {
        let sane = self.flags.0 & !BlockFlags::KNOWN == 0
            && self.partition.0 >= 0
            && self.base_offset.0 >= 0
            && self.base_offset <= self.last_offset
            && self.last_offset.0 < i64::MAX
            && self.batches > 0
            && self.raw_len <= BLOCK_RAW_LIMIT
            && self.largest_batch <= self.raw_len
            && self.stored_len > 0
            && self.stored_len <= self.raw_len
            && (self.compression != Compression::None || self.stored_len == self.raw_len);
        if sane {
            Ok(())
        } else {
            Err("a block header contradicts itself".to_owned())
        }
    }

    /// Length of the block in the pack: header and stored bytes.
    pub fn len(&self) -> u64 {
        BLOCK_HEADER_LEN as u64 + u64::from(self.stored_len)
    }

    /// Never: a block has a header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

pub(super) fn compression_of(id: u8) -> Option<Compression> {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    [None, Gzip, Snappy, Lz4, Zstd]
        .into_iter()
        .find(|codec| codec.id() == id)
}
