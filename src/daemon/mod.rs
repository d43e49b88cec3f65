//! The service: policies on their schedules.
//!
//! ```text
//! files, reload ─ read, check ─> supervisor ─ runs ─> engine
//!                                    └─ Status (watch) ─> http, systemd, metrics
//! ```
//!
//! The supervisor alone owns what runs. Others see snapshots, and send it requests.

mod catalogue;
mod cluster_ids;
mod credentials;
mod drain_watch;
mod drains;
mod durations;
mod ended_run;
mod files;
mod forgetting;
mod history;
mod history_files;
mod job_executor;
mod job_files;
#[cfg(test)]
mod job_tests;
mod jobs;
mod judged;
mod metrics;
#[cfg(test)]
mod metrics_tests;
mod mirrors;
mod observe;
mod progress;
mod protection;
#[cfg(test)]
mod protection_tests;
mod remembered;
mod repositories;
mod run;
mod runs;
mod shares;
mod state;
mod state_file;
mod status;
mod supervisor;
#[cfg(test)]
mod supervisor_tests;
mod systemd;
mod totals;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::api::{Answer, BackupSummary, Problem, ProblemKind};
use crate::engine::expire;
use crate::engine::mirror::MirrorReport;
use crate::engine::{EngineError, Stop, blocking};
use crate::policy::{DaemonConfiguration, Diagnostics};
use crate::quote::quote;
use crate::repository::{Manifest, Repository};

pub use catalogue::Catalogued;
pub use cluster_ids::ClusterIds;
pub use credentials::Credentials;
pub use drain_watch::DrainWatch;
pub use history::{PastRun, RunHistory};
pub use jobs::{Idempotency, Job, JobList, JobState, JobTopic, Submission};
pub use judged::{JudgedPolicy, judged};
pub use metrics::Metrics;
pub use progress::RunProgress;
pub use protection::{PolicyState, Protection, rough};
pub use repositories::{RepositoryState, RepositoryStatus, RetentionStatus};
pub use status::{
    ConfigurationStatus, EndedRun, Expired, Figures, Outcome, PolicyStatus, RunId, RunResult,
    RunState, RunStatus, Status, Work,
};

use catalogue::{Catalogue, PATIENCE};
use files::Files;
use history_files::HistoryFiles;
use job_executor::OrderJob;
use job_files::JobFiles;
use jobs::Jobs;
use mirrors::MirrorJob;
use observe::{Board, Watching};
use remembered::Remembered;
use run::{PolicyJob, TryResult};
use state::StateFile;
use supervisor::{Execute, Request, Supervisor};

/// Calls of the API that are at repositories at once.
const REPOSITORY_CALLS: usize = 8;

fn does_not_answer() -> Problem {
    let message = "the repository's storage is busy, or does not answer: ask again";
    Problem::new(ProblemKind::ServiceUnavailable, message).again_after(10)
}

/// Runs that were told to stop, and in which nothing moves for so long, are left behind.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(Diagnostics),
}

/// What others may see of a daemon: they share it.
#[derive(Clone)]
pub struct DaemonHandle {
    /// What it does.
    pub status: watch::Receiver<Arc<Status>>,
    /// The repositories, when they were last looked at.
    pub repositories: watch::Receiver<Arc<Vec<RepositoryStatus>>>,
    /// What it goes by.
    pub configuration: watch::Receiver<Arc<DaemonConfiguration>>,
    /// What Prometheus scrapes.
    pub metrics: Arc<Metrics>,
    /// What was asked for over HTTP.
    pub jobs: watch::Receiver<JobList>,
    /// Which cluster has which of Kafka's own ids.
    pub cluster_ids: Arc<ClusterIds>,
    catalogue: Arc<Catalogue>,
    /// Threads at repositories for callers: those that hang with a storage take no others' threads.
    repository_turns: Arc<Semaphore>,
    requests: mpsc::Sender<Request>,
}

