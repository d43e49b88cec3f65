//! What is known of policies and repositories from before the daemon started.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::policy::RepositoryLocation;
use crate::repository::{BackupId, Location};

use super::status::{EndedRun, FailedBackups};

/// What is known of policies from before the daemon started, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Remembered {
    pub policies: BTreeMap<String, RememberedPolicy>,
    pub failed_backups: FailedBackups,
    pub repositories: BTreeMap<String, RememberedRepository>,
}

/// What is known of one repository: that it was rolled back, no repository tells by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RememberedRepository {
    /// Where it lay: another place is another repository.
    #[serde(rename = "path")]
    pub at: Location,
    /// The newest backup that was ever seen in it.
    pub newest_backup: Option<BackupId>,
    /// Backups that were gone though nothing had expired them.
    pub lost_backups: BTreeSet<BackupId>,
}

impl RememberedRepository {
    /// One that nothing is known of.
    pub fn at(location: &RepositoryLocation) -> Self {
        Self {
            at: location.at.clone(),
            newest_backup: None,
            lost_backups: BTreeSet::new(),
        }
    }
}

/// What is known of one policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RememberedPolicy {
    /// Due moments up to this were decided upon.
    pub settled_at: Option<DateTime<Utc>>,
    /// When a run last succeeded.
    pub last_success_at: Option<DateTime<Utc>>,
    /// How the last run ended.
    pub last_run: Option<EndedRun>,
    /// When the whole of its newest backup was last verified. Missing in files of before this was remembered.
    #[serde(default)]
    pub last_full_verification_at: Option<DateTime<Utc>>,
}

impl Remembered {
    /// A backup that a policy's run made. The later of what is known counts.
    pub fn backup(&mut self, policy: &str, started_at: DateTime<Utc>, finished_at: DateTime<Utc>) {
        let known = self.policies.entry(policy.to_owned()).or_default();
        known.settled_at = known.settled_at.max(Some(started_at));
        known.last_success_at = known.last_success_at.max(Some(finished_at));
    }
}
