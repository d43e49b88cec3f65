//! Reading a pack: opened by its end, then block by block in long reads.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::block::{BLOCK_HEADER_LEN, Block, BlockHeader};
use super::footer::{FOOTER_LIMIT, Footer, FooterBlock};
use super::pack::{
    BadHeader, PACK_FORMAT, PACK_HEADER_LEN, PackHeader, PackRef, TRAILER_LEN, Trailer, pack_name,
};
use super::sealed_json::{FORMAT, Unusable};
use super::storage::{ObjectName, Storage};
use super::{PackId, RepositoryError, RepositoryId};
use crate::record::{self, Compression};

/// What is read from the end at first: enough for the footer of most packs.
const FIRST_READ: u64 = 64 << 10;
/// How much [`PackReader::blocks`] reads at once. A longer block is read alone.
const READ: u64 = 4 << 20;

/// A pack whose frame and footer were checked. Holds the footer in memory, and nothing else.
#[derive(Debug, Clone)]
pub struct PackReader {
    storage: Arc<dyn Storage>,
    name: ObjectName,
    pack_id: PackId,
    footer: Arc<Footer>,
    topics: Arc<[Arc<str>]>,
}

impl PackReader {
    pub(super) fn open(
        storage: &Arc<dyn Storage>,
        repository_id: RepositoryId,
        expected: &PackRef,
    ) -> Result<Self, RepositoryError> {
        let pack = Opening {
            storage: storage.as_ref(),
            name: pack_name(expected.pack_id)?,
            expected,
        };
        pack.check_length()?;
        pack.check_header(repository_id)?;
        let footer = pack.footer()?;
        let topics = footer
            .topics
            .iter()
            .map(|topic| Arc::from(topic.topic.as_str()))
            .collect();
        Ok(Self {
            storage: Arc::clone(storage),
            name: pack.name,
            pack_id: expected.pack_id,
            footer: Arc::new(footer),
            topics,
        })
    }

    /// The pack's id.
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
        let fits = |block: &&FooterBlock| block.place.end() - self.range.start <= READ;
        let end = match listed.iter().take_while(fits).last().or(listed.first()) {
            Some(last) => last.place.end(),
            None => self.range.end,
        };
        self.read = self.pack.read_blocks(self.range.start..end)?.into_iter();
        self.range.start = end;
        Ok(())
    }
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

/// A pack of which nothing is believed yet.
struct Opening<'a> {
    storage: &'a dyn Storage,
    name: ObjectName,
    expected: &'a PackRef,
}

impl Opening<'_> {
    fn check_length(&self) -> Result<(), RepositoryError> {
        let (pack, expected) = (self.expected.pack_id, self.expected.length);
        let found = match self.storage.size(&self.name) {
            Err(RepositoryError::ObjectMissing { .. }) => {
                return Err(RepositoryError::PackMissing { pack });
            }
            found => found?,
        };
        if found < expected {
            return Err(RepositoryError::PackTruncated {
                pack,
                expected,
                found,
            });
        }
        if found > expected {
            return Err(self.damaged(
                expected,
                format!("{} bytes follow its end", found - expected),
            ));
        }
        if expected < (PACK_HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(self.damaged(0, "it is shorter than a pack can be".to_owned()));
        }
        Ok(())
    }

    fn check_header(&self, repository_id: RepositoryId) -> Result<(), RepositoryError> {
        let pack = self.expected.pack_id;
        let bytes = self.read(0..PACK_HEADER_LEN as u64)?;
        let Some(bytes) = bytes.first_chunk::<PACK_HEADER_LEN>() else {
            return Err(self.damaged(0, "its header is cut".to_owned()));
        };
        match PackHeader::decode(bytes) {
            Ok(header)
                if header
                    == (PackHeader {
                        repository_id,
                        pack_id: pack,
                    }) =>
            {
                Ok(())
            }
            Ok(header) => Err(RepositoryError::PackForeign {
                pack,
                found_pack: header.pack_id,
                found_repository: header.repository_id,
            }),
            Err(BadHeader::Damaged(detail)) => Err(self.damaged(0, detail.to_owned())),
            Err(BadHeader::Encrypted) => Err(self.damaged(
                0,
                "it is encrypted, and this kafkeep has no keys".to_owned(),
            )),
            Err(BadHeader::NewerFormat(found)) => Err(RepositoryError::NewerFormat {
                object: format!("pack {pack}"),
                found: found.into(),
                supported: PACK_FORMAT.into(),
            }),
        }
    }

    fn footer(&self) -> Result<Footer, RepositoryError> {
        let PackRef {
            pack_id,
            length,
            footer_sha256,
        } = self.expected;
        let trailer_offset = length - TRAILER_LEN as u64;
        let start = length.saturating_sub(FIRST_READ);
        let end = self.read(start..*length)?;
        let trailer = end.last_chunk::<TRAILER_LEN>().and_then(Trailer::decode);
        let trailer = trailer.ok_or_else(|| {
            self.damaged(trailer_offset, "it does not end like a pack".to_owned())
        })?;
        let fits = trailer.footer_offset >= PACK_HEADER_LEN as u64
            && trailer.footer_len <= FOOTER_LIMIT
            && trailer.footer_offset.checked_add(trailer.footer_len) == Some(trailer_offset);
        if !fits {
            return Err(self.damaged(trailer_offset, "its trailer contradicts itself".to_owned()));
        }
        if trailer.footer_sha256 != *footer_sha256 {
            return Err(self.damaged(
                trailer_offset,
                "its trailer belongs to another footer".to_owned(),
            ));
        }
        let footer = if trailer.footer_offset >= start {
            let from = usize::try_from(trailer.footer_offset - start).unwrap_or(usize::MAX);
            let until = end.len().saturating_sub(TRAILER_LEN);
            end.slice(from.min(until)..until)
        } else {
            self.read(trailer.footer_offset..trailer_offset)?
        };
        if super::Sha256::of(&footer) != *footer_sha256 {
            return Err(self.damaged(
                trailer.footer_offset,
                "the SHA-256 of its footer does not match".to_owned(),
            ));
        }
        Footer::decode(
            &footer,
            *pack_id,
            PACK_HEADER_LEN as u64..trailer.footer_offset,
        )
        .map_err(|unusable| match unusable {
            Unusable::Damaged(detail) => self.damaged(
                trailer.footer_offset,
                format!("its footer cannot be used: {detail}"),
            ),
            Unusable::NewerFormat(found) => RepositoryError::NewerFormat {
                object: format!("the footer of pack {pack_id}"),
                found,
                supported: FORMAT,
            },
        })
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, RepositoryError> {
        self.storage.get_range(&self.name, range)
    }

    fn damaged(&self, offset: u64, detail: String) -> RepositoryError {
        RepositoryError::PackDamaged {
            pack: self.expected.pack_id,
            offset,
            detail,
        }
    }
}
