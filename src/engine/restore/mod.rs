//! `restore`: brings the topics of a backup back, into the same cluster or another.
//!
//! ```text
//! plan     what to create, to go on with, what is refused        -> RestorePlan
//! note     what is about to be written, for the case of an interruption
//! create   topics under settings that keep old records alive
//! claim    the topics, so that whoever else writes to them ends
//! find     what an interrupted restore wrote already, to be compared and not written again
//! read     one thread: packs in order, whole batches, what belongs to nothing committed left out
//! prepare  a new header for each batch; opened only where it must be
//! produce  workers: idempotent, acks=all, several batches of a partition in flight, in order
//! settle   a check against the target's log, groups' offsets, the settings that had to wait -> RestoreReport
//! ```

mod commit;
mod configuration;
mod content;
mod evidence;
mod exact;
mod groups;
mod interrupted;
mod means;
mod offset_map;
mod options;
mod outcome;
mod partition_state;
mod plan;
mod planning;
mod prepare;
mod produce;
mod producer_worker;
mod read;
mod read_back;
mod report;
mod set_aside;
mod settle;
mod target;
mod unsupported;

use std::sync::Arc;
use std::time::Instant;

use crate::kafka::Client;
use crate::repository::{BackupId, Repository, RepositoryError};

pub use configuration::{SettingChanges, TopicConfigSource};
pub use options::{GroupChoice, IfExists, Offsets, RestoreOptions};
pub use plan::{
    GroupRestore, Interrupted, OffsetAction, OffsetRestore, PartitionRestore, RestorePlan,
    TopicAction, TopicRestore,
};
pub use report::{
    OffsetOutcome, RestoreReport, RestoredGroup, RestoredOffset, RestoredPartition, RestoredTopic,
    Skipped,
};
pub use set_aside::SetAside;

use means::Means;

use super::blocking::{in_repository, release};
use super::claims::Claims;
use super::refusal::{Advice, Part, Refusal};
use super::watchdog::{Wait, Watchdog, WatchedProgress};
use super::{EngineError, Progress};

/// Plans a restore; nothing is changed.
pub async fn plan(
    client: &Client,
    repository: Arc<Repository>,
    backup_id: &BackupId,
    options: &RestoreOptions,
) -> Result<RestorePlan, EngineError> {
    let planned = planning::plan(client, &repository, backup_id, options).await;
    let may_be_gone = match &planned {
        Ok(plan) => !plan.refused.is_empty(),
        Err(EngineError::Repository(RepositoryError::UnknownBackup { .. })) => false,
        Err(EngineError::Repository(error)) => error.is_missing(),
        Err(_) => false,
    };
    // What is missing of a backup that was removed meanwhile is no damage.
    if may_be_gone {
        is_still_there(&repository, *backup_id).await?;
    }
    planned
}

/// Carries a plan out. A plan with refusals is not begun.
pub async fn apply(
    client: &Client,
    repository: Arc<Repository>,
    plan: RestorePlan,
    options: &RestoreOptions,
    progress: Arc<dyn Progress>,
) -> Result<RestoreReport, EngineError> {
    plan.refuse()?;
    let watchdog = Watchdog::new();
    let memory = options.memory.run();
    let progress: Arc<dyn Progress> = Arc::new(WatchedProgress {
        progress,
        watchdog: watchdog.clone(),
    });
    let means = Means {
        client,
        memory: &memory,
        watchdog: &watchdog,
    };
    let applying = apply_watched(&means, &repository, plan, options, progress);
    let deadline = client.retry().deadline;
    watchdog.over(deadline, &memory, applying).await
}

async fn apply_watched(
    means: &Means<'_>,
    repository: &Arc<Repository>,
    plan: RestorePlan,
    options: &RestoreOptions,
    progress: Arc<dyn Progress>,
) -> Result<RestoreReport, EngineError> {
    let lock = {
        let _waiting = means.watchdog.waits(Wait::Repository("to be locked"));
        let locking = in_repository(repository, "the locking thread", |repository| {
            repository.lock_to_read("restore")
        });
        locking.await?
    };
    let applied = async {
        let wait = Wait::Repository("to be read");
        let looking = is_still_there(repository, plan.backup_id);
        means.watchdog.step(wait, looking).await?;
        apply_locked(means, repository, plan, options, progress).await
    };
    let applied = applied.await;
    if let Some(lock) = lock {
        release(lock).await;
    }
    applied
}

