//! Reading a pack: opened by its end, then block by block in long reads.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::ObjectName;
use super::block::Block;
use super::block_header::{BLOCK_HEADER_LEN, BlockHeader};
use super::footer::{Footer, FooterBlock};
use super::pack::{PACK_HEADER_LEN, PackRef, pack_name};
use super::pack_opening::Opening;
use super::{BlockingStorage, PackId, RepositoryError, RepositoryId};
use crate::record::{self, Compression};

/// How much [`PackReader::blocks`] reads at once. A longer block is read alone.
const READ: u64 = 4 << 20;

/// A pack whose frame and footer were checked. Holds the footer in memory, and nothing else.
#[derive(Debug, Clone)]
pub struct PackReader {
    storage: BlockingStorage,
    name: ObjectName,
    pack_id: PackId,
    footer: Arc<Footer>,
    topics: Arc<[Arc<str>]>,
}

impl PackReader {
    pub(super) fn open(
        storage: &BlockingStorage,
        repository_id: RepositoryId,
        expected: &PackRef,
    ) -> Result<Self, RepositoryError> {
        let pack = Opening {
            storage,
            name: pack_name(expected.pack_id)?,
            expected,
        };
        pack.check_frame(repository_id)?;
        let footer = pack.footer()?;
        let topics = footer
            .topics
            .iter()
            .map(|topic| Arc::from(topic.topic.as_str()))
            .collect();
        Ok(Self {
            storage: storage.clone(),
            name: pack.name,
            pack_id: expected.pack_id,
            footer: Arc::new(footer),
            topics,
        })
    }

    /// The id that its header and footer carry.
    pub fn pack_id(&self) -> PackId {
        self.pack_id
    }

    /// What the pack holds.
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The bytes of the pack that hold blocks.
    pub fn block_range(&self) -> Range<u64> {
        let start = PACK_HEADER_LEN as u64;
        start
            ..self
                .footer
                .blocks
                .last()
                .map_or(start, |block| block.place.end())
    }

    /// The footer's entries of the blocks in `range`, which must begin where a block begins and end where one ends.
    pub fn blocks_in(&self, range: &Range<u64>) -> Result<&[FooterBlock], RepositoryError> {
        let blocks = &self.footer.blocks;
        let first = blocks.partition_point(|block| block.place.offset < range.start);
        let end = blocks.partition_point(|block| block.place.offset < range.end);
        let found = blocks.get(first..end).unwrap_or_default();
        let (starts, ends) = match (found.first(), found.last()) {
            (Some(first), Some(last)) => (first.place.offset, last.place.end()),
            _ => (range.start, range.start),
        };
        if (starts, ends) == (range.start, range.end) {
            return Ok(found);
        }
        Err(self.damaged(
            range.start,
            format!(
                "no run of blocks lies in bytes {}..{}",
                range.start, range.end
            ),
        ))
    }

    /// Reads the blocks of a byte range at once; checks each one's header against the footer, its sum and its length.
    pub fn read_blocks(&self, range: Range<u64>) -> Result<Vec<Block>, RepositoryError> {
        let blocks = self.blocks_in(&range)?;
        if blocks.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self
            .storage
            .get_range(&self.name, range.clone())
            .map_err(|error| self.renamed(error))?;
        blocks
            .iter()
            .map(|block| self.block(block, range.start, &bytes))
            .collect()
    }

    /// Tells the storage that a byte range is read next, so that it is there by then.
    pub fn prefetch(&self, range: Range<u64>) {
        self.storage.prefetch(&self.name, range);
    }

