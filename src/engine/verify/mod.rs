//! `verify`: walks the chain of proof without Kafka: manifests, states, indexes, packs, blocks, batches.

mod finding;
mod lineage;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::memory::{MemoryBudget, RunMemory};
use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{
    BackupId, Block, Extent, FooterBlock, Manifest, PackId, PackReader, PackRef, PartitionEntry,
    Repository, RepositoryError, Sha256, Stretch, TopicEntry, TopicIndex,
};
use crate::words::words;

use super::extents::{holes, is_needed};
use super::refusal::Refusal;
use super::{EngineError, Progress, Stop};

pub use finding::Finding;
use lineage::Lineage;

/// One read of a pack asks for about this much.
const READ_BYTES: u64 = 8 << 20;

words! {
    /// How deep a verification goes.
    pub enum Depth {
        /// That all is there: names, sizes and footers; no block is read.
        Quick = "quick",
        /// Every byte.
        Full = "full",
    }
    default Full
}

impl Depth {
    /// As callers ask for it: quick, or else full.
    pub fn new(quick: bool) -> Self {
        match quick {
            true => Self::Quick,
            false => Self::Full,
        }
    }
}

words! {
    /// What a verification found, in a word.
    pub enum Soundness {
        /// All is whole and unchanged.
        Sound = "sound",
        /// Something is missing or changed: the findings tell it.
        Damaged = "damaged",
    }
}

/// Which backups to verify, and how deep.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// These; all when empty.
    pub backups: Vec<BackupId>,
    /// How deep.
    pub depth: Depth,
    /// The memory for what is read, which all runs share.
    pub memory: MemoryBudget,
    /// Ends it early.
    pub stop: Stop,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Whether something is wrong.
    pub status: Soundness,
    /// How deep it went.
    pub depth: Depth,
    /// How many backups were looked at.
    pub backups: u64,
    /// How many packs.
    pub packs: u64,
    /// How many blocks were read and checked.
    pub blocks: u64,
    /// How many record batches were checked against their producers' CRC32C.
    pub batches: u64,
    /// Bytes read of packs.
    pub bytes: u64,
    /// What is wrong; empty when all is sound.
    pub findings: Vec<Finding>,
}

/// Where an extent of a pack belongs, and who needs it.
#[derive(Debug, Clone)]
struct Need {
    topic: Arc<str>,
    topic_id: TopicId,
    partition: PartitionId,
    extent: Extent,
    backups: BTreeSet<BackupId>,
}

/// A pack with everything that is expected in it.
#[derive(Debug)]
struct PackNeeds {
    pack: PackRef,
    /// By the extent's place in the pack.
    needs: BTreeMap<u64, Need>,
}

