//! `expire`: takes backups away that no rule keeps, then what nothing references any more.
//!
//! ```text
//! plan    which backups stay and why, and what would become free  -> ExpirePlan
//! apply   under the exclusive lock: plan again, manifests first, then packs, layers and states
//! ```

mod ages;
mod lost;
mod remove_backup;
mod retention_preview;
mod rules;
#[cfg(test)]
mod rules_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use serde::Serialize;

use crate::repository::{
    BackupId, ExclusiveLock, ExpiredBackup, Manifest, ObjectInfo, ReferenceWalk, References,
    Repository, RepositoryError, WhyGone,
};

use super::EngineError;
use super::backup_filter::{BackupFilter, Configured, Origin};
use super::size::Size;
use super::unreferenced::{manifests, remove_all, unknowable, unreferenced};

pub use lost::forget_lost;
pub use remove_backup::remove_one;
pub use retention_preview::{Foreseen, Preview};
pub use rules::{Candidate, Decision, InvalidRetention, Reason, Retention, Times, decide};

/// What an interrupted run or restore left is given up when nothing came of it for so long.
const GIVEN_UP_AFTER: chrono::TimeDelta = chrono::TimeDelta::days(7);
/// What is half-written can be of nobody who is still alive: the lock is exclusive. But clocks differ.
const LEFTOVERS_AFTER: Duration = Duration::from_secs(3600);

/// Which backups, and under which rules.
#[derive(Debug, Clone, Default)]
pub struct ExpireOptions {
    /// What is to be kept.
    pub retention: Retention,
    /// Whether the times in manifests are believed.
    pub times: Times,
    /// Which backups the rules are about; all others stay.
    pub filter: BackupFilter,
    /// What the filter may name though there is no backup of it.
    pub configured: Configured,
}

/// What would become of a repository's backups.
#[derive(Debug, Clone, Serialize)]
pub struct ExpirePlan {
    /// By policy and cluster: rules count within each.
    pub groups: Vec<ExpireGroup>,
    /// How many backups are taken away.
    pub removed_backups: u64,
    /// How many packs nothing references then.
    pub removed_packs: u64,
    /// Bytes that become free.
    pub freed_bytes: u64,
    /// What should be looked at.
    pub warnings: Vec<String>,
    #[serde(skip)]
    doomed: Vec<Manifest>,
    #[serde(skip)]
    unreferenced: Vec<ObjectInfo>,
}

/// Backups that are judged together.
#[derive(Debug, Clone, Serialize)]
pub struct ExpireGroup {
    /// The policy that made them; none for an operator's.
    pub policy: Option<String>,
    /// The cluster that they are of.
    pub cluster_id: String,
    /// What becomes of each, newest first.
    pub backups: Vec<Decision>,
    /// By how many bytes those that stay exceed the largest size that was asked for: the rest must stay whatever the size.
    #[serde(skip_serializing_if = "is_zero")]
    pub over_max_size_bytes: u64,
}

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// Plans; nothing is changed.
pub fn plan<Tz: TimeZone>(
    repository: &Repository,
    options: &ExpireOptions,
    now: &DateTime<Tz>,
) -> Result<ExpirePlan, EngineError> {
    options.retention.check()?;
    repository.read_locked("expire", || look(repository, options, now))
}

/// Takes away what [`plan`] shows, while nobody else uses the repository.
pub fn apply<Tz: TimeZone>(
    repository: &Repository,
    options: &ExpireOptions,
    now: &DateTime<Tz>,
) -> Result<ExpirePlan, EngineError> {
    options.retention.check()?;
    let lock = repository.lock_exclusive("expire")?;
    lock.during(|lock| {
        give_up_runs(repository, now.to_utc())?;
        let plan = look(repository, options, now)?;
        remove(repository, lock, &plan, now.to_utc())?;
        Ok(plan)
    })
}

