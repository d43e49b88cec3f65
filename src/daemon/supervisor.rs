//! The sole owner of what runs: drives the timers, accepts and starts runs, and publishes a [`Status`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::api::{Answer, Order, Problem, ProblemKind};
use crate::engine::EngineError;
use crate::engine::mirror::MirrorReport;
use crate::policy::{
    BackupPolicy, DaemonConfiguration, Diagnostics, Difference, PolicyId, PolicyKind, WhenRemoved,
};
use crate::schedule::{Alarm, Concurrency, LONGEST_WAIT, Timer, Verdict};

use super::carry_out::OrderJob;
use super::drains::Drains;
use super::jobs::{Job, JobState, Jobs, Submission};
use super::metrics::Metrics;
use super::mirrors::{MirrorEnded, MirrorJob, Mirrors};
use super::run::{PolicyJob, PolicyWork, Tried};
use super::runs::{Run, Runs, Task};
use super::state::{Remembered, RememberedPolicy};
use super::status::{
    ConfigurationStatus, EndedRun, Expired, FailedBackups, Outcome, PolicyStatus, RunId, RunResult,
    Status, Work,
};

/// What others ask of the supervisor.
pub enum Request {
    /// Take this configuration, or take note of what is wrong with the one that was read.
    Configuration(Result<Box<DaemonConfiguration>, Diagnostics>),
    /// Tell a run to seal what it has and to end; whether there is such a run.
    Cancel(RunId, oneshot::Sender<bool>),
    /// Accept what somebody asks for, or say why not.
    Submit(Box<Submission>, oneshot::Sender<Result<Arc<Job>, Problem>>),
    /// Start nothing more, tell what runs to seal what it has, and end; the answer comes when nothing runs.
    Stop(oneshot::Sender<()>),
}

/// Runs jobs; a test's runs are its own.
pub(super) trait Execute: Send + Sync + 'static {
    /// Tries a job once.
    fn execute(&self, job: PolicyJob) -> impl Future<Output = Tried> + Send;

    /// Carries out what somebody asked for.
    fn carry_out(&self, job: OrderJob) -> impl Future<Output = Result<Answer, Problem>> + Send;

    /// Mirrors until it fails, or all is there, or it is told to stop.
    fn mirror(
        &self,
        job: MirrorJob,
    ) -> impl Future<Output = Result<MirrorReport, EngineError>> + Send;
}

/// The wall clock; a test's is its own.
pub(super) type WallClock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// See the module.
pub(super) struct Supervisor<E> {
    executor: Arc<E>,
    wall: WallClock,
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<Arc<Status>>,
    metrics: Arc<Metrics>,
    configuration: DaemonConfiguration,
    configuration_status: ConfigurationStatus,
    started_at: DateTime<Utc>,
    policies: BTreeMap<String, Scheduled>,
    runs: Runs,
    jobs: Jobs,
    failed_backups: FailedBackups,
    tries: JoinSet<Tried>,
    /// Which run each task of `tries` is for.
    tasks: HashMap<Id, RunId>,
    mirrors: Mirrors,
    drains: Drains,
    stopping: Option<oneshot::Sender<()>>,
    /// It looks at its timers, and tells of it, so often at least.
    look_every: Duration,
}

/// A policy that is scheduled, and how it went so far.
struct Scheduled {
    policy: Arc<BackupPolicy>,
    backups: Due,
    expiries: Due,
    last_run: Option<EndedRun>,
    last_success_at: Option<DateTime<Utc>>,
    last_expire: Option<Expired>,
    missed: u64,
}

/// When something is due, and next.
struct Due {
    timer: Timer,
    next: Option<DateTime<Utc>>,
    /// Nothing is due before; at most [`LONGEST_WAIT`] ahead.
    look_again_at: Instant,
}

impl Due {
    fn new(timer: Timer) -> Self {
        Self {
            timer,
            next: None,
            look_again_at: Instant::now(),
        }
    }
}

