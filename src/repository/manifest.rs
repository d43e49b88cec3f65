//! The manifest: what makes a backup exist, and what it holds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::ObjectName;
use super::index::LAYERS;
use super::order::PreviousBackup;
use super::sealed_json::{self, FORMAT, Unusable};
use super::states::STATES;
use super::{
    BackupId, BatchEvidence, Repository, RepositoryError, RepositoryId, Selection, Sha256,
};
use crate::record::{LeaderEpoch, Offset, PartitionId, ProducerId, TopicId};
use crate::words::words;

/// The most that a manifest is long, in bytes: some 500,000 partitions.
const MANIFEST_LIMIT: u64 = 256 << 20;

/// What the chosen topics held at one moment. Complete in itself, however much of it earlier backups copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of this manifest and all that it references.
    pub format: u32,
    /// The backup's id, which is the name of the manifest's file.
    pub backup_id: BackupId,
    /// Its place among the repository's backups, from 1 on: sequences and ids ascend together, and backups that were made at
    /// the same time may share a sequence. 0 in manifests of older versions, whose place their ids tell.
    #[serde(default)]
    pub sequence: u64,
    /// The newest backup when this one was planned; none for the first, and in manifests of older versions.
    #[serde(default)]
    pub previous: Option<PreviousBackup>,
    /// The policy that made it; none when an operator did.
    pub policy: Option<String>,
    /// The version of kafkeep that wrote it.
    pub kafkeep_version: String,
    /// The repository that it belongs to.
    pub repository_id: RepositoryId,
    /// The cluster that was backed up.
    pub cluster_id: String,
    /// The name that the cluster had in the configuration of whoever made the backup. None where it was given by its brokers,
    /// and in manifests of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// When the backup began.
    pub started_at: DateTime<Utc>,
    /// When all that it references was durable.
    pub finished_at: DateTime<Utc>,
    /// Whether it holds all that it set out to.
    pub status: Completion,
    /// What a one-off backup was cut down to; none for a backup of whole topics. A backup with a selection neither
    /// continues nor starts a chain.
    pub selection: Option<Selection>,
    /// The topics, by name.
    pub topics: Vec<TopicEntry>,
    /// The state that holds the offsets that consumer groups had committed on the topics; none when they were not wanted,
    /// or could not be known. Not in manifests of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Sha256>,
    /// Sums over the topics.
    pub totals: Totals,
}

words! {
    /// Whether a backup, restore, mirror or export did all that it set out to.
    pub enum Completion {
        /// It did everything that it set out to.
        Completed = "completed",
        /// Something is missing, and named. What it lists is sound.
        Incomplete = "incomplete",
    }
}

impl Completion {
    /// What is complete unless something is missing.
    pub fn unless(something_is_missing: bool) -> Self {
        match something_is_missing {
            true => Self::Incomplete,
            false => Self::Completed,
        }
    }
}

/// A topic in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicEntry {
    /// Its name in the source.
    pub topic: String,
    /// Its id; zero when the cluster knows none.
    pub topic_id: TopicId,
    /// Why this backup could not go on from an earlier one; none when it did or is the first.
    pub chain_restarted: Option<String>,
    /// Partitions that the topic had.
    pub partition_count: u32,
    /// Replicas of each partition in the source.
    pub replication_factor: i16,
    /// The newest index layer of its records; none when it has no records.
    pub index: Option<Sha256>,
    /// The state that holds its configuration.
    pub configuration: Sha256,
    /// Its partitions, ascending.
    pub partitions: Vec<PartitionEntry>,
}

