//! From fetched batches to a sealed block: one walk that proves them and collects what the header says.

use std::collections::HashSet;

use bytes::Bytes;

use super::block_header::{BLOCK_RAW_LIMIT, BlockFlags, BlockHeader};
use super::transactions::{TransactionEvent, TransactionEventKind};
use super::{BatchEvidence, RepositoryError};
use crate::record::{
    self, BatchRef, Compression, ControlType, LeaderEpoch, Offset, PartitionId, ProducerId,
    Timestamp, TopicId, crc32c, crc32c_append,
};

/// Where a batch's CRC32C stands, and where the bytes that it covers begin.
const CRC_COVERS_FROM: usize = 21;
/// Both sums go over the same piece while it is in the nearest cache.
const PIECE: usize = 16 << 10;

/// The partition that batches were fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSource {
    /// The topic's id; zero when the cluster knows none.
    pub topic_id: TopicId,
    /// The partition's number.
    pub partition: PartitionId,
}

/// A block ready to be appended to a pack.
#[derive(Debug, Clone)]
pub struct SealedBlock {
    /// What the block holds, as it will be written before the stored bytes.
    pub header: BlockHeader,
    /// What follows the header in the pack: the batches, compressed or as they were given.
    pub stored: Bytes,
    /// Transactions that begin or end in it, ascending by offset.
    pub transactions: Vec<TransactionEvent>,
    /// What identifies its first batch.
    pub first_batch: BatchEvidence,
    /// What identifies its last batch.
    pub last_batch: BatchEvidence,
}

impl SealedBlock {
    /// Checks every batch's CRC32C and seals `raw`, which must be whole batches in ascending order of one partition.
    ///
    /// The batches are stored as they are, and not copied, unless `compression` is set, at least half of their bytes were
    /// not compressed by a producer, and compressing saves at least 5 %.
    pub fn seal(
        source: &BlockSource,
        raw: Bytes,
        compression: Compression,
    ) -> Result<Self, RepositoryError> {
        let unfit = |detail: &str| RepositoryError::UnfitBatches {
            detail: detail.to_owned(),
        };
        let raw_len = u32::try_from(raw.len())
            .ok()
            .filter(|length| *length <= BLOCK_RAW_LIMIT);
        let raw_len = raw_len.ok_or_else(|| unfit("a block of more than 1 GiB"))?;
        if source.partition.0 < 0 {
            return Err(unfit("a negative partition"));
        }
        let mut sum = crc32fast::Hasher::new();
        // Whether it is worth compressing is known only afterwards: sum the bytes only where they surely stay as they are.
        let walk = BatchWalk::over(
            &raw,
            source.partition,
            (compression == Compression::None).then_some(&mut sum),
        )?;
        let (first_batch, last_batch) = walk.ends.ok_or_else(|| unfit("no batch"))?;
        let mut header = walk.header(source, raw_len);
        let (stored, stored_crc32) = if compression == Compression::None {
            (raw, sum.finalize())
        } else {
            let smaller = if walk.uncompressed_bytes >= walk.bytes / 2 {
                Some(record::compress(compression, &raw)?)
                    .filter(|smaller| is_worth_it(smaller.len(), raw.len()))
            } else {
                None
            };
            header.compression = if smaller.is_some() {
                compression
            } else {
                Compression::None
            };
            let stored = smaller.map_or(raw, Bytes::from);
            let sum = crc32fast::hash(&stored);
            (stored, sum)
        };
        header.stored_len = u32::try_from(stored.len()).unwrap_or(raw_len);
        header.stored_crc32 = stored_crc32;
        Ok(Self {
            header,
            stored,
            transactions: walk.transactions,
            first_batch,
            last_batch,
        })
    }
}

fn is_worth_it(compressed: usize, raw: usize) -> bool {
    compressed as u64 * 20 <= raw as u64 * 19
}

/// What one walk over a block's batches found out.
pub(super) struct BatchWalk {
    base_offset: Offset,
    last_offset: Offset,
    batches: u32,
    records: u32,
    control_records: u32,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
    leader_epoch: LeaderEpoch,
    flags: BlockFlags,
    largest_batch: u32,
    bytes: u64,
    uncompressed_bytes: u64,
    transactions: Vec<TransactionEvent>,
    /// The first and the last batch.
    ends: Option<(BatchEvidence, BatchEvidence)>,
}

impl BatchWalk {
    /// Checks each batch's CRC32C, adds all bytes to `sum`, and demands whole batches in ascending order.
    pub(super) fn over(
        raw: &[u8],
        partition: PartitionId,
        mut sum: Option<&mut crc32fast::Hasher>,
    ) -> Result<Self, RepositoryError> {
        let unfit = |detail: String| RepositoryError::UnfitBatches { detail };
        let mut walk = Self::nothing();
        let mut open = HashSet::new();
        let mut batches = record::batches(raw);
        for batch in batches.by_ref() {
            let batch = batch?;
            if !crc32c_holds(&batch, sum.as_deref_mut()) {
                // Said in the record room's words.
                batch.verify_crc()?;
                return Err(unfit("a batch's checksum does not match".to_owned()));
            }
            if walk.batches > 0 && batch.base_offset() <= walk.last_offset {
                return Err(unfit(format!(
                    "offset {} follows offset {}",
                    batch.base_offset(),
                    walk.last_offset
                )));
            }
            walk.add(&batch);
            walk.note_transaction(&batch, partition, &mut open)?;
        }
        let whole = batches.consumed();
        if walk.batches == 0 || whole != raw.len() {
            return Err(unfit(format!(
                "{} of {} bytes are whole batches",
                whole,
                raw.len()
            )));
        }
        Ok(walk)
    }

