//! The table of contents at the end of a pack, in JSON compressed with zstd.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::block_header::{BlockFlags, BlockHeader};
use super::sealed_json::{self, FORMAT, Unusable};
use super::transactions::{TransactionEvent, TransactionEventKind};
use super::{BlockPlace, PackId, SealedBlock};
use crate::record::{
    Compression, LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId, is_topic_name,
};

/// The most that a footer is long in the pack, in bytes.
pub(super) const FOOTER_LIMIT: u64 = 64 << 20;
/// The most that a footer's text is long, in bytes.
pub(super) const FOOTER_TEXT_LIMIT: u64 = 128 << 20;
/// The most blocks and transaction events that a pack can list. Writers stop earlier, see `PackWriter::is_full`.
pub(super) const BLOCKS_LIMIT: usize = 1 << 16;
pub(super) const TRANSACTIONS_LIMIT: usize = 1 << 19;

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Footer {
    /// The topics that have blocks here.
    pub topics: Vec<FooterTopic>,
    /// The blocks, in the order in which they lie in the pack, without a byte between them.
    pub blocks: Vec<FooterBlock>,
    /// Where transactions begin and end, ascending within each partition.
    pub transactions: Vec<FooterTransaction>,
}

/// A topic that has blocks in a pack.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FooterTopic {
    /// Its name in the source.
    pub topic: String,
    /// Its id; zero when the cluster knows none.
    pub topic_id: TopicId,
}

impl FooterTopic {
    /// Whether it is the topic of this name and id. Clusters without topic ids give all topics the same, zero: so the
    /// name counts, too.
    pub fn is(&self, topic: &str, topic_id: TopicId) -> bool {
        self.topic == topic && self.topic_id == topic_id
    }
}

/// A block of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FooterBlock {
    /// Where it lies.
    pub place: BlockPlace,
    /// Which of [`Footer::topics`] it belongs to.
    pub topic: u32,
    /// The same as lies in front of its bytes.
    pub header: BlockHeader,
}

/// A transaction of a pack begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FooterTransaction {
    /// Which of [`Footer::topics`] it is about.
    pub topic: u32,
    /// Whose transaction begins or ends, and at which offset.
    pub event: TransactionEvent,
}

const BLOCK_FIELDS: [&str; 17] = [
    "offset",
    "topic",
    "partition",
    "base_offset",
    "last_offset",
    "batches",
    "records",
    "control_records",
    "min_timestamp",
    "max_timestamp",
    "leader_epoch",
    "flags",
    "compression",
    "stored_len",
    "raw_len",
    "largest_batch",
    "stored_crc32",
];
const TRANSACTION_FIELDS: [&str; 6] = [
    "topic",
    "partition",
    "producer_id",
    "producer_epoch",
    "offset",
    "kind",
];

/// The fields of [`BLOCK_FIELDS`], in that order.
#[derive(Serialize, Deserialize)]
struct BlockRow(
    u64,
    u32,
    PartitionId,
    Offset,
    Offset,
    u32,
    u32,
    u32,
    Timestamp,
    Timestamp,
    LeaderEpoch,
    BlockFlags,
    Compression,
    u32,
    u32,
    u32,
    u32,
);

/// The fields of [`TRANSACTION_FIELDS`], in that order.
#[derive(Serialize, Deserialize)]
struct TransactionRow(
    u32,
    PartitionId,
    ProducerId,
    i16,
    Offset,
    TransactionEventKind,
);

#[derive(Serialize, Deserialize)]
struct FooterJson<F, B, T> {
    format: u32,
    pack_id: PackId,
    topics: Vec<FooterTopic>,
    block_fields: F,
    blocks: B,
    transaction_fields: F,
    transactions: T,
}

/// A footer as it was read.
type FooterTables = FooterJson<Vec<String>, Vec<BlockRow>, Vec<TransactionRow>>;

fn damaged(detail: &str) -> Unusable {
    Unusable::Damaged(detail.to_owned())
}

impl FooterTables {
    /// Refuses the footer of another pack, other columns, more than a pack can hold, and topic names that Kafka would not allow.
    fn check(&self, pack_id: PackId) -> Result<(), Unusable> {
        if self.pack_id != pack_id {
            return Err(Unusable::Damaged(format!(
                "it is the footer of pack {}",
                self.pack_id
            )));
        }
        if self.block_fields != BLOCK_FIELDS || self.transaction_fields != TRANSACTION_FIELDS {
            return Err(damaged("its tables have other columns"));
        }
        if self.blocks.len() > BLOCKS_LIMIT || self.transactions.len() > TRANSACTIONS_LIMIT {
            return Err(damaged("it lists more than a pack can hold"));
        }
        if !self.topics.iter().all(|topic| is_topic_name(&topic.topic)) {
            return Err(damaged("it names a topic as Kafka names none"));
        }
        Ok(())
    }
}

impl Footer {
    /// Where transactions of one partition begin and end.
    pub fn transactions_of(
        &self,
        topic: &str,
        topic_id: TopicId,
        partition: PartitionId,
    ) -> impl Iterator<Item = TransactionEvent> {
        let is_of = move |listed: &&FooterTransaction| {
            let found = self.topics.get(listed.topic as usize);
            listed.event.partition == partition
                && found.is_some_and(|found| found.is(topic, topic_id))
        };
        self.transactions
            .iter()
            .filter(is_of)
            .map(|listed| listed.event)
    }