impl<E: Execute> Supervisor<E> {
    /// With nothing configured yet.
    pub fn new(
        executor: E,
        wall: WallClock,
        requests: mpsc::Receiver<Request>,
        status: watch::Sender<Arc<Status>>,
        metrics: Arc<Metrics>,
        jobs: Jobs,
    ) -> Self {
        let now = wall();
        Self {
            executor: Arc::new(executor),
            requests,
            status,
            metrics,
            configuration: DaemonConfiguration::default(),
            configuration_status: ConfigurationStatus {
                loaded_at: now,
                reloaded_at: now,
                last_reload_success: false,
                errors: Vec::new(),
            },
            started_at: now,
            policies: BTreeMap::new(),
            runs: Runs::default(),
            jobs,
            failed_backups: FailedBackups::default(),
            tries: JoinSet::new(),
            tasks: HashMap::new(),
            mirrors: Mirrors::default(),
            drains: Drains::default(),
            stopping: None,
            look_every: LONGEST_WAIT,
            wall,
        }
    }

    /// Who watches that it is alive wants to hear of it so often.
    pub fn look_every(&mut self, period: Duration) {
        self.look_every = period.min(LONGEST_WAIT);
    }

    /// Takes the first configuration; its policies go on after what is `remembered` of them.
    pub fn begin(&mut self, configuration: DaemonConfiguration, remembered: &Remembered) {
        self.failed_backups = remembered.failed_backups;
        self.take(configuration, remembered);
        self.publish();
    }

