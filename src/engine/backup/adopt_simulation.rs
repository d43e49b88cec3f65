//! Random histories of a log that is torn again and again, and backups of it that are killed: whatever is adopted must be
//! the beginning of what the log holds now. `KAFKEEP_SEED=N` runs one seed, `KAFKEEP_SEEDS=N` more of them.

use chrono::Utc;

use super::*;
use crate::engine::backup::seams::{SeamVerdict, compare};
use crate::record::{LeaderEpoch, Timestamp};
use crate::repository::Sha256;

const CLUSTER: &str = "cluster";

/// Knuth's MMIX.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A log of batches. Its sums tell one history from another, as producers' sums do.
#[derive(Debug, Clone, Default)]
struct Log {
    batches: Vec<BatchEvidence>,
    epoch: i32,
    written: u32,
}

impl Log {
    fn end(&self) -> Offset {
        let last = self.batches.last();
        last.map_or(Offset(0), BatchEvidence::end_offset)
    }

    /// Batches of one to four records: so the bounds of two histories meet often.
    fn write(&mut self, random: &mut Random) {
        for _ in 0..random.below(12) {
            let base = self.end().0;
            self.written += 1;
            self.batches.push(BatchEvidence {
                base_offset: Offset(base),
                last_offset: Offset(base + random.below(4) as i64),
                leader_epoch: LeaderEpoch(self.epoch),
                crc32c: self.written,
                max_timestamp: Timestamp(0),
            });
        }
    }

    /// An unclean election: the new leader lacks some of the end.
    fn tear(&mut self, random: &mut Random) {
        let kept = random.below(self.batches.len() as u64 + 1);
        self.batches.truncate(kept as usize);
        self.epoch += 1 + random.below(2) as i32;
    }

    /// A topic of the same name, without an id: its epochs begin again.
    fn recreate(&mut self) {
        (self.batches, self.epoch) = (Vec::new(), 0);
    }

    fn at(&self, offset: Offset) -> Option<&BatchEvidence> {
        self.batches
            .iter()
            .find(|batch| batch.last_offset >= offset)
    }

    /// From a batch's end on.
    fn from(&self, offset: Offset) -> impl Iterator<Item = &BatchEvidence> {
        self.batches
            .iter()
            .filter(move |batch| batch.base_offset >= offset)
    }

    /// Whether the leader says that this epoch reaches to this offset (`LeaderEpochFileCache.endOffsetFor`).
    fn continues(&self, epoch: LeaderEpoch, offset: Offset) -> bool {
        let later = self.batches.iter().find(|batch| batch.leader_epoch > epoch);
        let end = later.map_or(self.end(), |batch| batch.base_offset);
        epoch.0 <= self.epoch && end >= offset
    }
}

fn generation() -> Generation {
    Generation {
        cluster_id: CLUSTER.to_owned(),
        topic: "torn".to_owned(),
        topic_id: Default::default(),
    }
}

fn sealed(batches: &[BatchEvidence]) -> Option<SealedExtent> {
    let (first, last) = (batches.first()?, batches.last()?);
    Some(SealedExtent {
        pack: PackRef {
            pack_id: PackId::now(),
            length: 1 << 20,
            footer_sha256: Sha256::of(b""),
        },
        extent: Extent {
            pack: 0,
            offset: 64,
            length: 1000,
            start_offset: first.base_offset,
            base_offset: first.base_offset,
            last_offset: last.last_offset,
            batches: batches.len() as u64,
            records: 1,
            control_records: 0,
            raw_bytes: 1,
            min_timestamp: Timestamp(0),
            max_timestamp: Timestamp(0),
            leader_epoch: last.leader_epoch,
            largest_batch: 1,
            transactional: false,
        },
    })
}

/// What a backup that was killed has sealed, with the batches themselves.
struct Killed {
    run_id: BackupId,
    packs: Vec<(SealedExtent, Vec<BatchEvidence>)>,
}

