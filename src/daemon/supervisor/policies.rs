//! Policies that back up, by their timers: what is due is accepted as a run, and how it ended is remembered.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::policy::{BackupPolicy, PolicyKind, Verification, WhenRemoved};
use crate::schedule::{Concurrency, DueVerdict, LONGEST_WAIT, Timer};

use super::scheduled::{Due, Loading, Scheduled};
use super::success::Success;
use super::{Execute, Supervisor, tell};
use crate::daemon::remembered::{Remembered, RememberedPolicy};
use crate::daemon::run::{PolicyJob, TryResult};
use crate::daemon::runs::{Run, Task};
use crate::daemon::status::{EndedRun, Expired, Outcome, PolicyStatus, RunId, RunResult, Work};
use crate::daemon::totals::PolicyTotals;
use crate::daemon::work::PolicyWork;

impl<E: Execute> Supervisor<E> {
    /// What waits for a policy that is gone does not begin any more; what works goes on, unless the policy said otherwise.
    pub(super) fn policy_is_gone(&mut self, policy: &BackupPolicy) {
        let of_policy = self.runs.iter().filter(|run| run.is_of(&policy.name));
        let ends =
            of_policy.filter(|run| !run.is_working() || policy.when_removed == WhenRemoved::Cancel);
        let ends: Vec<RunId> = ends.map(|run| run.run_id).collect();
        ends.into_iter().for_each(|run_id| self.cancel(run_id));
    }

    /// Schedules a policy that is new, or has another text; what is known of it stays.
    pub(super) fn schedule(
        &mut self,
        policy: BackupPolicy,
        remembered: Option<&RememberedPolicy>,
        now: DateTime<Utc>,
    ) {
        let name = policy.name.clone();
        let before = self.policies.remove(&name);
        let known = remembered.cloned().unwrap_or_default();
        let stands = before.as_ref().map(|before| before.stands(now));
        let stands = stands.unwrap_or(Loading {
            settled_at: known.settled_at,
            since: now,
        });
        let is_loading = self.loading.contains(&policy.repository);
        let expired = before
            .as_ref()
            .map(|before| before.expiries.timer.settled());
        tracing::info!(policy = %name, "policy {name} scheduled");
        let Loading { settled_at, since } = stands;
        let backups = Timer::new(policy.timetable.clone(), settled_at, since);
        let expiries = Timer::new(policy.expire_timetable.clone(), expired, now);
        let (last_run, last_success, last_expire, verified_at, missed, totals) = match before {
            Some(before) => (
                before.last_run,
                before.last_success,
                before.last_expire,
                before.last_full_verification_at,
                before.missed,
                before.totals,
            ),
            None => {
                let success = known.last_success_at.map(Success::new);
                let totals = PolicyTotals::of_backups();
                let verified_at = known.last_full_verification_at;
                (known.last_run, success, None, verified_at, 0, totals)
            }
        };
        let success_at = last_success.map(|success: Success| success.at(now));
        let scheduled = Scheduled {
            overdue_at: success_at.and_then(|at| policy.timetable.overdue_at(at)),
            backups: Due::new(backups),
            expiries: Due::new(expiries),
            policy: Arc::new(policy),
            last_run,
            last_success,
            last_expire,
            last_full_verification_at: verified_at,
            missed,
            totals,
            loading: is_loading.then_some(stands),
        };
        self.policies.insert(name, scheduled);
    }

    /// A repository was loaded: its policies go on from what it tells.
    pub(super) fn loaded(&mut self, repository: &str, past: &Remembered) {
        if !self.loading.remove(repository) {
            return;
        }
        tracing::info!(%repository, "repository {repository} loaded");
        let unknown = RememberedPolicy::default();
        let now = (self.wall)();
        for (name, scheduled) in &mut self.policies {
            if scheduled.policy.repository == repository {
                scheduled.loaded(past.policies.get(name).unwrap_or(&unknown), now);
            }
        }
    }