impl DaemonHandle {
    /// Tells a run to seal what it has and to end; whether there is such a run.
    pub async fn cancel(&self, run_id: RunId) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send(Request::Cancel(run_id, answer)).await;
        asked.is_ok() && answered.await.unwrap_or(false)
    }

    /// Asks for something to be done: the job that does it, which may be one that the same call made before.
    ///
    /// # Errors
    ///
    /// 429 when as many are accepted as may be, 409 when the idempotency key was used for another call, 503 while the daemon stops.
    pub async fn submit(&self, submission: Submission) -> Result<Arc<Job>, Problem> {
        let stopped = || {
            let message = "the daemon is stopping: ask again when it is back";
            Problem::new(ProblemKind::ServiceUnavailable, message).again_after(10)
        };
        let (answer, answered) = oneshot::channel();
        let asked = Request::Submit(Box::new(submission), answer);
        self.requests.send(asked).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// The job when it has ended; none when it was forgotten before.
    pub async fn ended(&self, job_id: RunId) -> Option<Arc<Job>> {
        let mut jobs = self.jobs.clone();
        let is_over = |jobs: &JobList| jobs.get(&job_id).is_none_or(|job| job.state.is_ended());
        let jobs = jobs.wait_for(is_over).await.ok()?;
        jobs.get(&job_id).cloned()
    }

    /// A backup's manifest.
    pub async fn manifest(&self, backup: &BackupSummary) -> Result<Manifest, Problem> {
        let id = backup.backup_id;
        let reading = self.in_repository(backup, move |repository| Ok(repository.manifest(&id)?));
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.unwrap_or_else(|_| Err(does_not_answer()))
    }

    /// Takes a backup away; the bytes that became free.
    ///
    /// # Errors
    ///
    /// 409 when fewer than `min_backups` of its policy would be left, or a restore may need it; 503 while the repository is in use.
    pub async fn delete_backup(&self, backup: &BackupSummary) -> Result<u64, Problem> {
        let id = backup.backup_id;
        let min_backups = self.min_backups(backup.policy.as_deref());
        self.in_repository(backup, move |repository| {
            expire::remove_one(repository, id, min_backups, Utc::now())
        })
        .await
    }

    /// How many of a policy's backups stay in any case.
    fn min_backups(&self, policy: Option<&str>) -> u32 {
        let configuration = self.configuration.borrow();
        let mut policies = configuration.backups.iter();
        let policy = policies.find(|known| Some(known.name.as_str()) == policy);
        policy.map_or(1, |policy| policy.retention.min_backups)
    }

    async fn in_repository<T: Send + 'static>(
        &self,
        backup: &BackupSummary,
        work: impl FnOnce(&Repository) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, Problem> {
        let location = self
            .configuration
            .borrow()
            .repositories
            .get(&backup.repository)
            .cloned();
        let gone = || Problem::not_found("backup_id", backup.backup_id, "there is no such backup");
        let location = location.ok_or_else(gone)?;
        let turn = Arc::clone(&self.repository_turns).acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await;
        let turn = turn.map_err(|_| does_not_answer())?;
        let done = blocking("a thread at a repository", move || {
            // Held until the thread ends, whoever waits for it.
            let _turn = turn;
            location
                .at
                .open_existing()?
                .map(|repository| work(&repository))
                .transpose()
        });
        let done = done.await.map_err(|error| {
            let problem = Problem::of_backup(&error);
            if problem.kind == ProblemKind::InternalError {
                tracing::error!("a repository failed a call: {}", quote(&error));
            }
            problem
        });
        done?.ok_or_else(gone)
    }

    /// What watches the repositories on `board`, of which `remembered` tells the past.
    fn watching(&self, board: Board, remembered: &Remembered) -> Watching {
        Watching {
            board,
            configuration: self.configuration.clone(),
            status: self.status.clone(),
            requests: self.requests.clone(),
            remembered: Arc::new(remembered.repositories.clone()),
        }
    }

    /// The backups that are there now, in all repositories or only in one.
    pub async fn backups(&self, only: Option<&str>) -> Catalogued {
        let configuration = self.configuration.borrow().clone();
        self.catalogue.look(&configuration, only).await
    }
}

