//! Writes sealed blocks into packs, on one thread, and keeps account of what lies where.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::extents::Held;
use crate::engine::transactions::OpenTransactions;
use crate::engine::{EngineError, Progress, Stop};
use crate::record::{PartitionId, TopicId};
use crate::repository::{BackupId, BatchEvidence, Extent, Layer, PackRef, PackWriter, Repository};

use super::plan::BackupPlan;
use super::seal::SealedChunk;
use super::{BackupOptions, SpaceLimit};

/// What a run stored of one partition.
#[derive(Debug, Default)]
pub(super) struct StoredPartition {
    /// Runs of blocks, ascending; `pack` counts into [`Stored::packs`].
    pub extents: Vec<Extent>,
    /// Records within the bounds.
    pub records: u64,
    /// Transactions whose marker is not there yet, with what the chain had left open.
    pub open: OpenTransactions,
    /// The first and the last batch that the run stored itself.
    pub ends: Option<(BatchEvidence, BatchEvidence)>,
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
    /// The packs: adopted ones, then the run's own in the order of writing.
    pub packs: Vec<PackRef>,
    /// By the partition's place in the run's table.
    pub partitions: BTreeMap<usize, StoredPartition>,
}

impl Stored {
    /// What the run takes over, as if it had stored it itself.
    fn adopted(plan: &BackupPlan) -> Self {
        let mut stored = Self::default();
        for (slot, (_, partition)) in plan.partitions().enumerate() {
            let mut entry = StoredPartition {
                open: partition.open.clone(),
                ..StoredPartition::default()
            };
            for sealed in &partition.adopted {
                let known = stored.packs.iter().position(|pack| *pack == sealed.pack);
                let number = known.unwrap_or(stored.packs.len());
                if known.is_none() {
                    stored.packs.push(sealed.pack.clone());
                }
                entry.records += sealed.extent.records;
                entry.extents.push(Extent {
                    pack: pack_number(number),
                    ..sealed.extent.clone()
                });
            }
            stored.partitions.insert(slot, entry);
        }
        stored
    }
}

fn pack_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The run's own thread of writing.
pub(super) struct Store {
    stored: Stored,
    /// Bytes of blocks that the run stored itself.
    added: u64,
    pack_size: u64,
    record: Option<Record>,
    room: Option<SpaceLimit>,
    stop: Stop,
}

/// Where a run that may be continued writes down which packs are durable.
struct Record {
    run_id: BackupId,
    cluster_id: String,
    /// Topic and partition by place in the run's table.
    table: Vec<(Arc<str>, TopicId, PartitionId)>,
}

impl Store {
    /// Begins with what `plan` adopts.
    pub fn new(plan: &BackupPlan, run_id: BackupId, options: &BackupOptions) -> Self {
        let table = plan.partitions().map(|(topic, partition)| {
            (
                topic.topic.as_str().into(),
                topic.topic_id,
                partition.partition,
            )
        });
        // One-off backups neither continue nor start a chain.
        let record = options.selection.is_none().then(|| Record {
            run_id,
            cluster_id: plan.cluster_id.clone(),
            table: table.collect(),
        });
        Self {
            stored: Stored::adopted(plan),
            added: 0,
            pack_size: options.pack_size,
            record,
            room: options.room.clone(),
            stop: options.stop.clone(),
        }
    }

