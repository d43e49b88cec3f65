//! What the rules say of backups before anything is taken away, and what of them was lost, for somebody who asks again and again:
//! each manifest is read once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeZone};
use serde::Serialize;

use crate::engine::EngineError;
use crate::repository::{BackupId, LackingPack, PackId, Repository};

use super::{Candidate, Decision, Reason, Retention, Times, decide, needed_by_restores};

/// The backups of one repository, as rules see them.
#[derive(Debug, Default)]
pub struct Preview {
    backups: BTreeMap<BackupId, Seen>,
    /// The newest that was ever seen.
    newest: Option<BackupId>,
    lost: BTreeSet<BackupId>,
    lost_packs: Vec<LackingPack>,
}

#[derive(Debug)]
struct Seen {
    policy: Option<String>,
    cluster_id: String,
    candidate: Candidate,
}

/// What a policy's retention would do to the backups of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// The cluster that they are of.
    pub cluster_id: String,
    /// What would become of each, newest first.
    pub backups: Vec<Decision>,
}

impl Preview {
    /// For one that remembers from before which backup was the newest, and which were lost.
    pub fn remembering(newest: Option<BackupId>, lost: BTreeSet<BackupId>) -> Self {
        Self {
            newest,
            lost,
            ..Self::default()
        }
    }

    /// Looks which backups there are, and reads those that are new. One that is damaged is left out: nothing is taken away
    /// while there is one.
    pub fn look(&mut self, repository: &Repository) -> Result<(), EngineError> {
        let ids = repository.backup_ids()?;
        let before = self.known();
        self.backups.retain(|id, _| ids.binary_search(id).is_ok());
        let mut walk = repository.reference_walk();
        for id in ids
            .iter()
            .filter(|id| !self.backups.contains_key(id))
            .collect::<Vec<_>>()
        {
            let read = repository.manifest(id).and_then(|manifest| {
                let references = walk.of_backup(&manifest)?;
                Ok((manifest, references))
            });
            let (manifest, references) = match read {
                Ok(read) => read,
                Err(error) if error.is_damage() || error.is_missing() => continue,
                Err(error) => return Err(error.into()),
            };
            let candidate = Candidate {
                backup_id: *id,
                previous: manifest.previous,
                started_at: manifest.started_at,
                status: manifest.status,
                needed: None,
                references,
            };
            let seen = Seen {
                policy: manifest.policy,
                cluster_id: manifest.cluster_id,
                candidate,
            };
            self.backups.insert(*id, seen);
        }
        let needed = needed_by_restores(repository, chrono::Utc::now())?;
        for (id, seen) in &mut self.backups {
            seen.candidate.needed = needed.contains(id).then_some(Reason::InterruptedRestore);
        }
        // After the backups: whatever expired before they were listed is recorded.
        let expired = repository.expired_backups()?;
        let suspects = before.into_iter().chain(self.known());
        self.lost = suspects.filter(|id| expired.is_lost(*id, &ids)).collect();
        self.newest = self.newest.max(ids.last().copied());
        self.lost_packs = self.lacking_packs(repository)?;
        Ok(())
    }

    /// Nothing at all is where the repository was.
    pub fn look_at_nothing(&mut self) {
        self.lost = self.known();
        self.backups.clear();
    }

    /// All backups that are known to have been there.
    fn known(&self) -> BTreeSet<BackupId> {
        let backups = self.backups.iter();
        let seen = backups.flat_map(|(id, seen)| {
            let previous = seen.candidate.previous.as_ref();
            [Some(*id), previous.map(|previous| previous.backup_id)]
        });
        let remembered = self.lost.iter().copied().map(Some);
        seen.chain(remembered)
            .chain([self.newest])
            .flatten()
            .collect()
    }

    /// Packs of backups that are gone or cut short.
    fn lacking_packs(&self, repository: &Repository) -> Result<Vec<LackingPack>, EngineError> {
        let present: BTreeMap<PackId, u64> = repository.packs()?.into_iter().collect();
        // After the packs: the packs of backups that expired meanwhile are not missed.
        let ids = repository.backup_ids()?;
        let backups = self.backups.iter();
        let there = backups.filter(|(id, _)| ids.binary_search(id).is_ok());
        let lacking = there.flat_map(|(_, seen)| seen.candidate.references.lacking(&present));
        let by_pack: BTreeMap<PackId, LackingPack> =
            lacking.map(|pack| (pack.pack_id, pack)).collect();
        Ok(by_pack.into_values().collect())
    }

    /// The newest backup that was ever seen.
    pub fn newest(&self) -> Option<BackupId> {
        self.newest
    }

    /// Backups that are gone though nothing expired them.
    pub fn lost(&self) -> &BTreeSet<BackupId> {
        &self.lost
    }

    /// Packs that backups need, and that are gone or have another length.
    pub fn lost_packs(&self) -> &[LackingPack] {
        &self.lost_packs
    }

    /// How many backups there are.
    pub fn count(&self) -> usize {
        self.backups.len()
    }

    /// What `retention` would do to the backups of `policy` now.
    pub fn of<Tz: TimeZone>(
        &self,
        policy: &str,
        retention: &Retention,
        now: &DateTime<Tz>,
    ) -> Vec<Foreseen> {
        let mut clusters: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
        for seen in self.backups.values() {
            if seen.policy.as_deref() == Some(policy) {
                let candidates = clusters.entry(&seen.cluster_id).or_default();
                candidates.push(seen.candidate.clone());
            }
        }
        let foreseen = clusters
            .into_iter()
            .map(|(cluster_id, candidates)| Foreseen {
                cluster_id: cluster_id.to_owned(),
                backups: decide(&candidates, retention, Times::InDoubt, now),
            });
        foreseen.collect()
    }
}