fn look<Tz: TimeZone>(
    repository: &Repository,
    options: &ExpireOptions,
    now: &DateTime<Tz>,
) -> Result<ExpirePlan, EngineError> {
    let manifests = manifests(repository)?;
    let concerned = options.filter.choose(&manifests, &options.configured)?;
    let concerned: BTreeSet<BackupId> = concerned.into_iter().map(Origin::backup_id).collect();
    let needed = needed_by_restores(repository, now.to_utc())?;
    let mut walk = repository.reference_walk();
    let mut kept = walk.of_runs()?;
    let mut groups: BTreeMap<(Option<String>, String), Vec<Candidate>> = BTreeMap::new();
    for manifest in &manifests {
        let candidate = candidate(manifest, &needed, &mut walk)?;
        if concerned.contains(&manifest.backup_id) {
            let group = (manifest.policy.clone(), manifest.cluster_id.clone());
            groups.entry(group).or_default().push(candidate);
        } else {
            kept.extend(&candidate.references);
        }
    }
    let mut doomed = BTreeSet::new();
    let mut decided = Vec::new();
    for ((policy, cluster_id), candidates) in groups {
        let backups = decide(&candidates, &options.retention, options.times, now);
        let gone = backups.iter().filter(|decision| !decision.kept);
        doomed.extend(gone.map(|decision| decision.backup_id));
        let stay = candidates.iter();
        let stay = stay.filter(|backup| !doomed.contains(&backup.backup_id));
        let stay: Vec<&References> = stay.map(|backup| &backup.references).collect();
        stay.iter().for_each(|references| kept.extend(references));
        decided.push(ExpireGroup {
            policy,
            cluster_id,
            backups,
            over_max_size_bytes: over(options.retention.max_size, &stay),
        });
    }
    let unreferenced = repository.unreferenced(&kept)?;
    let packs = unreferenced
        .iter()
        .filter(|object| object.name.as_str().starts_with("packs/"));
    let warnings = decided.iter();
    let warnings = warnings.flat_map(|group| [doubt(group), over_max_size(group)]);
    Ok(ExpirePlan {
        warnings: warnings.flatten().collect(),
        groups: decided,
        removed_backups: doomed.len() as u64,
        removed_packs: packs.count() as u64,
        freed_bytes: unreferenced.iter().map(|object| object.size).sum(),
        doomed: manifests
            .into_iter()
            .filter(|manifest| doomed.contains(&manifest.backup_id))
            .collect(),
        unreferenced,
    })
}

/// By how many bytes what is referenced exceeds the limit.
fn over(limit: Option<Size>, references: &[&References]) -> u64 {
    let Some(Size(limit)) = limit else { return 0 };
    let mut all = References::default();
    references.iter().for_each(|each| all.extend(each));
    all.pack_bytes().saturating_sub(limit)
}

/// What should be known of backups that are more than `max_size` allows, and must stay all the same.
fn over_max_size(group: &ExpireGroup) -> Option<String> {
    let over = Some(group.over_max_size_bytes).filter(|over| *over > 0)?;
    Some(format!(
        "max_size cannot be reached: the backups of {} that must stay take {} more; allow more, or lower min_backups where \
         it is above 1",
        group.whose(),
        Size(over)
    ))
}

impl ExpirePlan {
    /// Whether what stays is more than was asked for.
    pub fn is_over_max_size(&self) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.over_max_size_bytes > 0)
    }
}

impl ExpireGroup {
    fn whose(&self) -> String {
        match &self.policy {
            Some(policy) => format!("policy {policy}"),
            None => format!("cluster {}", self.cluster_id),
        }
    }
}

/// What should be known of backups that stay for a doubt alone.
fn doubt(group: &ExpireGroup) -> Option<String> {
    let stays_for = |reason: &Reason| {
        let backups = group.backups.iter();
        backups
            .filter(|decision| decision.reasons.as_slice() == std::slice::from_ref(reason))
            .count()
    };
    let whose = group.whose();
    let (age, clock) = (
        stays_for(&Reason::AgeInDoubt),
        stays_for(&Reason::ClockInDoubt),
    );
    if clock > 0 {
        Some(format!(
            "{clock} backup(s) of {whose} stay, since the newest lies in the future: set the clock right, or say that it is with --trust-times"
        ))
    } else if age > 0 {
        Some(format!(
            "{age} backup(s) of {whose} stay, since their age is in doubt: much more time lies between two backups than between the others. When no clock was wrong, expire with --trust-times; else they stay until enough backups followed them"
        ))
    } else {
        None
    }
}

fn candidate(
    manifest: &Manifest,
    needed: &BTreeSet<BackupId>,
    walk: &mut ReferenceWalk<'_>,
) -> Result<Candidate, EngineError> {
    let references = walk
        .of_backup(manifest)
        .map_err(|error| unknowable(&manifest.backup_id, error, "verify tells what is damaged"))?;
    let interrupted = needed.contains(&manifest.backup_id);
    Ok(Candidate {
        backup_id: manifest.backup_id,
        previous: manifest.previous,
        started_at: manifest.started_at,
        status: manifest.status,
        needed: interrupted.then_some(Reason::InterruptedRestore),
        references,
    })
}

