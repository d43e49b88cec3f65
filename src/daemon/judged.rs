//! Policies with their states, as everything that shows them wants them: the page, `/status`, health and metrics.

use std::ops::Deref;

use chrono::TimeDelta;
use serde::Serialize;

use crate::engine::drain::DrainState;
use crate::engine::mirror::PartitionStatus;
use crate::policy::PolicyKind;

use super::ended_run::RunResult;
use super::protection::{Copying, Facts, GroupFacts, Protection, RepositoryFacts, Runs, judge};
use super::repositories::{RepositoryState, RepositoryStatus};
use super::status::{PolicyStatus, Status};

/// A policy of a snapshot, with its state at that moment.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedPolicy<'a> {
    #[serde(flatten)]
    status: &'a PolicyStatus,
    /// Its state, and why.
    #[serde(flatten)]
    pub protection: Protection,
}

impl Deref for JudgedPolicy<'_> {
    type Target = PolicyStatus;

    fn deref(&self) -> &PolicyStatus {
        self.status
    }
}

/// All policies of a snapshot, with their states.
pub fn judged<'a>(status: &'a Status, repositories: &[RepositoryStatus]) -> Vec<JudgedPolicy<'a>> {
    let now = status.as_of();
    let policies = status.policies.iter().map(|policy| {
        let protection = match policy.kind {
            PolicyKind::Backup => judge(&backup(policy, repositories), now),
            PolicyKind::Mirror => judge_mirror(policy, now),
            PolicyKind::Drain => judge_drain(policy, now),
        };
        JudgedPolicy {
            status: policy,
            protection,
        }
    });
    policies.collect()
}

fn backup<'a>(policy: &'a PolicyStatus, repositories: &'a [RepositoryStatus]) -> Facts<'a> {
    let own = policy.repository.as_deref();
    let repository = repositories.iter();
    let mut repository = repository.filter(|known| Some(known.repository.as_str()) == own);
    let expired = policy.last_expire.as_ref();
    Facts::Backup {
        runs: runs(policy, true),
        expire_error: expired.and_then(|expired| expired.error.as_deref()),
        repository: match repository.next() {
            Some(repository) if !policy.loading => facts_of(repository),
            found => RepositoryFacts::Loading(found.and_then(|found| found.error.as_deref())),
        },
    }
}

fn facts_of(repository: &RepositoryStatus) -> RepositoryFacts<'_> {
    let why = repository.error.as_deref();
    let lost = (repository.lost_backups.len(), repository.lost_packs.len());
    match repository.state {
        RepositoryState::Loading => RepositoryFacts::Loading(why),
        RepositoryState::Failed if !repository.readable => {
            RepositoryFacts::Unreadable(why.unwrap_or_default())
        }
        RepositoryState::Failed => RepositoryFacts::Unwritable(why.unwrap_or_default()),
        RepositoryState::Ready if lost != (0, 0) => RepositoryFacts::Losses(lost.0, lost.1),
        RepositoryState::Ready => RepositoryFacts::Well,
    }
}

fn runs(policy: &PolicyStatus, are_scheduled: bool) -> Runs<'_> {
    // A mirror with another text than before forgets its success, and has it still.
    let last_success_at = policy.last_success_at.or(policy.totals.last_success_at);
    let last_run = policy.last_run.as_ref();
    let failed = last_run.filter(|run| {
        run.outcome.result != RunResult::Success && Some(run.finished_at) > last_success_at
    });
    let mut errors = policy.running.iter().filter_map(|run| run.error.as_deref());
    Runs {
        are_scheduled,
        last_success_at,
        overdue_at: policy.overdue_at,
        max_age: policy.max_age,
        failed: failed.map(|run| (run.outcome.result, run.outcome.error.as_deref())),
        retrying: errors.next(),
    }
}

fn judge_mirror(policy: &PolicyStatus, now: chrono::DateTime<chrono::Utc>) -> Protection {
    let partitions = policy.mirror.as_ref().map(|mirror| mirror.partitions());
    let partitions = partitions.unwrap_or_default();
    let is_stopped = |partition: &&PartitionStatus| partition.state.is_stopped();
    let stopped = partitions.iter().filter(is_stopped);
    let why = stopped.clone().next().map(|partition| {
        let why = partition.problem.as_ref().map(ToString::to_string);
        let why = why.as_deref().unwrap_or("it gives no reason");
        format!("{}-{}: {why}", partition.topic, partition.partition)
    });
    let lag = partitions.iter().map(|partition| partition.lag_seconds);
    let copying = Copying {
        partitions: partitions.len(),
        stopped: stopped.count(),
        why: why.as_deref(),
        // Saturates, as all casts from floating point do.
        lag: TimeDelta::try_seconds(lag.fold(0.0, f64::max) as i64).unwrap_or(TimeDelta::MAX),
    };
    let runs = runs(policy, policy.is_scheduled);
    judge(&Facts::Mirror { runs, copying }, now)
}

fn judge_drain(policy: &PolicyStatus, now: chrono::DateTime<chrono::Utc>) -> Protection {
    let watch = policy.drain.as_ref();
    let group = watch.and_then(|watch| watch.group());
    let error = watch.and_then(|watch| watch.error());
    // For operators: the status is none of a caller's.
    let reason = group.as_ref().map(|group| group.reason.to_string());
    let reason = reason.as_deref().unwrap_or_default();
    let facts = match (&group, &error) {
        (Some(group), _) if group.state == DrainState::Draining && group.stuck_partitions > 0 => {
            GroupFacts::PartlyStuck(reason)
        }
        (Some(group), _) => GroupFacts::Seen(group.state, reason),
        (None, Some(error)) => GroupFacts::Unreadable(error),
        (None, None) => GroupFacts::NotSeen,
    };
    judge(&Facts::Drain(facts), now)
}
