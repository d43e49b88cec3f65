//! What a restart should not forget and no manifest tells: moments that were decided upon, how runs ended, and which backups there
//! were. The file may be lost without harm: then the repositories' manifests alone tell what was done.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::engine::{EngineError, blocking};
use crate::files;

use super::remembered::{Remembered, RememberedPolicy, RememberedRepository};
use super::repositories::RepositoryStatus;
use super::state_file;
use super::status::{FailedBackups, Status};

const FORMAT: u32 = 1;
const FILE: &str = "state.json";
/// Many runs that end at once are written down together.
const PAUSE: Duration = Duration::from_secs(1);

impl Remembered {
    fn of(
        status: &Status,
        repositories: &[RepositoryStatus],
        before: &BTreeMap<String, RememberedRepository>,
    ) -> Self {
        // What is not known now is what was known before.
        let repositories = repositories.iter().filter_map(|shown| {
            let memory = shown.memory.as_ref().or(before.get(&shown.repository))?;
            Some((shown.repository.clone(), memory.clone()))
        });
        let policies = status.policies.iter().filter(|policy| policy.runs);
        let policies = policies.map(|policy| {
            let remembered = RememberedPolicy {
                settled_at: policy.settled_at,
                last_success_at: policy.last_success_at,
                last_run: policy.last_run.clone(),
                last_full_verification_at: policy.last_full_verification_at,
            };
            (policy.policy.clone(), remembered)
        });
        Self {
            policies: policies.collect(),
            failed_backups: status.failed_backups,
            repositories: repositories.collect(),
        }
    }
}

/// The file, below the directory that systemd gives the service.
#[derive(Debug, Clone)]
pub(super) struct StateFile {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content {
    format: u32,
    policies: BTreeMap<String, RememberedPolicy>,
    #[serde(default)]
    failed_backups: FailedBackups,
    #[serde(default)]
    repositories: BTreeMap<String, RememberedRepository>,
}

impl StateFile {
    pub fn below(directory: &Path) -> Self {
        Self {
            path: directory.join(FILE),
        }
    }

    /// What it tells; nothing where it is not there, or is not to be understood.
    pub fn read(&self) -> Remembered {
        match self.content() {
            Ok(content) => Remembered {
                policies: content.policies,
                failed_backups: content.failed_backups,
                repositories: content.repositories,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Remembered::default(),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(
                    "the state file {path} tells nothing, the repositories' manifests do: {error}"
                );
                Remembered::default()
            }
        }
    }

    fn content(&self) -> io::Result<Content> {
        let content: Content = state_file::read(&self.path)?;
        match content.format {
            FORMAT => Ok(content),
            other => Err(io::Error::other(format!("it has format {other}"))),
        }
    }

    /// Replaces it whole.
    fn write(&self, remembered: &Remembered) -> io::Result<()> {
        let content = Content {
            format: FORMAT,
            policies: remembered.policies.clone(),
            failed_backups: remembered.failed_backups,
            repositories: remembered.repositories.clone(),
        };
        files::replace(&self.path, &serde_json::to_vec_pretty(&content)?)
    }

    /// Keeps it up to date until there is no more to come. It began as `read`.
    pub async fn follow(
        self,
        read: Remembered,
        mut status: watch::Receiver<Arc<Status>>,
        mut repositories: watch::Receiver<Arc<Vec<RepositoryStatus>>>,
    ) {
        let mut written = read;
        let mut failing = false;
        loop {
            let more = tokio::select! {
                changed = status.changed() => changed.is_ok(),
                Ok(()) = repositories.changed() => true,
            };
            let now = Remembered::of(
                &status.borrow_and_update(),
                &repositories.borrow_and_update(),
                &written.repositories,
            );
            if now != written {
                let file = self.clone();
                let content = now.clone();
                let writing = blocking("the thread that writes the state file", move || {
                    Ok::<_, EngineError>(file.write(&content))
                });
                let wrote = writing
                    .await
                    .unwrap_or_else(|error| Err(io::Error::other(error)));
                match wrote {
                    Ok(()) => failing = false,
                    // Once, until it can be written again.
                    Err(error) if !failing => {
                        let path = self.path.display();
                        tracing::warn!("the state file {path} cannot be written: {error}");
                        failing = true;
                    }
                    Err(_) => {}
                }
                written = now;
            }
            if !more {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::Utc;

    use super::*;
    use crate::repository::BackupId;

    #[test]
    fn what_was_written_is_read_and_what_cannot_be_understood_tells_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::below(directory.path());
        assert_eq!(file.read(), Remembered::default());
        let mut remembered = Remembered::default();
        let now = Utc::now();
        remembered.backup("orders", now, now);
        remembered.backup(
            "orders",
            now - Duration::from_secs(60),
            now - Duration::from_secs(50),
        );
        assert_eq!(remembered.policies["orders"].settled_at, Some(now));
        let repository = RememberedRepository {
            at: crate::repository::Location::Directory("/srv/main".into()),
            newest_backup: Some(BackupId::new(now)),
            lost_backups: BTreeSet::from([BackupId::new(now)]),
        };
        remembered
            .repositories
            .insert("main".to_owned(), repository);
        file.write(&remembered).unwrap();
        assert_eq!(file.read(), remembered);
        for torn in [
            "",
            "{\"format\": 1, \"pol",
            "{\"format\": 2, \"policies\": {}}",
        ] {
            std::fs::write(&file.path, torn).unwrap();
            assert_eq!(file.read(), Remembered::default(), "{torn}");
        }
    }
}
