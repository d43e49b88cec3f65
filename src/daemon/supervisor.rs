//! The sole owner of what runs: drives the timers, accepts and starts runs, and publishes a [`Status`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::api::{Answer, Problem};
use crate::engine::EngineError;
use crate::engine::mirror::MirrorReport;
use crate::memory::MemoryBudget;
use crate::policy::{DaemonConfiguration, Diagnostics, Difference, PolicyId, PolicyKind};
use crate::schedule::{Alarm, LONGEST_WAIT};

use super::drains::Drains;
use super::history::RunHistories;
use super::job_executor::OrderJob;
use super::jobs::{Job, Jobs, Submission};
use super::mirrors::{MirrorEnded, MirrorJob, Mirrors};
use super::remembered::Remembered;
use super::run::{PolicyJob, TryResult};
use super::runs::{Runs, Task};
use super::status::{
    ConfigurationStatus, EndedRun, FailedBackups, Outcome, RunId, RunResult, Status,
};
use super::totals::JobTotals;
use super::work::PolicyWork;

mod orders;
mod policies;
mod scheduled;
mod success;

use scheduled::Scheduled;

/// What others ask of the supervisor.
pub enum Request {
    /// Take this configuration, or take note of what is wrong with the one that was read.
    Configuration(Result<Box<DaemonConfiguration>, Diagnostics>),
    /// A repository was loaded: this is what it tells of its policies' past, and they may run.
    Loaded(String, Remembered),
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
    fn execute(&self, job: PolicyJob) -> impl Future<Output = TryResult> + Send;

    /// Carries out what somebody asked for.
    fn execute_order(&self, job: OrderJob) -> impl Future<Output = Result<Answer, Problem>> + Send;

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
    /// The memory for record batches of all runs.
    memory: MemoryBudget,
    configuration: DaemonConfiguration,
    configuration_status: ConfigurationStatus,
    started_at: DateTime<Utc>,
    policies: BTreeMap<String, Scheduled>,
    /// Repositories that are being loaded: their policies do not run yet.
    loading: BTreeSet<String>,
    runs: Runs,
    jobs: Jobs,
    job_totals: JobTotals,
    histories: RunHistories,
    /// Runs of policies that ended, by repository and how.
    repository_runs: BTreeMap<(String, RunResult), u64>,
    failed_backups: FailedBackups,
    tries: JoinSet<TryResult>,
    /// Which run each task of `tries` is for.
    tasks: HashMap<Id, RunId>,
    mirrors: Mirrors,
    drains: Drains,
    stopping: Option<oneshot::Sender<()>>,
    /// It looks at its timers, and tells of it, so often at least.
    look_every: Duration,
}

impl<E: Execute> Supervisor<E> {
    /// With nothing configured yet.
    pub fn new(
        executor: E,
        wall: WallClock,
        requests: mpsc::Receiver<Request>,
        status: watch::Sender<Arc<Status>>,
        jobs: Jobs,
    ) -> Self {
        let now = wall();
        let memory = MemoryBudget::default();
        Self {
            executor: Arc::new(executor),
            requests,
            status,
            configuration: DaemonConfiguration::default(),
            configuration_status: ConfigurationStatus {
                loaded_at: now,
                reloaded_at: now,
                last_reload_success: false,
                errors: Vec::new(),
            },
            started_at: now,
            policies: BTreeMap::new(),
            loading: BTreeSet::new(),
            runs: Runs::default(),
            jobs,
            job_totals: JobTotals::default(),
            histories: RunHistories::default(),
            repository_runs: BTreeMap::new(),
            failed_backups: FailedBackups::default(),
            tries: JoinSet::new(),
            tasks: HashMap::new(),
            mirrors: Mirrors::new(memory.clone()),
            drains: Drains::new(memory.clone()),
            memory,
            stopping: None,
            look_every: LONGEST_WAIT,
            wall,
        }
    }

    /// Who watches that it is alive wants to hear of it so often.
    pub fn look_every(&mut self, period: Duration) {
        self.look_every = period.min(LONGEST_WAIT);
    }

    /// Policies of these repositories do not run before [`Request::Loaded`].
    pub fn wait_for(&mut self, repositories: BTreeSet<String>) {
        self.loading = repositories;
    }

    /// Goes on with what is known of past runs.
    pub fn remember(&mut self, histories: RunHistories) {
        self.histories = histories;
    }

