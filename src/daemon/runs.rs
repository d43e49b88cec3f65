//! The runs that have not ended: which of them work, and which may begin when there is a place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::work::PolicyWork;
use crate::api::{Order, OrderKind};
use crate::auth::Identity;
use crate::engine::Stop;
use crate::policy::{BackupPolicy, Limits};
use crate::schedule::Concurrency;

use super::progress::RunProgress;
use super::shares::JobLimit;
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
    Order(Arc<Order>, Identity),
}

impl Task {
    pub fn work(&self) -> Work {
        match self {
            Self::Policy(work, _) => (*work).into(),
            Self::Order(order, _) => order.kind().into(),
        }
    }

    /// The policy that it is of; none for what somebody asked for.
    pub fn policy(&self) -> Option<&Arc<BackupPolicy>> {
        match self {
            Self::Policy(_, policy) => Some(policy),
            Self::Order(..) => None,
        }
    }

    /// Who asked for it; none where a policy wants it.
    pub fn asked_by(&self) -> Option<&Identity> {
        match self {
            Self::Policy(..) => None,
            Self::Order(_, identity) => Some(identity),
        }
    }

    pub fn cluster(&self) -> &str {
        match self {
            Self::Policy(_, policy) => &policy.cluster,
            Self::Order(order, _) => order.cluster(),
        }
    }

    /// For how long it may run: a drain has a timeout of its own, and a policy's run goes by its policy.
    pub fn bound(&self, longest_job: Duration) -> Option<Duration> {
        match self {
            Self::Order(order, _) if order.kind() != OrderKind::Drain => Some(longest_job),
            _ => None,
        }
    }

    /// The repository that it reads or writes.
    pub fn repository(&self) -> Option<&str> {
        match self {
            Self::Policy(_, policy) => Some(&policy.repository),
            Self::Order(order, _) => order.repository(),
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
    /// It may run until then.
    pub end_by: Option<Instant>,
    /// It ran for so long that it was told to end.
    pub is_overdue: bool,
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
            end_by: None,
            is_overdue: false,
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
pub(super) struct Runs {
    all: BTreeMap<RunId, Run>,
    /// When it was whose turn last, of those who asked for something that has not ended.
    turns: BTreeMap<Identity, u64>,
    turn: u64,
}

impl Runs {
    pub fn accept(&mut self, run: Run) {
        self.all.insert(run.run_id, run);
    }

    pub fn get_mut(&mut self, run_id: RunId) -> Option<&mut Run> {
        self.all.get_mut(&run_id)
    }

    pub fn remove(&mut self, run_id: RunId) -> Option<Run> {
        let gone = self.all.remove(&run_id)?;
        if let Some(identity) = gone.task.asked_by() {
            let mut left = self.all.values().map(|run| run.task.asked_by());
            if !left.any(|other| other == Some(identity)) {
                self.turns.remove(identity);
            }
        }
        Some(gone)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.all.values()
    }

    /// Those of a policy that do the same work.
    pub fn of<'a>(&'a self, policy: &'a str, work: Work) -> impl Iterator<Item = &'a Run> {
        self.iter()
            .filter(move |run| run.is_of(policy) && run.work() == work)
    }

    /// A run begins: it was the turn of who asked for it.
    pub fn takes_turn(&mut self, run_id: RunId) {
        let identity = self.all.get(&run_id).and_then(|run| run.task.asked_by());
        if let Some(identity) = identity.cloned() {
            self.turn += 1;
            self.turns.insert(identity, self.turn);
        }
    }

    /// Those that have run for as long as they may, once.
    pub fn overdue(&mut self, now: Instant) -> Vec<RunId> {
        let overdue = |run: &&mut Run| run.end_by.is_some_and(|end_by| end_by <= now);
        let overdue = self.all.values_mut().filter(overdue);
        overdue
            .map(|run| {
                run.end_by = None;
                run.is_overdue = true;
                run.run_id
            })
            .collect()
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
        let ends = self.iter().map(|run| run.end_by);
        moments
            .chain(ends)
            .flatten()
            .filter(|moment| *moment > now)
            .min()
    }

    /// The run that is to have the next place, if there is one for it.
    ///
    /// Policies come first, and then who asked in turn. Of those that may begin, the one whose cluster has the fewest at work; then
    /// the oldest. So a cluster with many policies keeps no other one waiting for longer than one run takes.
    pub fn next(&self, now: Instant, limits: &Limits) -> Option<RunId> {
        let places = RunSlots::new(self, now, limits);
        let waiting = self
            .iter()
            .filter(|run| run.waits(now) && places.has_one_for(run));
        // The first of equals is the oldest.
        let least = waiting.min_by_key(|run| {
            let turn = run.task.asked_by().map(|identity| {
                let turn = self.turns.get(identity).copied();
                (places.held_by(identity, run.work()), turn)
            });
            (turn, places.of_cluster(run.task.cluster()))
        });
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
                self.has_slot_for(run)
                    && self.is_within_share(run)
                    && working.all(|other| run.goes_with(other))
                    && !self.must_let_pass(run)
            }
            // It needs the repository for itself.
            Work::Expire => working.all(|other| !run.shares_repository(other)),
            Work::Restore | Work::Validate => {
                self.is_within_share(run)
                    && working.all(|other| run.goes_with(other))
                    && !self.must_let_pass(run)
            }
            Work::Migrate | Work::Drain | Work::Mirror => self.is_within_share(run),
        }
    }

    /// Whether a backup has a concurrency slot. For a policy only policies' backups count: what was asked for never holds them
    /// back, and has the slots that they leave.
    fn has_slot_for(&self, run: &Run) -> bool {
        let is_asked_for = run.task.asked_by().is_some();
        let backups = self.backups();
        let counted: Vec<&Run> = backups
            .filter(|other| is_asked_for || other.task.asked_by().is_none())
            .collect();
        let cluster = run.task.cluster();
        let of_cluster = counted.iter().filter(|run| run.task.cluster() == cluster);
        counted.len() < self.limits.max_concurrent_backups as usize
            && of_cluster.count() < self.limits.backups_per_cluster as usize
    }

    /// Whether what was asked for is within what may run of its kind, and within the share of who asked.
    fn is_within_share(&self, run: &Run) -> bool {
        let Task::Order(order, identity) = &run.task else {
            return true;
        };
        let bound = JobLimit::running(order.kind(), self.limits);
        let same = self.working.iter().filter(|other| {
            other.work() == run.work()
                && other.task.asked_by().is_some()
                && bound.counts(order, other.task.cluster())
        });
        let own = same
            .clone()
            .filter(|other| other.task.asked_by() == Some(identity));
        same.count() < bound.limit && own.count() < bound.share()
    }

    /// How many runs of this work somebody has at work.
    fn held_by(&self, identity: &Identity, work: Work) -> usize {
        let working = self.working.iter();
        working
            .filter(|run| run.work() == work && run.task.asked_by() == Some(identity))
            .count()
    }

    /// Whether a scheduled expiry of the repository has waited long enough: it may be overtaken while a run goes on that was there
    /// before it, so that no long backup keeps the others waiting, and by none after that. What was asked for does not overtake it:
    /// it may take a day, for which policies would wait with the expiry.
    fn must_let_pass(&self, run: &Run) -> bool {
        let in_repository = |other: &&&Run| run.shares_repository(other);
        let first = self.expiries.iter().find(in_repository);
        first.is_some_and(|expire| {
            let mut working = self.working.iter().filter(in_repository);
            let may_overtake =
                run.task.asked_by().is_none() && working.any(|other| other.run_id < expire.run_id);
            run.run_id > expire.run_id && !may_overtake
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
