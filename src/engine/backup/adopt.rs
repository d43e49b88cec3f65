//! Adopts what interrupted runs had sealed: their packs continue the chain as if this run had copied them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::EngineError;
use crate::engine::chain::Generation;
use crate::engine::refusal::Refusal;
use crate::engine::transactions::OpenTransactions;
use crate::record::{Offset, PartitionId};
use crate::repository::{
    BackupId, BatchEvidence, Extent, Layer, Manifest, PackId, PackReader, PackRef, Repository,
    RepositoryError, TransactionEvent, UnfinishedRun,
};

use super::held_batch::last_of_extent;

/// An extent that an interrupted run has sealed.
#[derive(Debug, Clone)]
pub(super) struct SealedExtent {
    /// The pack that it lies in.
    pub pack: PackRef,
    /// Where; its own `pack` number means nothing here.
    pub extent: Extent,
}

/// What an interrupted run has sealed of one partition. It all tells of one history of the log: so its last batch proves
/// the rest.
#[derive(Debug)]
pub(super) struct SealedRun {
    /// The run.
    pub run_id: BackupId,
    /// What it has sealed, ascending; at least one.
    pub extents: Vec<SealedExtent>,
    /// Evidence of the last batch.
    pub last_batch: BatchEvidence,
}

/// All that interrupted runs have sealed of the generations that a run wants, in packs that are there and sound.
#[derive(Debug, Default)]
pub(super) struct Adoptable {
    runs: Vec<UnfinishedRun>,
    packs: BTreeMap<PackId, PackReader>,
    sealed: BTreeMap<(Generation, PartitionId), Vec<SealedRun>>,
    refuted: BTreeSet<(Generation, PartitionId, BackupId)>,
}

impl Adoptable {
    /// Looks through the records of unfinished runs. What cannot be used becomes a warning.
    pub fn find(
        repository: &Repository,
        wanted: &[Generation],
        warnings: &mut Vec<Refusal>,
    ) -> Result<Self, EngineError> {
        let mut adoptable = Self::default();
        if wanted.is_empty() {
            return Ok(adoptable);
        }
        let (runs, unreadable) = repository.unfinished_runs()?;
        let passed_over = |error| Refusal::by(error, |error| format!("{error}; it is passed over"));
        warnings.extend(unreadable.iter().map(passed_over));
        let wanted: BTreeSet<&Generation> = wanted.iter().collect();
        let mut refused: BTreeSet<PackId> = BTreeSet::new();
        for run in &runs {
            adoptable.add_run(repository, run, &wanted, &mut refused, warnings)?;
        }
        adoptable.runs = runs;
        Ok(adoptable)
    }

    /// Adds what one run has sealed of the generations that are wanted.
    fn add_run(
        &mut self,
        repository: &Repository,
        run: &UnfinishedRun,
        wanted: &BTreeSet<&Generation>,
        refused: &mut BTreeSet<PackId>,
        warnings: &mut Vec<Refusal>,
    ) -> Result<(), EngineError> {
        let mut sealed: BTreeMap<(Generation, PartitionId), Vec<SealedExtent>> = BTreeMap::new();
        for layer in &run.layers {
            let generation = generation(layer);
            if !wanted.contains(&generation) {
                continue;
            }
            for (partition, extents) in &layer.partitions {
                for extent in extents {
                    let Some(pack) = layer.packs.get(extent.pack as usize) else {
                        continue;
                    };
                    if self.opens(repository, pack, refused, warnings)? {
                        let key = (generation.clone(), *partition);
                        sealed.entry(key).or_default().push(SealedExtent {
                            pack: pack.clone(),
                            extent: extent.clone(),
                        });
                    }
                }
            }
        }
        for (key, extents) in sealed {
            // The first versions of kafkeep went on under the same id when a log turned out to be rewritten.
            let is_one_history = extents.is_sorted_by(|earlier, later| {
                earlier.extent.last_offset < later.extent.base_offset
            });
            if let Some(last_batch) = self.last_batch(&extents, warnings)?
                && is_one_history
            {
                self.sealed.entry(key).or_default().push(SealedRun {
                    run_id: run.run_id,
                    extents,
                    last_batch,
                });
            }
        }
        Ok(())
    }

