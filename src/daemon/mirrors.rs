//! The mirror policies: those that go on all the time are kept going, the others run on their schedules.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use crate::engine::mirror::{MirrorOptions, MirrorReport, MirrorState, Until, mirror};
use crate::engine::{EngineError, Stop};
use crate::kafka::{Client, Cluster, Retry};
use crate::memory::MemoryBudget;
use crate::policy::{DaemonConfiguration, Difference, MirrorMode, MirrorPolicy, PolicyKind};
use crate::repository::Completion;
use crate::schedule::{DueVerdict, LONGEST_WAIT, Timer};

use super::progress::RunProgress;
use super::remembered::{Remembered, RememberedPolicy};
use super::status::{
    EndedRun, Figures, Outcome, PolicyStatus, RunId, RunResult, RunState, RunStatus, Work,
};
use super::totals::PolicyTotals;

/// What a mirror that failed waits before it is begun anew, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What one run of a mirror needs to know.
#[derive(Debug, Clone)]
pub(super) struct MirrorJob {
    pub source: Cluster,
    pub target: Cluster,
    pub options: MirrorOptions,
    pub state: Arc<MirrorState>,
}

/// Runs one to its end.
pub(super) async fn run(job: MirrorJob) -> Result<MirrorReport, EngineError> {
    let source = Client::connect(job.source, Retry::default()).await?;
    let target = Client::connect(job.target, Retry::default()).await?;
    mirror(&source, &target, &job.options, &job.state).await
}

type Ended = Result<MirrorReport, EngineError>;
/// A task that ended, and how.
pub(super) type MirrorEnded = Result<(Id, Ended), JoinError>;

/// All of them.
pub(super) struct Mirrors {
    memory: MemoryBudget,
    by_name: BTreeMap<String, Mirror>,
    /// Runs of policies that are gone, or have another text, and have not ended yet.
    leaving: usize,
    tasks: JoinSet<Ended>,
    /// Which mirror each task is for, and which run.
    runs: HashMap<Id, (String, RunId)>,
}

struct Mirror {
    policy: Arc<MirrorPolicy>,
    source: Cluster,
    target: Cluster,
    state: Arc<MirrorState>,
    /// None for one that goes on all the time.
    timer: Option<Timer>,
    next: Option<DateTime<Utc>>,
    running: Option<Running>,
    /// Not before this moment.
    start_at: Instant,
    failures: u32,
    last_run: Option<EndedRun>,
    last_success_at: Option<DateTime<Utc>>,
    missed: u64,
    totals: PolicyTotals,
}

struct Running {
    run_id: RunId,
    started_at: DateTime<Utc>,
    stop: Stop,
}

impl Running {
    fn status(&self, state: &MirrorState) -> RunStatus {
        RunStatus {
            run_id: self.run_id,
            work: Work::Mirror,
            state: match self.stop.is_cancelled() {
                true => RunState::Stopping,
                false => RunState::Running,
            },
            scheduled_at: None,
            started_at: self.started_at,
            tries: 1,
            error: state.problem(),
            progress: Arc::new(RunProgress::of(Work::Mirror)),
        }
    }
}

impl Mirrors {
    /// None yet; what they read takes memory of this budget.
    pub fn new(memory: MemoryBudget) -> Self {
        Self {
            memory,
            by_name: BTreeMap::new(),
            leaving: 0,
            tasks: JoinSet::new(),
            runs: HashMap::new(),
        }
    }

    /// Applies what differs: those that changed end, and begin anew under their new text where they were.
    pub fn take(
        &mut self,
        difference: &Difference,
        new: &DaemonConfiguration,
        remembered: &Remembered,
        now: DateTime<Utc>,
    ) {
        let of_mirrors = |id: &&crate::policy::PolicyId| id.kind == PolicyKind::Mirror;
        let ends = difference.removed.iter().chain(&difference.changed);
        let mut ended = BTreeMap::new();
        for id in ends.filter(of_mirrors) {
            if let Some(mirror) = self.by_name.remove(&id.name) {
                if let Some(running) = &mirror.running {
                    running.stop.cancel();
                    self.leaving += 1;
                }
                ended.insert(id.name.as_str(), mirror);
            }
        }
        for policy in &new.mirrors {
            let (Some(source), Some(target)) = (
                new.clusters.get(&policy.source),
                new.clusters.get(&policy.target),
            ) else {
                // The configuration was checked.
                continue;
            };
            let begins = || {
                let mirror = Mirror::new(policy, source.clone(), target.clone(), now);
                match ended.remove(policy.name.as_str()) {
                    Some(earlier) => mirror.after(earlier),
                    None => mirror.remembering(remembered.policies.get(&policy.name)),
                }
            };
            self.by_name
                .entry(policy.name.clone())
                .or_insert_with(begins);
        }
    }