/// Verifies; damage is reported, not an error.
pub fn verify(
    repository: &Repository,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<VerifyReport, EngineError> {
    repository.read_locked("verify", || verify_locked(repository, options, progress))
}

fn verify_locked(
    repository: &Repository,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<VerifyReport, EngineError> {
    let chosen = if options.backups.is_empty() {
        repository.backup_ids()?
    } else {
        options.backups.clone()
    };
    let mut lineage = Lineage::of(repository)?;
    let mut walk = BackupWalk {
        repository,
        packs: BTreeMap::new(),
        indexes: BTreeMap::new(),
        findings: lineage.unreadable_records(),
    };
    for backup in &chosen {
        if let Some(manifest) = walk.backup(backup)? {
            walk.findings.extend(lineage.check(&manifest)?);
        }
    }
    progress.planned(
        walk.packs
            .values()
            .flat_map(|pack| pack.needs.values())
            .map(|need| need.extent.records)
            .fold(0, u64::saturating_add),
    );
    let BackupWalk {
        packs,
        mut findings,
        ..
    } = walk;
    let pack_count = packs.len() as u64;
    let checked = check_packs(repository, packs, options, progress)?;
    findings.extend(checked.findings);
    Ok(VerifyReport {
        status: match findings.is_empty() {
            true => Soundness::Sound,
            false => Soundness::Damaged,
        },
        depth: options.depth,
        backups: chosen.len() as u64,
        packs: pack_count,
        blocks: checked.blocks,
        batches: checked.batches,
        bytes: checked.bytes,
        findings,
    })
}

/// The walk from manifests down to the extents that they need.
struct BackupWalk<'a> {
    repository: &'a Repository,
    packs: BTreeMap<PackId, PackNeeds>,
    indexes: BTreeMap<Sha256, Option<Arc<TopicIndex>>>,
    findings: Vec<Finding>,
}

/// Errors that say something about the repository's content are findings; others stop the verification.
fn finding_of(error: RepositoryError) -> Result<Refusal, EngineError> {
    if error.is_damage() {
        Ok(Refusal::by(&error, str::to_owned))
    } else {
        Err(error.into())
    }
}

impl BackupWalk<'_> {
    fn found(&mut self, backup: &BackupId, topic: Option<&str>, problem: impl Into<Refusal>) {
        self.findings.push(Finding {
            topic: topic.map(str::to_owned),
            ..Finding::of(problem, BTreeSet::from([*backup]))
        });
    }

    /// Its manifest, when that can be read.
    fn backup(&mut self, id: &BackupId) -> Result<Option<Manifest>, EngineError> {
        let manifest = match self.repository.manifest(id) {
            Ok(manifest) => manifest,
            Err(error) => {
                let problem = finding_of(error)?;
                self.found(id, None, problem);
                return Ok(None);
            }
        };
        if let Some(groups) = &manifest.groups {
            self.state(id, None, groups)?;
        }
        for topic in &manifest.topics {
            self.state(id, Some(&topic.topic), &topic.configuration)?;
            self.topic(&manifest, topic)?;
        }
        Ok(Some(manifest))
    }

    fn state(
        &mut self,
        backup: &BackupId,
        topic: Option<&str>,
        state: &Sha256,
    ) -> Result<(), EngineError> {
        if let Err(error) = self.repository.state::<serde_json::Value>(state) {
            let problem = finding_of(error)?;
            self.found(backup, topic, problem);
        }
        Ok(())
    }

    fn topic(&mut self, manifest: &Manifest, topic: &TopicEntry) -> Result<(), EngineError> {
        let index = match &topic.index {
            None => Arc::new(TopicIndex::default()),
            Some(id) => match self.index(manifest, topic, id)? {
                Some(index) => index,
                None => return Ok(()),
            },
        };
        let name: Arc<str> = topic.topic.as_str().into();
        for entry in &topic.partitions {
            let extents = index
                .partitions
                .get(&entry.partition)
                .map_or(&[][..], Vec::as_slice);
            let bounds = (entry.start_offset, entry.end_offset);
            for hole in holes(extents, bounds, &entry.gaps) {
                self.hole(manifest, topic, entry, &hole);
            }
            let needed = extents
                .iter()
                .filter(|extent| is_needed(extent, entry.start_offset, entry.end_offset));
            for extent in needed {
                if let Some(pack) = index.packs.get(extent.pack as usize) {
                    let need = self
                        .packs
                        .entry(pack.pack_id)
                        .or_insert_with(|| PackNeeds {
                            pack: pack.clone(),
                            needs: BTreeMap::new(),
                        })
                        .needs
                        .entry(extent.offset)
                        .or_insert_with(|| Need {
                            topic: Arc::clone(&name),
                            topic_id: topic.topic_id,
                            partition: entry.partition,
                            extent: extent.clone(),
                            backups: BTreeSet::new(),
                        });
                    need.backups.insert(manifest.backup_id);
                }
            }
        }
        Ok(())
    }

    /// Each index is read once, however many backups reference it.
    fn index(
        &mut self,
        manifest: &Manifest,
        topic: &TopicEntry,
        id: &Sha256,
    ) -> Result<Option<Arc<TopicIndex>>, EngineError> {
        if let Some(index) = self.indexes.get(id).cloned() {
            if index.is_none() {
                self.found(
                    &manifest.backup_id,
                    Some(&topic.topic),
                    format!("index {id} is damaged"),
                );
            }
            return Ok(index);
        }
        let index = match self.repository.index(id) {
            Ok(index) => Some(Arc::new(index)),
            Err(error) => {
                let problem = finding_of(error)?;
                self.found(&manifest.backup_id, Some(&topic.topic), problem);
                None
            }
        };
        self.indexes.insert(*id, index.clone());
        Ok(index)
    }

    /// Offsets that no extent covers.
    fn hole(
        &mut self,
        manifest: &Manifest,
        topic: &TopicEntry,
        entry: &PartitionEntry,
        hole: &Range<Offset>,
    ) {
        let (from, last) = (hole.start, Offset(hole.end.0 - 1));
        self.findings.push(Finding {
            problem: format!("offsets {from} to {last} are in no extent").into(),
            pack: None,
            topic: Some(topic.topic.clone()),
            partition: Some(entry.partition),
            first_offset: Some(from),
            last_offset: Some(last),
            backups: BTreeSet::from([manifest.backup_id]),
        });
    }
}

