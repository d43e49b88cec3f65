//! Writes sealed blocks into packs, on one thread, and keeps account of what lies where.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::extents::Held;
use crate::engine::transactions::OpenTransactions;
use crate::engine::{EngineError, Progress};
use crate::repository::{Extent, PackRef, PackWriter, Repository};

use super::seal::SealedChunk;

/// What a run stored of one partition.
#[derive(Debug, Default)]
pub(super) struct StoredPartition {
    /// Runs of blocks, ascending; `pack` counts into [`Stored::packs`].
    pub extents: Vec<Extent>,
    /// Records within the bounds.
    pub records: u64,
    /// Transactions whose marker is not there yet, with what the chain had left open.
    pub open: OpenTransactions,
}

impl StoredPartition {
    /// The sum of it.
    pub fn held(&self) -> Held {
        let all = self
            .extents
            .iter()
            .map(Held::of_extent)
            .fold(Held::default(), Held::with);
        Held {
            records: self.records,
            ..all
        }
    }
}

/// What a run stored.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// The packs, in the order of writing.
    pub packs: Vec<PackRef>,
    /// By the partition's place in the run's table.
    pub partitions: BTreeMap<usize, StoredPartition>,
}

/// Takes sealed chunks until the channel closes; everything it returns is durable.
pub(super) fn store_all(
    repository: &Repository,
    mut chunks: mpsc::Receiver<SealedChunk>,
    open: BTreeMap<usize, OpenTransactions>,
    progress: &Arc<dyn Progress>,
) -> Result<Stored, EngineError> {
    let mut stored = Stored::default();
    for (slot, open) in open {
        stored.partitions.insert(
            slot,
            StoredPartition {
                open,
                ..StoredPartition::default()
            },
        );
    }
    let mut writer: Option<PackWriter> = None;
    while let Some(chunk) = chunks.blocking_recv() {
        let pack = match &mut writer {
            Some(pack) => pack,
            None => writer.insert(repository.pack_writer()?),
        };
        store(
            pack,
            stored.packs.len(),
            &chunk,
            stored.partitions.entry(chunk.slot).or_default(),
        )?;
        let header = &chunk.block.header;
        let offsets = u64::try_from(header.last_offset.0 - chunk.start.0 + 1).unwrap_or(0);
        progress.advanced(offsets, u64::from(header.raw_len));
        if pack.is_full()
            && let Some(full) = writer.take()
        {
            stored.packs.push(full.finish()?);
        }
    }
    if let Some(last) = writer {
        stored.packs.push(last.finish()?);
    }
    Ok(stored)
}

fn store(
    pack: &mut PackWriter,
    pack_number: usize,
    chunk: &SealedChunk,
    partition: &mut StoredPartition,
) -> Result<(), EngineError> {
    let place = pack.append(&chunk.topic, &chunk.block)?;
    let header = &chunk.block.header;
    partition.records += u64::from(header.records).saturating_sub(chunk.outside);
    partition.open.follow(&chunk.block.transactions);
    let pack_number = u32::try_from(pack_number).unwrap_or(u32::MAX);
    let extent = Extent::of_block(pack_number, place, chunk.start, header);
    let absorbed = partition
        .extents
        .last_mut()
        .is_some_and(|last| last.absorb(&extent));
    if !absorbed {
        partition.extents.push(extent);
    }
    Ok(())
}