/// A partition in a backup. Its bounds say what belongs to the backup: a block may hold more, and readers cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEntry {
    /// The partition's number.
    pub partition: PartitionId,
    /// First offset that the backup holds.
    pub start_offset: Offset,
    /// One past the last offset that it holds: the high watermark when the backup began.
    pub end_offset: Offset,
    /// The last stable offset when the backup began.
    pub last_stable_offset: Offset,
    /// The leader epoch when the backup began.
    pub leader_epoch: LeaderEpoch,
    /// Records in the backup by the batches' counts, control records excluded.
    pub records: u64,
    /// Control records in the backup.
    pub control_records: u64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Bytes of its blocks in packs.
    pub stored_bytes: u64,
    /// Records that this backup was the first to copy.
    pub new_records: u64,
    /// Bytes of batches that this backup was the first to copy.
    pub new_bytes: u64,
    /// Length of the longest batch, in bytes.
    pub largest_batch: u32,
    /// Transactions that had neither committed nor aborted at the end offset.
    pub open_transactions: Vec<OpenTransaction>,
    /// Offsets within the bounds that the backup does not hold.
    pub gaps: Vec<Gap>,
    /// The first batch that reaches into the bounds. None where there is none, where it is not known without reading a pack,
    /// and in manifests of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_batch: Option<BatchEvidence>,
    /// The last batch that is held: the next backup compares it with the log before it goes on behind it. None like
    /// `first_batch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_batch: Option<BatchEvidence>,
}

/// A transaction that was open where a backup ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// The producer that began it.
    pub producer_id: ProducerId,
    /// The offset of its first batch.
    pub first_offset: Offset,
}

/// Offsets that the source no longer had when they were due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First offset that is missing.
    pub start_offset: Offset,
    /// One past the last offset that is missing.
    pub end_offset: Offset,
    /// Why, in words.
    pub reason: String,
}

impl Gap {
    /// How many offsets are missing.
    pub fn offsets(&self) -> u64 {
        self.end_offset.0.abs_diff(self.start_offset.0)
    }
}

/// Sums over a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Records in the backup, control records excluded.
    pub records: u64,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Bytes of its blocks in packs.
    pub stored_bytes: u64,
    /// Records that this backup was the first to copy.
    pub new_records: u64,
    /// Bytes of batches that this backup was the first to copy.
    pub new_bytes: u64,
    /// Bytes of blocks that this backup was the first to store.
    pub new_stored_bytes: u64,
    /// Bytes of batches that earlier backups had copied.
    pub reused_bytes: u64,
}

fn manifest_name(id: &str) -> Result<ObjectName, RepositoryError> {
    ObjectName::new(format!("backups/{id}.json"))
}

impl Repository {
    /// Writes a manifest: from here on the backup exists. All that it references must have been stored before.
    pub fn publish(&self, manifest: &Manifest) -> Result<(), RepositoryError> {
        let id = manifest.backup_id;
        if manifest.format != FORMAT || manifest.repository_id != self.id() {
            let detail = "it was made for another repository or format".to_owned();
            return Err(RepositoryError::DamagedManifest { id, detail });
        }
        if let Err(detail) = manifest.check() {
            return Err(RepositoryError::DamagedManifest { id, detail });
        }
        let sealed = sealed_json::seal("manifest", manifest).map_err(|error| {
            RepositoryError::DamagedManifest {
                id,
                detail: error.to_string(),
            }
        })?;
        LAYERS.sync(self.storage())?;
        STATES.sync(self.storage())?;
        self.storage()
            .put_new(&manifest_name(&id.to_string())?, sealed)
    }

    /// A backup's manifest, proven to be what was written under this name in this repository.
    pub fn manifest(&self, id: &BackupId) -> Result<Manifest, RepositoryError> {
        self.manifest_with_digest(id).map(|(manifest, _)| manifest)
    }

