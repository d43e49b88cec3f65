//! What the rules say of backups before anything is taken away, for somebody who asks again and again: each manifest is read once.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeZone};
use serde::Serialize;

use crate::engine::EngineError;
use crate::repository::{BackupId, Repository};

use super::{Candidate, Decision, Reason, Retention, decide, needed_by_restores};

/// The backups of one repository, as rules see them.
#[derive(Debug, Default)]
pub struct Preview {
    backups: BTreeMap<BackupId, Seen>,
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
    /// Looks which backups there are, and reads those that are new. One that is damaged is left out: nothing is taken away
    /// while there is one.
    pub fn look(&mut self, repository: &Repository) -> Result<(), EngineError> {
        let ids = repository.backup_ids()?;
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
        Ok(())
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
                backups: decide(&candidates, retention, now),
            });
        foreseen.collect()
    }
}