    /// Works until it is told to stop, and all runs have ended.
    pub async fn supervise(mut self) {
        let mut alarm = Alarm::new();
        loop {
            alarm.set(self.look());
            self.publish();
            if self.runs.is_empty()
                && self.mirrors.is_idle()
                && let Some(stopped) = self.stopping.take()
            {
                // Who asked may be gone.
                stopped.send(()).ok();
                return;
            }
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.answer(request),
                    None => return,
                },
                Some(ended) = self.tries.join_next_with_id() => self.tried(ended),
                ended = self.mirrors.ended() => self.mirror_ended(ended),
                () = alarm.rung() => {}
            }
            // What happens at once is published once.
            while let Some(ended) = self.tries.try_join_next_with_id() {
                self.tried(ended);
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Configuration(Ok(configuration)) => {
                self.take(*configuration, &Remembered::default());
            }
            Request::Configuration(Err(diagnostics)) => {
                self.configuration_status.reloaded_at = (self.wall)();
                self.configuration_status.last_reload_success = false;
                self.configuration_status.errors = diagnostics.told;
                self.metrics.reloaded(false, (self.wall)());
            }
            Request::Cancel(run_id, answer) => {
                let is_there = self.runs.get_mut(run_id).is_some();
                self.cancel(run_id);
                // Who asked may be gone.
                answer.send(is_there).ok();
            }
            Request::Submit(submission, answer) => {
                // Who asked may be gone; what was accepted is done.
                answer.send(self.submit(*submission)).ok();
            }
            Request::Stop(answer) => {
                self.stopping = Some(answer);
                let all: Vec<RunId> = self.runs.iter().map(|run| run.run_id).collect();
                all.into_iter().for_each(|run_id| self.cancel(run_id));
                self.mirrors.stop();
            }
        }
    }

    /// Applies what differs. Runs go on under the text that they began with.
    fn take(&mut self, configuration: DaemonConfiguration, remembered: &Remembered) {
        let now = (self.wall)();
        let difference = Difference::between(&self.configuration, &configuration);
        for gone in &difference.removed {
            tracing::info!(policy = %gone.name, "policy {} removed", gone.name);
            if let Some(scheduled) = self.policies.remove(&gone.name) {
                self.policy_is_gone(&scheduled.policy);
            }
            self.metrics.policy_is_gone(&gone.name, gone.kind.name());
        }
        for policy in &configuration.backups {
            let id = PolicyId {
                kind: PolicyKind::Backup,
                name: policy.name.clone(),
            };
            if difference.added.contains(&id) || difference.changed.contains(&id) {
                self.schedule(policy.clone(), remembered.policies.get(&policy.name), now);
            }
        }
        self.mirrors.take(&difference, &configuration, now);
        self.drains.take(&difference, &configuration);
        for policy in &configuration.mirrors {
            self.metrics
                .policy_is_there(&policy.name, PolicyKind::Mirror.name(), None);
        }
        for policy in &configuration.drains {
            self.metrics
                .policy_is_there(&policy.name, PolicyKind::Drain.name(), None);
        }
        for name in self.configuration.repositories.keys() {
            if !configuration.repositories.contains_key(name) {
                self.metrics.repository_is_gone(name);
            }
        }
        self.configuration = configuration;
        self.configuration_status = ConfigurationStatus {
            loaded_at: now,
            reloaded_at: now,
            last_reload_success: true,
            errors: Vec::new(),
        };
        self.metrics.reloaded(true, now);
    }

    /// What waits for a policy that is gone does not begin any more; what works goes on, unless the policy said otherwise.
    fn policy_is_gone(&mut self, policy: &BackupPolicy) {
        let of_policy = self.runs.iter().filter(|run| run.is_of(&policy.name));
        let ends =
            of_policy.filter(|run| !run.is_working() || policy.when_removed == WhenRemoved::Cancel);
        let ends: Vec<RunId> = ends.map(|run| run.run_id).collect();
        ends.into_iter().for_each(|run_id| self.cancel(run_id));
    }

    /// Schedules a policy that is new, or has another text; what is known of it stays.
    fn schedule(
        &mut self,
        policy: BackupPolicy,
        remembered: Option<&RememberedPolicy>,
        now: DateTime<Utc>,
    ) {
        let name = policy.name.clone();
        let before = self.policies.remove(&name);
        let known = remembered.cloned().unwrap_or_default();
        let settled = before.as_ref().map(|before| before.backups.timer.settled());
        let expired = before
            .as_ref()
            .map(|before| before.expiries.timer.settled());
        let max_age = policy.max_age.map(|max_age| max_age.as_secs_f64());
        self.metrics
            .policy_is_there(&name, PolicyKind::Backup.name(), max_age);
        tracing::info!(policy = %name, "policy {name} scheduled");
        let backups = Timer::new(policy.timetable.clone(), settled.or(known.settled_at), now);
        let expiries = Timer::new(policy.expire_timetable.clone(), expired, now);
        let (last_run, last_success_at, last_expire, missed) = match before {
            Some(before) => (
                before.last_run,
                before.last_success_at,
                before.last_expire,
                before.missed,
            ),
            None => (known.last_run, known.last_success_at, None, 0),
        };
        let scheduled = Scheduled {
            backups: Due::new(backups),
            expiries: Due::new(expiries),
            policy: Arc::new(policy),
            last_run,
            last_success_at,
            last_expire,
            missed,
        };
        self.policies.insert(name, scheduled);
    }

    /// Accepts what is due, and starts what may begin; how long until the next look.
    fn look(&mut self) -> Duration {
        if self.stopping.is_some() {
            return self.look_every;
        }
        let mut wait = self.look_every;
        let names: Vec<String> = self.policies.keys().cloned().collect();
        for name in names {
            wait = wait.min(self.look_at(&name, PolicyWork::Backup));
            wait = wait.min(self.look_at(&name, PolicyWork::Expire));
        }
        let now = Instant::now();
        for run_id in self.runs.too_late(now) {
            if let Some(run) = self.runs.remove(run_id)
                && let Some(policy) = run.task.policy()
            {
                let policy = &policy.name;
                tracing::warn!(%policy, "policy {policy}: a run had no place until its start_deadline, and is left out");
                self.missed(policy, 1);
            }
        }
        while let Some(run_id) = self.runs.next(now, &self.configuration.limits) {
            self.start(run_id);
        }
        self.tell_who_waits();
        let (due, look_again_in) = self.mirrors.look((self.wall)());
        wait = wait.min(look_again_in);
        for (name, job) in due {
            let executor = Arc::clone(&self.executor);
            self.mirrors
                .spawn(name, async move { executor.mirror(job).await });
        }
        let moment = self.runs.next_moment(now);
        wait.min(moment.map_or(LONGEST_WAIT, |moment| moment - now))
    }

    fn look_at(&mut self, name: &str, work: PolicyWork) -> Duration {
        loop {
            let now = (self.wall)();
            let Some(scheduled) = self.policies.get_mut(name) else {
                return LONGEST_WAIT;
            };
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
                    Verdict::Wait {
                        next,
                        look_again_in,
                    },
                    _,
                ) => {
                    due.next = next;
                    due.look_again_at = monotonic + look_again_in;
                    return look_again_in;
                }
                (Verdict::Skip { last, missed }, PolicyWork::Backup) => {
                    tracing::warn!(policy = %name, "policy {name}: {missed} due moments until {last} were missed, and are not made up for");
                    self.missed(name, missed);
                }
                (Verdict::Run { scheduled, missed }, PolicyWork::Backup) => {
                    self.missed(name, missed);
                    self.backup_is_due(name, scheduled);
                }
                (Verdict::Skip { .. }, PolicyWork::Expire) => {}
                (Verdict::Run { scheduled, .. }, PolicyWork::Expire) => {
                    self.expire_is_due(name, Some(scheduled));
                }
            }
        }
    }

    fn missed(&mut self, name: &str, count: u32) {
        let count = u64::from(count);
        if let Some(scheduled) = self.policies.get_mut(name) {
            self.metrics.missed(name, count);
            scheduled.missed += count;
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
        let run = Run::new(Task::Backup(policy), Some(scheduled_at), (self.wall)());
        tracing::debug!(policy = %name, run_id = %run.run_id, "policy {name}: run for {scheduled_at} accepted");
        self.runs.accept(run);
    }

    /// Retention is to be applied: at its moment, or after a success, which has none.
    fn expire_is_due(&mut self, name: &str, scheduled_at: Option<DateTime<Utc>>) {
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
                let run = Run::new(Task::Expire(policy), scheduled_at, (self.wall)());
                self.runs.accept(run);
            }
        }
    }

    /// Begins a try of a run that waits.
    fn start(&mut self, run_id: RunId) {
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        run.begin();
        let (whose, work, tries) = (run.whose(), run.work().name(), run.tries);
        let executor = Arc::clone(&self.executor);
        let task = match run.task.clone() {
            Task::Order(order) => {
                let job = self.order_job(run_id, order);
                self.jobs.began(run_id, (self.wall)());
                self.tries.spawn(async move {
                    match job {
                        Some(job) => Tried::Answered(Box::new(executor.carry_out(job).await)),
                        None => Tried::Stopped,
                    }
                })
            }
            Task::Backup(policy) | Task::Expire(policy) => {
                let job = self.policy_job(run_id, policy);
                self.tries.spawn(async move {
                    match job {
                        Some(job) => executor.execute(job).await,
                        None => Tried::Failed(
                            "its cluster or repository is no longer configured".to_owned(),
                        ),
                    }
                })
            }
        };
        self.tasks.insert(task.id(), run_id);
        match self.runs.get_mut(run_id).and_then(|run| run.task.policy()) {
            Some(policy) => {
                tracing::info!(policy = %policy.name, %run_id, work, tries, "{whose}: {work} started");
            }
            None => tracing::info!(job_id = %run_id, work, "{whose}: {work} started"),
        }
    }

    /// Bytes of records that one run may hold.
    fn memory_share(&self) -> u64 {
        let limits = &self.configuration.limits;
        limits.memory.0 / u64::from(limits.max_concurrent_backups.max(1))
    }

    /// None where only a policy that is gone can name what is gone.
    fn policy_job(&mut self, run_id: RunId, policy: Arc<BackupPolicy>) -> Option<PolicyJob> {
        let memory = self.memory_share();
        let run = self.runs.get_mut(run_id)?;
        let configuration = &self.configuration;
        Some(PolicyJob {
            run_id,
            work: match run.task {
                Task::Expire(_) => PolicyWork::Expire,
                Task::Backup(_) | Task::Order(_) => PolicyWork::Backup,
            },
            cluster: configuration.clusters.get(&policy.cluster)?.clone(),
            repository: configuration.repositories.get(&policy.repository)?.clone(),
            policy,
            memory,
            max_backup_size: configuration.limits.max_backup_size,
            progress: Arc::clone(&run.progress),
            stop: run.stop.clone(),
        })
    }

    fn order_job(&mut self, run_id: RunId, order: Arc<Order>) -> Option<OrderJob> {
        let memory = self.memory_share();
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

    /// Accepts what somebody asks for, as far as limits allow.
    fn submit(&mut self, submission: Submission) -> Result<Arc<Job>, Problem> {
        if let Some(same) = self.jobs.same(&submission)? {
            return Ok(same);
        }
        if self.stopping.is_some() {
            let message = "the daemon is stopping: ask again when it is back";
            return Err(Problem::new(ProblemKind::ServiceUnavailable, message).again_after(10));
        }
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

    /// Says of jobs that wait what they wait for.
    fn tell_who_waits(&mut self) {
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

    /// Tells a run to end. One that waits has.
    fn cancel(&mut self, run_id: RunId) {
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        let whose = run.whose();
        tracing::info!(%run_id, "{whose}: its run is told to stop");
        run.stop.cancel();
        let is_working = run.is_working();
        self.jobs.stops(run_id);
        if !is_working {
            self.ended(run_id, Tried::Stopped);
        }
    }

    /// A try ended. A panic in one is that run's failure, and nobody else's.
    fn tried(&mut self, ended: Result<(Id, Tried), JoinError>) {
        let (task, tried) = match ended {
            Ok((task, tried)) => (task, tried),
            Err(error) => {
                let why = "the run ended in a panic: this is a bug in kafkeep";
                (error.id(), Tried::Failed(why.to_owned()))
            }
        };
        let Some(run_id) = self.tasks.remove(&task) else {
            return;
        };
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        match tried {
            Tried::Again(_) if run.stop.is_cancelled() => self.ended(run_id, Tried::Stopped),
            Tried::Again(error) => match run.again(error.clone()) {
                Some(pause) => {
                    let (whose, seconds) = (run.whose(), pause.as_secs());
                    tracing::warn!(%run_id, "{whose}: trying again in {seconds} s: {error}");
                }
                None => self.ended(run_id, Tried::Failed(error)),
            },
            tried => self.ended(run_id, tried),
        }
    }

    /// A run ended.
    fn ended(&mut self, run_id: RunId, tried: Tried) {
        let Some(run) = self.runs.remove(run_id) else {
            return;
        };
        match &run.task {
            Task::Backup(policy) => self.backup_ended(&run, policy, outcome(tried)),
            Task::Expire(policy) => self.expire_ended(&run, policy, expired(tried, (self.wall)())),
            Task::Order(_) => self.order_ended(&run, tried),
        }
    }

    /// What somebody asked for is done, or not.
    fn order_ended(&mut self, run: &Run, tried: Tried) {
        let job_id = run.run_id;
        let cancelled = run.stop.is_cancelled();
        let came_to = match tried {
            Tried::Answered(came_to) => *came_to,
            Tried::Stopped => {
                let message = "the job was cancelled before it began";
                Err(Problem::new(ProblemKind::Conflict, message))
            }
            Tried::Again(_) | Tried::Failed(_) | Tried::BackedUp(_) | Tried::Expired(_) => {
                Err(Problem::internal())
            }
        };
        let (state, result) = match &came_to {
            // Whatever was done until then.
            _ if cancelled => (JobState::Cancelled, RunResult::Cancelled),
            Ok(_) => (JobState::Completed, RunResult::Success),
            Err(_) => (JobState::Failed, RunResult::Failed),
        };
        let now = (self.wall)();
        let (work, result) = (run.work().name(), result.name());
        match &came_to {
            Err(problem) if state == JobState::Failed => {
                tracing::error!(%job_id, result, "job {job_id}: {work} failed: {}", problem.message);
            }
            _ => tracing::info!(%job_id, result, "job {job_id}: {work} {}", state.name()),
        }
        if state == JobState::Failed && run.work() == Work::Backup {
            self.failed_backups.add(now);
        }
        let Task::Order(order) = &run.task else {
            return;
        };
        self.metrics
            .job_ended(order.kind(), state, came_to.as_ref().ok());
        self.jobs.ended(job_id, state, came_to, now);
    }

    fn backup_ended(&mut self, run: &Run, policy: &BackupPolicy, outcome: Outcome) {
        let ended = EndedRun {
            run_id: run.run_id,
            scheduled_at: run.scheduled_at,
            started_at: run.accepted_at,
            finished_at: (self.wall)(),
            outcome,
        };
        let name = &policy.name;
        tell(name, run.work().name(), &ended);
        let Some(scheduled) = self.policies.get_mut(name) else {
            // The policy is gone, and its series with it.
            return;
        };
        self.metrics.run_ended(policy, &ended);
        if ended.outcome.result == RunResult::Failed {
            self.failed_backups.add(ended.finished_at);
        }
        let success = ended.outcome.result == RunResult::Success;
        if success {
            scheduled.last_success_at = Some(ended.finished_at);
        }
        scheduled.last_run = Some(ended);
        if success && self.stopping.is_none() {
            self.expire_is_due(name, None);
        }
    }

    fn mirror_ended(&mut self, ended: MirrorEnded) {
        if let Some((name, run)) = self.mirrors.take_in(ended, (self.wall)()) {
            tell(&name, PolicyKind::Mirror.name(), &run);
            self.metrics.mirror_ended(&name, &run);
        }
    }

    fn expire_ended(&mut self, run: &Run, policy: &BackupPolicy, expired: Expired) {
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
            self.metrics.expire_ended(policy, &expired);
            scheduled.last_expire = Some(expired);
        }
    }

    fn publish(&self) {
        let policies: Vec<PolicyStatus> = self.policy_statuses();
        for policy in &policies {
            if policy.runs {
                self.metrics.policy_stands(policy);
            }
        }
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            stopping: self.stopping.is_some(),
            looked_at: (self.wall)(),
            configuration: self.configuration_status.clone(),
            policies,
            failed_backups: self.failed_backups,
        };
        self.status.send_replace(Arc::new(status));
    }

    fn policy_statuses(&self) -> Vec<PolicyStatus> {
        let scheduled = self.policies.values().map(|scheduled| {
            let policy = &scheduled.policy;
            let running = self.runs.iter();
            let running = running.filter(|run| run.is_of(&policy.name));
            PolicyStatus {
                runs: true,
                next_run_at: scheduled.backups.next,
                settled_at: Some(scheduled.backups.timer.settled()),
                running: running.map(Run::status).collect(),
                last_run: scheduled.last_run.clone(),
                last_success_at: scheduled.last_success_at,
                missed_runs: scheduled.missed,
                max_age_seconds: policy.max_age.map(|max_age| max_age.as_secs()),
                next_expire_at: scheduled.expiries.next,
                last_expire: scheduled.last_expire.clone(),
                ..PolicyStatus::new(&policy.name, PolicyKind::Backup.name())
            }
        });
        let others = self.mirrors.statuses().chain(self.drains.statuses());
        scheduled.chain(others).collect()
    }
}