/// A daemon that is ready to work.
pub struct Daemon {
    directory: PathBuf,
    configuration: watch::Sender<Arc<DaemonConfiguration>>,
    requests: mpsc::Sender<Request>,
    supervisor: Supervisor<Backups>,
    watching: Watching,
    /// The state file, and what it said.
    state: Option<(StateFile, Remembered)>,
    job_files: Option<JobFiles>,
    history_files: Option<HistoryFiles>,
    files: Files,
    view: DaemonHandle,
}

/// Runs that really back up.
struct Backups {
    cluster_ids: Arc<ClusterIds>,
}

impl Execute for Backups {
    async fn execute(&self, job: PolicyJob) -> TryResult {
        run::run(job, &self.cluster_ids).await
    }

    async fn execute_order(&self, job: OrderJob) -> Result<Answer, Problem> {
        job_executor::execute_order(job, &self.cluster_ids).await
    }

    async fn mirror(&self, job: MirrorJob) -> Result<MirrorReport, EngineError> {
        mirrors::run(job).await
    }
}

impl Daemon {
    /// Reads the configuration in `directory`, and the state file. No repository is asked for anything: [`Daemon::run`]
    /// loads them while it serves. Without a directory for it, no state is kept.
    pub fn prepare(directory: &Path, state: Option<&Path>) -> Result<Self, DaemonError> {
        let files = Files::watch(directory);
        let configuration =
            DaemonConfiguration::load(directory).map_err(DaemonError::Configuration)?;
        state.into_iter().for_each(state_file::close_to_others);
        let job_files = state.map(JobFiles::below);
        let history_files = state.map(HistoryFiles::below);
        let state = state.map(StateFile::below);
        let remembered = state.as_ref().map(StateFile::read).unwrap_or_default();
        let (requests, incoming) = mpsc::channel(16);
        let board = Board::new(&configuration);
        let (status, seen) = watch::channel(Arc::new(Status::starting(Utc::now())));
        let wall = Arc::new(Utc::now);
        let told = watch::Sender::default();
        let jobs = told.subscribe();
        let known = job_files.as_ref().map(|files| files.read(Utc::now()));
        let accepted = Jobs::new(known.unwrap_or_default(), told);
        let cluster_ids = Arc::new(ClusterIds::default());
        let backups = Backups {
            cluster_ids: Arc::clone(&cluster_ids),
        };
        let mut supervisor = Supervisor::new(backups, wall, incoming, status, accepted);
        if let Some(period) = systemd::watchdog() {
            supervisor.look_every(period / 3);
        }
        supervisor.wait_for(configuration.repositories.keys().cloned().collect());
        supervisor.remember(
            history_files
                .as_ref()
                .map(HistoryFiles::read)
                .unwrap_or_default(),
        );
        supervisor.begin(configuration.clone(), &remembered);
        let configuration = watch::Sender::new(Arc::new(configuration));
        let view = DaemonHandle {
            status: seen,
            repositories: board.subscribe(),
            configuration: configuration.subscribe(),
            metrics: Arc::default(),
            jobs,
            cluster_ids,
            catalogue: Arc::default(),
            repository_turns: Arc::new(Semaphore::new(REPOSITORY_CALLS)),
            requests: requests.clone(),
        };
        let watching = view.watching(board, &remembered);
        let state = state.map(|file| (file, remembered));
        Ok(Self {
            directory: directory.to_owned(),
            configuration,
            requests,
            supervisor,
            watching,
            state,
            job_files,
            history_files,
            files,
            view,
        })
    }

    /// What others may see of it.
    pub fn view(&self) -> DaemonHandle {
        self.view.clone()
    }