    pub(super) fn look_at(&mut self, name: &str, work: PolicyWork) -> Duration {
        loop {
            let now = (self.wall)();
            let Some(scheduled) = self.policies.get_mut(name) else {
                return LONGEST_WAIT;
            };
            if scheduled.loading.is_some() {
                return LONGEST_WAIT;
            }
            let due = match work {
                PolicyWork::Backup => &mut scheduled.backups,
                PolicyWork::Expire => &mut scheduled.expiries,
            };
            let monotonic = Instant::now();
            if monotonic < due.look_again_at {
                return due.look_again_at - monotonic;
            }
            match (due.timer.look(now, monotonic.into_std()), work) {
                (
                    DueVerdict::Wait {
                        next,
                        look_again_in,
                    },
                    _,
                ) => {
                    due.next = next;
                    due.look_again_at = monotonic + look_again_in;
                    return look_again_in;
                }
                (DueVerdict::Skip { last, missed }, PolicyWork::Backup) => {
                    tracing::warn!(policy = %name, "policy {name}: {missed} due moments until {last} were missed, and are not made up for");
                    self.missed(name, missed);
                }
                (DueVerdict::Run { scheduled, missed }, PolicyWork::Backup) => {
                    self.missed(name, missed);
                    self.backup_is_due(name, scheduled);
                }
                (DueVerdict::Skip { .. }, PolicyWork::Expire) => {}
                (DueVerdict::Run { scheduled, .. }, PolicyWork::Expire) => {
                    self.expire_is_due(name, Some(scheduled));
                }
            }
        }
    }

    pub(super) fn missed(&mut self, name: &str, count: u32) {
        if let Some(scheduled) = self.policies.get_mut(name) {
            scheduled.missed += u64::from(count);
        }
    }

    /// A backup is due: whether it is accepted while another of its policy goes on is the policy's to say.
    fn backup_is_due(&mut self, name: &str, scheduled_at: DateTime<Utc>) {
        let Some(policy) = self
            .policies
            .get(name)
            .map(|known| Arc::clone(&known.policy))
        else {
            return;
        };
        let others: Vec<RunId> = self
            .runs
            .of(name, Work::Backup)
            .map(|run| run.run_id)
            .collect();
        match policy.timetable.concurrency {
            Concurrency::Forbid if !others.is_empty() => {
                tracing::warn!(policy = %name, "policy {name}: its last run has not ended, so this one is left out");
                return self.missed(name, 1);
            }
            Concurrency::Replace => others.into_iter().for_each(|run_id| self.cancel(run_id)),
            Concurrency::Forbid | Concurrency::Allow => {}
        }
        let run = Run::new(
            Task::Policy(PolicyWork::Backup, policy),
            Some(scheduled_at),
            (self.wall)(),
        );
        tracing::debug!(policy = %name, run_id = %run.run_id, "policy {name}: run for {scheduled_at} accepted");
        self.runs.accept(run);
    }

    /// Retention is to be applied: at its moment, or after a success, which has none.
    pub(super) fn expire_is_due(&mut self, name: &str, scheduled_at: Option<DateTime<Utc>>) {
        let Some(policy) = self
            .policies
            .get(name)
            .map(|known| Arc::clone(&known.policy))
        else {
            return;
        };
        let waiting = self
            .runs
            .of(name, Work::Expire)
            .map(|run| run.run_id)
            .next();
        match waiting.and_then(|run_id| self.runs.get_mut(run_id)) {
            Some(run) => run.scheduled_at = run.scheduled_at.or(scheduled_at),
            None => {
                let run = Run::new(
                    Task::Policy(PolicyWork::Expire, policy),
                    scheduled_at,
                    (self.wall)(),
                );
                self.runs.accept(run);
            }
        }
    }

    /// None where only a policy that is gone can name what is gone.
    pub(super) fn policy_job(
        &mut self,
        run_id: RunId,
        work: PolicyWork,
        policy: Arc<BackupPolicy>,
    ) -> Option<PolicyJob> {
        let memory = self.memory.clone();
        let run = self.runs.get_mut(run_id)?;
        let configuration = &self.configuration;
        Some(PolicyJob {
            run_id,
            work,
            cluster: configuration.clusters.get(&policy.cluster)?.clone(),
            repository: configuration.repositories.get(&policy.repository)?.clone(),
            policy,
            memory,
            max_backup_size: configuration.limits.max_backup_size,
            progress: Arc::clone(&run.progress),
            stop: run.stop.clone(),
        })
    }

