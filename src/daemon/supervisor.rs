//! The sole owner of what runs: drives the timers, starts and counts runs, and publishes a [`Status`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::policy::{
    BackupPolicy, DaemonConfiguration, Diagnostics, Difference, PolicyId, PolicyKind,
};
use crate::schedule::{Alarm, Concurrency, LONGEST_WAIT, Timer, Verdict};

use super::metrics::Metrics;
use super::run::Job;
use super::status::{
    ConfigurationStatus, EndedRun, Outcome, PolicyStatus, RunResult, RunStatus, Status,
};

/// No try of a run begins later than this after its moment, unless its policy says otherwise.
const START_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// What others ask of the supervisor.
pub enum Request {
    /// Take this configuration, or take note of what is wrong with the one that was read.
    Configuration(Result<Box<DaemonConfiguration>, Diagnostics>),
    /// Start nothing more, stop what runs, and end; the answer comes when nothing runs.
    Stop(oneshot::Sender<()>),
}

/// Runs jobs; a test's runs are its own.
pub(super) trait Execute: Send + Sync + 'static {
    /// Runs one job to its end.
    fn execute(&self, job: Job) -> impl Future<Output = Outcome> + Send;
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
    runs: JoinSet<Outcome>,
    /// What each task of `runs` is.
    running: HashMap<Id, Running>,
    /// How many run at once; the others wait in the order of their coming.
    places: Arc<Semaphore>,
    stopping: Option<oneshot::Sender<()>>,
}

/// A policy that is scheduled, and how it went so far.
struct Scheduled {
    policy: Arc<BackupPolicy>,
    timer: Timer,
    next: Option<DateTime<Utc>>,
    last_run: Option<EndedRun>,
    last_success_at: Option<DateTime<Utc>>,
    missed: u64,
}

/// A run that has not ended. It goes by the text that its policy had when it began.
struct Running {
    policy: Arc<BackupPolicy>,
    scheduled_at: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    task: AbortHandle,
}

/// What is known of policies from before the daemon started, by name.
pub(super) type Remembered = BTreeMap<String, LastBackup>;

/// The last complete backup of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastBackup {
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
}

impl<E: Execute> Supervisor<E> {
    /// With nothing configured yet.
    pub fn new(
        executor: E,
        wall: WallClock,
        requests: mpsc::Receiver<Request>,
        status: watch::Sender<Arc<Status>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let now = wall();
        let configuration = DaemonConfiguration::default();
        Self {
            executor: Arc::new(executor),
            requests,
            status,
            metrics,
            places: places(&configuration),
            configuration,
            configuration_status: ConfigurationStatus {
                loaded_at: now,
                reloaded_at: now,
                last_reload_success: false,
                errors: Vec::new(),
            },
            started_at: now,
            policies: BTreeMap::new(),
            runs: JoinSet::new(),
            running: HashMap::new(),
            stopping: None,
            wall,
        }
    }

