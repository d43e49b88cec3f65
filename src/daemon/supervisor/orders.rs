//! What somebody asks for: accepted as far as limits allow, and remembered as a job.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Answer, Order, Problem, ProblemKind};

use super::{Execute, Supervisor};
use crate::daemon::job_executor::OrderJob;
use crate::daemon::jobs::{Job, JobState, Submission};
use crate::daemon::run::TryResult;
use crate::daemon::runs::{Run, Task};
use crate::daemon::status::{RunId, RunResult, Work};

impl<E: Execute> Supervisor<E> {
    /// Accepts what somebody asks for, as far as limits allow.
    pub(super) fn submit(&mut self, submission: Submission) -> Result<Arc<Job>, Problem> {
        if let Some(same) = self.jobs.same(&submission)? {
            return Ok(same);
        }
        if self.stopping.is_some() {
            let message = "the daemon is stopping: ask again when it is back";
            return Err(Problem::new(ProblemKind::ServiceUnavailable, message).again_after(10));
        }
        self.jobs.has_target_for(&submission.order)?;
        let limits = &self.configuration.limits;
        refuse_long_drain(&submission.order, limits.longest_job)?;
        self.jobs.has_room_for(&submission, limits)?;
        let now = (self.wall)();
        let order = Arc::new(submission.order.clone());
        let run = Run::new(Task::Order(order, submission.identity.clone()), None, now);
        let job = self
            .jobs
            .accept(run.run_id, &submission, Arc::clone(&run.progress), now);
        self.runs.accept(run);
        Ok(job)
    }

    pub(super) fn order_job(&mut self, run_id: RunId, order: Arc<Order>) -> Option<OrderJob> {
        let memory = self.memory.clone();
        let run = self.runs.get_mut(run_id)?;
        let configuration = &self.configuration;
        let cluster = |name: &str| configuration.clusters.get(name).cloned();
        let source = match order.as_ref() {
            Order::Migrate(order) => cluster(&order.source),
            _ => None,
        };
        let repository = order
            .repository()
            .and_then(|name| configuration.repositories.get(name));
        Some(OrderJob {
            job_id: run_id,
            cluster: cluster(order.cluster()),
            source,
            repository: repository.cloned(),
            memory,
            max_backup_size: configuration.limits.max_backup_size,
            progress: Arc::clone(&run.progress),
            stop: run.stop.clone(),
            order,
        })
    }

    /// Says of jobs that wait what they wait for.
    pub(super) fn tell_who_waits(&mut self) {
        let waiting = self.runs.iter().filter(|run| !run.is_working());
        let orders = waiting.filter(|run| run.task.policy().is_none());
        let orders: Vec<(RunId, Work)> = orders.map(|run| (run.run_id, run.work())).collect();
        for (run_id, work) in orders {
            let waiting_for = match work {
                Work::Backup => {
                    "a place: max_concurrent_backups of them run at once, half of them for one user, policies' first, and none while backups are expired in its repository"
                }
                Work::Restore | Work::Validate => {
                    "a place: half of those that may run are for one user, and none runs while backups are expired in its repository"
                }
                _ => "a place: half of those that may run are for one user",
            };
            self.jobs.waits(run_id, waiting_for);
        }
    }

    /// What somebody asked for is done, or not.
    pub(super) fn order_ended(&mut self, run: &Run, tried: TryResult) {
        let job_id = run.run_id;
        let cancelled = run.stop.is_cancelled();
        let outcome = match tried {
            _ if run.is_overdue => Err(too_long(run.work(), self.configuration.limits.longest_job)),
            TryResult::Answered(outcome) => *outcome,
            TryResult::Stopped => {
                let message = "the job was cancelled before it began";
                Err(Problem::new(ProblemKind::Conflict, message))
            }
            TryResult::Again(_)
            | TryResult::Failed(_)
            | TryResult::BackedUp(_)
            | TryResult::Expired(_) => Err(Problem::internal()),
        };
        let state = match &outcome {
            Err(_) if run.is_overdue => JobState::Failed,
            // Whatever was done until then.
            _ if cancelled => JobState::Cancelled,
            Ok(answer) if answer.is_incomplete() => JobState::Incomplete,
            Ok(_) => JobState::Completed,
            Err(_) => JobState::Failed,
        };
        let now = (self.wall)();
        tell(run, state, &outcome);
        // What its caller asked wrongly is not the daemon's failure.
        let is_own_failure = |problem: &Problem| problem.kind.status() >= 500;
        if state == JobState::Failed
            && run.work() == Work::Backup
            && outcome.as_ref().is_err_and(is_own_failure)
        {
            self.failed_backups.add(now);
        }
        let Task::Order(order, _) = &run.task else {
            return;
        };
        self.job_totals
            .ended(order.kind(), state, outcome.as_ref().ok());
        self.jobs.ended(job_id, state, outcome, now);
        if self.stopping.is_some() && state == JobState::Cancelled {
            // The daemon's own end is no answer to keep: the same call may be made again.
            self.jobs.forget_key(job_id);
        }
    }

    /// Ends jobs that have run for `longest_job`.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        for job_id in self.runs.overdue(now) {
            tracing::warn!(%job_id, "job {job_id} has run for longest_job");
            self.cancel(job_id);
        }
    }
}

/// A drain ends by its own timeout, so that one is bounded.
fn refuse_long_drain(order: &Order, longest_job: Duration) -> Result<(), Problem> {
    let Order::Drain(order) = order else {
        return Ok(());
    };
    match order.patience.timeout {
        Some(timeout) if timeout > longest_job => {
            let (asked, most) = (timeout.as_secs(), longest_job.as_secs());
            let message = format!("timeout_seconds must be {most} or less on this daemon");
            Err(Problem::invalid("timeout_seconds", asked, message))
        }
        _ => Ok(()),
    }
}

/// What a job that ran for too long is answered with.
fn too_long(work: Work, longest_job: Duration) -> Problem {
    let seconds = longest_job.as_secs();
    let advice = match work {
        Work::Backup => {
            "a backup of the whole topic that is asked for again continues behind what was sealed; or ask for less, or for a higher rate_limit_per_second"
        }
        Work::Restore => {
            "the same restore continues where it ended; or ask for a higher rate_limit_per_second"
        }
        Work::Migrate => {
            "delete the target topic, and ask for fewer max_messages or a higher rate_limit_per_second"
        }
        _ => "verify with quick, or on the command line",
    };
    let message = format!(
        "the {} was ended after {seconds} s, the longest that a job may run: {advice}",
        work.name()
    );
    Problem::new(ProblemKind::InternalError, message)
}

/// Logs how a job ended, once.
fn tell(run: &Run, state: JobState, outcome: &Result<Answer, Problem>) {
    let (job_id, work) = (run.run_id, run.work().name());
    let shortfall = outcome.as_ref().ok().and_then(Answer::shortfall);
    let result = match state {
        JobState::Cancelled => RunResult::Cancelled,
        JobState::Failed => RunResult::Failed,
        _ if shortfall.is_some() => RunResult::Incomplete,
        _ => RunResult::Success,
    };
    let result = result.name();
    match (state, outcome, shortfall) {
        (JobState::Failed, Err(problem), _) => {
            tracing::error!(%job_id, result, "job {job_id}: {work} failed: {}", problem.message);
        }
        (JobState::Completed | JobState::Incomplete, _, Some(why)) => {
            tracing::error!(%job_id, result, "job {job_id}: {work} {why}");
        }
        _ => tracing::info!(%job_id, result, "job {job_id}: {work} {}", state.name()),
    }
}
