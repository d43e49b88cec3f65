//! The backups of a repository as filters see them, and the one that an operator names.

use crate::repository::{BackupId, Manifest, Repository, RepositoryError};

use super::EngineError;
use super::backup_filter::{
    BackupFilter, BackupHead, Configured, LATEST, Maker, Origin, cluster_names, listed, newest_with,
};
use super::refusal::{Advice, Part, Refusal};
use super::topics::{Candidate, TopicPatterns};

/// The backups of a repository, oldest first, as far as filters look.
#[derive(Debug, Default)]
pub struct HeldBackups {
    /// Those that can be read.
    pub heads: Vec<BackupHead>,
    /// Those whose manifest is damaged: of what they are is not known.
    pub damaged: Vec<BackupId>,
}

impl HeldBackups {
    /// Reads all manifests.
    pub fn read(repository: &Repository) -> Result<Self, EngineError> {
        let mut held = Self::default();
        for id in repository.backup_ids()? {
            match repository.manifest(&id) {
                Ok(manifest) => held.heads.push(BackupHead::from(&manifest)),
                // Deleted between the listing and now.
                Err(RepositoryError::UnknownBackup { .. }) => {}
                Err(error) if error.is_damage() => held.damaged.push(id),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(held)
    }

    /// The chosen ones and, since they may be meant, the damaged ones: at least one.
    pub fn chosen_or_damaged(&self, filter: &BackupFilter) -> Result<Vec<BackupId>, EngineError> {
        let chosen = filter.choose(&self.heads, &Configured::default())?;
        let chosen = chosen.into_iter().map(Origin::backup_id);
        let mut ids: Vec<BackupId> = chosen.chain(self.damaged.iter().copied()).collect();
        ids.sort();
        match ids.is_empty() {
            true => Err(EngineError::not_found(
                "the filters choose no backup of this repository",
            )),
            false => Ok(ids),
        }
    }

    fn find(&self, text: &str, id: BackupId, filter: &BackupFilter) -> Result<(), EngineError> {
        let Some(head) = self.heads.iter().find(|head| head.backup_id == id) else {
            // Damaged: whoever reads it is told.
            return Ok(());
        };
        let chosen = filter.choose(&self.heads, &Configured::default())?;
        if chosen.iter().any(|chosen| chosen.backup_id == id) {
            return Ok(());
        }
        let maker = Maker::of(head).describe(&cluster_names(&self.heads));
        Err(EngineError::not_found(format!(
            "backup {text} is of {maker}, holds topics {}, and is not one of those that the filters choose",
            listed(&head.topics)
        )))
    }
}

/// The backup that `text` names: an id, the start of one, or [`LATEST`], which is the newest that `filter` chooses, be it damaged: an
/// older one is not what was asked for.
pub fn find_backup(
    repository: &Repository,
    text: &str,
    filter: &BackupFilter,
) -> Result<BackupId, EngineError> {
    if text != LATEST {
        let id = repository.find_backup(text)?;
        if !filter.is_all() {
            HeldBackups::read(repository)?.find(text, id, filter)?;
        }
        return Ok(id);
    }
    let held = HeldBackups::read(repository)?;
    let newest = filter.latest(&held.heads)?;
    match newest.max(held.damaged.last().copied()) {
        Some(id) => Ok(id),
        None if held.heads.is_empty() => Ok(repository.find_backup(text)?),
        None => Err(EngineError::not_found(
            "the filters choose no backup of this repository",
        )),
    }
}

/// Refuses patterns that match no topic of a backup, and says in which other backup there is one.
pub(super) fn require_topics(
    repository: &Repository,
    manifest: &Manifest,
    patterns: &TopicPatterns,
) -> Result<(), EngineError> {
    let Err(missing) = patterns.choose_of(manifest) else {
        return Ok(());
    };
    let Some(pattern) = patterns.unmatched(Origin::topics(manifest)) else {
        return Err(missing);
    };
    let held = HeldBackups::read(repository)?;
    let Some(other) = newest_with(pattern, held.heads.iter()) else {
        return Err(missing);
    };
    let maker = Maker::of(other).describe(&cluster_names(&held.heads));
    let refusal = Refusal::new(format!(
        "no topic `{pattern}` in backup {}",
        manifest.backup_id
    ));
    let refusal = refusal.of(Part::Topic, pattern);
    Err(EngineError::not_found(refusal.advise(Advice::OtherBackup(
        format!("backup {} of {maker} holds it", other.backup_id),
    ))))
}

/// Leaves of a manifest the topics that the patterns choose.
///
/// # Errors
///
/// Where a pattern matches none of them: in which other backup there is one.
pub fn keep_topics(
    repository: &Repository,
    manifest: &mut Manifest,
    patterns: &TopicPatterns,
) -> Result<(), EngineError> {
    if patterns.is_empty() {
        return Ok(());
    }
    require_topics(repository, manifest, patterns)?;
    manifest.topics.retain(|topic| {
        patterns.chooses(Candidate {
            name: &topic.topic,
            is_internal: false,
        })
    });
    Ok(())
}
