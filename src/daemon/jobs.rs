//! What was asked for over HTTP: the orders that were accepted, and what became of them.
//!
//! The supervisor owns them and runs them beside the policies' runs. Everybody else sees snapshots.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;

use crate::api::{Answer, LISTED_TOPICS, Order, OrderKind, Problem, ProblemKind};
use crate::auth::Identity;
use crate::policy::Limits;
use crate::words::words;

use super::ended_run::RunId;
use super::forgetting::{EndedJob, next_to_forget};
use super::progress::RunProgress;
use super::shares::JobLimit;

words! {
    /// Where a job stands.
    pub enum JobState {
        /// For a place among those that may run at once.
        Waiting = "waiting",
        /// It works.
        Running = "running",
        /// It was told to stop, and seals what it has.
        Stopping = "stopping",
        /// It is done; there is a result.
        Completed = "completed",
        /// It is done as far as it could be; the result tells what is missing.
        Incomplete = "incomplete",
        /// It could not be done; there is an error.
        Failed = "failed",
        /// It was cancelled.
        Cancelled = "cancelled",
    }
}

impl JobState {
    /// Whether nothing more will happen.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Waiting | Self::Running | Self::Stopping => false,
            Self::Completed | Self::Incomplete | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// One job at one moment. Its progress alone is as fresh as the moment of asking.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub job_id: RunId,
    /// What it does.
    pub kind: OrderKind,
    /// Where it stands.
    pub state: JobState,
    /// For what it waits.
    pub waiting_for: Option<String>,
    /// Who asked for it.
    pub identity: Identity,
    /// The cluster that it is about: of a migration the target.
    pub cluster: String,
    /// The topics that it touches, with their clusters; of what was refused only the first.
    pub topics: Vec<JobTopic>,
    /// How many topics it touches.
    pub topics_count: usize,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it began to work.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How far it is.
    pub progress: Arc<RunProgress>,
    /// What it came to, as JSON.
    pub result: Option<Arc<RawValue>>,
    /// Why it failed.
    pub error: Option<Problem>,
    /// The key under which the same call gives the same job.
    pub idempotency: Option<Idempotency>,
}

/// A topic of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobTopic {
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// The topic.
    pub topic: String,
}

/// What makes two calls the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    /// The key that the client chose.
    pub key: String,
    /// A digest of what was asked for with it.
    pub digest: String,
}

impl Job {
    /// The key by which the one who asked for it finds it again.
    fn known_as(&self) -> Option<(Identity, String)> {
        let idempotency = self.idempotency.as_ref()?;
        Some((self.identity.clone(), idempotency.key.clone()))
    }

    /// The topic that it writes to, as long as it may.
    fn target(&self) -> Option<(&str, &str)> {
        let may_write = self.kind.writes() && !self.state.is_ended();
        let last = self.topics.last().filter(|_| may_write)?;
        Some((&last.cluster, &last.topic))
    }

    /// Whether its failure may pass: then the same call runs again instead of being answered by it.
    fn may_pass(&self) -> bool {
        let passes =
            |kind: ProblemKind| kind == ProblemKind::TooManyRequests || kind.status() >= 500;
        self.state == JobState::Failed
            && self
                .error
                .as_ref()
                .is_none_or(|problem| passes(problem.kind))
    }

    /// Bytes that are kept of it, about.
    pub(super) fn size(&self) -> usize {
        let topics = self.topics.iter();
        let topics = topics.map(|of| size_of::<JobTopic>() + of.cluster.len() + of.topic.len());
        let result = self.result.as_ref().map_or(0, |result| result.get().len());
        let error = self.error.as_ref().map_or(0, |error| error.message.len());
        size_of::<Self>() + topics.sum::<usize>() + result + error
    }
}

/// A job that is to be accepted.
#[derive(Debug)]
pub struct Submission {
    /// What is to be done.
    pub order: Order,
    /// Who asks.
    pub identity: Identity,
    /// The key that the client chose.
    pub idempotency: Option<Idempotency>,
}