    /// Evidence of the last batch of extents, from its pack.
    fn last_batch(
        &self,
        extents: &[SealedExtent],
        warnings: &mut Vec<Refusal>,
    ) -> Result<Option<BatchEvidence>, EngineError> {
        let Some((last, pack)) = extents
            .last()
            .and_then(|last| Some((last, self.packs.get(&last.pack.pack_id)?)))
        else {
            return Ok(None);
        };
        match last_of_extent(pack, &last.extent) {
            Err(error) if error.is_damage() => {
                warnings.push(copied_again(&error));
                Ok(None)
            }
            evidence => Ok(evidence?),
        }
    }

    /// What interrupted runs have sealed of a partition.
    pub fn sealed(&self, generation: &Generation, partition: PartitionId) -> &[SealedRun] {
        let sealed = self.sealed.get(&(generation.clone(), partition));
        sealed.map_or(&[], Vec::as_slice)
    }

    fn opens(
        &mut self,
        repository: &Repository,
        pack: &PackRef,
        refused: &mut BTreeSet<PackId>,
        warnings: &mut Vec<Refusal>,
    ) -> Result<bool, EngineError> {
        if self.packs.contains_key(&pack.pack_id) || refused.contains(&pack.pack_id) {
            return Ok(!refused.contains(&pack.pack_id));
        }
        match repository.open_pack(pack) {
            Ok(reader) => {
                self.packs.insert(pack.pack_id, reader);
                Ok(true)
            }
            Err(error) if error.is_damage() => {
                refused.insert(pack.pack_id);
                warnings.push(copied_again(&error));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The extents that continue a chain which ends at `held`, as far as the log still goes, of the runs whose last batch
    /// is proven to be in the log: all of them tell of the log's present history.
    pub fn continuing(
        &self,
        generation: &Generation,
        partition: PartitionId,
        is_proven: impl Fn(&BackupId) -> bool,
        held: Option<Offset>,
        log_start: Offset,
        end: Offset,
    ) -> Vec<SealedExtent> {
        let runs = self.sealed(generation, partition).iter();
        let proven = runs.filter(|run| is_proven(&run.run_id));
        let mut found: Vec<&SealedExtent> = proven.flat_map(|run| &run.extents).collect();
        sort(&mut found);
        let chain = continuing(&found, held, log_start, end);
        // What lies wholly below the log's start belongs to no backup any more, unless a chain leads over it.
        if held.is_none()
            && chain
                .last()
                .is_some_and(|last| last.extent.end_offset() <= log_start)
        {
            return Vec::new();
        }
        chain
    }

    /// Follows the transactions of adopted extents.
    pub fn follow(
        &self,
        generation: &Generation,
        partition: PartitionId,
        adopted: &[SealedExtent],
        open: &mut OpenTransactions,
    ) {
        for sealed in adopted.iter().filter(|sealed| sealed.extent.transactional) {
            let Some(pack) = self.packs.get(&sealed.pack.pack_id) else {
                continue;
            };
            let extent = &sealed.extent;
            let inside = |event: &TransactionEvent| {
                (extent.base_offset..=extent.last_offset).contains(&event.offset)
            };
            let events: Vec<TransactionEvent> = pack
                .footer()
                .transactions_of(&generation.topic, generation.topic_id, partition)
                .filter(inside)
                .collect();
            open.follow(&events);
        }
    }

    /// Takes note that what a run has sealed of a partition is of another history than the log's.
    pub fn refute(&mut self, generation: &Generation, partition: PartitionId, run: BackupId) {
        self.refuted.insert((generation.clone(), partition, run));
    }

    /// The runs whose records tell nothing that `manifest` does not hold: all their topics are in it, and not
    /// beyond its ends, unless it had to begin a topic's chain again, or they are refuted.
    pub fn superseded(self, manifest: &Manifest) -> Vec<BackupId> {
        let superseded = |run: &UnfinishedRun| {
            run.layers.iter().all(|layer| {
                let entry = manifest.topics.iter().find(|entry| {
                    (&entry.topic, entry.topic_id, &manifest.cluster_id)
                        == (&layer.topic, layer.topic_id, &layer.cluster_id)
                });
                entry.is_some_and(|entry| {
                    entry.chain_restarted.is_some()
                        || layer.partitions.iter().all(|(partition, extents)| {
                            let end = entry
                                .partitions
                                .iter()
                                .find(|entry| entry.partition == *partition)
                                .map(|entry| entry.end_offset);
                            let key = (generation(layer), *partition, run.run_id);
                            self.refuted.contains(&key)
                                || extents
                                    .last()
                                    .is_none_or(|last| end >= Some(last.end_offset()))
                        })
                })
            })
        };
        let runs = self.runs.iter().filter(|run| superseded(run));
        runs.map(|run| run.run_id).collect()
    }
}

/// By start, the longest first; of equals, the oldest run's.
fn sort(found: &mut [&SealedExtent]) {
    found.sort_by_key(|sealed| {
        let extent = &sealed.extent;
        (extent.start_offset, Reverse(extent.last_offset))
    });
}

fn generation(layer: &Layer) -> Generation {
    Generation {
        cluster_id: layer.cluster_id.clone(),
        topic: layer.topic.clone(),
        topic_id: layer.topic_id,
    }
}

fn copied_again(error: &RepositoryError) -> Refusal {
    Refusal::by(error, |error| {
        format!("{error}; an interrupted run had sealed it, and it is copied again")
    })
}

/// Of `found`, which is sorted by start, the extents that follow one another from `held` on. Offsets between two of
/// them, or before the first, may be missing only where the log has lost them since: below `log_start`.
fn continuing(
    found: &[&SealedExtent],
    held: Option<Offset>,
    log_start: Offset,
    end: Offset,
) -> Vec<SealedExtent> {
    let mut next = held;
    let mut chain: Vec<SealedExtent> = Vec::new();
    for sealed in found {
        let start = sealed.extent.start_offset;
        let follows_loss = start <= log_start && next.is_none_or(|next| next < start);
        if (next == Some(start) || follows_loss) && sealed.extent.end_offset() <= end {
            next = Some(sealed.extent.end_offset());
            chain.push((*sealed).clone());
        }
    }
    chain
}

#[cfg(test)]
#[path = "adopt_simulation.rs"]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{LeaderEpoch, Timestamp};
    use crate::repository::{PackId, Sha256};

    fn sealed(start: i64, end: i64) -> SealedExtent {
        SealedExtent {
            pack: PackRef {
                pack_id: PackId::now(),
                length: 1 << 20,
                footer_sha256: Sha256::of(b""),
            },
            extent: Extent {
                pack: 0,
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
            },
        }
    }

    /// Start and end of what is adopted of `found`.
    fn adopted(
        found: &[(i64, i64)],
        held: Option<i64>,
        log_start: i64,
        end: i64,
    ) -> Vec<(i64, i64)> {
        let found: Vec<SealedExtent> = found
            .iter()
            .map(|(start, end)| sealed(*start, *end))
            .collect();
        let mut found: Vec<&SealedExtent> = found.iter().collect();
        sort(&mut found);
        continuing(&found, held.map(Offset), Offset(log_start), Offset(end))
            .iter()
            .map(|sealed| (sealed.extent.start_offset.0, sealed.extent.end_offset().0))
            .collect()
    }

    #[test]
    fn extents_that_follow_one_another_are_adopted() {
        let found = [(0, 10), (10, 20), (20, 30)];
        assert_eq!(adopted(&found, None, 0, 100), found);
        assert_eq!(adopted(&found, Some(10), 0, 100), [(10, 20), (20, 30)]);
    }

    #[test]
    fn a_hole_ends_the_adoption_unless_the_log_has_lost_those_offsets_too() {
        let found = [(0, 10), (15, 20), (20, 30)];
        assert_eq!(adopted(&found, None, 0, 100), [(0, 10)]);
        assert_eq!(adopted(&found, None, 15, 100), found);
        assert_eq!(adopted(&found, Some(12), 0, 100), []);
        assert_eq!(adopted(&found, Some(12), 15, 100), [(15, 20), (20, 30)]);
    }

    #[test]
    fn nothing_beyond_the_logs_end_is_adopted() {
        assert_eq!(adopted(&[(0, 10), (10, 20)], None, 0, 19), [(0, 10)]);
    }

    #[test]
    fn what_two_runs_sealed_is_adopted_once() {
        let found = [(0, 10), (0, 10), (10, 20), (10, 15), (20, 30)];
        assert_eq!(adopted(&found, None, 0, 100), [(0, 10), (10, 20), (20, 30)]);
    }
}
