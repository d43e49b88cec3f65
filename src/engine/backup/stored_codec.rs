//! With which codec the blocks of a backup are compressed. A run compresses what it copies; what earlier runs copied stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::extents::is_needed;
use crate::record::Compression;
use crate::repository::{BackupId, Manifest, Repository, RepositoryError, TopicEntry};

/// The codec that kafkeep compressed most of a backup's bytes with; none where no block is compressed: the producers did that, or
/// it would not have become smaller. Reads the footer of every pack that the backup needs.
///
/// # Errors
///
/// Those of reading the manifest, the indexes and the footers.
pub async fn stored_codec(
    repository: &Arc<Repository>,
    backup_id: BackupId,
) -> Result<Option<Compression>, EngineError> {
    let looking = in_repository(
        repository,
        "the thread that reads the backup",
        move |repository| {
            let manifest = repository.manifest(&backup_id)?;
            most_used(repository, &manifest)
        },
    );
    looking.await
}

fn most_used(
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Option<Compression>, RepositoryError> {
    let mut bytes = BTreeMap::new();
    for topic in &manifest.topics {
        count(repository, topic, &mut bytes)?;
    }
    bytes.remove(&Compression::None.id());
    let most = bytes.into_values().max_by_key(|(bytes, _)| *bytes);
    Ok(most.map(|(_, codec)| codec))
}

/// Adds the bytes of the topic's batches, by the codec of their blocks.
fn count(
    repository: &Repository,
    topic: &TopicEntry,
    bytes: &mut BTreeMap<u8, (u64, Compression)>,
) -> Result<(), RepositoryError> {
    let Some(index) = &topic.index else {
        return Ok(());
    };
    let index = repository.index(index)?;
    let mut by_pack: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for entry in &topic.partitions {
        let extents = index.partitions.get(&entry.partition).into_iter().flatten();
        for extent in extents.filter(|it| is_needed(it, entry.start_offset, entry.end_offset)) {
            let range = extent.offset..extent.end();
            by_pack.entry(extent.pack).or_default().push(range);
        }
    }
    for (pack, ranges) in by_pack {
        let Some(pack) = index.packs.get(pack as usize) else {
            continue;
        };
        let pack = repository.open_pack(pack)?;
        for range in ranges {
            for block in pack.blocks_in(&range)? {
                let codec = block.header.compression;
                let (sum, _) = bytes.entry(codec.id()).or_insert((0, codec));
                *sum += u64::from(block.header.raw_len);
            }
        }
    }
    Ok(())
}