    /// Which runs are to begin now; how long until the next look.
    pub fn look(&mut self, wall: DateTime<Utc>) -> (Vec<(String, MirrorJob)>, Duration) {
        let mut wait = LONGEST_WAIT;
        let mut due = Vec::new();
        for (name, mirror) in &mut self.by_name {
            let (is_due, look_again_in) = mirror.look(wall);
            wait = wait.min(look_again_in);
            if is_due {
                due.push((name.clone(), mirror.begin(&self.memory, wall)));
            }
        }
        (due, wait)
    }

    /// A run that [`look`](Self::look) told of begins.
    pub fn spawn(&mut self, name: String, run: impl Future<Output = Ended> + Send + 'static) {
        let Some(running) = self
            .by_name
            .get(&name)
            .and_then(|mirror| mirror.running.as_ref())
        else {
            return;
        };
        let run_id = running.run_id;
        tracing::info!(policy = %name, %run_id, "policy {name}: mirror started");
        let task = self.tasks.spawn(run);
        self.runs.insert(task.id(), (name, run_id));
    }

    /// The next run that ends; never, when none is there.
    pub async fn ended(&mut self) -> MirrorEnded {
        match self.tasks.join_next_with_id().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// A run ended; the policy and how, unless the policy is gone.
    pub fn take_in(
        &mut self,
        ended: MirrorEnded,
        now: DateTime<Utc>,
    ) -> Option<(String, EndedRun)> {
        let (task, ended) = match ended {
            Ok((task, ended)) => (task, Some(ended)),
            Err(error) => (error.id(), None),
        };
        let (name, run_id) = self.runs.remove(&task)?;
        let mirror = self.by_name.get_mut(&name);
        let own = |mirror: &&mut Mirror| {
            mirror
                .running
                .as_ref()
                .is_some_and(|running| running.run_id == run_id)
        };
        let Some(mirror) = mirror.filter(own) else {
            self.leaving = self.leaving.saturating_sub(1);
            return None;
        };
        let run = mirror.ended(ended, now)?;
        Some((name, run))
    }

    /// Tells all to commit what they have, and to end.
    pub fn stop(&mut self) {
        for mirror in self.by_name.values_mut() {
            if let Some(running) = &mirror.running {
                running.stop.cancel();
            }
        }
    }

    /// Whether nothing runs.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub fn statuses(&self) -> impl Iterator<Item = PolicyStatus> {
        self.by_name.values().map(Mirror::status)
    }
}

impl Mirror {
    fn new(policy: &MirrorPolicy, source: Cluster, target: Cluster, now: DateTime<Utc>) -> Self {
        let timer = match &policy.mode {
            MirrorMode::Continuous => None,
            MirrorMode::Scheduled(timetable, _) => Some(Timer::new(timetable.clone(), None, now)),
        };
        Self {
            policy: Arc::new(policy.clone()),
            source,
            target,
            state: Arc::default(),
            timer,
            next: None,
            running: None,
            start_at: Instant::now(),
            failures: 0,
            last_run: None,
            last_success_at: None,
            missed: 0,
            totals: PolicyTotals::default(),
        }
    }

    /// The same under another text than before: what is counted of it goes on.
    fn after(self, earlier: Self) -> Self {
        Self {
            state: Arc::new(MirrorState::after(&earlier.state)),
            totals: earlier.totals,
            ..self
        }
    }

    /// The same of which something is known from before the daemon started.
    fn remembering(self, known: Option<&RememberedPolicy>) -> Self {
        Self {
            last_success_at: known.and_then(|known| known.last_success_at),
            ..self
        }
    }

