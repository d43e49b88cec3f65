//! Batches that packs hold, for seams whose evidence no manifest tells.

use bytes::Bytes;

use crate::record::{BatchRef, Offset, PartitionId, batches};
use crate::repository::{
    BatchEvidence, Extent, FooterBlock, PackReader, Repository, RepositoryError, TopicIndex,
};

/// The last batch of an extent.
pub(super) fn last_of_extent(
    pack: &PackReader,
    extent: &Extent,
) -> Result<Option<BatchEvidence>, RepositoryError> {
    let blocks = pack.blocks_in(&(extent.offset..extent.end()))?;
    let Some(block) = blocks.last() else {
        return Ok(None);
    };
    let last = find_batch(pack, block, block.header.last_offset)?;
    evidence(last.as_ref())
}

/// The last batch that an index holds of a partition.
pub(super) fn last_held(
    repository: &Repository,
    index: &TopicIndex,
    partition: PartitionId,
) -> Result<Option<BatchEvidence>, RepositoryError> {
    let extents = index.partitions.get(&partition);
    let Some(extent) = extents.and_then(|extents| extents.last()) else {
        return Ok(None);
    };
    match index.packs.get(extent.pack as usize) {
        Some(pack) => last_of_extent(&repository.open_pack(pack)?, extent),
        None => Ok(None),
    }
}

/// The first batch that an index holds of a partition which ends at `offset` or behind it.
pub(super) fn held_at(
    repository: &Repository,
    index: &TopicIndex,
    partition: PartitionId,
    offset: Offset,
) -> Result<Option<Bytes>, RepositoryError> {
    let extents = index.partitions.get(&partition);
    let extent = extents
        .into_iter()
        .flatten()
        .find(|extent| extent.last_offset >= offset);
    let Some((extent, pack)) =
        extent.and_then(|extent| Some((extent, index.packs.get(extent.pack as usize)?)))
    else {
        return Ok(None);
    };
    let pack = repository.open_pack(pack)?;
    let blocks = pack.blocks_in(&(extent.offset..extent.end()))?;
    match blocks
        .iter()
        .find(|block| block.header.last_offset >= offset)
    {
        Some(block) => find_batch(&pack, block, offset),
        None => Ok(None),
    }
}

/// The evidence of the batch at the front of `bytes`.
pub(super) fn evidence(bytes: Option<&Bytes>) -> Result<Option<BatchEvidence>, RepositoryError> {
    Ok(front(bytes)?.as_ref().map(BatchEvidence::from))
}

/// The batch at the front of `bytes`.
pub(super) fn front(bytes: Option<&Bytes>) -> Result<Option<BatchRef<'_>>, RepositoryError> {
    let batch = bytes.and_then(|bytes| batches(bytes).next()).transpose();
    batch.map_err(RepositoryError::Batch)
}

fn find_batch(
    pack: &PackReader,
    block: &FooterBlock,
    offset: Offset,
) -> Result<Option<Bytes>, RepositoryError> {
    let place = block.place.offset..block.place.end();
    for block in pack.read_blocks(place)? {
        let mut at = 0;
        for batch in batches(&block.raw) {
            let batch = batch.map_err(RepositoryError::Batch)?;
            if batch.last_offset() >= offset {
                return Ok(Some(block.raw.slice(at..at + batch.len())));
            }
            at += batch.len();
        }
    }
    Ok(None)
}