/// All jobs, by name: the newest are the last.
pub type JobList = Arc<BTreeMap<RunId, Arc<Job>>>;

/// The jobs that run, and those that are remembered.
pub(super) struct Jobs {
    all: BTreeMap<RunId, Arc<Job>>,
    keys: HashMap<(Identity, String), RunId>,
    told: watch::Sender<JobList>,
}

impl Jobs {
    /// With those that ended before the daemon started.
    pub fn new(remembered: Vec<Job>, told: watch::Sender<JobList>) -> Self {
        let mut jobs = Self {
            all: BTreeMap::new(),
            keys: HashMap::new(),
            told,
        };
        for job in remembered {
            jobs.put(job);
        }
        jobs.forget_old();
        jobs.tell();
        jobs
    }

    /// The job that the same call was answered with before.
    ///
    /// # Errors
    ///
    /// 409 when the key was used for another call.
    pub fn same(&self, submission: &Submission) -> Result<Option<Arc<Job>>, Problem> {
        let Some(idempotency) = &submission.idempotency else {
            return Ok(None);
        };
        let key = (submission.identity.clone(), idempotency.key.clone());
        let job = self.keys.get(&key).and_then(|id| self.all.get(id));
        match job {
            Some(job) if job.idempotency.as_ref() == Some(idempotency) => Ok(Some(Arc::clone(job))),
            Some(job) => Err(Problem::of_field(
                ProblemKind::Conflict,
                "Idempotency-Key",
                &idempotency.key,
                format!(
                    "this key was used for another call, which is job {}",
                    job.job_id
                ),
            )),
            None => Ok(None),
        }
    }

    /// Whether no other job writes to the topic that this one would write to.
    ///
    /// # Errors
    ///
    /// 409 with that job's id.
    pub fn has_target_for(&self, order: &Order) -> Result<(), Problem> {
        let Some(target) = order.target() else {
            return Ok(());
        };
        let mut jobs = self.all.values();
        match jobs.find(|job| job.target() == Some(target)) {
            Some(job) => Err(Problem::of_field(
                ProblemKind::Conflict,
                "target_topic",
                target.1,
                format!(
                    "job {} writes to this topic: wait until it has ended, or cancel it",
                    job.job_id
                ),
            )),
            None => Ok(()),
        }
    }

    /// Whether another one may be accepted: within the limit of its kind, or beyond it for who has none.
    ///
    /// # Errors
    ///
    /// 429 when there are as many as may be.
    pub fn has_room_for(&self, submission: &Submission, limits: &Limits) -> Result<(), Problem> {
        let order = &submission.order;
        let bound = JobLimit::accepted(order.kind(), limits);
        let alive = self.all.values().filter(|job| {
            !job.state.is_ended() && job.kind == order.kind() && bound.counts(order, &job.cluster)
        });
        let count = alive.clone().count();
        let mut owners = alive.map(|job| &job.identity);
        let is_newcomer = !owners.any(|owner| *owner == submission.identity);
        if count < bound.limit || (is_newcomer && count < bound.with_newcomers()) {
            return Ok(());
        }
        let of = match order.kind() {
            OrderKind::Backup => "backups of this cluster",
            OrderKind::Restore => "restores into this cluster",
            OrderKind::Migrate => "migrations",
            OrderKind::Drain => "drains",
            OrderKind::Validate => "validations",
        };
        let message = format!(
            "there are {count} {of} already, and no more than {} are accepted: try again when one has ended",
            bound.limit
        );
        Err(Problem::new(ProblemKind::TooManyRequests, message).again_after(5))
    }

