//! What somebody asks for: accepted as far as limits allow, and remembered as a job.

use std::sync::Arc;

use crate::api::{Order, Problem, ProblemKind};

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
        self.jobs
            .has_room_for(&submission.order, &self.configuration.limits)?;
        let now = (self.wall)();
        let run = Run::new(Task::Order(Arc::new(submission.order.clone())), None, now);
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
                    "a place: max_concurrent_backups of them run at once, and none while backups are expired in its repository"
                }
                _ => "the end of an expiry in its repository",
            };
            self.jobs.waits(run_id, waiting_for);
        }
    }

    /// What somebody asked for is done, or not.
    pub(super) fn order_ended(&mut self, run: &Run, tried: TryResult) {
        let job_id = run.run_id;
        let cancelled = run.stop.is_cancelled();
        let outcome = match tried {
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
        let (state, result) = match &outcome {
            // Whatever was done until then.
            _ if cancelled => (JobState::Cancelled, RunResult::Cancelled),
            Ok(answer) if answer.is_incomplete() => (JobState::Completed, RunResult::Incomplete),
            Ok(_) => (JobState::Completed, RunResult::Success),
            Err(_) => (JobState::Failed, RunResult::Failed),
        };
        let now = (self.wall)();
        let (work, result) = (run.work().name(), result.name());
        match &outcome {
            Err(problem) if state == JobState::Failed => {
                tracing::error!(%job_id, result, "job {job_id}: {work} failed: {}", problem.message);
            }
            Ok(answer) if state == JobState::Completed && answer.is_incomplete() => {
                tracing::error!(%job_id, result, "job {job_id}: {work} is incomplete");
            }
            _ => tracing::info!(%job_id, result, "job {job_id}: {work} {}", state.name()),
        }
        if state == JobState::Failed && run.work() == Work::Backup {
            self.failed_backups.add(now);
        }
        let Task::Order(order) = &run.task else {
            return;
        };
        self.job_totals
            .ended(order.kind(), state, outcome.as_ref().ok());
        self.jobs.ended(job_id, state, outcome, now);
    }
}