    /// Works until it is told to stop, and reads the files again at each `reload`. The port serves already, so systemd is told
    /// that it is ready; what needs the repositories begins when each of them is loaded.
    pub async fn run(mut self, told: &Stop, reload_asked: &Notify) {
        systemd::ready(&self.view.status.borrow());
        let supervising = tokio::spawn(self.supervisor.supervise());
        let reporting = tokio::spawn(systemd::report(self.view.status.clone()));
        let keeping = self.state.map(|(file, read)| {
            let (status, board) = (self.view.status.clone(), self.view.repositories.clone());
            tokio::spawn(file.follow(read, status, board))
        });
        let filing = self
            .job_files
            .map(|files| tokio::spawn(files.follow(self.view.jobs.clone())));
        let histories = self
            .history_files
            .map(|files| tokio::spawn(files.follow(self.view.status.clone())));
        let watching = tokio::spawn(self.watching.watch());
        loop {
            tokio::select! {
                () = told.cancelled() => break,
                () = reload_asked.notified() => {
                    tracing::info!("told to reload");
                    self.files.look().await;
                    systemd::reloading();
                    reload(&self.directory, &self.configuration, &self.requests).await;
                    systemd::ready(&self.view.status.borrow());
                }
                () = self.files.changed() => {
                    reload(&self.directory, &self.configuration, &self.requests).await;
                }
            }
        }
        tracing::info!("stopping");
        systemd::stopping();
        stop(&self.requests, &self.view).await;
        watching.abort();
        reporting.abort();
        supervising.abort();
        // With the supervisor its status ends, and with the status what keeps it.
        supervising.await.ok();
        for keeping in keeping.into_iter().chain(filing).chain(histories) {
            keeping.await.ok();
        }
        systemd::all_told().await;
    }
}

/// Lets runs seal what they have for as long as they move, and names those that do not end.
async fn stop(requests: &mpsc::Sender<Request>, view: &DaemonHandle) {
    let (stopped, mut wait) = oneshot::channel();
    if requests.send(Request::Stop(stopped)).await.is_err() {
        return;
    }
    let marks = || -> Vec<_> {
        let status = view.status.borrow();
        let runs = status.policies.iter().flat_map(|policy| {
            let moved = policy.mirror.as_ref().map(|mirror| mirror.moved());
            policy
                .running
                .iter()
                .map(move |run| (run.run_id, run.progress.mark(), moved))
        });
        let jobs = view.jobs.borrow();
        let jobs = jobs.values().filter(|job| !job.state.is_ended());
        runs.chain(jobs.map(|job| (job.job_id, job.progress.mark(), None)))
            .collect()
    };
    let (mut marked, mut moved_at) = (marks(), Instant::now());
    while tokio::time::timeout(Duration::from_secs(1), &mut wait)
        .await
        .is_err()
    {
        let now = marks();
        if now != marked {
            systemd::still_stopping(STOP_WITHIN);
            (marked, moved_at) = (now, Instant::now());
        } else if moved_at.elapsed() >= STOP_WITHIN {
            let status = Arc::clone(&view.status.borrow());
            for policy in status
                .policies
                .iter()
                .filter(|policy| !policy.running.is_empty())
            {
                let policy = &policy.policy;
                tracing::error!(%policy, "policy {policy}: its run does not stop, and is left behind; the next one takes over what it sealed");
            }
            for job in view
                .jobs
                .borrow()
                .values()
                .filter(|job| !job.state.is_ended())
            {
                let job_id = job.job_id;
                tracing::error!(%job_id, "job {job_id}: it does not stop, and is left behind");
            }
            return;
        }
    }
}

/// Reads the files anew; a configuration that is wrong changes nothing.
async fn reload(
    directory: &Path,
    configuration: &watch::Sender<Arc<DaemonConfiguration>>,
    requests: &mpsc::Sender<Request>,
) {
    let directory = directory.to_owned();
    let reading = blocking("the thread that reads the configuration", move || {
        Ok::<_, EngineError>(DaemonConfiguration::load(&directory))
    });
    let read = match reading.await {
        Ok(read) => read,
        Err(error) => return tracing::error!("{error}; the configuration in force stays"),
    };
    match &read {
        Ok(read) => {
            configuration.send_replace(Arc::new(read.clone()));
            tracing::info!("configuration loaded: {} policies", read.policies());
        }
        Err(diagnostics) => tracing::error!(
            "the configuration is wrong, and the one in force stays:\n{diagnostics}"
        ),
    }
    // The supervisor ends after this loop does.
    requests
        .send(Request::Configuration(read.map(Box::new)))
        .await
        .ok();
}
