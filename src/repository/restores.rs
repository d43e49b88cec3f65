//! What a restore notes down before it changes anything in its target, so that the same restore can go on when it was
//! interrupted, and no other takes what it left for somebody else's.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::ObjectName;
use super::objects::unusable;
use super::sealed_json::{self, FORMAT};
use super::{BackupId, Repository, RepositoryError, RepositoryId, RestoreId, Sha256};
use crate::record::{Offset, PartitionId, ProducerId, TopicId};

const DIRECTORY: &str = "restores/";
const RECORD_LIMIT: u64 = 256 << 20;

/// A restore that has begun, and has not finished unless it runs right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedRestore {
    /// The id that names its record.
    pub restore_id: RestoreId,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// The backup restored from.
    pub backup_id: BackupId,
    /// The cluster restored to.
    pub cluster_id: String,
    /// The idempotent producer that writes all its batches.
    pub producer_id: ProducerId,
    /// The epoch in which that producer writes.
    pub producer_epoch: i16,
    /// What it writes to.
    pub topics: Vec<UnfinishedTopic>,
}

/// A topic that an unfinished restore writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedTopic {
    /// Its name in the target.
    pub target_topic: String,
    /// Its id there; zero where the restore is to create it, or brokers know no ids.
    pub topic_id: TopicId,
    /// Whether the restore is to create it.
    pub created: bool,
    /// Where its logs ended before; nothing where the restore is to create it.
    pub end_offsets: BTreeMap<PartitionId, Offset>,
    /// Of everything that decides which batches go where.
    pub fingerprint: Sha256,
    /// Whether all its records are there, so that only its settings may still have to be set.
    pub written: bool,
}

/// The content of a record. Not flattened: serde then reads no numbers as keys.
#[derive(Serialize, Deserialize)]
struct RestoreRecord {
    format: u32,
    repository_id: RepositoryId,
    unfinished: UnfinishedRestore,
}

impl Repository {
    /// Notes a restore down, before it begins.
    pub fn record_restore(&self, restore: &UnfinishedRestore) -> Result<(), RepositoryError> {
        let name = name(restore.restore_id)?;
        let record = RestoreRecord {
            format: FORMAT,
            repository_id: self.id(),
            unfinished: restore.clone(),
        };
        let sealed = sealed_json::seal("restore", &record).map_err(|error| {
            RepositoryError::ObjectDamaged {
                name: name.to_string(),
                detail: error.to_string(),
            }
        })?;
        self.storage().put_new(&name, sealed)
    }

    /// The restores that left records, by when they began: a record that is written anew has a new id, which says nothing of that.
    /// One that cannot be read is an error: to pass over it could mean to restore records twice.
    pub fn unfinished_restores(&self) -> Result<Vec<UnfinishedRestore>, RepositoryError> {
        let mut restores = Vec::new();
        for object in self.storage().list(DIRECTORY)? {
            let Some(id) = restore_of(&object.name) else {
                continue;
            };
            match self.restore_record(&object.name, id) {
                Ok(restore) => restores.push(restore),
                // It has just finished.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        restores.sort_by_key(|restore| (restore.started_at, restore.restore_id));
        Ok(restores)
    }

    fn restore_record(
        &self,
        name: &ObjectName,
        id: RestoreId,
    ) -> Result<UnfinishedRestore, RepositoryError> {
        let sealed = self.storage().get(name, RECORD_LIMIT)?;
        let damaged = |detail: String| RepositoryError::ObjectDamaged {
            name: name.to_string(),
            detail: format!("{detail}; when no interrupted restore is to go on, remove it"),
        };
        let record: RestoreRecord = sealed_json::unseal("restore", &sealed).map_err(|error| {
            match unusable(name, error) {
                RepositoryError::ObjectDamaged { detail, .. } => damaged(detail),
                error => error,
            }
        })?;
        if record.unfinished.restore_id != id || record.repository_id != self.id() {
            return Err(damaged(
                "it belongs to another restore or repository".to_owned(),
            ));
        }
        Ok(record.unfinished)
    }

    /// Removes a restore's record: all that it wanted is done, or noted down elsewhere.
    pub fn forget_restore(&self, id: RestoreId) -> Result<(), RepositoryError> {
        self.storage().delete(&name(id)?)
    }
}

fn name(id: RestoreId) -> Result<ObjectName, RepositoryError> {
    ObjectName::new(format!("{DIRECTORY}{id}.json"))
}

fn restore_of(name: &ObjectName) -> Option<RestoreId> {
    let file = name.as_str().strip_prefix(DIRECTORY)?;
    file.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, TOPIC_ID};
    use super::*;

    fn restore() -> UnfinishedRestore {
        UnfinishedRestore {
            restore_id: RestoreId::now(),
            started_at: DateTime::default(),
            backup_id: "20261124T114000000Z-3f9a1c".parse().unwrap(),
            cluster_id: "target".to_owned(),
            producer_id: ProducerId(7),
            producer_epoch: 0,
            topics: vec![UnfinishedTopic {
                target_topic: "orders".to_owned(),
                topic_id: TOPIC_ID,
                created: false,
                end_offsets: BTreeMap::from([(PartitionId(0), Offset(12))]),
                fingerprint: Sha256::of(b"all that matters"),
                written: false,
            }],
        }
    }

    #[test]
    fn a_record_that_is_written_anew_keeps_its_place() {
        let scratch = Scratch::new();
        let first = restore();
        let second = UnfinishedRestore {
            started_at: first.started_at + chrono::TimeDelta::milliseconds(1),
            ..restore()
        };
        let anew = UnfinishedRestore {
            restore_id: RestoreId::now(),
            ..first
        };
        for noted in [&second, &anew] {
            scratch.repository.record_restore(noted).unwrap();
        }
        let read = scratch.repository.unfinished_restores().unwrap();
        assert_eq!(read, [anew, second]);
    }

    #[test]
    fn what_a_restore_noted_down_is_read_back_until_it_is_forgotten() {
        let scratch = Scratch::new();
        let (first, second) = (restore(), restore());
        for noted in [&first, &second] {
            scratch.repository.record_restore(noted).unwrap();
        }
        let read = scratch.repository.unfinished_restores().unwrap();
        assert_eq!(read, [first.clone(), second.clone()]);
        scratch.repository.forget_restore(first.restore_id).unwrap();
        scratch.repository.forget_restore(first.restore_id).unwrap();
        assert_eq!(scratch.repository.unfinished_restores().unwrap(), [second]);
    }

    #[test]
    fn a_damaged_note_is_not_passed_over() {
        let scratch = Scratch::new();
        let noted = restore();
        scratch.repository.record_restore(&noted).unwrap();
        let path = scratch
            .directory
            .path()
            .join(format!("restores/{}.json", noted.restore_id));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("orders", "0rders")).unwrap();
        let error = scratch.repository.unfinished_restores().unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("SHA-256") && said.contains("remove it"),
            "{said}"
        );
    }
}
