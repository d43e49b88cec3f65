//! Writing a pack: blocks as they come, then the footer; visible only when all of it is durable.

use std::collections::HashSet;

use super::footer::{BLOCKS_LIMIT, FOOTER_LIMIT, Footer, TRANSACTIONS_LIMIT, TopicTable};
use super::pack::{PackHeader, Trailer, pack_name};
use super::transactions::TransactionEventKind;
use super::{
    BlockPlace, BlockingStorage, BlockingWriter, PackId, PackRef, RepositoryError, RepositoryId,
    SealedBlock, Sha256,
};
use crate::record::{PartitionId, ProducerId};

/// Length at which a pack is long enough, in bytes, unless the operator says otherwise.
pub const PACK_TARGET: u64 = 256 << 20;
/// What a pack lists, at most, before it counts as full: keeps the memory of a writer and of a reader small.
const BLOCKS_TARGET: usize = 1 << 14;
const TRANSACTIONS_TARGET: usize = 1 << 16;

/// A pack being written. Dropped unfinished, it leaves nothing behind.
pub struct PackWriter {
    pack_id: PackId,
    output: BlockingWriter,
    length: u64,
    footer: Footer,
    topics: TopicTable,
    /// Transactions that this pack says have begun and not ended: each is said once.
    open: HashSet<(u32, PartitionId, ProducerId)>,
}

impl PackWriter {
    pub(super) fn begin(
        storage: &BlockingStorage,
        repository_id: RepositoryId,
        pack_id: PackId,
    ) -> Result<Self, RepositoryError> {
        let mut output = storage.create(&pack_name(pack_id)?)?;
        let header = PackHeader {
            repository_id,
            pack_id,
        }
        .encode();
        output.write(&header)?;
        Ok(Self {
            pack_id,
            output,
            length: header.len() as u64,
            footer: Footer::default(),
            topics: TopicTable::default(),
            open: HashSet::new(),
        })
    }

    /// The id under which the pack will appear.
    pub fn pack_id(&self) -> PackId {
        self.pack_id
    }

    /// Appends a block. After an error the pack cannot be finished.
    pub fn append(
        &mut self,
        topic_name: &str,
        block: &SealedBlock,
    ) -> Result<BlockPlace, RepositoryError> {
        let full = self.footer.blocks.len() >= BLOCKS_LIMIT
            || self.footer.transactions.len() + block.transactions.len() > TRANSACTIONS_LIMIT;
        if full {
            return Err(RepositoryError::PackFull { pack: self.pack_id });
        }
        self.output.write(&block.header.encode())?;
        self.output.write(&block.stored)?;
        let place = BlockPlace {
            offset: self.length,
            len: block.header.len(),
        };
        self.length += place.len;
        let topic = self
            .topics
            .index(&mut self.footer.topics, topic_name, block.header.topic_id);
        let (open, partition) = (&mut self.open, block.header.partition);
        self.footer.add(topic, place, block, |event| {
            let transaction = (topic, partition, event.producer_id);
            match event.kind {
                TransactionEventKind::Begin => open.insert(transaction),
                TransactionEventKind::Commit | TransactionEventKind::Abort => {
                    open.remove(&transaction);
                    true
                }
            }
        });
        Ok(place)
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether no block was appended yet.
    pub fn is_empty(&self) -> bool {
        self.footer.blocks.is_empty()
    }

    /// Whether the pack should be finished: it is `target` bytes long, or lists as much as it should.
    pub fn is_full(&self, target: u64) -> bool {
        self.length >= target
            || self.footer.blocks.len() >= BLOCKS_TARGET
            || self.footer.transactions.len() >= TRANSACTIONS_TARGET
    }

    /// Writes the footer, makes the pack durable and publishes it.
    pub fn finish(mut self) -> Result<PackRef, RepositoryError> {
        let failed = |source| RepositoryError::Io {
            action: "write the footer of pack",
            path: self.pack_id.to_string(),
            source,
        };
        let footer = self.footer.encode(self.pack_id).map_err(failed)?;
        if footer.len() as u64 > FOOTER_LIMIT {
            return Err(RepositoryError::PackFull { pack: self.pack_id });
        }
        let trailer = Trailer {
            footer_offset: self.length,
            footer_len: footer.len() as u64,
            footer_sha256: Sha256::of(&footer),
        };
        self.output.write(&footer)?;
        self.output.write(&trailer.encode())?;
        let length = self.output.finish()?;
        Ok(PackRef {
            pack_id: self.pack_id,
            length,
            footer_sha256: trailer.footer_sha256,
        })
    }
}

impl std::fmt::Debug for PackWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackWriter")
            .field("pack_id", &self.pack_id)
            .field("length", &self.length)
            .finish()
    }
}