    /// The blocks of a byte range, read a few megabytes at a time. Ends after the first error.
    pub fn blocks(&self, range: Range<u64>) -> Blocks<'_> {
        Blocks {
            pack: self,
            range,
            read: Vec::new().into_iter(),
        }
    }

    fn block(
        &self,
        listed: &FooterBlock,
        start: u64,
        bytes: &Bytes,
    ) -> Result<Block, RepositoryError> {
        let at = listed.place.offset;
        let cut = || self.damaged(at, "a block reaches beyond what was read".to_owned());
        let from = usize::try_from(at.saturating_sub(start)).map_err(|_| cut())?;
        let until = usize::try_from(listed.place.end().saturating_sub(start)).map_err(|_| cut())?;
        let block = if from <= until && until <= bytes.len() {
            bytes.slice(from..until)
        } else {
            return Err(cut());
        };
        let header = block.first_chunk::<BLOCK_HEADER_LEN>().ok_or_else(cut)?;
        let header = BlockHeader::decode(header).map_err(|detail| self.damaged(at, detail))?;
        if header != listed.header {
            return Err(self.damaged(
                at,
                "another block lies here than the footer says".to_owned(),
            ));
        }
        let stored = block.slice(BLOCK_HEADER_LEN..);
        if crc32fast::hash(&stored) != header.stored_crc32 {
            return Err(self.damaged(
                at,
                format!(
                    "the checksum of a block {} does not match",
                    described(&header)
                ),
            ));
        }
        let raw = self.decompressed(&header, stored, at)?;
        let topic = self.topics.get(listed.topic as usize).ok_or_else(cut)?;
        Ok(Block {
            topic: Arc::clone(topic),
            place: listed.place,
            header,
            raw,
        })
    }

    fn decompressed(
        &self,
        header: &BlockHeader,
        stored: Bytes,
        at: u64,
    ) -> Result<Bytes, RepositoryError> {
        let damaged = |detail: String| {
            self.damaged(
                at,
                format!(
                    "a block {} cannot be decompressed: {detail}",
                    described(header)
                ),
            )
        };
        if header.compression == Compression::None {
            return Ok(stored);
        }
        let raw = record::decompress(header.compression, &stored, header.raw_len as usize)
            .map_err(|error| damaged(error.to_string()))?;
        if raw.len() != header.raw_len as usize {
            return Err(damaged(format!(
                "{} bytes instead of {}",
                raw.len(),
                header.raw_len
            )));
        }
        Ok(Bytes::from(raw))
    }

    fn damaged(&self, offset: u64, detail: String) -> RepositoryError {
        RepositoryError::PackDamaged {
            pack: self.pack_id,
            offset,
            detail,
        }
    }

    /// What storage says of a pack that vanished or shrank after it was opened.
    fn renamed(&self, error: RepositoryError) -> RepositoryError {
        match error {
            RepositoryError::ObjectMissing { .. } => {
                RepositoryError::PackMissing { pack: self.pack_id }
            }
            RepositoryError::OutOfRange { size, end, .. } => RepositoryError::PackTruncated {
                pack: self.pack_id,
                expected: end,
                found: size,
            },
            other => other,
        }
    }
}

fn described(header: &BlockHeader) -> String {
    format!(
        "of partition {} with offsets {} to {}",
        header.partition, header.base_offset, header.last_offset
    )
}

/// See [`PackReader::blocks`].
#[derive(Debug)]
pub struct Blocks<'a> {
    pack: &'a PackReader,
    range: Range<u64>,
    read: std::vec::IntoIter<Block>,
}

impl Blocks<'_> {
    fn read_on(&mut self) -> Result<(), RepositoryError> {
        let listed = self.pack.blocks_in(&self.range)?;
        let end = piece_end(listed, self.range.start).unwrap_or(self.range.end);
        let rest = listed.partition_point(|block| block.place.offset < end);
        if let Some(next_end) = piece_end(listed.get(rest..).unwrap_or_default(), end) {
            self.pack.prefetch(end..next_end);
        }
        self.read = self.pack.read_blocks(self.range.start..end)?.into_iter();
        self.range.start = end;
        Ok(())
    }
}

/// Where a read of [`READ`] bytes from `start` on, or of one longer block, ends. None when there is no block.
fn piece_end(blocks: &[FooterBlock], start: u64) -> Option<u64> {
    let fitting = blocks.partition_point(|block| block.place.end().saturating_sub(start) <= READ);
    blocks
        .get(fitting.saturating_sub(1))
        .map(|last| last.place.end())
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, RepositoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(block) = self.read.next() {
            return Some(Ok(block));
        }
        if self.range.start == self.range.end {
            return None;
        }
        match self.read_on() {
            Ok(()) => self.read.next().map(Ok),
            Err(error) => {
                self.range.start = self.range.end;
                Some(Err(error))
            }
        }
    }
}
