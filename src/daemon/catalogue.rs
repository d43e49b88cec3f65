//! The backups of all repositories, told by their manifests: each is read once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::BackupSummary;
use crate::engine::EngineError;
use crate::policy::DaemonConfiguration;
use crate::repository::{BackupId, Repository, RepositoryError};

use super::run::open_existing;

/// All backups that were there at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalogued {
    /// Those that can be read, oldest first; several repositories may hold one id, if they were copied.
    pub backups: Vec<Arc<BackupSummary>>,
    /// Those that cannot, with their repositories.
    pub damaged: Vec<(String, BackupId)>,
}

/// What was read already.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The path and the id of the repository: another one may come under the same name.
    of: Option<(std::path::PathBuf, String)>,
    backups: BTreeMap<BackupId, Arc<BackupSummary>>,
}

impl Catalogue {
    /// Looks which backups there are, and reads the manifests that are new. Blocks; who comes meanwhile waits for the same look.
    /// A repository that cannot be read is left out, and logged.
    pub fn look(&self, configuration: &DaemonConfiguration) -> Catalogued {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| configuration.repositories.contains_key(name));
        let mut found = Catalogued::default();
        for (name, location) in &configuration.repositories {
            let looked =
                open_existing(location)
                    .map_err(EngineError::from)
                    .and_then(|repository| {
                        let Some(repository) = repository else {
                            return Ok(());
                        };
                        let of = Some((location.path.clone(), repository.id().to_string()));
                        let known = known.entry(name.clone()).or_default();
                        if known.of != of {
                            *known = Known {
                                of,
                                backups: BTreeMap::new(),
                            };
                        }
                        known.look(name, &repository, &mut found)
                    });
            if let Err(error) = looked {
                tracing::warn!(repository = %name, "the backups of repository {name} are not known: {error}");
            }
        }
        found.backups.sort_by_key(|backup| backup.backup_id);
        found
    }
}

impl Known {
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
                Err(error) if error.is_damage() => found.damaged.push((name.to_owned(), id)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