    /// Takes one in.
    pub fn accept(
        &mut self,
        job_id: RunId,
        submission: &Submission,
        progress: Arc<RunProgress>,
        now: DateTime<Utc>,
    ) -> Arc<Job> {
        let order = &submission.order;
        let topics = order
            .touches()
            .into_iter()
            .map(|(cluster, topic)| JobTopic {
                cluster: cluster.to_owned(),
                topic: topic.to_owned(),
            });
        let topics: Vec<JobTopic> = topics.collect();
        let job = Job {
            job_id,
            kind: order.kind(),
            state: JobState::Waiting,
            waiting_for: None,
            identity: submission.identity.clone(),
            cluster: order.cluster().to_owned(),
            topics_count: topics.len(),
            topics,
            created_at: now,
            started_at: None,
            finished_at: None,
            progress,
            result: None,
            error: None,
            idempotency: submission.idempotency.clone(),
        };
        let job = self.put(job);
        self.forget_old();
        self.tell();
        job
    }

    /// Changes what is known of one.
    fn change(&mut self, job_id: RunId, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.all.get_mut(&job_id) {
            change(Arc::make_mut(job));
            self.forget_old();
            self.tell();
        }
    }

    /// It works now.
    pub fn began(&mut self, job_id: RunId, now: DateTime<Utc>) {
        self.change(job_id, |job| {
            job.state = JobState::Running;
            job.waiting_for = None;
            job.started_at = Some(now);
        });
    }

    /// It has no place yet.
    pub fn waits(&mut self, job_id: RunId, waiting_for: &str) {
        let known = self
            .all
            .get(&job_id)
            .and_then(|job| job.waiting_for.as_deref());
        if known != Some(waiting_for) {
            self.change(job_id, |job| job.waiting_for = Some(waiting_for.to_owned()));
        }
    }

    /// It was told to stop.
    pub fn stops(&mut self, job_id: RunId) {
        self.change(job_id, |job| {
            if !job.state.is_ended() {
                job.state = JobState::Stopping;
            }
        });
    }

    /// It ended.
    pub fn ended(
        &mut self,
        job_id: RunId,
        state: JobState,
        outcome: Result<Answer, Problem>,
        now: DateTime<Utc>,
    ) {
        self.change(job_id, |job| {
            job.state = state;
            job.waiting_for = None;
            job.finished_at = Some(now);
            match outcome.map(|answer| serde_json::value::to_raw_value(&answer)) {
                Ok(Ok(result)) => job.result = Some(Arc::from(result)),
                Ok(Err(error)) => {
                    tracing::error!("the result of job {job_id} cannot be told; this is a bug in kafkeep: {error}");
                    job.error = Some(Problem::internal());
                }
                Err(problem) => {
                    // What was refused as it stands did nothing, and little is kept of it.
                    if [400, 404].contains(&problem.kind.status()) {
                        job.topics.truncate(LISTED_TOPICS);
                        job.topics.shrink_to_fit();
                    }
                    job.error = Some(problem);
                }
            }
        });
        if self.all.get(&job_id).is_some_and(|job| job.may_pass()) {
            self.forget_key(job_id);
        }
    }

    /// The same call is no longer answered by it.
    pub fn forget_key(&mut self, job_id: RunId) {
        let key = self.all.get(&job_id).and_then(|job| job.known_as());
        if let Some(key) = key {
            self.keys.remove(&key);
            self.change(job_id, |job| job.idempotency = None);
        }
    }

    fn put(&mut self, mut job: Job) -> Arc<Job> {
        if job.may_pass() {
            job.idempotency = None;
        }
        let job = Arc::new(job);
        if let Some(key) = job.known_as() {
            self.keys.insert(key, job.job_id);
        }
        self.all.insert(job.job_id, Arc::clone(&job));
        job
    }

    fn ended_jobs(&self) -> impl Iterator<Item = EndedJob<'_>> + Clone {
        let ended = self.all.values().filter(|job| job.state.is_ended());
        ended.map(|job| EndedJob {
            job_id: job.job_id,
            identity: &job.identity,
            finished_at: job.finished_at,
            size: job.size(),
        })
    }

    fn forget_old(&mut self) {
        while let Some(job_id) = next_to_forget(self.ended_jobs()) {
            if let Some(key) = self.all.remove(&job_id).and_then(|job| job.known_as()) {
                self.keys.remove(&key);
            }
        }
    }

    fn tell(&self) {
        self.told.send_replace(Arc::new(self.all.clone()));
    }
}
