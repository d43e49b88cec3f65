//! The backups of all repositories, told by their manifests: each is read once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

use crate::api::BackupSummary;
use crate::engine::{EngineError, blocking};
use crate::policy::{DaemonConfiguration, RepositoryLocation};
use crate::quote::quote;
use crate::repository::{BackupId, Location, Repository, RepositoryError};

/// All backups that were there at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalogued {
    /// Those that can be read, oldest first; several repositories may hold one id, if they were copied.
    pub backups: Vec<Arc<BackupSummary>>,
    /// Those that cannot, with their repositories.
    pub damaged: Vec<(String, BackupId)>,
    /// Repositories whose backups are still being read.
    pub loading: Vec<String>,
}

/// Who asks for backups waits for a repository for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What was read already, by repository. Each is read by one thread at a time, so that one that hangs takes no more.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    known: Mutex<BTreeMap<String, Arc<AsyncMutex<KnownBackups>>>>,
}

#[derive(Debug, Default)]
struct KnownBackups {
    /// The place and the id of the repository: another one may come under the same name.
    of: Option<(Location, String)>,
    backups: BTreeMap<BackupId, Arc<BackupSummary>>,
}

impl Catalogue {
    /// Looks which backups there are, and reads the manifests that are new. Who comes meanwhile waits for the same look. A
    /// repository that cannot be read is left out, and logged; with `only`, all others are.
    pub async fn look(
        &self,
        configuration: &DaemonConfiguration,
        only: Option<&str>,
    ) -> Catalogued {
        let locations = &configuration.repositories;
        self.known().retain(|name, _| locations.contains_key(name));
        let wanted = locations
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == name.as_str()));
        let looks = wanted.map(|(name, location)| async move {
            let look = timeout(PATIENCE, self.look_at(name, location)).await;
            (name, look)
        });
        let mut all = Catalogued::default();
        for (name, look) in join_all(looks).await {
            match look {
                Ok(Ok(found)) => {
                    all.backups.extend(found.backups);
                    all.damaged.extend(found.damaged);
                }
                Ok(Err(error)) => {
                    tracing::warn!(repository = %name, "the backups of repository {name} are not known: {}", quote(error));
                }
                Err(_) => all.loading.push(name.clone()),
            }
        }
        all.backups.sort_by_key(|backup| backup.backup_id);
        all
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<AsyncMutex<KnownBackups>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look_at(
        &self,
        name: &str,
        location: &RepositoryLocation,
    ) -> Result<Catalogued, EngineError> {
        let known = Arc::clone(self.known().entry(name.to_owned()).or_default());
        // The thread gives it back, also when nobody waits for it any more.
        let mut known = known.lock_owned().await;
        let (name, location) = (name.to_owned(), location.clone());
        blocking("the thread that lists backups", move || {
            known.look_at(&name, &location)
        })
        .await
    }
}

impl KnownBackups {
    fn look_at(
        &mut self,
        name: &str,
        location: &RepositoryLocation,
    ) -> Result<Catalogued, EngineError> {
        let mut found = Catalogued::default();
        let Some(repository) = location.at.open_existing()? else {
            return Ok(found);
        };
        let of = Some((location.at.clone(), repository.id().to_string()));
        if self.of != of {
            *self = Self {
                of,
                backups: BTreeMap::new(),
            };
        }
        self.look(name, &repository, &mut found)?;
        Ok(found)
    }

    fn look(
        &mut self,
        name: &str,
        repository: &Repository,
        found: &mut Catalogued,
    ) -> Result<(), EngineError> {
        let ids = repository.backup_ids()?;
        self.backups.retain(|id, _| ids.binary_search(id).is_ok());
        for id in ids {
            if let Some(known) = self.backups.get(&id) {
                found.backups.push(Arc::clone(known));
                continue;
            }
            match repository.manifest(&id) {
                Ok(manifest) => {
                    let summary = Arc::new(BackupSummary::of(&manifest, name));
                    found.backups.push(Arc::clone(&summary));
                    self.backups.insert(id, summary);
                }
                // Deleted between the listing and now.
                Err(RepositoryError::UnknownBackup { .. }) => {}
                Err(error @ RepositoryError::Denied { .. }) => {
                    tracing::warn!(repository = %name, "a backup is left out: {error}");
                }
                Err(error) if error.is_damage() => found.damaged.push((name.to_owned(), id)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