    /// Takes the first configuration; its policies go on after what is `remembered` of them.
    pub fn begin(&mut self, configuration: DaemonConfiguration, remembered: &Remembered) {
        self.failed_backups = remembered.failed_backups;
        self.take(configuration, remembered);
        let configuration = &self.configuration;
        self.histories
            .retain(|policy| configuration.has_policy(policy));
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
            }
            Request::Loaded(repository, past) => self.loaded(&repository, &past),
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
            self.histories.remove(&gone.name);
            if let Some(scheduled) = self.policies.remove(&gone.name) {
                self.policy_is_gone(&scheduled.policy);
            }
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
        self.mirrors
            .take(&difference, &configuration, remembered, now);
        self.drains.take(&difference, &configuration);
        self.memory.resize(configuration.limits.memory.0);
        self.configuration = configuration;
        self.configuration_status = ConfigurationStatus {
            loaded_at: now,
            reloaded_at: now,
            last_reload_success: true,
            errors: Vec::new(),
        };
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
        self.end_overdue(now);
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

    /// Begins a try of a run that waits.
    fn start(&mut self, run_id: RunId) {
        self.runs.takes_turn(run_id);
        let longest = self.configuration.limits.longest_job;
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        run.begin();
        run.end_by = run.task.bound(longest).map(|bound| Instant::now() + bound);
        let (whose, work, tries) = (run.whose(), run.work().name(), run.tries);
        let executor = Arc::clone(&self.executor);
        let task = match run.task.clone() {
            Task::Order(order, _) => {
                let job = self.order_job(run_id, order);
                self.jobs.began(run_id, (self.wall)());
                self.tries.spawn(async move {
                    match job {
                        Some(job) => {
                            TryResult::Answered(Box::new(executor.execute_order(job).await))
                        }
                        None => TryResult::Stopped,
                    }
                })
            }
            Task::Policy(work, policy) => {
                let job = self.policy_job(run_id, work, policy);
                self.tries.spawn(async move {
                    match job {
                        Some(job) => executor.execute(job).await,
                        None => TryResult::Failed(
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
            self.ended(run_id, TryResult::Stopped);
        }
    }

    /// A try ended. A panic in one is that run's failure, and nobody else's.
    fn tried(&mut self, ended: Result<(Id, TryResult), JoinError>) {
        let (task, tried) = match ended {
            Ok((task, tried)) => (task, tried),
            Err(error) => {
                let why = "the run ended in a panic: this is a bug in kafkeep";
                (error.id(), TryResult::Failed(why.to_owned()))
            }
        };
        let Some(run_id) = self.tasks.remove(&task) else {
            return;
        };
        let Some(run) = self.runs.get_mut(run_id) else {
            return;
        };
        match tried {
            TryResult::Again(_) if run.stop.is_cancelled() => {
                self.ended(run_id, TryResult::Stopped)
            }
            TryResult::Again(error) => match run.again(error.clone()) {
                Some(pause) => {
                    let (whose, seconds) = (run.whose(), pause.as_secs());
                    tracing::warn!(%run_id, "{whose}: trying again in {seconds} s: {error}");
                }
                None => self.ended(run_id, TryResult::Failed(error)),
            },
            tried => self.ended(run_id, tried),
        }
    }

    /// A run ended.
    fn ended(&mut self, run_id: RunId, tried: TryResult) {
        let Some(run) = self.runs.remove(run_id) else {
            return;
        };
        match &run.task {
            Task::Policy(PolicyWork::Backup, policy) => self.backup_ended(&run, policy, tried),
            Task::Policy(PolicyWork::Expire, policy) => self.expire_ended(&run, policy, tried),
            Task::Order(..) => self.order_ended(&run, tried),
        }
    }

    fn mirror_ended(&mut self, ended: MirrorEnded) {
        if let Some((name, run)) = self.mirrors.take_in(ended, (self.wall)()) {
            tell(&name, PolicyKind::Mirror.name(), &run);
            self.histories.add(&name, &run);
        }
    }

    fn publish(&self) {
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started_at,
            stopping: self.stopping.is_some(),
            looked_at: (self.wall)(),
            looked: std::time::Instant::now(),
            configuration: self.configuration_status.clone(),
            policies: self.policy_statuses(),
            failed_backups: self.failed_backups,
            jobs: self.job_totals.clone(),
            repository_runs: self.repository_runs.clone(),
            memory: self.memory.clone(),
        };
        self.status.send_replace(Arc::new(status));
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
