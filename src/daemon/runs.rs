//! The runs that have not ended: which of them work, and which may begin when there is a place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::work::PolicyWork;
use crate::api::Order;
use crate::engine::Stop;
use crate::policy::{BackupPolicy, Limits};
use crate::schedule::Concurrency;

use super::progress::RunProgress;
use super::status::{RunId, RunState, RunStatus, Work};

/// The pause before the second try; doubled for each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What fails in passing is tried again for so long, unless its policy's `start_deadline` says otherwise.
const RETRY_WITHIN: Duration = Duration::from_secs(15 * 60);

/// What a run is to do.
#[derive(Debug, Clone)]
pub(super) enum Task {
    /// What a policy wants done.
    Policy(PolicyWork, Arc<BackupPolicy>),
    /// What somebody asked for.
    Order(Arc<Order>),
}

impl Task {
    pub fn work(&self) -> Work {
        match self {
            Self::Policy(work, _) => (*work).into(),
            Self::Order(order) => order.kind().into(),
        }
    }

    /// The policy that it is of; none for what somebody asked for.
    pub fn policy(&self) -> Option<&Arc<BackupPolicy>> {
        match self {
            Self::Policy(_, policy) => Some(policy),
            Self::Order(_) => None,
        }
    }

    pub fn cluster(&self) -> &str {
        match self {
            Self::Policy(_, policy) => &policy.cluster,
            Self::Order(order) => order.cluster(),
        }
    }

    /// The repository that it reads or writes.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Policy(_, policy) => Some(&policy.repository),
            Self::Order(order) => order.repository(),
        }
    }
}

/// A run that has not ended. It goes by the text that its policy had when it was accepted.
pub(super) struct Run {
    pub run_id: RunId,
    pub task: Task,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub accepted_at: DateTime<Utc>,
    /// No try begins later, the first one neither.
    pub start_until: Option<Instant>,
    pub stop: Stop,
    pub progress: Arc<RunProgress>,
    pub tries: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    pub phase: Phase,
    retry_until: Option<Instant>,
}

/// Whether a run has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It may have one from this moment on.
    Waiting(Instant),
    /// It has one.
    Working,
}

impl Run {
    pub fn new(task: Task, scheduled_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let policy = task.policy();
        let deadline = policy.and_then(|policy| policy.timetable.start_deadline);
        let late = scheduled_at.zip(deadline);
        let start_until = late.map(|(scheduled_at, deadline)| {
            let passed = (now - scheduled_at).to_std().unwrap_or_default();
            Instant::now() + deadline.saturating_sub(passed)
        });
        Self {
            run_id: RunId::now(),
            progress: Arc::new(RunProgress::of(task.work())),
            task,
            scheduled_at,
            accepted_at: now,
            start_until,
            stop: Stop::new(),
            tries: 0,
            error: None,
            phase: Phase::Waiting(Instant::now()),
            retry_until: None,
        }
    }

    pub fn work(&self) -> Work {
        self.task.work()
    }

    /// Whose run it is, as the logs say.
    pub fn whose(&self) -> String {
        match self.task.policy() {
            Some(policy) => format!("policy {}", policy.name),
            None => format!("job {}", self.run_id),
        }
    }

    /// Whether it is of this policy.
    pub fn is_of(&self, policy: &str) -> bool {
        self.task.policy().is_some_and(|own| own.name == policy)
    }

    pub fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    /// A try begins.
    pub fn begin(&mut self) {
        self.tries += 1;
        self.phase = Phase::Working;
        let until = || Instant::now() + RETRY_WITHIN;
        self.retry_until
            .get_or_insert_with(|| self.start_until.unwrap_or_else(until));
    }

    /// A try failed in passing: after which pause there is another; none when that would be too late.
    pub fn again(&mut self, error: String) -> Option<Duration> {
        let doubled = 1 << self.tries.saturating_sub(1).min(16);
        let pause = (FIRST_PAUSE * doubled).min(LONGEST_PAUSE);
        self.error = Some(error);
        let at = Instant::now() + pause;
        if self.retry_until.is_some_and(|until| at > until) {
            return None;
        }
        self.phase = Phase::Waiting(at);
        Some(pause)
    }

    pub fn status(&self) -> RunStatus {
        let state = match self.phase {
            Phase::Waiting(_) => RunState::Waiting,
            Phase::Working if self.stop.is_cancelled() => RunState::Stopping,
            Phase::Working => RunState::Running,
        };
        RunStatus {
            run_id: self.run_id,
            work: self.work(),
            state,
            scheduled_at: self.scheduled_at,
            started_at: self.accepted_at,
            tries: self.tries,
            error: self.error.clone(),
            progress: Arc::clone(&self.progress),
        }
    }
}

/// All of them, in the order of their acceptance.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<RunId, Run>);

impl Runs {
    pub fn accept(&mut self, run: Run) {
        self.0.insert(run.run_id, run);
    }

    pub fn get_mut(&mut self, run_id: RunId) -> Option<&mut Run> {
        self.0.get_mut(&run_id)
    }