    /// Takes sealed chunks until the channel closes; everything it returns is durable.
    pub fn store_all(
        mut self,
        repository: &Repository,
        mut chunks: mpsc::Receiver<SealedChunk>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Stored, EngineError> {
        let mut writer: Option<PackWriter> = None;
        while let Some(chunk) = chunks.blocking_recv() {
            let pack = match &mut writer {
                Some(pack) => pack,
                None => writer.insert(repository.pack_writer()?),
            };
            let number = self.stored.packs.len();
            store(
                pack,
                number,
                &chunk,
                self.stored.partitions.entry(chunk.slot).or_default(),
            )?;
            self.added += chunk.block.header.len();
            if let Some(room) = &self.room {
                room.refuse(self.added, "it adds more than")?;
            }
            let header = &chunk.block.header;
            let offsets = u64::try_from(header.last_offset.0 - chunk.start.0 + 1).unwrap_or(0);
            progress.advanced(offsets, u64::from(header.raw_len));
            if pack.is_full(self.pack_size)
                && let Some(full) = writer.take()
            {
                self.stored.packs.push(full.finish()?);
                self.record_last(repository)?;
            }
        }
        if let Some(last) = writer {
            self.stored.packs.push(last.finish()?);
            // Otherwise the manifest follows at once, and the last pack is not worth a record.
            if self.stop.is_cancelled() {
                self.record_last(repository)?;
            }
        }
        Ok(self.stored)
    }

    /// Writes down what the pack just finished holds.
    fn record_last(&self, repository: &Repository) -> Result<(), EngineError> {
        let (Some(record), Some((pack, earlier))) = (&self.record, self.stored.packs.split_last())
        else {
            return Ok(());
        };
        let number = pack_number(earlier.len());
        let mut layers: Vec<Layer> = Vec::new();
        for (slot, partition) in &self.stored.partitions {
            let Some((topic, topic_id, id)) = record.table.get(*slot) else {
                continue;
            };
            let first = partition
                .extents
                .partition_point(|extent| extent.pack < number);
            for extent in partition.extents.get(first..).unwrap_or_default() {
                // Partitions of a topic are neighbours in the table.
                let layer = match layers.last_mut() {
                    Some(layer) if (layer.topic.as_str(), layer.topic_id) == (topic, *topic_id) => {
                        layer
                    }
                    _ => {
                        layers.push(Layer::new(&**topic, *topic_id, &record.cluster_id));
                        layers.last_mut().ok_or(EngineError::Lost("a layer"))?
                    }
                };
                layer.push(*id, pack, extent.clone())?;
            }
        }
        Ok(repository.record_run(record.run_id, pack.pack_id, layers)?)
    }
}

fn store(
    pack: &mut PackWriter,
    number: usize,
    chunk: &SealedChunk,
    partition: &mut StoredPartition,
) -> Result<(), EngineError> {
    let place = pack.append(&chunk.topic, &chunk.block)?;
    let header = &chunk.block.header;
    partition.records += u64::from(header.records).saturating_sub(chunk.outside);
    partition.open.follow(&chunk.block.transactions);
    let first = partition
        .ends
        .map_or(chunk.block.first_batch, |(first, _)| first);
    partition.ends = Some((first, chunk.block.last_batch));
    let extent = Extent::of_block(pack_number(number), place, chunk.start, header);
    let absorbed = partition
        .extents
        .last_mut()
        .is_some_and(|last| last.absorb(&extent));
    if !absorbed {
        partition.extents.push(extent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::record::{LeaderEpoch, Offset, Timestamp};
    use crate::repository::{DirectoryStorage, PackId, Sha256};

    const TOPIC_ID: TopicId = TopicId(*b"0123456789abcdef");

    fn pack() -> PackRef {
        PackRef {
            pack_id: PackId::now(),
            length: 1 << 20,
            footer_sha256: Sha256::of(b""),
        }
    }

    fn extent(pack: u32, start: i64, end: i64) -> Extent {
        Extent {
            pack,
            offset: 64,
            length: 1000,
            start_offset: Offset(start),
            base_offset: Offset(start),
            last_offset: Offset(end - 1),
            batches: 1,
            records: 1,
            control_records: 0,
            raw_bytes: 1,
            min_timestamp: Timestamp(0),
            max_timestamp: Timestamp(0),
            leader_epoch: LeaderEpoch(0),
            largest_batch: 1,
            transactional: false,
        }
    }

    /// A store of `run_id` that has just finished the last of these extents' packs, and began with the packs before it.
    fn store(run_id: BackupId, extents: Vec<Extent>) -> Store {
        let partition = StoredPartition {
            extents: extents.clone(),
            ..StoredPartition::default()
        };
        Store {
            stored: Stored {
                packs: extents.iter().map(|_| pack()).collect(),
                partitions: BTreeMap::from([(0, partition)]),
            },
            added: 0,
            pack_size: 1,
            record: Some(Record {
                run_id,
                cluster_id: "cluster".to_owned(),
                table: vec![("orders".into(), TOPIC_ID, PartitionId(0))],
            }),
            room: None,
            stop: Stop::new(),
        }
    }

    #[test]
    fn a_store_that_adopted_fewer_packs_than_its_run_has_recorded_records_its_own_beside_them() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(DirectoryStorage::open(directory.path()).unwrap());
        let repository = Repository::init(storage).unwrap();
        let run_id = BackupId::new(Utc::now());
        let first = store(run_id, vec![extent(0, 0, 10)]);
        first.record_last(&repository).unwrap();
        let second = store(run_id, vec![extent(0, 0, 20)]);
        second.record_last(&repository).unwrap();
        let (runs, unreadable) = repository.unfinished_runs().unwrap();
        assert!(unreadable.is_empty(), "{unreadable:?}");
        let packs = runs.iter().flat_map(|run| &run.layers);
        let packs: Vec<PackId> = packs
            .flat_map(|layer| layer.packs.iter().map(|pack| pack.pack_id))
            .collect();
        let expected = [first, second].map(|store| store.stored.packs[0].pack_id);
        assert_eq!(packs, expected, "in the order of sealing");
    }
}