    /// Takes note of a block that was written to `place`, and of those of its transactions that are `news`.
    pub(super) fn add(
        &mut self,
        topic: u32,
        place: BlockPlace,
        block: &SealedBlock,
        mut news: impl FnMut(&TransactionEvent) -> bool,
    ) {
        self.blocks.push(FooterBlock {
            place,
            topic,
            header: block.header.clone(),
        });
        let told = block.transactions.iter().filter(|event| news(event));
        self.transactions
            .extend(told.map(|event| FooterTransaction {
                topic,
                event: *event,
            }));
    }

    /// The footer as stored.
    pub(super) fn encode(&self, pack_id: PackId) -> std::io::Result<Vec<u8>> {
        sealed_json::compress(&FooterJson {
            format: FORMAT,
            pack_id,
            topics: self.topics.clone(),
            block_fields: BLOCK_FIELDS.as_slice(),
            blocks: Rows(&self.blocks, block_row),
            transaction_fields: TRANSACTION_FIELDS.as_slice(),
            transactions: Rows(&self.transactions, transaction_row),
        })
    }

    /// Reads a footer as stored in a pack whose blocks lie in `blocks`, and checks that they fill that range.
    pub(super) fn decode(
        stored: &[u8],
        pack_id: PackId,
        blocks: std::ops::Range<u64>,
    ) -> Result<Self, Unusable> {
        let text = sealed_json::decompress(stored, FOOTER_TEXT_LIMIT)?;
        let json: FooterTables = sealed_json::parse(&text)?;
        drop(text);
        json.check(pack_id)?;
        let mut footer = Self {
            topics: json.topics,
            ..Self::default()
        };
        let mut at = blocks.start;
        for row in json.blocks {
            let block = footer
                .block(row)
                .ok_or_else(|| damaged("it lists a block that cannot be"))?;
            if block.place.offset != at {
                return Err(damaged(
                    "the blocks that it lists do not follow one another",
                ));
            }
            at = at.saturating_add(block.place.len);
            footer.blocks.push(block);
        }
        if at != blocks.end {
            return Err(damaged("the blocks that it lists do not fill the pack"));
        }
        for TransactionRow(topic, partition, producer_id, producer_epoch, offset, kind) in
            json.transactions
        {
            if footer.topics.get(topic as usize).is_none() {
                return Err(damaged(
                    "it lists a transaction of a topic that it does not",
                ));
            }
            let event = TransactionEvent {
                partition,
                producer_id,
                producer_epoch,
                offset,
                kind,
            };
            footer.transactions.push(FooterTransaction { topic, event });
        }
        Ok(footer)
    }

    fn block(&self, row: BlockRow) -> Option<FooterBlock> {
        let topic_id = self.topics.get(row.1 as usize)?.topic_id;
        let header = BlockHeader {
            topic_id,
            partition: row.2,
            base_offset: row.3,
            last_offset: row.4,
            batches: row.5,
            records: row.6,
            control_records: row.7,
            min_timestamp: row.8,
            max_timestamp: row.9,
            leader_epoch: row.10,
            flags: row.11,
            compression: row.12,
            stored_len: row.13,
            raw_len: row.14,
            largest_batch: row.15,
            stored_crc32: row.16,
        };
        header.check().ok()?;
        let place = BlockPlace {
            offset: row.0,
            len: header.len(),
        };
        Some(FooterBlock {
            place,
            topic: row.1,
            header,
        })
    }
}

fn block_row(block: &FooterBlock) -> BlockRow {
    let FooterBlock {
        place,
        topic,
        header,
    } = block;
    BlockRow(
        place.offset,
        *topic,
        header.partition,
        header.base_offset,
        header.last_offset,
        header.batches,
        header.records,
        header.control_records,
        header.min_timestamp,
        header.max_timestamp,
        header.leader_epoch,
        header.flags,
        header.compression,
        header.stored_len,
        header.raw_len,
        header.largest_batch,
        header.stored_crc32,
    )
}

fn transaction_row(transaction: &FooterTransaction) -> TransactionRow {
    let FooterTransaction { topic, event } = transaction;
    TransactionRow(
        *topic,
        event.partition,
        event.producer_id,
        event.producer_epoch,
        event.offset,
        event.kind,
    )
}

/// Rows that are made one by one while they are written.
struct Rows<'a, T, R>(&'a [T], fn(&T) -> R);

impl<T, R: Serialize> Serialize for Rows<'_, T, R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(self.1))
    }
}

/// Finds or adds topics while a footer grows.
#[derive(Default)]
pub(super) struct TopicTable(HashMap<FooterTopic, u32>);

impl TopicTable {
    /// The index of a topic in `topics`, which it is added to when it is new.
    pub(super) fn index(
        &mut self,
        topics: &mut Vec<FooterTopic>,
        topic: &str,
        topic_id: TopicId,
    ) -> u32 {
        let entry = FooterTopic {
            topic: topic.to_owned(),
            topic_id,
        };
        *self.0.entry(entry).or_insert_with_key(|entry| {
            topics.push(entry.clone());
            // A pack has at most `BLOCKS_LIMIT` blocks, and no more topics.
            (topics.len() - 1) as u32
        })
    }
}
