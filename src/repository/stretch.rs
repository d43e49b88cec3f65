//! Neighbouring blocks of a pack that are read at once.

use std::ops::Range;

use super::footer::FooterBlock;

/// Some blocks of a pack, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a>(&'a [FooterBlock]);

impl<'a> Stretch<'a> {
    /// Splits blocks, one behind the other, into stretches of at most `most` bytes, in the pack as in memory. A larger block
    /// is a stretch of its own.
    pub fn split(blocks: &'a [FooterBlock], most: u64) -> impl Iterator<Item = Self> {
        let mut rest = blocks;
        std::iter::from_fn(move || {
            let start = rest.first()?.place.offset;
            let mut raw_bytes = 0;
            let fits = |block: &&FooterBlock| {
                raw_bytes += u64::from(block.header.raw_len);
                raw_bytes.max(block.place.end() - start) <= most
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            rest = later;
            Some(Self(now))
        })
    }

    /// The blocks to read at once: neighbours in one pack, ascending.
    pub fn blocks(&self) -> &'a [FooterBlock] {
        self.0
    }

    /// Where they lie in the pack.
    pub fn place(&self) -> Range<u64> {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => first.place.offset..last.place.end(),
            _ => 0..0,
        }
    }

    /// What reading them takes, in bytes: as they lie in the pack, and decompressed.
    pub fn in_memory(&self) -> u64 {
        let bytes = |block: &FooterBlock| block.place.len + u64::from(block.header.raw_len);
        self.0.iter().map(bytes).sum()
    }
}