    pub fn remove(&mut self, run_id: RunId) -> Option<Run> {
        self.0.remove(&run_id)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.0.values()
    }

    /// Those of a policy that do the same work.
    pub fn of<'a>(&'a self, policy: &'a str, work: Work) -> impl Iterator<Item = &'a Run> {
        self.iter()
            .filter(move |run| run.is_of(policy) && run.work() == work)
    }

    /// Those that wait and were to begin by now.
    pub fn too_late(&self, now: Instant) -> Vec<RunId> {
        let late = |run: &&Run| {
            run.tries == 0 && !run.is_working() && run.start_until.is_some_and(|until| until < now)
        };
        self.iter().filter(late).map(|run| run.run_id).collect()
    }

    /// When the next of those that wait for a moment may begin, or is too late.
    pub fn next_moment(&self, now: Instant) -> Option<Instant> {
        let moments = self.iter().filter(|run| !run.is_working()).flat_map(|run| {
            let not_before = match run.phase {
                Phase::Waiting(at) => Some(at),
                Phase::Working => None,
            };
            let too_late = run.start_until.filter(|_| run.tries == 0);
            [
                not_before,
                too_late.map(|until| until + Duration::from_millis(1)),
            ]
        });
        moments.flatten().filter(|moment| *moment > now).min()
    }

    /// The run that is to have the next place, if there is one for it.
    ///
    /// Of those that may begin, the one whose cluster has the fewest at work; then the oldest. So a cluster with many policies
    /// keeps no other one waiting for longer than one run takes.
    pub fn next(&self, now: Instant, limits: &Limits) -> Option<RunId> {
        let places = RunSlots::new(self, now, limits);
        let waiting = self
            .iter()
            .filter(|run| run.waits(now) && places.has_one_for(run));
        // The first of equals is the oldest.
        let least = waiting.min_by_key(|run| places.of_cluster(run.task.cluster()));
        least.map(|run| run.run_id)
    }
}

/// Who has the places, and who is to have one before others.
struct RunSlots<'a> {
    limits: &'a Limits,
    working: Vec<&'a Run>,
    /// Scheduled expiries that wait, the oldest first.
    expiries: Vec<&'a Run>,
}

impl<'a> RunSlots<'a> {
    fn new(runs: &'a Runs, now: Instant, limits: &'a Limits) -> Self {
        let expires = |run: &&Run| run.work() == Work::Expire && run.scheduled_at.is_some();
        Self {
            limits,
            working: runs.iter().filter(|run| run.is_working()).collect(),
            expiries: runs
                .iter()
                .filter(|run| run.waits(now))
                .filter(expires)
                .collect(),
        }
    }

    fn backups(&self) -> impl Iterator<Item = &Run> {
        let working = self.working.iter().copied();
        working.filter(|run| run.work() == Work::Backup)
    }

    fn of_cluster(&self, cluster: &str) -> usize {
        self.backups()
            .filter(|run| run.task.cluster() == cluster)
            .count()
    }

    fn has_one_for(&self, run: &Run) -> bool {
        let mut working = self.working.iter();
        match run.work() {
            Work::Backup => {
                self.backups().count() < self.limits.max_concurrent_backups as usize
                    && self.of_cluster(run.task.cluster())
                        < self.limits.backups_per_cluster as usize
                    && working.all(|other| run.goes_with(other))
                    && !self.must_let_pass(run)
            }
            // It needs the repository for itself.
            Work::Expire => working.all(|other| !run.shares_repository(other)),
            Work::Restore | Work::Validate => {
                working.all(|other| run.goes_with(other)) && !self.must_let_pass(run)
            }
            Work::Migrate | Work::Drain | Work::Mirror => true,
        }
    }

    /// Whether a scheduled expiry of the repository has waited long enough: it may be overtaken while a run goes on that was there
    /// before it, so that no long backup keeps the others waiting, and by none after that.
    fn must_let_pass(&self, run: &Run) -> bool {
        let in_repository = |other: &&&Run| run.shares_repository(other);
        let first = self.expiries.iter().find(in_repository);
        first.is_some_and(|expire| {
            let mut working = self.working.iter().filter(in_repository);
            run.run_id > expire.run_id && !working.any(|other| other.run_id < expire.run_id)
        })
    }
}

impl Run {
    fn waits(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Waiting(at) if at <= now)
    }

    fn shares_repository(&self, other: &Self) -> bool {
        let own = self.task.repository();
        own.is_some() && own == other.task.repository()
    }

    /// Whether it may run beside another run.
    fn goes_with(&self, other: &Self) -> bool {
        use PolicyWork::{Backup, Expire};
        match (&self.task, &other.task) {
            (_, Task::Policy(Expire, _)) => !self.shares_repository(other),
            (Task::Policy(Backup, own), Task::Policy(Backup, policy)) => {
                own.name != policy.name || own.timetable.concurrency == Concurrency::Allow
            }
            _ => true,
        }
    }
}
