//! Adopts what interrupted runs had sealed: their packs continue the chain as if this run had copied them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::EngineError;
use crate::engine::chain::Generation;
use crate::engine::transactions::OpenTransactions;
use crate::record::{Offset, PartitionId};
use crate::repository::{
    BackupId, Extent, Footer, Manifest, PackId, PackRef, Repository, TransactionEvent,
    UnfinishedRun,
};

/// An extent that an interrupted run has sealed.
#[derive(Debug, Clone)]
pub(super) struct SealedExtent {
    /// The pack that it lies in.
    pub pack: PackRef,
    /// Where; its own `pack` number means nothing here.
    pub extent: Extent,
}

/// All that interrupted runs have sealed of the generations that a run wants, in packs that are there and sound.
#[derive(Debug, Default)]
pub(super) struct Adoptable {
    runs: Vec<UnfinishedRun>,
    footers: BTreeMap<PackId, Footer>,
    extents: BTreeMap<(Generation, PartitionId), Vec<SealedExtent>>,
}

impl Adoptable {
    /// Looks through the records of unfinished runs. What cannot be used becomes a warning.
    pub fn find(
        repository: &Repository,
        wanted: &[Generation],
        warnings: &mut Vec<String>,
    ) -> Result<Self, EngineError> {
        let mut adoptable = Self::default();
        if wanted.is_empty() {
            return Ok(adoptable);
        }
        let (runs, unreadable) = repository.unfinished_runs()?;
        warnings.extend(
            unreadable
                .iter()
                .map(|error| format!("{}; it is passed over", error.with_cause())),
        );
        let wanted: BTreeSet<&Generation> = wanted.iter().collect();
        let mut refused: BTreeSet<PackId> = BTreeSet::new();
        for layer in runs.iter().flat_map(|run| &run.layers) {
            let generation = Generation {
                cluster_id: layer.cluster_id.clone(),
                topic: layer.topic.clone(),
                topic_id: layer.topic_id,
            };
            if !wanted.contains(&generation) {
                continue;
            }
            for (partition, extents) in &layer.partitions {
                for extent in extents {
                    let Some(pack) = layer.packs.get(extent.pack as usize) else {
                        continue;
                    };
                    if !adoptable.opens(repository, pack, &mut refused, warnings)? {
                        continue;
                    }
                    let key = (generation.clone(), *partition);
                    adoptable
                        .extents
                        .entry(key)
                        .or_default()
                        .push(SealedExtent {
                            pack: pack.clone(),
                            extent: extent.clone(),
                        });
                }
            }
        }
        for extents in adoptable.extents.values_mut() {
            extents.sort_by_key(|sealed| {
                let extent = &sealed.extent;
                (extent.start_offset, Reverse(extent.last_offset))
            });
        }
        adoptable.runs = runs;
        Ok(adoptable)
    }

    fn opens(
        &mut self,
        repository: &Repository,
        pack: &PackRef,
        refused: &mut BTreeSet<PackId>,
        warnings: &mut Vec<String>,
    ) -> Result<bool, EngineError> {
        if self.footers.contains_key(&pack.pack_id) || refused.contains(&pack.pack_id) {
            return Ok(!refused.contains(&pack.pack_id));
        }
        match repository.open_pack(pack) {
            Ok(reader) => {
                self.footers.insert(pack.pack_id, reader.footer().clone());
                Ok(true)
            }
            Err(error) if error.is_damage() => {
                refused.insert(pack.pack_id);
                warnings.push(format!(
                    "{}; an interrupted run had sealed it, and it is copied anew",
                    error.with_cause()
                ));
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The extents that continue a chain which ends at `held`, as far as the log still goes.
    pub fn continuing(
        &self,
        generation: &Generation,
        partition: PartitionId,
        held: Option<Offset>,
        log_start: Offset,
        end: Offset,
    ) -> Vec<SealedExtent> {
        let found = self.extents.get(&(generation.clone(), partition));
        let chain = continuing(found.map_or(&[], Vec::as_slice), held, log_start, end);
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
            let Some(footer) = self.footers.get(&sealed.pack.pack_id) else {
                continue;
            };
            let extent = &sealed.extent;
            let inside = |event: &TransactionEvent| {
                (extent.base_offset..=extent.last_offset).contains(&event.offset)
            };
            let events: Vec<TransactionEvent> = footer
                .transactions_of(&generation.topic, generation.topic_id, partition)
                .filter(inside)
                .collect();
            open.follow(&events);
        }
    }

    /// The runs whose records tell nothing that `manifest` does not hold: all their topics are in it, and not
    /// beyond its ends, unless it had to begin a topic's chain anew.
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
                            extents
                                .last()
                                .is_none_or(|last| end >= Some(last.end_offset()))
                        })
                })
            })
        };
        let runs = self.runs.into_iter().filter(superseded);
        runs.map(|run| run.run_id).collect()
    }
}

/// Of `found`, which is sorted by start, the extents that follow one another from `held` on. Offsets between two of
/// them, or before the first, may be missing only where the log has lost them since: below `log_start`.
fn continuing(
    found: &[SealedExtent],
    held: Option<Offset>,
    log_start: Offset,
    end: Offset,
) -> Vec<SealedExtent> {
    let mut next = held;
    let mut chain = Vec::new();
    for sealed in found {
        let start = sealed.extent.start_offset;
        let follows =
            next == Some(start) || (start <= log_start && next.is_none_or(|next| next < start));
        if follows && sealed.extent.end_offset() <= end {
            next = Some(sealed.extent.end_offset());
            chain.push(sealed.clone());
        }
    }
    chain
}

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