    /// Takes the first configuration; its policies go on after what is `remembered` of them.
    pub fn begin(&mut self, configuration: DaemonConfiguration, remembered: &Remembered) {
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
                Some(ended) = self.runs.join_next_with_id() => self.ended(ended),
                () = alarm.rung() => {}
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Configuration(Ok(configuration)) => {
                self.take(*configuration, &Remembered::new())
            }
            Request::Configuration(Err(diagnostics)) => {
                self.configuration_status.reloaded_at = (self.wall)();
                self.configuration_status.last_reload_success = false;
                self.configuration_status.errors = diagnostics.told;
                self.metrics.reloaded(false, (self.wall)());
            }
            Request::Stop(answer) => {
                self.stopping = Some(answer);
                for run in self.running.values() {
                    tracing::info!(policy = %run.policy.name, "stopping its run");
                    run.task.abort();
                }
            }
        }
    }

    /// Applies what differs. Runs go on under the text that they began with.
    fn take(&mut self, configuration: DaemonConfiguration, remembered: &Remembered) {
        let now = (self.wall)();
        let difference = Difference::between(&self.configuration, &configuration);
        if difference.limits {
            // Runs that have their place keep it.
            self.places = places(&configuration);
        }
        for gone in &difference.removed {
            tracing::info!(policy = %gone.name, "policy removed");
            self.policies.remove(&gone.name);
            self.metrics.policy_is_gone(&gone.name, gone.kind.name());
        }
        for policy in &configuration.backups {
            let id = PolicyId {
                kind: PolicyKind::Backup,
                name: policy.name.clone(),
            };
            if difference.added.contains(&id) || difference.changed.contains(&id) {
                self.schedule(policy.clone(), remembered.get(&policy.name).copied(), now);
            }
        }
        for (name, kind) in not_run_yet(&configuration) {
            self.metrics.policy_is_there(name, kind.name(), None);
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

    /// Schedules a policy that is new, or has another text; what is known of it stays.
    fn schedule(&mut self, policy: BackupPolicy, last: Option<LastBackup>, now: DateTime<Utc>) {
        let name = policy.name.clone();
        let before = self.policies.remove(&name);
        let settled = before.as_ref().map(|before| before.timer.settled());
        let settled = settled.or(last.map(|last| last.started_at));
        let max_age = policy.max_age.map(|max_age| max_age.as_secs_f64());
        self.metrics
            .policy_is_there(&name, PolicyKind::Backup.name(), max_age);
        tracing::info!(policy = %name, "policy scheduled");
        let scheduled = Scheduled {
            timer: Timer::new(policy.timetable.clone(), settled, now),
            policy: Arc::new(policy),
            next: None,
            last_run: before.as_ref().and_then(|before| before.last_run.clone()),
            last_success_at: before
                .as_ref()
                .and_then(|before| before.last_success_at)
                .or(last.map(|last| last.finished_at)),
            missed: before.map_or(0, |before| before.missed),
        };
        self.policies.insert(name, scheduled);
    }

    /// Starts what is due; how long until the next look.
    fn look(&mut self) -> Duration {
        if self.stopping.is_some() {
            return LONGEST_WAIT;
        }
        let mut wait = LONGEST_WAIT;
        let names: Vec<String> = self.policies.keys().cloned().collect();
        for name in names {
            wait = wait.min(self.look_at(&name));
        }
        wait
    }

    fn look_at(&mut self, name: &str) -> Duration {
        loop {
            let now = (self.wall)();
            let Some(scheduled) = self.policies.get_mut(name) else {
                return LONGEST_WAIT;
            };
            match scheduled.timer.look(now, Instant::now().into_std()) {
                Verdict::Wait {
                    next,
                    look_again_in,
                } => {
                    scheduled.next = next;
                    return look_again_in;
                }
                Verdict::Skip { last, missed } => {
                    tracing::warn!(policy = %name, %last, missed, "missed, and not made up for");
                    self.missed(name, missed);
                }
                Verdict::Run { scheduled, missed } => {
                    self.missed(name, missed);
                    self.due(name, scheduled);
                }
            }
        }
    }

    fn missed(&mut self, name: &str, count: u32) {
        let count = u64::from(count);
        self.metrics.missed(name, count);
        if let Some(scheduled) = self.policies.get_mut(name) {
            scheduled.missed += count;
        }
    }

    /// A run is due: whether it starts while another of its policy runs is the policy's to say.
    fn due(&mut self, name: &str, scheduled_at: DateTime<Utc>) {
        let Some(policy) = self
            .policies
            .get(name)
            .map(|known| Arc::clone(&known.policy))
        else {
            return;
        };
        let mut others = self
            .running
            .values()
            .filter(|run| run.policy.name == name)
            .peekable();
        match policy.timetable.concurrency {
            Concurrency::Forbid if others.peek().is_some() => {
                tracing::warn!(policy = %name, "its last run has not ended: this one is left out");
                return self.missed(name, 1);
            }
            Concurrency::Replace => others.for_each(|run| run.task.abort()),
            Concurrency::Forbid | Concurrency::Allow => {}
        }
        self.start(policy, scheduled_at);
    }

    fn start(&mut self, policy: Arc<BackupPolicy>, scheduled_at: DateTime<Utc>) {
        let configuration = &self.configuration;
        let (Some(cluster), Some(repository)) = (
            configuration.clusters.get(&policy.cluster),
            configuration.repositories.get(&policy.repository),
        ) else {
            // The configuration was checked.
            return;
        };
        let limits = &configuration.limits;
        let late = policy.timetable.start_deadline.unwrap_or(START_DEADLINE);
        let job = Job {
            policy: Arc::clone(&policy),
            cluster: cluster.clone(),
            repository: repository.clone(),
            memory: limits.memory.0 / u64::from(limits.max_concurrent_backups.max(1)),
            last_start: scheduled_at + late,
        };
        let (executor, places) = (Arc::clone(&self.executor), Arc::clone(&self.places));
        let task = self.runs.spawn(async move {
            match places.acquire().await {
                Ok(_place) => executor.execute(job).await,
                Err(_) => Outcome::without_backup(RunResult::Cancelled, "the daemon is stopping"),
            }
        });
        tracing::info!(policy = %policy.name, %scheduled_at, "run started");
        let run = Running {
            policy,
            scheduled_at: Some(scheduled_at),
            started_at: (self.wall)(),
            task: task.clone(),
        };
        self.running.insert(task.id(), run);
    }

    /// A run ended. A panic in one is that run's failure, and nobody else's.
    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) if error.is_cancelled() => {
                let outcome = Outcome::without_backup(
                    RunResult::Cancelled,
                    "stopped; the next run goes on behind what was sealed",
                );
                (error.id(), outcome)
            }
            Err(error) => {
                let outcome = Outcome::without_backup(
                    RunResult::Failed,
                    "the run ended in a panic: this is a bug in kafkeep",
                );
                (error.id(), outcome)
            }
        };
        let Some(run) = self.running.remove(&id) else {
            return;
        };
        let ended = EndedRun {
            scheduled_at: run.scheduled_at,
            started_at: run.started_at,
            finished_at: (self.wall)(),
            outcome,
        };
        tell(&run.policy.name, &ended);
        let Some(scheduled) = self.policies.get_mut(&run.policy.name) else {
            // The policy is gone, and its series with it.
            return;
        };
        self.metrics.run_ended(&run.policy, &ended);
        if ended.outcome.result == RunResult::Success {
            scheduled.last_success_at = Some(ended.finished_at);
        }
        scheduled.last_run = Some(ended);
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
        };
        self.status.send_replace(Arc::new(status));
    }

    fn policy_statuses(&self) -> Vec<PolicyStatus> {
        let scheduled = self.policies.values().map(|scheduled| {
            let policy = &scheduled.policy;
            let running = self.running.values();
            let running = running.filter(|run| run.policy.name == policy.name);
            PolicyStatus {
                policy: policy.name.clone(),
                kind: PolicyKind::Backup.name(),
                runs: true,
                next_run_at: scheduled.next,
                running: running
                    .map(|run| RunStatus {
                        scheduled_at: run.scheduled_at,
                        started_at: run.started_at,
                    })
                    .collect(),
                last_run: scheduled.last_run.clone(),
                last_success_at: scheduled.last_success_at,
                missed_runs: scheduled.missed,
                max_age_seconds: policy.max_age.map(|max_age| max_age.as_secs()),
            }
        });
        let others = not_run_yet(&self.configuration).map(|(name, kind)| PolicyStatus {
            policy: name.to_owned(),
            kind: kind.name(),
            runs: false,
            next_run_at: None,
            running: Vec::new(),
            last_run: None,
            last_success_at: None,
            missed_runs: 0,
            max_age_seconds: None,
        });
        scheduled.chain(others).collect()
    }
}

/// Policies that are known, and have no engine yet.
fn not_run_yet(configuration: &DaemonConfiguration) -> impl Iterator<Item = (&str, PolicyKind)> {
    let mirrors = configuration.mirrors.iter();
    let mirrors = mirrors.map(|policy| (policy.name.as_str(), PolicyKind::Mirror));
    let drains = configuration.drains.iter();
    mirrors.chain(drains.map(|policy| (policy.name.as_str(), PolicyKind::Drain)))
}

/// As many as may run at once.
fn places(configuration: &DaemonConfiguration) -> Arc<Semaphore> {
    let count = configuration.limits.max_concurrent_backups;
    Arc::new(Semaphore::new(count as usize))
}

/// Logs how a run ended, once.
fn tell(policy: &str, run: &EndedRun) {
    let result = run.outcome.result.name();
    let backup_id = run
        .outcome
        .backup_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    let error = run.outcome.error.as_deref().unwrap_or_default();
    match run.outcome.result {
        RunResult::Success => tracing::info!(policy, result, backup_id, "run ended"),
        RunResult::Incomplete | RunResult::Failed | RunResult::Cancelled => {
            tracing::error!(policy, result, backup_id, error, "run ended");
        }
    }
}