/// What checking packs found.
#[derive(Debug, Default)]
struct Checked {
    blocks: u64,
    batches: u64,
    bytes: u64,
    findings: Vec<Finding>,
}

impl Checked {
    fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.batches += other.batches;
        self.bytes += other.bytes;
        self.findings.extend(other.findings);
    }
}

/// Checks packs on as many threads as there are cores.
fn check_packs(
    repository: &Repository,
    packs: BTreeMap<PackId, PackNeeds>,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<Checked, EngineError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let queue = Mutex::new(packs.into_values());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let memory = options.memory.run();
    let means = Means {
        repository,
        options,
        most: memory.part_for(2 * threads as u64).min(READ_BYTES),
        memory,
        progress,
    };
    let work = || -> Result<Checked, EngineError> {
        let mut checked = Checked::default();
        while let Some(pack) = next() {
            checked.add(check_pack(&means, &pack)?);
        }
        Ok(checked)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Checked::default();
        for worker in workers {
            all.add(
                worker
                    .join()
                    .map_err(|_| EngineError::Lost("a verifying thread"))??,
            );
        }
        all.findings.sort_by(|a, b| {
            (a.pack, &a.topic, a.partition, a.first_offset).cmp(&(
                b.pack,
                &b.topic,
                b.partition,
                b.first_offset,
            ))
        });
        Ok(all)
    })
}

/// What the checking threads share.
struct Means<'a> {
    repository: &'a Repository,
    options: &'a VerifyOptions,
    memory: RunMemory,
    /// Bytes that are read at once, at most, unless a single block is larger.
    most: u64,
    progress: &'a dyn Progress,
}

fn check_pack(means: &Means<'_>, needs: &PackNeeds) -> Result<Checked, EngineError> {
    let options = means.options;
    let mut checked = Checked::default();
    let reader = match means.repository.open_pack(&needs.pack) {
        Ok(reader) => reader,
        Err(error) => {
            let problem = finding_of(error)?;
            checked.findings.extend(
                needs
                    .needs
                    .values()
                    .map(|need| need.finding(needs, problem.clone())),
            );
            return Ok(checked);
        }
    };
    let mut next = needs.needs.values().peekable();
    while let Some(need) = next.next() {
        if let Some(next) = next.peek().filter(|_| options.depth == Depth::Full) {
            reader.prefetch(head(&next.extent));
        }
        if options.stop.is_cancelled() {
            return Err(EngineError::Stopped);
        }
        check_extent(means, &reader, needs, need, &mut checked)?;
    }
    Ok(checked)
}