impl Killed {
    fn sealed(&self) -> Option<SealedRun> {
        let (_, last) = self.packs.last()?;
        Some(SealedRun {
            run_id: self.run_id,
            extents: self
                .packs
                .iter()
                .map(|(extent, _)| extent.clone())
                .collect(),
            last_batch: *last.last()?,
        })
    }
}

/// What is adopted of all that was left behind.
fn adopted(log: &Log, killed: &[Killed], proves: bool) -> Vec<SealedExtent> {
    let sealed: Vec<SealedRun> = killed.iter().filter_map(Killed::sealed).collect();
    let proven: BTreeSet<BackupId> = sealed
        .iter()
        .filter(|run| {
            compare(&run.last_batch, log.at(run.last_batch.last_offset)) == SeamVerdict::Same
        })
        .map(|run| run.run_id)
        .collect();
    let adoptable = Adoptable {
        sealed: BTreeMap::from([((generation(), PartitionId(0)), sealed)]),
        ..Adoptable::default()
    };
    let is_proven = |run: &BackupId| !proves || proven.contains(run);
    adoptable.continuing(
        &generation(),
        PartitionId(0),
        is_proven,
        None,
        Offset(0),
        log.end(),
    )
}

/// Reads on behind what is adopted until the run is killed, or the leader says that the log is another one by now.
fn run_until_killed(log: &mut Log, random: &mut Random, killed: &mut Vec<Killed>, proves: bool) {
    let adopted = adopted(log, killed, proves);
    let last = adopted.last().map(|last| &last.extent);
    let mut next = last.map_or(Offset(0), Extent::end_offset);
    let mut epoch = last.map(|last| last.leader_epoch);
    let mut packs = Vec::new();
    for _ in 0..random.below(5) {
        if epoch.is_some_and(|epoch| !log.continues(epoch, next)) {
            break;
        }
        let read: Vec<BatchEvidence> = log
            .from(next)
            .take(1 + random.below(3) as usize)
            .copied()
            .collect();
        let Some(end) = read.last() else { break };
        (next, epoch) = (end.end_offset(), Some(end.leader_epoch));
        packs.extend(sealed(&read).map(|extent| (extent, read.clone())));
        if random.one_in(8) {
            log.tear(random);
            log.write(random);
        }
    }
    killed.push(Killed {
        run_id: BackupId::new(Utc::now()),
        packs,
    });
}

/// How many extents are adopted; none when one of them is not what the log holds.
fn play(seed: u64, proves: bool) -> Option<usize> {
    let (mut random, mut log) = (Random(seed), Log::default());
    let mut killed: Vec<Killed> = Vec::new();
    let mut count = 0;
    for _ in 0..30 {
        match random.below(5) {
            0 if random.one_in(6) => log.recreate(),
            0 => log.tear(&mut random),
            1 | 2 => log.write(&mut random),
            _ => run_until_killed(&mut log, &mut random, &mut killed, proves),
        }
        let adopted = adopted(&log, &killed, proves);
        let mut held = log.batches.iter();
        for sealed in &adopted {
            let mut packs = killed.iter().flat_map(|run| &run.packs);
            let is_it = |(extent, _): &&(SealedExtent, _)| extent.pack == sealed.pack;
            let (_, batches) = packs.find(is_it).unwrap();
            let now: Vec<BatchEvidence> = held.by_ref().take(batches.len()).copied().collect();
            if *batches != now {
                return None;
            }
        }
        count += adopted.len();
    }
    Some(count)
}

#[test]
fn whatever_is_adopted_is_the_beginning_of_what_the_log_holds() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seeds = match number("KAFKEEP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KAFKEEP_SEEDS").unwrap_or(2_000),
    };
    let all = seeds.end - seeds.start;
    let whole = |seed| play(seed, true).unwrap_or_else(|| panic!("seed {seed} mixes histories"));
    let adopted: usize = seeds.map(whole).sum();
    assert!(
        adopted as u64 > all,
        "{adopted} extents are adopted: too few to tell"
    );
}

#[test]
fn without_the_proof_histories_are_mixed() {
    assert!((0..100).any(|seed| play(seed, false).is_none()));
}