/// A plan is made without a lock, so its backup may be removed meanwhile. Once there is a lock, that keeps it.
async fn is_still_there(
    repository: &Arc<Repository>,
    backup_id: BackupId,
) -> Result<(), EngineError> {
    let reading = in_repository(
        repository,
        "the thread that reads the backup",
        move |repository| repository.manifest(&backup_id),
    );
    match reading.await {
        Err(EngineError::Repository(RepositoryError::UnknownBackup { .. })) => {
            let why = format!("backup {backup_id} was removed meanwhile; nothing was changed");
            let refusal = Refusal::new(why).of(Part::Backup, backup_id);
            Err(EngineError::not_found(refusal.advise(Advice::ChooseBackup)))
        }
        other => other.map(drop),
    }
}

async fn apply_locked(
    means: &Means<'_>,
    repository: &Arc<Repository>,
    plan: RestorePlan,
    options: &RestoreOptions,
    progress: Arc<dyn Progress>,
) -> Result<RestoreReport, EngineError> {
    let (client, watchdog) = (means.client, means.watchdog);
    let clock = Instant::now();
    progress.planned(plan.records());
    // Before anything is created: who may not write at all leaves nothing behind.
    let targets = plan.topics.iter();
    let targets: Vec<&str> = targets.map(|topic| topic.target_topic.as_str()).collect();
    let naming = client.init_producer_id(&targets);
    let producer = watchdog
        .step(Wait::Target("to give a producer id"), naming)
        .await?;
    let mut begun = Begun::default();
    let preparing = async {
        let noting = interrupted::note_down(client, repository, &plan, options, producer);
        let wait = Wait::Repository("to note that the restore begins");
        watchdog.step(wait, noting).await?;
        let creating = target::create(client, &plan, &mut begun.created);
        watchdog
            .step(Wait::Target("to create topics"), creating)
            .await
    };
    let prepared = preparing.await;
    prepared.map_err(|error| begun.unfinished(error, &plan))?;
    // Who fails to create a topic claims none: the claims are of the one that did.
    let claims = claim(means, &plan).await;
    begun.writing = true;
    let writing = async {
        let outcome =
            produce::produce_all(means, repository, &plan, options, producer, &progress).await?;
        let report = settle::settle(means, repository, &plan, outcome, options, clock).await?;
        if !report.is_unfinished {
            let wait = Wait::Repository("to note that the restore is finished");
            let finishing = interrupted::finish(repository, &plan);
            watchdog.step(wait, finishing).await?;
        }
        Ok(report)
    };
    // Who lost a claim is not told to run again: another one goes on.
    let writing = async {
        let written = writing.await;
        written.map_err(|error| begun.unfinished(error, &plan))
    };
    claims.hold(writing).await
}

/// Claims the plan's topics. Whoever held such a claim has stopped when this returns, so that what lies there can be read back.
async fn claim(means: &Means<'_>, plan: &RestorePlan) -> Claims {
    let topics = plan.topics.iter();
    let topics: Vec<&str> = topics.map(|topic| topic.target_topic.as_str()).collect();
    let taking = Claims::take(means.client, &topics);
    let wait = Wait::Target("to let its topics be claimed");
    let claims = means.watchdog.step(wait, taking).await;
    if plan.topics.iter().any(|topic| topic.interrupted.is_some()) {
        let handover = claims.handed_over();
        means.watchdog.step(Wait::Bounded, handover).await;
    }
    claims
}

/// How far a restore has come, to tell what it leaves behind when it fails.
#[derive(Debug, Default)]
struct Begun {
    created: Vec<String>,
    writing: bool,
}

impl Begun {
    fn unfinished(&self, source: EngineError, plan: &RestorePlan) -> EngineError {
        let mut remains = Vec::new();
        if !self.created.is_empty() {
            remains.push(format!("this restore created {}", self.created.join(", ")));
        }
        let (mut begun, mut appended) = (Vec::new(), Vec::new());
        for topic in plan.topics.iter().filter(|_| self.writing) {
            match topic.action {
                TopicAction::Append => appended.push(topic.target_topic.as_str()),
                TopicAction::Create { .. } if topic.interrupted.is_some() => {
                    begun.push(topic.target_topic.as_str());
                }
                TopicAction::Create { .. } => {}
            }
        }
        if !begun.is_empty() {
            remains.push(format!(
                "an interrupted restore created {}",
                begun.join(", ")
            ));
        }
        if !appended.is_empty() {
            remains.push(format!(
                "{} may hold a part of the records behind what was there",
                appended.join(", ")
            ));
        }
        if remains.is_empty() {
            return source;
        }
        // Damage stays: the same again would end in the same way.
        let todo = match &source {
            EngineError::Repository(error) if error.is_damage() => {
                "choose another backup, or leave out the topics that verify names"
            }
            _ => "run the same restore again to go on with it",
        };
        EngineError::Unfinished {
            source: Box::new(source),
            remains: format!("{}; {todo}", remains.join("; ")),
        }
    }
}