    /// Whether a run is due; how long until the next look.
    fn look(&mut self, wall: DateTime<Utc>) -> (bool, Duration) {
        let Some(timer) = &mut self.timer else {
            let wait = self.start_at.saturating_duration_since(Instant::now());
            let is_due = self.running.is_none() && wait.is_zero();
            return (is_due, if wait.is_zero() { LONGEST_WAIT } else { wait });
        };
        let mut is_due = false;
        loop {
            match timer.look(wall, Instant::now().into_std()) {
                DueVerdict::Wait {
                    next,
                    look_again_in,
                } => {
                    self.next = next;
                    return (is_due, look_again_in);
                }
                DueVerdict::Skip { missed, .. } => self.missed += u64::from(missed),
                DueVerdict::Run { missed, .. } => {
                    self.missed += u64::from(missed);
                    // What a run that goes on has not copied yet, it will.
                    match self.running.is_some() {
                        true => self.missed += 1,
                        false => is_due = true,
                    }
                }
            }
        }
    }

    fn begin(&mut self, memory: &MemoryBudget, now: DateTime<Utc>) -> MirrorJob {
        let mut options = self.policy.options();
        options.memory = memory.clone();
        options.until = match self.timer {
            Some(_) => Until::EndsAtStart,
            None => Until::Stopped,
        };
        self.running = Some(Running {
            run_id: RunId::now(),
            started_at: now,
            stop: options.stop.clone(),
        });
        MirrorJob {
            source: self.source.clone(),
            target: self.target.clone(),
            options,
            state: Arc::clone(&self.state),
        }
    }

    fn ended(&mut self, ended: Option<Ended>, now: DateTime<Utc>) -> Option<EndedRun> {
        let running = self.running.take()?;
        let stopped = running.stop.is_cancelled();
        let outcome = match ended {
            Some(Ok(report)) => outcome(report, stopped),
            Some(Err(_)) if stopped => {
                Outcome::without_backup(RunResult::Cancelled, "it was told to stop")
            }
            Some(Err(error)) => Outcome::without_backup(RunResult::Failed, error),
            None => {
                let why = "the run ended in a panic: this is a bug in kafkeep";
                Outcome::without_backup(RunResult::Failed, why)
            }
        };
        if outcome.result == RunResult::Success {
            self.failures = 0;
            self.last_success_at = Some(now);
        } else {
            let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
            self.start_at = Instant::now() + doubled.min(LONGEST_PAUSE);
            self.failures += 1;
        }
        let run = EndedRun {
            run_id: running.run_id,
            scheduled_at: None,
            started_at: running.started_at,
            finished_at: now,
            outcome,
        };
        self.totals.run_ended(&run);
        self.last_run = Some(run.clone());
        Some(run)
    }

    /// From when on its last success is too old, if it has a schedule.
    fn overdue_at(&self) -> Option<DateTime<Utc>> {
        match &self.policy.mode {
            MirrorMode::Continuous => None,
            MirrorMode::Scheduled(timetable, _) => {
                let success = self.last_success_at.or(self.totals.last_success_at)?;
                timetable.overdue_at(success)
            }
        }
    }

    fn status(&self) -> PolicyStatus {
        PolicyStatus {
            runs: true,
            is_scheduled: self.timer.is_some(),
            overdue_at: self.overdue_at(),
            next_run_at: self.next,
            last_run: self.last_run.clone(),
            last_success_at: self.last_success_at,
            missed_runs: self.missed,
            running: self
                .running
                .iter()
                .map(|running| running.status(&self.state))
                .collect(),
            mirror: Some(Arc::clone(&self.state)),
            totals: self.totals.clone(),
            ..PolicyStatus::new(&self.policy.name, PolicyKind::Mirror)
        }
    }
}

fn outcome(report: MirrorReport, stopped: bool) -> Outcome {
    let stands = report.partitions.iter().filter_map(|partition| {
        let problem = partition.problem.as_ref()?;
        Some(format!(
            "{}-{}: {problem}",
            partition.topic, partition.partition
        ))
    });
    let problems: Vec<String> = stands.chain(report.warnings).take(10).collect();
    Outcome {
        result: match (stopped, report.status) {
            (true, _) => RunResult::Cancelled,
            (false, Completion::Completed) => RunResult::Success,
            (false, Completion::Incomplete) => RunResult::Incomplete,
        },
        backup_id: None,
        error: (!problems.is_empty()).then(|| problems.join("; ")),
        figures: Figures {
            new_messages: report.records,
            new_bytes: report.bytes,
            partitions: report.partitions.len() as u64,
            ..Figures::default()
        },
    }
}