    /// The same, with the SHA-256 that stands beside the manifest.
    pub fn manifest_with_digest(
        &self,
        id: &BackupId,
    ) -> Result<(Manifest, Sha256), RepositoryError> {
        let damaged = |detail: String| RepositoryError::DamagedManifest { id: *id, detail };
        let sealed = match self
            .storage()
            .get(&manifest_name(&id.to_string())?, MANIFEST_LIMIT)
        {
            Err(RepositoryError::ObjectMissing { .. }) => {
                return Err(self.unknown_backup(&id.to_string())?);
            }
            Err(
                error @ (RepositoryError::ObjectDamaged { .. }
                | RepositoryError::ObjectTooLarge { .. }
                | RepositoryError::OutOfRange { .. }),
            ) => return Err(damaged(error.to_string())),
            sealed => sealed?,
        };
        let unsealed = sealed_json::unseal_with_digest("manifest", &sealed);
        let (manifest, digest): (Manifest, Sha256) =
            unsealed.map_err(|unusable| match unusable {
                Unusable::Damaged(detail) => damaged(detail),
                Unusable::NewerFormat(found) => RepositoryError::NewerFormat {
                    object: format!("backup {id}"),
                    found,
                    supported: FORMAT,
                },
            })?;
        if manifest.backup_id != *id {
            return Err(damaged(format!(
                "it is the manifest of backup {}",
                manifest.backup_id
            )));
        }
        if manifest.repository_id != self.id() {
            return Err(RepositoryError::ForeignManifest {
                id: *id,
                found: manifest.repository_id,
                expected: self.id(),
            });
        }
        manifest.check().map_err(damaged)?;
        Ok((manifest, digest))
    }

    /// The backups in their order, oldest first, told by their files' names: a damaged manifest is listed like any other.
    pub fn backup_ids(&self) -> Result<Vec<BackupId>, RepositoryError> {
        let objects = self.storage().list("backups/")?;
        let mut ids: Vec<BackupId> = objects
            .iter()
            .filter_map(|object| {
                object
                    .name
                    .as_str()
                    .strip_prefix("backups/")?
                    .strip_suffix(".json")?
                    .parse()
                    .ok()
            })
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// The backup that an operator means: by its id, or by the beginning of exactly one id.
    pub fn find_backup(&self, text: &str) -> Result<BackupId, RepositoryError> {
        let ids = self.backup_ids()?;
        let begins: Vec<&BackupId> = ids
            .iter()
            .filter(|id| !text.is_empty() && id.to_string().starts_with(text))
            .collect();
        match begins.as_slice() {
            [id] => Ok(**id),
            [_, _, ..] => Err(RepositoryError::AmbiguousBackup {
                id: text.to_owned(),
                count: begins.len(),
                newest: begins.iter().rev().take(3).map(|id| **id).collect(),
            }),
            [] => Err(RepositoryError::UnknownBackup {
                id: text.to_owned(),
                nearest: nearest(text, &ids),
            }),
        }
    }

    fn unknown_backup(&self, id: &str) -> Result<RepositoryError, RepositoryError> {
        let nearest = nearest(id, &self.backup_ids()?);
        Ok(RepositoryError::UnknownBackup {
            id: id.to_owned(),
            nearest,
        })
    }
}

/// Up to three ids with the fewest differences from `text`; of equally near ones the newest.
fn nearest(text: &str, ids: &[BackupId]) -> Vec<BackupId> {
    let text: Vec<char> = text.chars().take(64).collect();
    let mut ids: Vec<(usize, &BackupId)> = ids
        .iter()
        .rev()
        .map(|id| (edits(&text, &id.to_string()), id))
        .collect();
    ids.sort_by_key(|(edits, _)| *edits);
    ids.into_iter().take(3).map(|(_, id)| *id).collect()
}

/// How many characters must be inserted, removed or exchanged to make `b` of `a` (Levenshtein).
fn edits(a: &[char], b: &str) -> usize {
    let mut above: Vec<usize> = (0..=a.len()).collect();
    for (line, there) in b.chars().enumerate() {
        let mut left = line + 1;
        let mut row = vec![left];
        for (corner, here) in above.windows(2).zip(a) {
            let &[upper_left, upper] = corner else {
                continue;
            };
            left = (upper_left + usize::from(*here != there))
                .min(upper + 1)
                .min(left + 1);
            row.push(left);
        }
        above = row;
    }
    above.last().copied().unwrap_or_default()
}