/// Backups that an interrupted restore may go on from.
fn needed_by_restores(
    repository: &Repository,
    now: DateTime<Utc>,
) -> Result<BTreeSet<BackupId>, EngineError> {
    let restores = repository.unfinished_restores()?;
    Ok(restores
        .iter()
        .filter(|restore| now - restore.started_at < GIVEN_UP_AFTER)
        .map(|restore| restore.backup_id)
        .collect())
}

/// Removes a backup of which nothing else speaks, while the manifests of `stay` do of theirs. Returns the bytes that became free.
fn remove_doomed(
    repository: &Repository,
    lock: &ExclusiveLock,
    doomed: &Manifest,
    stay: &[Manifest],
    now: DateTime<Utc>,
) -> Result<u64, EngineError> {
    // Known before anything is removed: a backup that cannot be read keeps the others as well.
    let unreferenced = unreferenced(repository, stay)?;
    let doomed = std::slice::from_ref(doomed);
    take_away(
        repository,
        lock,
        doomed,
        &unreferenced,
        (WhyGone::Deleted, now),
    )
}

/// Removes backups and what is unreferenced without them, and leaves word of it. Returns the bytes that became free.
///
/// Word comes first, so that no backup is ever gone without it; but where there is no room for it, room is made first. Manifests go
/// before all else: a crash in between leaves what nothing references, never a backup that lacks something.
fn take_away(
    repository: &Repository,
    lock: &ExclusiveLock,
    doomed: &[Manifest],
    unreferenced: &[ObjectInfo],
    (why, now): (WhyGone, DateTime<Utc>),
) -> Result<u64, EngineError> {
    let leave_word = |gone: &[&Manifest]| {
        let gone = gone.iter().map(|manifest| ExpiredBackup {
            backup_id: manifest.backup_id,
            sequence: manifest.sequence,
            expired_at: now,
            why,
        });
        repository.record_expired(lock, gone)
    };
    let all: Vec<&Manifest> = doomed.iter().collect();
    let has_room = doomed.is_empty()
        || match leave_word(&all) {
            Ok(()) => true,
            Err(RepositoryError::NoSpace { .. }) => false,
            Err(error) => return Err(error.into()),
        };
    let removed = remove_backups(repository, lock, doomed)
        .and_then(|()| remove_all(repository, lock, unreferenced));
    // Also after a failure: it may have come behind the first manifest.
    let gone = match has_room {
        true => Vec::new(),
        false => without_those_that_are_there(repository, all),
    };
    if !gone.is_empty()
        && let Err(error) = leave_word(&gone)
    {
        tracing::warn!(
            "no record says that backups were expired, so they will be told as lost: {error}"
        );
    }
    removed
}

/// Those of the backups that are gone; all where that cannot be known.
fn without_those_that_are_there<'a>(
    repository: &Repository,
    mut backups: Vec<&'a Manifest>,
) -> Vec<&'a Manifest> {
    if let Ok(there) = repository.backup_ids() {
        backups.retain(|manifest| !there.contains(&manifest.backup_id));
    }
    backups
}

fn remove_backups(
    repository: &Repository,
    lock: &ExclusiveLock,
    doomed: &[Manifest],
) -> Result<(), EngineError> {
    for manifest in doomed {
        repository.remove_backup(lock, manifest)?;
        let backup_id = manifest.backup_id;
        tracing::info!(%backup_id, "backup {backup_id} removed");
    }
    Ok(())
}

/// Forgets runs that nobody went on with: their packs are no longer kept for adoption.
fn give_up_runs(repository: &Repository, now: DateTime<Utc>) -> Result<(), EngineError> {
    let (runs, _) = repository.unfinished_runs()?;
    let old: Vec<BackupId> = runs
        .iter()
        .map(|run| run.run_id)
        .filter(|run_id| now - run_id.started_at() >= GIVEN_UP_AFTER)
        .collect();
    if !old.is_empty() {
        repository.forget_runs(&old)?;
    }
    Ok(())
}

fn remove(
    repository: &Repository,
    lock: &ExclusiveLock,
    plan: &ExpirePlan,
    now: DateTime<Utc>,
) -> Result<(), EngineError> {
    let why = (WhyGone::Retention, now);
    take_away(repository, lock, &plan.doomed, &plan.unreferenced, why)?;
    repository.remove_leftovers(lock, LEFTOVERS_AFTER)?;
    Ok(())
}