fn outcome(tried: Tried) -> Outcome {
    match tried {
        Tried::BackedUp(outcome) => outcome,
        Tried::Again(error) | Tried::Failed(error) => {
            Outcome::without_backup(RunResult::Failed, error)
        }
        Tried::Stopped | Tried::Expired(_) | Tried::Answered(_) => {
            let why = "stopped; the next run goes on behind what was sealed";
            Outcome::without_backup(RunResult::Cancelled, why)
        }
    }
}

fn expired(tried: Tried, now: DateTime<Utc>) -> Expired {
    let error = match tried {
        Tried::Expired(expired) => return expired,
        Tried::Again(error) | Tried::Failed(error) => error,
        Tried::Stopped | Tried::BackedUp(_) | Tried::Answered(_) => {
            "it was told to stop".to_owned()
        }
    };
    Expired {
        finished_at: now,
        error: Some(error),
        ..Expired::default()
    }
}

/// Logs how a run ended, once.
fn tell(policy: &str, work: &str, run: &EndedRun) {
    let Outcome {
        result,
        backup_id,
        error,
        figures,
    } = &run.outcome;
    let (run_id, result) = (run.run_id, result.name());
    let backup_id = backup_id.map(|id| id.to_string()).unwrap_or_default();
    let why = error.as_ref().map(|error| format!(": {error}"));
    let why = why.unwrap_or_default();
    let records = figures.new_messages;
    let what = format!("policy {policy}: {work} {backup_id}")
        .trim_end()
        .to_owned();
    match run.outcome.result {
        RunResult::Success => {
            tracing::info!(policy, %run_id, backup_id, result, "{what} completed, {records} records are new{why}");
        }
        RunResult::Incomplete => {
            tracing::error!(policy, %run_id, backup_id, result, "{what} is incomplete{why}");
        }
        RunResult::Failed => tracing::error!(policy, %run_id, result, "{what} failed{why}"),
        RunResult::Cancelled => tracing::warn!(policy, %run_id, result, "{what} cancelled{why}"),
    }
}
