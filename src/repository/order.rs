//! The order of backups. It is the order of their ids, which is that of their sequences, whatever the wall clock shows.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BackupId, Repository, RepositoryError, Sha256};

/// The backup that another one was planned on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousBackup {
    /// The id of the earlier backup.
    pub backup_id: BackupId,
    /// The SHA-256 that stands beside its manifest.
    pub sha256: Sha256,
}

/// The place of a backup that is about to begin: behind all that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its id: above those of all backups, unfinished runs and expired backups.
    pub backup_id: BackupId,
    /// The newest backup that can be read.
    pub previous: Option<PreviousBackup>,
    /// What should be looked at: a time that contradicts the order.
    pub warnings: Vec<String>,
    /// A backup that is gone though nothing expired it.
    pub lost: Option<LostBackup>,
}

/// A backup that is gone though nothing expired it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBackup {
    what: String,
    advice: String,
}

impl LostBackup {
    /// That it is gone, without what an operator can do about it.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for LostBackup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.what, self.advice)
    }
}

/// A newest backup that began later than this after the clock is of another clock, not of a machine's small differences.
const TOLERANCE: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

impl Repository {
    /// The place of a backup that begins at `now`.
    pub fn next_place(&self, now: DateTime<Utc>) -> Result<Place, RepositoryError> {
        let ids = self.backup_ids()?;
        let expired = self.expired_backups()?;
        let newest = [ids.last().copied(), expired.newest(), self.newest_run()?];
        let mut place = Place {
            backup_id: BackupId::after(newest.into_iter().flatten().max(), now),
            previous: None,
            warnings: Vec::new(),
            lost: None,
        };
        for id in ids.iter().rev() {
            let (manifest, sha256) = match self.manifest_with_digest(id) {
                Ok(read) => read,
                // Removed between the listing and now; or damaged, and then passed over.
                Err(RepositoryError::UnknownBackup { .. }) => continue,
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            place.previous = Some(PreviousBackup {
                backup_id: *id,
                sha256,
            });
            if manifest.started_at > now + TOLERANCE {
                let started_at = manifest.started_at.format("%F %T");
                place.warnings.push(format!(
                    "backup {id}, the newest until now, began at {started_at} UTC, which is in the future: set the clock right if it is wrong; the order of backups does not depend on it"
                ));
            }
            if let Some(lost) = manifest.previous.map(|previous| previous.backup_id)
                && expired.is_lost(lost, &ids)
            {
                place.lost = Some(self.lost_backup(lost, Some(*id)));
            }
            break;
        }
        Ok(place)
    }

    /// The sequence of the backup `id`, which is about to be published: one more than that of the backups before it, and not more
    /// than that of those behind it, which were made at the same time.
    pub fn sequence_at(&self, id: BackupId) -> Result<u64, RepositoryError> {
        let ids = self.backup_ids()?;
        let place = ids.partition_point(|other| *other < id);
        let (before, behind) = ids.split_at(place);
        let expired = self.expired_backups()?.last_sequence_before(id);
        let before = self.first_sequence(before.iter().rev())?.max(expired);
        let next = before.unwrap_or(0).saturating_add(1);
        let behind = self.first_sequence(behind.iter())?;
        Ok(behind.map_or(next, |behind| next.min(behind)))
    }

    /// That a backup is gone which was there, as another one that was planned on it says, and what to do.
    pub fn lost_backup(&self, lost: BackupId, planned_on_it: Option<BackupId>) -> LostBackup {
        let planned = planned_on_it
            .map(|id| format!(", though backup {id} was planned on it"))
            .unwrap_or_default();
        let location = self.location();
        LostBackup {
            what: format!(
                "backup {lost} is gone{planned}, and nothing expired it: the repository was rolled back, or somebody removed it"
            ),
            advice: format!(
                "If it was removed on purpose, or cannot be brought back: kafkeep expire --repository {location} --forget-lost {lost}"
            ),
        }
    }

    /// The sequence of the first of these backups that has one.
    fn first_sequence<'a>(
        &self,
        ids: impl Iterator<Item = &'a BackupId>,
    ) -> Result<Option<u64>, RepositoryError> {
        for id in ids {
            match self.manifest(id) {
                Ok(manifest) if manifest.sequence > 0 => return Ok(Some(manifest.sequence)),
                Ok(_) | Err(RepositoryError::UnknownBackup { .. }) => {}
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest_tests::manifest;
    use super::super::testing::Scratch;
    use super::super::{ExpiredBackup, WhyGone};
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    /// Begins and publishes a backup when the clock shows `now`.
    fn back_up(scratch: &Scratch, now: DateTime<Utc>) -> BackupId {
        publish(scratch, &scratch.repository.next_place(now).unwrap(), now)
    }

    fn publish(scratch: &Scratch, place: &Place, now: DateTime<Utc>) -> BackupId {
        let mut manifest = manifest(&scratch.repository, place.backup_id);
        manifest.sequence = scratch.repository.sequence_at(place.backup_id).unwrap();
        manifest.previous = place.previous;
        manifest.started_at = now;
        scratch.repository.publish(&manifest).unwrap();
        place.backup_id
    }

    /// The sequences in the order of the ids.
    fn sequences(scratch: &Scratch) -> Vec<u64> {
        let ids = scratch.repository.backup_ids().unwrap();
        let manifests = ids
            .iter()
            .map(|id| scratch.repository.manifest(id).unwrap());
        manifests.map(|manifest| manifest.sequence).collect()
    }

    #[test]
    fn backups_are_in_the_order_in_which_they_were_made_under_any_clock() {
        let scratch = Scratch::new();
        let mut made = Vec::new();
        for second in [0, 3600, 60, 365 * 86_400, 120, -86_400, 180, 180] {
            made.push(back_up(&scratch, at(second)));
        }
        assert_eq!(scratch.repository.backup_ids().unwrap(), made);
        assert_eq!(sequences(&scratch), [1, 2, 3, 4, 5, 6, 7, 8]);
        for pair in made.windows(2) {
            let (before, sha256) = scratch.repository.manifest_with_digest(&pair[0]).unwrap();
            let previous = scratch.repository.manifest(&pair[1]).unwrap().previous;
            let backup_id = before.backup_id;
            assert_eq!(previous, Some(PreviousBackup { backup_id, sha256 }));
        }
    }

    #[test]
    fn backups_made_at_the_same_time_share_what_they_go_on_from_and_stay_in_order() {
        let scratch = Scratch::new();
        back_up(&scratch, at(0));
        let begin = |second| scratch.repository.next_place(at(second)).unwrap();
        // One begins while the clock runs ahead, and ends last.
        let (first, second, third) = (begin(3600), begin(60), begin(61));
        assert_eq!(first.previous, third.previous);
        for place in [&third, &second, &first] {
            publish(&scratch, place, at(60));
        }
        assert_eq!(sequences(&scratch), [1, 2, 2, 3]);
        back_up(&scratch, at(70));
        assert_eq!(sequences(&scratch), [1, 2, 2, 3, 4]);
    }

    #[test]
    fn manifests_without_a_sequence_are_before_those_that_have_one() {
        let scratch = Scratch::new();
        for second in [0, 60] {
            let id = BackupId::new(at(second));
            let old = manifest(&scratch.repository, id);
            assert_eq!(old.sequence, 0);
            scratch.repository.publish(&old).unwrap();
        }
        let new = back_up(&scratch, at(30));
        assert_eq!(scratch.repository.backup_ids().unwrap()[2], new);
        assert_eq!(sequences(&scratch), [0, 0, 1]);
    }

    #[test]
    fn no_id_or_sequence_is_used_again_after_the_newest_backup_was_taken_away() {
        let scratch = Scratch::new();
        back_up(&scratch, at(0));
        let newest = back_up(&scratch, at(3600));
        let lock = scratch.repository.lock_exclusive("test").unwrap();
        let gone = ExpiredBackup {
            backup_id: newest,
            sequence: 2,
            expired_at: at(60),
            why: WhyGone::Deleted,
        };
        scratch.repository.record_expired(&lock, [gone]).unwrap();
        let manifest = scratch.repository.manifest(&newest).unwrap();
        scratch.repository.remove_backup(&lock, &manifest).unwrap();
        assert!(back_up(&scratch, at(60)) > newest);
        assert_eq!(sequences(&scratch), [1, 3]);
    }

    #[test]
    fn a_time_in_the_future_and_a_backup_that_is_lost_are_said() {
        let scratch = Scratch::new();
        back_up(&scratch, at(0));
        let lost = back_up(&scratch, at(60));
        let warnings = |second| scratch.repository.next_place(at(second)).unwrap().warnings;
        assert_eq!(warnings(-120), Vec::<String>::new());
        let ahead = warnings(-3600);
        assert!(ahead[0].contains("is in the future"), "{ahead:?}");
        back_up(&scratch, at(120));
        assert_eq!(warnings(180), Vec::<String>::new());
        let path = format!("backups/{lost}.json");
        std::fs::remove_file(scratch.directory.path().join(path)).unwrap();
        let said = scratch.repository.next_place(at(180)).unwrap().lost;
        let said = said.unwrap();
        let advice = format!("--forget-lost {lost}");
        assert!(said.to_string().contains(&advice), "{said}");
        assert!(!said.what().contains("kafkeep"), "{said}");
    }
}