    pub(super) fn backup_ended(&mut self, run: &Run, policy: &BackupPolicy, tried: TryResult) {
        let ended = EndedRun {
            run_id: run.run_id,
            scheduled_at: run.scheduled_at,
            started_at: run.accepted_at,
            finished_at: (self.wall)(),
            outcome: outcome(tried),
        };
        let name = &policy.name;
        tell(name, run.work().name(), &ended);
        let Some(scheduled) = self.policies.get_mut(name) else {
            // The policy is gone, and what is counted of it with it.
            return;
        };
        scheduled.totals.run_ended(&ended);
        let is_verified = ended.outcome.figures.verify_findings.is_some();
        if is_verified && policy.verify == Verification::Full {
            scheduled.last_full_verification_at = Some(ended.finished_at);
        }
        self.histories.add(name, &ended);
        let runs = (policy.repository.clone(), ended.outcome.result);
        *self.repository_runs.entry(runs).or_default() += 1;
        if ended.outcome.result == RunResult::Failed {
            self.failed_backups.add(ended.finished_at);
        }
        let success = ended.outcome.result == RunResult::Success;
        if success {
            scheduled.succeeded(ended.finished_at);
        }
        scheduled.last_run = Some(ended);
        if success && self.stopping.is_none() {
            self.expire_is_due(name, None);
        }
    }

    pub(super) fn expire_ended(&mut self, run: &Run, policy: &BackupPolicy, tried: TryResult) {
        let expired = expired(tried, (self.wall)());
        let (policy, run_id) = (&policy.name, run.run_id);
        match &expired.error {
            Some(error) => {
                tracing::error!(%policy, %run_id, "policy {policy}: old backups could not be expired: {error}");
            }
            None => {
                let (removed, freed_bytes) = (expired.removed_backups, expired.freed_bytes);
                tracing::info!(%policy, %run_id, "policy {policy}: {removed} old backups expired, {freed_bytes} bytes freed");
            }
        }
        if let Some(scheduled) = self.policies.get_mut(policy) {
            scheduled.totals.expire_ended(&expired);
            scheduled.last_expire = Some(expired);
        }
    }

    pub(super) fn policy_statuses(&self) -> Vec<PolicyStatus> {
        let now = (self.wall)();
        let scheduled = self.policies.values().map(|scheduled| {
            let policy = &scheduled.policy;
            let running = self.runs.iter();
            let running = running.filter(|run| run.is_of(&policy.name));
            let last_success_at = scheduled.last_success.map(|success| success.at(now));
            PolicyStatus {
                repository: Some(policy.repository.clone()),
                runs: true,
                is_scheduled: true,
                next_run_at: scheduled.backups.next,
                settled_at: scheduled.stands(now).settled_at,
                loading: scheduled.loading.is_some(),
                running: running.map(Run::status).collect(),
                last_run: scheduled.last_run.clone(),
                last_success_at,
                overdue_at: last_success_at.and_then(|success| scheduled.overdue_at(success)),
                missed_runs: scheduled.missed,
                max_age: policy.max_age,
                next_expire_at: scheduled.expiries.next,
                last_expire: scheduled.last_expire.clone(),
                last_full_verification_at: scheduled.last_full_verification_at,
                totals: scheduled.totals.clone(),
                ..PolicyStatus::new(&policy.name, PolicyKind::Backup)
            }
        });
        let others = self.mirrors.statuses().chain(self.drains.statuses());
        let all = scheduled.chain(others).map(|status| PolicyStatus {
            history: self.histories.of(&status.policy),
            ..status
        });
        all.collect()
    }
}

fn outcome(tried: TryResult) -> Outcome {
    match tried {
        TryResult::BackedUp(outcome) => outcome,
        TryResult::Again(error) | TryResult::Failed(error) => {
            Outcome::without_backup(RunResult::Failed, error)
        }
        TryResult::Stopped | TryResult::Expired(_) | TryResult::Answered(_) => {
            let why = "stopped; the next run goes on behind what was sealed";
            Outcome::without_backup(RunResult::Cancelled, why)
        }
    }
}

fn expired(tried: TryResult, now: DateTime<Utc>) -> Expired {
    let error = match tried {
        TryResult::Expired(expired) => return expired,
        TryResult::Again(error) | TryResult::Failed(error) => error,
        TryResult::Stopped | TryResult::BackedUp(_) | TryResult::Answered(_) => {
            "it was told to stop".to_owned()
        }
    };
    Expired {
        finished_at: now,
        error: Some(error),
        ..Expired::default()
    }
}