    fn nothing() -> Self {
        Self {
            base_offset: Offset(0),
            last_offset: Offset(0),
            batches: 0,
            records: 0,
            control_records: 0,
            min_timestamp: Timestamp(i64::MAX),
            max_timestamp: Timestamp(i64::MIN),
            leader_epoch: LeaderEpoch(i32::MIN),
            flags: BlockFlags::default(),
            largest_batch: 0,
            bytes: 0,
            uncompressed_bytes: 0,
            transactions: Vec::new(),
            ends: None,
        }
    }

    fn add(&mut self, batch: &BatchRef<'_>) {
        let attributes = batch.attributes();
        if self.batches == 0 {
            self.base_offset = batch.base_offset();
        }
        self.last_offset = batch.last_offset();
        let evidence = BatchEvidence::from(batch);
        let first = self.ends.map_or(evidence, |(first, _)| first);
        self.ends = Some((first, evidence));
        self.batches += 1;
        // The sums of counts stay below the block's bytes: a record has at least 7.
        if attributes.is_control {
            self.control_records = self.control_records.saturating_add(batch.record_count());
            self.flags.insert(BlockFlags::CONTROL);
        } else {
            self.records = self.records.saturating_add(batch.record_count());
        }
        if attributes.is_transactional {
            self.flags.insert(BlockFlags::TRANSACTIONAL);
        }
        if batch.has_holes() {
            self.flags.insert(BlockFlags::HOLES);
        }
        // With a delete horizon, the base timestamp is that: nothing says when the oldest record was written.
        let oldest = if attributes.has_delete_horizon {
            Timestamp(-1)
        } else {
            batch.base_timestamp()
        };
        self.min_timestamp = self.min_timestamp.min(oldest);
        self.max_timestamp = self.max_timestamp.max(batch.max_timestamp());
        self.leader_epoch = self.leader_epoch.max(batch.leader_epoch());
        let length = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.largest_batch = self.largest_batch.max(length);
        self.bytes += u64::from(length);
        if attributes.compression == Compression::None && !attributes.is_control {
            self.uncompressed_bytes += u64::from(length);
        }
    }

    fn note_transaction(
        &mut self,
        batch: &BatchRef<'_>,
        partition: PartitionId,
        open: &mut HashSet<ProducerId>,
    ) -> Result<(), RepositoryError> {
        let attributes = batch.attributes();
        let kind = if attributes.is_control {
            match batch.control_type()? {
                Some(ControlType::Commit) => TransactionEventKind::Commit,
                Some(ControlType::Abort) => TransactionEventKind::Abort,
                // Not about transactions, or a marker that was compacted away with all that it ended.
                Some(ControlType::Other(_)) | None => return Ok(()),
            }
        } else if attributes.is_transactional {
            TransactionEventKind::Begin
        } else {
            return Ok(());
        };
        let first = match kind {
            TransactionEventKind::Begin => open.insert(batch.producer_id()),
            _ => {
                open.remove(&batch.producer_id());
                true
            }
        };
        if first {
            self.transactions.push(TransactionEvent {
                partition,
                producer_id: batch.producer_id(),
                producer_epoch: batch.producer_epoch(),
                offset: batch.base_offset(),
                kind,
            });
        }
        Ok(())
    }

    fn header(&self, source: &BlockSource, raw_len: u32) -> BlockHeader {
        BlockHeader {
            topic_id: source.topic_id,
            partition: source.partition,
            base_offset: self.base_offset,
            last_offset: self.last_offset,
            batches: self.batches,
            records: self.records,
            control_records: self.control_records,
            min_timestamp: self.min_timestamp,
            max_timestamp: self.max_timestamp,
            leader_epoch: self.leader_epoch,
            flags: self.flags,
            compression: Compression::None,
            stored_len: raw_len,
            raw_len,
            largest_batch: self.largest_batch,
            stored_crc32: 0,
        }
    }

    /// Whether `header` says about the batches what this walk found.
    pub(super) fn describes(&self, header: &BlockHeader) -> bool {
        let source = BlockSource {
            topic_id: header.topic_id,
            partition: header.partition,
        };
        let found = BlockHeader {
            compression: header.compression,
            stored_len: header.stored_len,
            stored_crc32: header.stored_crc32,
            ..self.header(&source, header.raw_len)
        };
        found == *header
    }
}

/// The producer's own sum, with `sum` brought forward over the same bytes.
fn crc32c_holds(batch: &BatchRef<'_>, sum: Option<&mut crc32fast::Hasher>) -> bool {
    let (outside, covered) = batch.as_bytes().split_at(CRC_COVERS_FROM.min(batch.len()));
    let mut crc = 0;
    match sum {
        None => crc = crc32c(covered),
        Some(sum) => {
            sum.update(outside);
            for piece in covered.chunks(PIECE) {
                crc = crc32c_append(crc, piece);
                sum.update(piece);
            }
        }
    }
    crc == batch.crc()
}
