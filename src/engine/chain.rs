//! The chain: what earlier backups already hold of a topic's generation, so that a run copies only what is new.

use std::collections::BTreeMap;

use crate::record::{Offset, PartitionId, TopicId};
use crate::repository::{
    BackupId, Manifest, PackId, PartitionEntry, References, Repository, RepositoryError, Sha256,
    TopicEntry,
};

use super::EngineError;

/// One life of a topic: a recreated topic has another id, a rebuilt cluster another cluster id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation {
    /// The cluster's id.
    pub cluster_id: String,
    /// The topic's name: part of it because brokers older than topic ids give a zero id.
    pub topic: String,
    /// The topic's id.
    pub topic_id: TopicId,
}

impl Generation {
    /// Whether this is another topic under the name that `earlier` had.
    fn recreates(&self, earlier: &Self) -> bool {
        self.cluster_id == earlier.cluster_id
            && self.topic == earlier.topic
            && self.topic_id != earlier.topic_id
    }
}

/// The newest backup's view of one generation, from which the next run goes on.
#[derive(Debug, Clone)]
pub struct ChainEnd {
    /// The backup it was read from.
    pub backup_id: BackupId,
    /// The index of all extents so far.
    pub index: Option<Sha256>,
    /// The configuration's state, to be referenced again when it did not change.
    pub configuration: Sha256,
    /// The partitions as that backup left them.
    pub partitions: BTreeMap<PartitionId, PartitionEntry>,
}

impl ChainEnd {
    fn of(manifest: &Manifest, topic: TopicEntry) -> Self {
        Self {
            backup_id: manifest.backup_id,
            index: topic.index,
            configuration: topic.configuration,
            partitions: topic
                .partitions
                .into_iter()
                .map(|entry| (entry.partition, entry))
                .collect(),
        }
    }

    /// The first offset that the chain does not hold of `partition`.
    pub fn resume_offset(&self, partition: PartitionId) -> Option<Offset> {
        self.partitions
            .get(&partition)
            .map(|entry| entry.end_offset)
    }
}

/// What a look for chains found.
#[derive(Debug, Default)]
pub struct Chains {
    /// The chain's end of each generation that has one.
    pub ends: BTreeMap<Generation, ChainEnd>,
    /// Generations without a chain whose name an earlier topic of the cluster had, with the newest backup of that.
    pub recreated: BTreeMap<Generation, BackupId>,
    /// Generations whose chain lacks something in the repository, and what: their chain starts again.
    pub broken: BTreeMap<Generation, String>,
    /// Manifests that could not be read on the way, each with its error: they are passed over.
    pub unreadable: Vec<(BackupId, RepositoryError)>,
}

/// Reads manifests from the newest back until every generation asked for is found, so that the cost of a
/// run follows what is new. One-off backups (with a selection) are not part of a chain.
pub fn find_chains(repository: &Repository, wanted: &[Generation]) -> Result<Chains, EngineError> {
    let mut chains = Chains::default();
    let mut missing: std::collections::BTreeSet<&Generation> = wanted.iter().collect();
    let mut reads_own = false;
    for backup_id in repository.backup_ids()?.into_iter().rev() {
        if missing.is_empty() {
            break;
        }
        let manifest = match repository.manifest(&backup_id) {
            Ok(manifest) => manifest,
            // Removed between the listing and now.
            Err(RepositoryError::UnknownBackup { .. }) => continue,
            // Only what is wrong with the manifest itself is no reason to stop.
            Err(error) if !error.is_damage() => return Err(error.into()),
            Err(error) => {
                chains.unreadable.push((backup_id, error));
                continue;
            }
        };
        reads_own = true;
        if manifest.selection.is_some() {
            continue;
        }
        for topic in manifest.topics.clone() {
            let generation = Generation {
                cluster_id: manifest.cluster_id.clone(),
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
            };
            if missing.remove(&generation) {
                chains
                    .ends
                    .insert(generation, ChainEnd::of(&manifest, topic));
            } else if let Some(later) = missing.iter().find(|later| later.recreates(&generation)) {
                chains
                    .recreated
                    .entry((*later).clone())
                    .or_insert(backup_id);
            }
        }
    }
    if !reads_own {
        refuse_another_identity(&mut chains)?;
    }
    chains
        .recreated
        .retain(|generation, _| !chains.ends.contains_key(generation));
    chains.leave_out_broken(repository)?;
    Ok(chains)
}

impl Chains {
    /// Leaves out the chains that lead to a pack or a layer that is gone or has another length: a backup that built on one would
    /// lack it too. One listing; no pack is opened.
    fn leave_out_broken(&mut self, repository: &Repository) -> Result<(), EngineError> {
        let present: BTreeMap<PackId, u64> = match self.ends.is_empty() {
            true => BTreeMap::new(),
            false => repository.packs()?.into_iter().collect(),
        };
        let mut walk = repository.reference_walk();
        for (generation, end) in &self.ends {
            let lacks = match walk.of_index(end.index) {
                Ok(references) => lacks(&references, &present),
                Err(error) if error.is_damage() || error.is_missing() => Some(error.without_path()),
                Err(error) => return Err(error.into()),
            };
            if let Some(lacks) = lacks {
                self.broken.insert(generation.clone(), lacks);
            }
        }
        let broken = &self.broken;
        self.ends
            .retain(|generation, _| !broken.contains_key(generation));
        Ok(())
    }
}

/// What `present` lacks of all that is referenced, in words: the first pack, and how many more.
pub(super) fn lacks(references: &References, present: &BTreeMap<PackId, u64>) -> Option<String> {
    let lacking = references.lacking(present);
    let first = lacking.first()?;
    Some(match lacking.len() - 1 {
        0 => first.to_string(),
        more => format!("{first}, and {more} more are missing or cut short"),
    })
}

/// One stray manifest is passed over; where none is this repository's own, `kafkeep.json` is the stray.
fn refuse_another_identity(chains: &mut Chains) -> Result<(), EngineError> {
    let foreign = chains
        .unreadable
        .iter()
        .position(|(_, error)| matches!(error, RepositoryError::ForeignManifest { .. }));
    match foreign {
        Some(at) => Err(chains.unreadable.swap_remove(at).1.into()),
        None => Ok(()),
    }
}
