//! `backup`: copies what is new of the chosen topics into a repository, and makes a backup of it.
//!
//! ```text
//! plan      metadata, groups, bounds, configurations, chains
//! prove     chains, and what interrupted runs left, at the leaders -> BackupPlan
//! fetch     a worker a leader: raw batches, two requests in flight
//! seal      on threads: CRC32C, compression, CRC32, in order   -> SealedBlock
//! store     one thread: packs                                  -> packs and extents
//! conclude  index layers, states, the manifest last            -> BackupReport
//! ```

mod adopt;
mod bounds;
mod conclude;
mod estimate;
mod failures;
mod fetch;
mod groups;
mod held_batch;
mod means;
mod options;
mod plan;
mod planning;
mod proof;
mod prove;
mod report;
mod seal;
mod seams;
mod share;
mod space_limit;
mod store;
mod stored_codec;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;

use crate::kafka::Client;
use crate::repository::{BackupId, Place, Repository};

pub use options::BackupOptions;
pub use plan::{BackupPlan, PartitionPlan, TopicPlan};
pub use report::{BackupReport, GroupReport, PartitionReport, TopicReport};
pub use space_limit::SpaceLimit;
pub use stored_codec::stored_codec;

use means::Means;

use super::blocking::{blocking, in_repository, release};
use super::chain::Generation;
use super::unreferenced::{manifests, remove_all, unreferenced};
use super::watchdog::{Wait, Watchdog, WatchedProgress};
use super::{EngineError, Progress};

/// Runs one backup. The source is only read, and no consumer group is joined. What an interrupted run had sealed is
/// taken over.
///
/// A topic whose log was truncated below what the chain holds (an unclean leader election) starts a new
/// chain, so that the earlier backups stay what they were.
pub async fn backup(
    client: &Client,
    repository: Arc<Repository>,
    options: &BackupOptions,
    progress: Arc<dyn Progress>,
) -> Result<BackupReport, EngineError> {
    let watchdog = Watchdog::new();
    let memory = options.memory.run();
    let progress: Arc<dyn Progress> = Arc::new(WatchedProgress {
        progress,
        watchdog: watchdog.clone(),
    });
    let means = Means {
        client,
        repository: &repository,
        options,
        memory: &memory,
        watchdog: &watchdog,
        progress: &progress,
    };
    let mut begun = Vec::new();
    let making = make(&means, &mut begun);
    let deadline = client.retry().deadline;
    let made = watchdog.over(deadline, &memory, making).await;
    match made {
        Err(error) if error.is_for_want_of_space() => {
            give_back(repository, begun).await;
            Err(error)
        }
        made => made,
    }
}

/// Takes away what runs have sealed that ended for want of space: nobody goes on with it before there is more.
async fn give_back(repository: Arc<Repository>, runs: Vec<BackupId>) {
    let given_back = blocking("the thread that gives space back", move || {
        give_up(&repository, &runs)
    });
    match given_back.await {
        Ok(0) => {}
        Ok(bytes) => tracing::info!("{bytes} bytes that were written are given back"),
        Err(error) => {
            tracing::warn!(
                "what was written is not given back, the next backup takes it over: {error}"
            );
        }
    }
}

/// Gives up unfinished runs: their packs, and whatever else nothing references. Returns the bytes that became free.
fn give_up(repository: &Repository, runs: &[BackupId]) -> Result<u64, EngineError> {
    let lock = repository.lock_exclusive("backup")?;
    lock.during(|lock| {
        repository.forget_runs(runs)?;
        let unreferenced = unreferenced(repository, &manifests(repository)?)?;
        remove_all(repository, lock, &unreferenced)
    })
}

/// Copies until all is there, and publishes the backup. Each time that a log turns out to be forked, a run begins under
/// another id, and takes over what the one before had sealed of other topics as from any run that was interrupted: the
/// records of one run always tell of one history of a log. All ids are added to `begun`.
async fn make(means: &Means<'_>, begun: &mut Vec<BackupId>) -> Result<BackupReport, EngineError> {
    let clock = Instant::now();
    let lock = {
        let _waiting = means.watchdog.waits(Wait::Repository("to be locked"));
        let locking = in_repository(means.repository, "the locking thread", |repository| {
            repository.lock_shared("backup")
        });
        locking.await?
    };
    let started_at = Utc::now();
    let (place, stored) = match copy(means, begun).await {
        Ok(copied) => copied,
        Err(error) => {
            release(lock).await;
            return Err(error);
        }
    };
    let run = conclude::Run {
        place,
        started_at,
        clock,
        options: means.options.clone(),
    };
    let _waiting = means
        .watchdog
        .waits(Wait::Repository("for the manifest to be written"));
    in_repository(
        means.repository,
        "the thread that writes the manifest",
        |repository| lock.during(|lock| conclude::conclude(repository, lock, run, stored)),
    )
    .await
}

/// Plans and copies until all that is planned is in packs.
async fn copy(
    means: &Means<'_>,
    begun: &mut Vec<BackupId>,
) -> Result<(Place, fetch::Copy), EngineError> {
    let mut forked: BTreeMap<Generation, u32> = BTreeMap::new();
    loop {
        let place = {
            let _waiting = means.watchdog.waits(Wait::Repository("to be listed"));
            let placing = in_repository(means.repository, "the listing thread", |repository| {
                Ok::<_, EngineError>(repository.next_place(Utc::now())?)
            });
            placing.await?
        };
        let backup_id = place.backup_id;
        begun.push(backup_id);
        let plan = {
            let _waiting = means.watchdog.waits(Wait::Step("the plan"));
            let planning = planning::plan(means, &forked);
            means.options.stop.run_until_cancelled(planning).await
        };
        let plan = plan.ok_or(EngineError::Stopped)??;
        means.progress.planned(plan.offsets_ahead());
        match fetch::copy(means, backup_id, plan).await? {
            fetch::Copied::Whole(stored) => return Ok((place, *stored)),
            fetch::Copied::Forked(generations) => {
                for generation in generations {
                    *forked.entry(generation).or_default() += 1;
                }
            }
            fetch::Copied::Stopped => return Err(EngineError::Stopped),
        }
    }
}