/// What a first read of an extent asks for.
fn head(extent: &Extent) -> Range<u64> {
    extent.offset..extent.end().min(extent.offset + READ_BYTES)
}

/// Checks that the pack's table has the extent's blocks without a hole, and reads them unless `quick`.
fn check_extent(
    means: &Means<'_>,
    reader: &PackReader,
    needs: &PackNeeds,
    need: &Need,
    checked: &mut Checked,
) -> Result<(), EngineError> {
    let extent = &need.extent;
    let blocks = match reader.blocks_in(&(extent.offset..extent.end())) {
        Ok(blocks) => blocks,
        Err(error) => {
            checked
                .findings
                .push(need.finding(needs, finding_of(error)?));
            return Ok(());
        }
    };
    let topics = &reader.footer().topics;
    let belongs = |block: &FooterBlock| {
        let named = topics
            .get(block.topic as usize)
            .is_some_and(|topic| *topic.topic == *need.topic);
        named && block.header.topic_id == need.topic_id && block.header.partition == need.partition
    };
    let records: u64 = blocks
        .iter()
        .map(|block| u64::from(block.header.records))
        .sum();
    if !blocks.iter().all(belongs) || records != extent.records {
        let problem = format!(
            "pack {} does not hold there what the index says",
            needs.pack.pack_id
        );
        checked.findings.push(need.finding(needs, problem));
        return Ok(());
    }
    if means.options.depth == Depth::Quick {
        return Ok(());
    }
    let mut stretches = Stretch::split(blocks, means.most).peekable();
    while let Some(stretch) = stretches.next() {
        let _memory = means.memory.reserve_whole_blocking(stretch.in_memory());
        if let Some(next) = stretches.peek() {
            reader.prefetch(next.place());
        }
        check_blocks(reader, needs, need, stretch, checked)?;
    }
    means.progress.advanced(extent.records, extent.raw_bytes);
    Ok(())
}

/// Reads neighbouring blocks at once; when something is wrong in them, one by one to say which.
fn check_blocks(
    reader: &PackReader,
    needs: &PackNeeds,
    need: &Need,
    stretch: Stretch<'_>,
    checked: &mut Checked,
) -> Result<(), EngineError> {
    let (blocks, range) = (stretch.blocks(), stretch.place());
    checked.bytes += range.end - range.start;
    let sound = |block: &FooterBlock, checked: &mut Checked| {
        checked.blocks += 1;
        checked.batches += u64::from(block.header.batches);
    };
    let error = match reader
        .read_blocks(range)
        .and_then(|blocks| blocks.iter().try_for_each(Block::verify))
    {
        Ok(()) => {
            blocks.iter().for_each(|block| sound(block, checked));
            return Ok(());
        }
        Err(error) => finding_of(error)?,
    };
    let before = checked.findings.len();
    for block in blocks {
        let place = block.place.offset..block.place.end();
        match reader
            .read_blocks(place)
            .and_then(|blocks| blocks.iter().try_for_each(Block::verify))
        {
            Ok(()) => sound(block, checked),
            Err(error) => {
                let mut finding = need.finding(needs, finding_of(error)?);
                finding.first_offset = Some(block.header.base_offset);
                finding.last_offset = Some(block.header.last_offset);
                checked.findings.push(finding);
            }
        }
    }
    if checked.findings.len() == before {
        // Sound one by one, but not at once: the medium answers differently each time.
        checked.findings.push(need.finding(
            needs,
            format!("{error}; reading it again succeeded: check the disk"),
        ));
    }
    Ok(())
}

impl Need {
    fn finding(&self, needs: &PackNeeds, problem: impl Into<Refusal>) -> Finding {
        Finding {
            problem: problem.into(),
            pack: Some(needs.pack.pack_id),
            topic: Some(self.topic.to_string()),
            partition: Some(self.partition),
            first_offset: Some(self.extent.base_offset),
            last_offset: Some(self.extent.last_offset),
            backups: self.backups.clone(),
        }
    }
}
