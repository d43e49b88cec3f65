//! Which backups were taken away on purpose. A backup that is gone without being named here was lost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ObjectName;
use super::objects::unusable;
use super::sealed_json::{self, FORMAT};
use super::{BackupId, ExclusiveLock, Repository, RepositoryError, RepositoryId};

const DIRECTORY: &str = "expired/";
const RECORD_LIMIT: u64 = 16 << 20;
/// So many backups are remembered, the newest: of what is older, nobody asks any more.
const REMEMBERED: usize = 1000;
/// A record is merged into another one now and then; who lists them meanwhile looks again.
const LOOKS: u32 = 5;

/// A backup that was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredBackup {
    /// The id of its manifest.
    pub backup_id: BackupId,
    /// Its sequence; 0 where it had none, or it is not known.
    #[serde(default)]
    pub sequence: u64,
    /// When it was taken away.
    pub expired_at: DateTime<Utc>,
    /// Whether a rule, somebody or a loss took it.
    pub why: WhyGone,
}

/// Why a backup is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyGone {
    /// No rule of retention kept it.
    Retention,
    /// Somebody deleted it.
    Deleted,
    /// It was lost, and an operator has taken note of it.
    Lost,
    /// A reason of a later version.
    #[serde(other)]
    Other,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    repository_id: RepositoryId,
    /// Backups with lower ids may have expired without being named.
    #[serde(default)]
    complete_from: Option<BackupId>,
    backups: Vec<ExpiredBackup>,
}

/// All backups that are known to have been taken away.
#[derive(Debug, Default)]
pub struct ExpiredBackups {
    backups: BTreeMap<BackupId, ExpiredBackup>,
    complete_from: Option<BackupId>,
    /// Records that cannot be read.
    pub unreadable: Vec<RepositoryError>,
}

impl ExpiredBackups {
    /// Whether the backup `id` is gone, and nothing took it away: it is not among `present`, which is sorted and was listed
    /// before these were read.
    pub fn is_lost(&self, id: BackupId, present: &[BackupId]) -> bool {
        let is_named = self.backups.contains_key(&id);
        let is_too_old = self.complete_from.is_some_and(|from| id < from);
        present.binary_search(&id).is_err() && !is_named && !is_too_old
    }

    /// Those that are named, by id.
    pub fn iter(&self) -> impl Iterator<Item = &ExpiredBackup> {
        self.backups.values()
    }

    pub(super) fn newest(&self) -> Option<BackupId> {
        self.backups.keys().next_back().copied()
    }

    /// The largest sequence of those with a lower id than `id`.
    pub(super) fn last_sequence_before(&self, id: BackupId) -> Option<u64> {
        let before = self.backups.range(..id).map(|(_, gone)| gone.sequence);
        before.filter(|sequence| *sequence > 0).max()
    }

    fn add(&mut self, backups: impl IntoIterator<Item = ExpiredBackup>) {
        let backups = backups.into_iter().map(|gone| (gone.backup_id, gone));
        self.backups.extend(backups);
        while self.backups.len() > REMEMBERED
            && let Some((forgotten, _)) = self.backups.pop_first()
        {
            let next = self.backups.keys().next().copied();
            self.complete_from = self.complete_from.max(next.or(Some(forgotten)));
        }
    }
}

