//! Adopts what interrupted runs had sealed: their packs continue the chain as if this run had copied them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::EngineError;
use crate::engine::chain::Generation;
use crate::engine::transactions::OpenTransactions;
use crate::record::{Offset, PartitionId};
use crate::repository::{
    BackupId, Extent, Footer, Layer, Manifest, PackId, PackRef, Repository, TransactionEvent,
    UnfinishedRun,
};

/// An extent that an interrupted run has sealed.
#[derive(Debug, Clone)]
pub(super) struct SealedExtent {
    /// The pack that it lies in.
    pub pack: PackRef,
    /// Where; its own `pack` number means nothing here.
    pub extent: Extent,
    /// The run that sealed it.
    run_id: BackupId,
    /// Whether it is the first that this run sealed of the partition: the run has checked that the log continues what is
    /// before it.
    is_first: bool,
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
        for run in &runs {
            adoptable.add_run(repository, run, &wanted, &mut refused, warnings)?;
        }
        adoptable.extents.values_mut().for_each(|found| sort(found));
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
        warnings: &mut Vec<String>,
    ) -> Result<(), EngineError> {
        let starts = starts(run);
        for layer in &run.layers {
            let generation = generation(layer);
            if !wanted.contains(&generation) {
                continue;
            }
            for (partition, extents) in &layer.partitions {
                let key = (generation.clone(), *partition);
                for extent in extents {
                    let Some(pack) = layer.packs.get(extent.pack as usize) else {
                        continue;
                    };
                    if !self.opens(repository, pack, refused, warnings)? {
                        continue;
                    }
                    let sealed = SealedExtent {
                        pack: pack.clone(),
                        extent: extent.clone(),
                        run_id: run.run_id,
                        is_first: starts.get(&key) == Some(&extent.start_offset),
                    };
                    self.extents.entry(key.clone()).or_default().push(sealed);
                }
            }
        }
        Ok(())
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

/// By start, the longest first; of equals, the oldest run's.
fn sort(found: &mut [SealedExtent]) {
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

/// Where a run began to seal, by partition.
fn starts(run: &UnfinishedRun) -> BTreeMap<(Generation, PartitionId), Offset> {
    let mut starts = BTreeMap::new();
    for layer in &run.layers {
        for (partition, extents) in &layer.partitions {
            let Some(start) = extents.iter().map(|extent| extent.start_offset).min() else {
                continue;
            };
            let known = starts
                .entry((generation(layer), *partition))
                .or_insert(start);
            *known = start.min(*known);
        }
    }
    starts
}

/// Of `found`, which is sorted by start, the extents that follow one another from `held` on. Offsets between two of
/// them, or before the first, may be missing only where the log has lost them since: below `log_start`.
///
/// Two runs may have read different histories of one log, since an unclean leader election rewrote it in between. So
/// an extent follows another run's, or the chain, only where its run began: there that run asked the leader whether the
/// log continues what is before it.
fn continuing(
    found: &[SealedExtent],
    held: Option<Offset>,
    log_start: Offset,
    end: Offset,
) -> Vec<SealedExtent> {
    let mut next = held;
    let mut chain: Vec<SealedExtent> = Vec::new();
    for sealed in found {
        let start = sealed.extent.start_offset;
        let last = chain.last();
        let is_same_run = last.is_some_and(|last| last.run_id == sealed.run_id);
        // Epochs only grow along one history.
        let is_later =
            last.is_none_or(|last| last.extent.leader_epoch <= sealed.extent.leader_epoch);
        let continues = next == Some(start) && (is_same_run || sealed.is_first && is_later);
        let follows_loss = start <= log_start && next.is_none_or(|next| next < start);
        if (continues || follows_loss) && sealed.extent.end_offset() <= end {
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

    /// An extent of a run of its own.
    fn sealed(start: i64, end: i64) -> SealedExtent {
        SealedExtent {
            run_id: BackupId::new(chrono::Utc::now()),
            is_first: true,
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
        bounds(&continuing(
            &found,
            held.map(Offset),
            Offset(log_start),
            Offset(end),
        ))
    }

    fn bounds(adopted: &[SealedExtent]) -> Vec<(i64, i64)> {
        adopted
            .iter()
            .map(|sealed| (sealed.extent.start_offset.0, sealed.extent.end_offset().0))
            .collect()
    }

    /// Start, end and leader epoch of what one run sealed, in that order.
    fn sealed_by_one_run(extents: &[(i64, i64, i32)]) -> Vec<SealedExtent> {
        let run_id = BackupId::new(chrono::Utc::now());
        let sealed = extents.iter().enumerate().map(|(at, (start, end, epoch))| {
            let mut sealed = sealed(*start, *end);
            sealed.extent.leader_epoch = LeaderEpoch(*epoch);
            SealedExtent {
                run_id,
                is_first: at == 0,
                ..sealed
            }
        });
        sealed.collect()
    }

    /// What is adopted of all that some runs sealed, behind `held`.
    fn adopted_of_runs(runs: &[&[(i64, i64, i32)]], held: Option<i64>) -> Vec<(i64, i64)> {
        let mut found: Vec<SealedExtent> =
            runs.iter().flat_map(|run| sealed_by_one_run(run)).collect();
        sort(&mut found);
        bounds(&continuing(
            &found,
            held.map(Offset),
            Offset(0),
            Offset(1000),
        ))
    }

    #[test]
    fn what_a_run_sealed_is_not_continued_by_a_run_that_had_read_that_part_itself() {
        // The log was rewritten from 10 on between the two.
        let old: &[_] = &[(0, 10, 3), (10, 20, 3)];
        let new: &[_] = &[(0, 15, 4), (15, 20, 4), (20, 30, 4)];
        assert_eq!(adopted_of_runs(&[old], None), [(0, 10), (10, 20)]);
        assert_eq!(adopted_of_runs(&[new], None), [(0, 15), (15, 20), (20, 30)]);
        // The longer beginning is taken, and never the other's end behind it.
        let old: &[_] = &[(0, 20, 3)];
        assert_eq!(adopted_of_runs(&[old, new], None), [(0, 20)]);
    }

    #[test]
    fn what_a_run_sealed_is_continued_by_a_run_that_began_behind_it() {
        let first: &[_] = &[(0, 10, 3), (10, 20, 3)];
        let second: &[_] = &[(20, 30, 3), (30, 40, 4)];
        let all = [(0, 10), (10, 20), (20, 30), (30, 40)];
        assert_eq!(adopted_of_runs(&[first, second], None), all);
        assert_eq!(adopted_of_runs(&[first, second], Some(0)), all);
        let of_an_older_history: &[_] = &[(20, 30, 2)];
        assert_eq!(
            adopted_of_runs(&[first, of_an_older_history], None),
            [(0, 10), (10, 20)]
        );
    }

    #[test]
    fn a_chain_is_not_continued_by_a_run_that_had_read_the_chains_end_itself() {
        let run: &[_] = &[(0, 10, 3), (10, 20, 3)];
        assert_eq!(adopted_of_runs(&[run], Some(0)), [(0, 10), (10, 20)]);
        assert_eq!(adopted_of_runs(&[run], Some(10)), []);
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
