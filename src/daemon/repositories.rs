//! What a repository tells: of the time before the daemon started, and how it is now. All of it blocks.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::expire::{Foreseen, Preview};
use crate::policy::{DaemonConfiguration, RepositoryLocation};
use crate::quote::quote;
use crate::repository::{BackupId, Completion, RepositoryError};
use crate::words::words;

use super::remembered::{Remembered, RememberedRepository};

words! {
    /// Whether a repository can be used, in a word.
    pub enum RepositoryState {
        /// It is being read for the first time since the daemon started.
        Loading = "loading",
        /// It can be read and written.
        Ready = "ready",
        /// It cannot be read or written, or does not answer.
        Failed = "failed",
    }
}

/// One repository, when it was last looked at.
#[derive(Debug, Clone, Serialize)]
pub struct RepositoryStatus {
    /// Its name.
    pub repository: String,
    /// Where it lies.
    pub location: String,
    /// Whether it can be used.
    pub state: RepositoryState,
    /// When it was looked at; none while it is being loaded.
    pub looked_at: Option<DateTime<Utc>>,
    /// Whether what it holds could be read.
    pub readable: bool,
    /// Whether something could be written there.
    pub writable: bool,
    /// Why it cannot be written, or not be read, or that it does not answer.
    pub error: Option<String>,
    /// Bytes that all its objects take; none while it cannot be read.
    pub size_bytes: Option<u64>,
    /// How many objects it has; none while it cannot be read.
    pub objects: Option<u64>,
    /// Bytes that are free where it lies; none where that has no bounds.
    pub free_bytes: Option<u64>,
    /// Backups in it; none while it cannot be read.
    pub backups: Option<u64>,
    /// Backups that are gone though nothing expired them: the repository was rolled back, or somebody removed them.
    pub lost_backups: Vec<BackupId>,
    /// Packs that backups need and that are gone or cut short, in words.
    pub lost_packs: Vec<String>,
    /// What is to be remembered of it; none while that is not known.
    #[serde(skip)]
    pub(super) memory: Option<RememberedRepository>,
    /// What retention would take away now.
    pub retention: Vec<RetentionStatus>,
}

/// What the retention of one policy would do now.
#[derive(Debug, Clone, Serialize)]
pub struct RetentionStatus {
    /// The policy.
    pub policy: String,
    /// Its backups, and why each stays or goes.
    #[serde(flatten)]
    pub foreseen: Foreseen,
}

impl RepositoryStatus {
    /// One that was not looked at yet.
    pub(super) fn loading(name: &str, location: &RepositoryLocation) -> Self {
        Self {
            repository: name.to_owned(),
            location: location.at.to_string(),
            state: RepositoryState::Loading,
            looked_at: None,
            readable: false,
            writable: false,
            error: None,
            size_bytes: None,
            objects: None,
            free_bytes: None,
            backups: None,
            lost_backups: Vec::new(),
            lost_packs: Vec::new(),
            memory: None,
            retention: Vec::new(),
        }
    }
}

/// The last complete backup of each policy in a repository.
pub(super) fn past(
    name: &str,
    location: &RepositoryLocation,
    configuration: &DaemonConfiguration,
) -> Result<Remembered, RepositoryError> {
    let mut remembered = Remembered::default();
    let Some(repository) = location.at.open_existing()? else {
        return Ok(remembered);
    };
    let policies = configuration.backups.iter();
    let mut unknown: Vec<&str> = policies
        .filter(|policy| policy.repository == name)
        .map(|policy| policy.name.as_str())
        .collect();
    for id in repository.backup_ids()?.iter().rev() {
        // The newest tell of every policy that still runs: the long tail is not read.
        if unknown.is_empty() {
            break;
        }
        let manifest = match repository.manifest(id) {
            Ok(manifest) => manifest,
            Err(error) if error.is_of_one_object() => continue,
            Err(error) => return Err(error),
        };
        if let (Some(policy), Completion::Completed) = (manifest.policy, manifest.status)
            && let Some(place) = unknown.iter().position(|name| *name == policy)
        {
            unknown.swap_remove(place);
            remembered.backup(&policy, manifest.started_at, manifest.finished_at);
        }
    }
    Ok(remembered)
}

/// Looks at one repository, again and again.
#[derive(Default)]
pub(super) struct Observer {
    preview: Preview,
}

impl Observer {
    /// One that remembers what the last one did.
    pub fn remembering(
        memory: Option<RememberedRepository>,
        location: &RepositoryLocation,
    ) -> Self {
        let memory = memory.filter(|memory| memory.at == location.at);
        let memory = memory.unwrap_or_else(|| RememberedRepository::at(location));
        Self {
            preview: Preview::remembering(memory.newest_backup, memory.lost_backups),
        }
    }

    /// What the next one is to remember.
    fn memory(&self, location: &RepositoryLocation) -> RememberedRepository {
        RememberedRepository {
            newest_backup: self.preview.newest(),
            lost_backups: self.preview.lost().clone(),
            ..RememberedRepository::at(location)
        }
    }

    /// Looks once.
    pub fn look(
        &mut self,
        name: &str,
        location: &RepositoryLocation,
        configuration: &DaemonConfiguration,
    ) -> RepositoryStatus {
        let mut status = RepositoryStatus::loading(name, location);
        if let Err(error) = self.fill(&mut status, location, configuration) {
            status.error = Some(quote(error));
        }
        status.lost_backups = self.preview.lost().iter().copied().collect();
        let lost_packs = self.preview.lost_packs().iter();
        status.lost_packs = lost_packs.map(ToString::to_string).collect();
        status.memory = Some(self.memory(location));
        status.state = match status.writable {
            true => RepositoryState::Ready,
            false => RepositoryState::Failed,
        };
        status.looked_at = Some(Utc::now());
        status
    }

    fn fill(
        &mut self,
        status: &mut RepositoryStatus,
        location: &RepositoryLocation,
        configuration: &DaemonConfiguration,
    ) -> Result<(), EngineError> {
        let Some(repository) = location.at.open_existing()? else {
            return self.look_at_nothing(status, location);
        };
        let usage = repository.usage()?;
        status.free_bytes = repository.free_bytes()?;
        self.preview.look(&repository)?;
        status.readable = true;
        status.size_bytes = Some(usage.bytes);
        status.objects = Some(usage.objects);
        status.backups = Some(self.preview.count() as u64);
        for policy in configuration
            .backups
            .iter()
            .filter(|policy| policy.repository == status.repository)
        {
            let now = Utc::now().with_timezone(&policy.time_zone);
            let foreseen = self.preview.of(&policy.name, &policy.retention, &now);
            status
                .retention
                .extend(foreseen.into_iter().map(|foreseen| RetentionStatus {
                    policy: policy.name.clone(),
                    foreseen,
                }));
        }
        repository.storage().probe()?;
        status.writable = true;
        Ok(())
    }

    /// No repository is there: it is gone, or was never begun, and then the first run begins it.
    fn look_at_nothing(
        &mut self,
        status: &mut RepositoryStatus,
        location: &RepositoryLocation,
    ) -> Result<(), EngineError> {
        let has_held_backups = self.preview.newest().is_some();
        self.preview.look_at_nothing();
        if has_held_backups {
            return Err(EngineError::refused(
                "it is gone, and it held backups: is its file system mounted? Mount it, or bring it back from a copy",
            ));
        }
        location.at.can_be_made()?;
        (status.readable, status.writable) = (true, true);
        (status.size_bytes, status.objects, status.backups) = (Some(0), Some(0), Some(0));
        Ok(())
    }
}
