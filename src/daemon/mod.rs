//! The service: policies on their schedules.
//!
//! ```text
//! files, SIGHUP ─ read, check ─> supervisor ─ runs ─> engine
//!                                    └─ Status (watch) ─> http, systemd; metrics
//! ```
//!
//! The supervisor alone owns what runs. Others see snapshots, and send it requests.

mod drains;
mod files;
mod metrics;
mod mirrors;
mod progress;
mod repositories;
mod run;
mod runs;
mod state;
mod status;
mod supervisor;
#[cfg(test)]
mod supervisor_tests;
mod systemd;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::engine::EngineError;
use crate::engine::mirror::MirrorReport;
use crate::policy::{DaemonConfiguration, Diagnostics};

pub use drains::DrainWatch;
pub use metrics::Metrics;
pub use progress::RunProgress;
pub use repositories::{RepositoryStatus, RetentionStatus};
pub use status::{
    ConfigurationStatus, EndedRun, Expired, Figures, Outcome, PolicyStatus, RunId, RunResult,
    RunState, RunStatus, Status, Work,
};

use files::Files;
use mirrors::MirrorJob;
use repositories::Observer;
use run::{Job, Tried};
use state::StateFile;
use supervisor::{Execute, Request, Supervisor};

/// Repositories are looked at so often, besides after each run.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Runs that were told to stop, and in which nothing moves for so long, are left behind.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(Diagnostics),
    /// The system keeps something back that the daemon cannot be without.
    #[error("cannot {action}: {source}")]
    System {
        /// What.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The metrics contradict each other.
    #[error("the metrics cannot be registered; this is a bug in kafkeep")]
    Metrics,
}

/// What others may see of a daemon: they share it.
#[derive(Clone)]
pub struct View {
    /// What it does.
    pub status: watch::Receiver<Arc<Status>>,
    /// The repositories, when they were last looked at.
    pub repositories: watch::Receiver<Arc<Vec<RepositoryStatus>>>,
    /// What it goes by.
    pub configuration: watch::Receiver<DaemonConfiguration>,
    /// What Prometheus scrapes.
    pub metrics: Arc<Metrics>,
    requests: mpsc::Sender<Request>,
}

impl View {
    /// Tells a run to seal what it has and to end; whether there is such a run.
    pub async fn cancel(&self, run_id: RunId) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = self.requests.send(Request::Cancel(run_id, answer)).await;
        asked.is_ok() && answered.await.unwrap_or(false)
    }
}

/// A daemon that is ready to work.
pub struct Daemon {
    directory: PathBuf,
    configuration: watch::Sender<DaemonConfiguration>,
    requests: mpsc::Sender<Request>,
    supervisor: Supervisor<Backups>,
    observer: Observer,
    repositories: watch::Sender<Arc<Vec<RepositoryStatus>>>,
    state: Option<StateFile>,
    files: Files,
    signals: Signals,
    view: View,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Runs that really back up.
struct Backups;

impl Execute for Backups {
    async fn execute(&self, job: Job) -> Tried {
        run::run(job).await
    }