impl Repository {
    /// Which backups were taken away on purpose, as far as their records can be read.
    pub fn expired_backups(&self) -> Result<ExpiredBackups, RepositoryError> {
        let mut looks = 1;
        loop {
            match self.read_expired() {
                Ok((expired, _)) => return Ok(expired),
                Err(error) if error.is_missing() && looks < LOOKS => looks += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Names backups that are about to be taken away; what is known of others goes into the same record.
    pub fn record_expired(
        &self,
        lock: &ExclusiveLock,
        backups: impl IntoIterator<Item = ExpiredBackup>,
    ) -> Result<(), RepositoryError> {
        lock.check()?;
        let (mut expired, merged) = self.read_expired()?;
        expired.add(backups);
        let name = ObjectName::new(format!(
            "{DIRECTORY}{}.json",
            Uuid::now_v7().as_hyphenated()
        ))?;
        let record = Record {
            format: FORMAT,
            repository_id: self.id(),
            complete_from: expired.complete_from,
            backups: expired.backups.into_values().collect(),
        };
        let sealed = sealed_json::seal("expired", &record).map_err(|error| {
            RepositoryError::ObjectDamaged {
                name: name.to_string(),
                detail: error.to_string(),
            }
        })?;
        self.storage().put_new(&name, sealed)?;
        // Only now: one that looks meanwhile finds the old ones or the new one.
        for name in merged {
            self.storage().delete(&name)?;
        }
        Ok(())
    }

    /// What the records tell, and the names of those that could be read.
    fn read_expired(&self) -> Result<(ExpiredBackups, Vec<ObjectName>), RepositoryError> {
        let (mut expired, mut read) = (ExpiredBackups::default(), Vec::new());
        for object in self.storage().list(DIRECTORY)? {
            if !is_record(&object.name) {
                continue;
            }
            match self.expired_record(&object.name) {
                Ok(record) => {
                    expired.complete_from = expired.complete_from.max(record.complete_from);
                    expired.add(record.backups);
                    read.push(object.name);
                }
                Err(error) if error.is_missing() => return Err(error),
                Err(error) if error.is_damage() => expired.unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((expired, read))
    }

    fn expired_record(&self, name: &ObjectName) -> Result<Record, RepositoryError> {
        let sealed = self.storage().get(name, RECORD_LIMIT)?;
        let record: Record =
            sealed_json::unseal("expired", &sealed).map_err(|error| unusable(name, error))?;
        if record.repository_id != self.id() {
            return Err(RepositoryError::ObjectDamaged {
                name: name.to_string(),
                detail: "it belongs to another repository".to_owned(),
            });
        }
        Ok(record)
    }
}

fn is_record(name: &ObjectName) -> bool {
    let file = name.as_str().strip_prefix(DIRECTORY);
    let id = file.and_then(|file| file.strip_suffix(".json"));
    id.is_some_and(|id| Uuid::try_parse(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Scratch;
    use super::*;

    fn gone(number: u32) -> ExpiredBackup {
        let at = DateTime::from_timestamp(1_795_000_000 + i64::from(number), 0).unwrap();
        ExpiredBackup {
            backup_id: BackupId::from_parts(at, [0; 3]),
            sequence: u64::from(number),
            expired_at: at,
            why: WhyGone::Retention,
        }
    }

    fn record(scratch: &Scratch, numbers: impl IntoIterator<Item = u32>) {
        let lock = scratch.repository.lock_exclusive("test").unwrap();
        let backups = numbers.into_iter().map(gone);
        lock.during(|lock| scratch.repository.record_expired(lock, backups))
            .unwrap();
    }

    fn records(scratch: &Scratch) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(scratch.directory.path().join("expired")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_taken_away_is_in_one_record_and_what_is_not_in_it_was_lost() {
        let scratch = Scratch::new();
        let none = scratch.repository.expired_backups().unwrap();
        assert!(none.is_lost(gone(1).backup_id, &[]));
        record(&scratch, [1]);
        record(&scratch, [3, 4]);
        let expired = scratch.repository.expired_backups().unwrap();
        let named: Vec<u64> = expired.iter().map(|gone| gone.sequence).collect();
        assert_eq!(named, [1, 3, 4]);
        assert_eq!(records(&scratch).len(), 1);
        let is_lost = |number| expired.is_lost(gone(number).backup_id, &[gone(2).backup_id]);
        assert_eq!([1, 2, 3, 5].map(is_lost), [false, false, false, true]);
    }

    #[test]
    fn of_thousands_the_newest_are_named_and_none_of_the_others_counts_as_lost() {
        let scratch = Scratch::new();
        record(&scratch, 1..=600);
        record(&scratch, 601..=1200);
        let expired = scratch.repository.expired_backups().unwrap();
        assert_eq!(expired.iter().count(), REMEMBERED);
        let is_lost = |number| expired.is_lost(gone(number).backup_id, &[]);
        assert_eq!(
            [1, 200, 201, 1200, 1201].map(is_lost),
            [false, false, false, false, true]
        );
    }

    #[test]
    fn a_damaged_record_is_told_and_a_reason_of_a_later_version_is_read() {
        let scratch = Scratch::new();
        record(&scratch, [1]);
        let path = records(&scratch).remove(0);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("retention", "rotention")).unwrap();
        let expired = scratch.repository.expired_backups().unwrap();
        assert_eq!((expired.iter().count(), expired.unreadable.len()), (0, 1));
        // What is known goes on beside it.
        record(&scratch, [2]);
        assert_eq!(records(&scratch).len(), 2);
        let why: WhyGone = serde_json::from_str("\"bored\"").unwrap();
        assert_eq!(why, WhyGone::Other);
    }
}
