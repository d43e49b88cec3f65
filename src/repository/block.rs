//! A block: whole batches of one partition, with a header that describes them and sums that prove them.

use std::sync::Arc;

use bytes::Bytes;

use super::block_header::BlockHeader;
use super::seal::BatchWalk;
use super::{BlockPlace, RepositoryError};

/// A block read back from a pack: its sums hold, and its batches are as long as the header says.
#[derive(Debug, Clone)]
pub struct Block {
    /// The name of its topic.
    pub topic: Arc<str>,
    /// Where it lies in its pack.
    pub place: BlockPlace,
    /// What its header says of it.
    pub header: BlockHeader,
    /// Whole batches, ascending. A part of the bytes read when they are stored as they are.
    pub raw: Bytes,
}

impl Block {
    /// Walks the batches: each one's CRC32C, and whether together they are what the header says.
    pub fn verify(&self) -> Result<(), RepositoryError> {
        let walk = BatchWalk::over(&self.raw, self.header.partition, None)?;
        if walk.describes(&self.header) {
            Ok(())
        } else {
            Err(RepositoryError::UnfitBatches {
                detail: "they are not what their block's header says".to_owned(),
            })
        }
    }
}