    async fn mirror(&self, job: MirrorJob) -> Result<MirrorReport, EngineError> {
        mirrors::run(job).await
    }
}

impl Daemon {
    /// Reads the configuration in `directory`, and what the repositories and the state file tell of the past. Without a
    /// directory for it, no state is kept.
    pub fn prepare(directory: &Path, state: Option<&Path>) -> Result<Self, DaemonError> {
        let signals = Signals::hear().map_err(|source| DaemonError::System {
            action: "hear signals",
            source,
        })?;
        let files = Files::watch(directory);
        let configuration =
            DaemonConfiguration::load(directory).map_err(DaemonError::Configuration)?;
        let state = state.map(StateFile::below);
        let mut remembered = state.as_ref().map(StateFile::read).unwrap_or_default();
        repositories::remember(&configuration, &mut remembered);
        let metrics = Arc::new(Metrics::new().ok_or(DaemonError::Metrics)?);
        let (requests, incoming) = mpsc::channel(16);
        let (status, seen) = watch::channel(Arc::new(Status::starting(Utc::now())));
        let wall = Arc::new(Utc::now);
        let mut supervisor = Supervisor::new(Backups, wall, incoming, status, Arc::clone(&metrics));
        if let Some(period) = systemd::watchdog() {
            supervisor.look_every(period / 3);
        }
        supervisor.begin(configuration.clone(), &remembered);
        let mut observer = Observer::default();
        let repositories = watch::Sender::default();
        observer.look(&configuration, &metrics, &repositories);
        let configuration = watch::Sender::new(configuration);
        let view = View {
            status: seen,
            repositories: repositories.subscribe(),
            configuration: configuration.subscribe(),
            metrics,
            requests: requests.clone(),
        };
        Ok(Self {
            directory: directory.to_owned(),
            configuration,
            requests,
            supervisor,
            observer,
            repositories,
            state,
            files,
            signals,
            view,
        })
    }

    /// What others may see of it.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Works until a signal ends it. Everything else of the process serves already: systemd is told so.
    pub async fn run(mut self) {
        systemd::ready(&self.view.status.borrow());
        let supervising = tokio::spawn(self.supervisor.supervise());
        let reporting = tokio::spawn(systemd::report(self.view.status.clone()));
        let keeping = self
            .state
            .map(|state| tokio::spawn(state.follow(self.view.status.clone())));
        let looking = tokio::spawn(look(self.observer, self.repositories, self.view.clone()));
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.hangup.recv() => {
                    tracing::info!("told to reload");
                    self.files.look();
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
        looking.abort();
        reporting.abort();
        supervising.abort();
        // With the supervisor its status ends, and with the status what keeps it.
        supervising.await.ok();
        if let Some(keeping) = keeping {
            keeping.await.ok();
        }
        systemd::all_told().await;
    }
}

impl Signals {
    fn hear() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Lets runs seal what they have for as long as they move, and names those that do not end.
async fn stop(requests: &mpsc::Sender<Request>, view: &View) {
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
        runs.collect()
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
            return;
        }
    }
}

/// Reads the files anew; a configuration that is wrong changes nothing.
async fn reload(
    directory: &Path,
    configuration: &watch::Sender<DaemonConfiguration>,
    requests: &mpsc::Sender<Request>,
) {
    let read = DaemonConfiguration::load(directory);
    match &read {
        Ok(read) => {
            configuration.send_replace(read.clone());
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

/// Looks at the repositories now and then, and after each run.
async fn look(
    mut observer: Observer,
    told: watch::Sender<Arc<Vec<RepositoryStatus>>>,
    mut view: View,
) {
    let ended = |status: &Status| -> Vec<_> {
        let policies = status.policies.iter();
        policies
            .map(|policy| {
                let run = policy.last_run.as_ref().map(|run| run.finished_at);
                (
                    run,
                    policy
                        .last_expire
                        .as_ref()
                        .map(|expired| expired.finished_at),
                )
            })
            .collect()
    };
    let mut known = ended(&view.status.borrow());
    loop {
        let changed = async {
            while view.status.changed().await.is_ok() {
                let now = ended(&view.status.borrow_and_update());
                if now != known {
                    known = now;
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = changed => {}
            _ = view.configuration.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let configuration = view.configuration.borrow_and_update().clone();
        let (metrics, teller) = (Arc::clone(&view.metrics), told.clone());
        let looked = tokio::task::spawn_blocking(move || {
            observer.look(&configuration, &metrics, &teller);
            observer
        });
        match looked.await {
            Ok(looked) => observer = looked,
            Err(error) => {
                tracing::error!(
                    "looking at the repositories failed; this is a bug in kafkeep: {error}"
                );
                observer = Observer::default();
            }
        }
    }
}
