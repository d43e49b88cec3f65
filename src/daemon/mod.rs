//! The service: policies on their schedules.
//!
//! ```text
//! files, SIGHUP ─ read, check ─> supervisor ─ runs ─> engine
//!                                    └─ Status (watch) ─> http, systemd; metrics
//! ```
//!
//! The supervisor alone owns what runs. Others see snapshots, and send it requests.

mod files;
mod metrics;
mod remembered;
mod run;
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

use crate::policy::{DaemonConfiguration, Diagnostics};

pub use metrics::Metrics;
pub use status::{
    ConfigurationStatus, EndedRun, Figures, Outcome, PolicyStatus, RunResult, RunStatus, Status,
};

use files::Files;
use run::Job;
use supervisor::{Execute, Request, Supervisor};

/// Repositories are measured so often; runs change them meanwhile.
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// What waits for runs that are told to stop.
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
    /// What Prometheus scrapes.
    pub metrics: Arc<Metrics>,
}

/// A daemon that is ready to work.
pub struct Daemon {
    directory: PathBuf,
    configuration: watch::Sender<DaemonConfiguration>,
    requests: mpsc::Sender<Request>,
    supervisor: Supervisor<Backups>,
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
    async fn execute(&self, job: Job) -> Outcome {
        run::run(job).await
    }
}

impl Daemon {
    /// Reads the configuration in `directory`, and what the repositories tell of the past.
    pub fn prepare(directory: &Path) -> Result<Self, DaemonError> {
        let system =
            |action: &'static str| move |source: io::Error| DaemonError::System { action, source };
        let hear = |kind: SignalKind| signal(kind).map_err(system("hear signals"));
        let signals = Signals {
            hangup: hear(SignalKind::hangup())?,
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
        };
        let files = Files::watch(directory);
        let configuration =
            DaemonConfiguration::load(directory).map_err(DaemonError::Configuration)?;
        let metrics = Arc::new(Metrics::new().ok_or(DaemonError::Metrics)?);
        let (requests, incoming) = mpsc::channel(16);
        let (status, seen) = watch::channel(Arc::new(Status::starting(Utc::now())));
        let wall = Arc::new(Utc::now);
        let mut supervisor = Supervisor::new(Backups, wall, incoming, status, Arc::clone(&metrics));
        supervisor.begin(
            configuration.clone(),
            &remembered::remembered(&configuration),
        );
        remembered::measure(&configuration, &metrics);
        Ok(Self {
            directory: directory.to_owned(),
            configuration: watch::Sender::new(configuration),
            requests,
            supervisor,
            files,
            signals,
            view: View {
                status: seen,
                metrics,
            },
        })
    }

    /// What others may see of it.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The configuration in force at the start.
    pub fn configuration(&self) -> DaemonConfiguration {
        self.configuration.borrow().clone()
    }

    /// Works until a signal ends it. Everything else of the process serves already: systemd is told so.
    pub async fn run(mut self) {
        systemd::ready(&self.view.status.borrow());
        let supervising = tokio::spawn(self.supervisor.supervise());
        let reporting = tokio::spawn(systemd::report(self.view.status.clone()));
        let measuring = tokio::spawn(measure(
            self.configuration.subscribe(),
            self.view.status.clone(),
            Arc::clone(&self.view.metrics),
        ));
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
        let (stopped, wait) = oneshot::channel();
        if self.requests.send(Request::Stop(stopped)).await.is_ok()
            && tokio::time::timeout(STOP_WITHIN, wait).await.is_err()
        {
            tracing::error!(
                "some runs do not stop; what they sealed is taken over by the next run"
            );
        }
        measuring.abort();
        reporting.abort();
        supervising.abort();
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
            tracing::info!(policies = read.backups.len(), "configuration loaded");
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

/// Measures the repositories now and then, and after each run.
async fn measure(
    mut configuration: watch::Receiver<DaemonConfiguration>,
    status: watch::Receiver<Arc<Status>>,
    metrics: Arc<Metrics>,
) {
    let ended = |status: &Status| -> Vec<_> {
        let policies = status.policies.iter();
        policies
            .map(|policy| policy.last_run.as_ref().map(|run| run.finished_at))
            .collect()
    };
    let mut known = ended(&status.borrow());
    let mut seen = status;
    loop {
        let changed = async {
            while seen.changed().await.is_ok() {
                let now = ended(&seen.borrow_and_update());
                if now != known {
                    known = now;
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = changed => {}
            _ = configuration.changed() => {}
            () = tokio::time::sleep(MEASURE_EVERY) => {}
        }
        let (configuration, metrics) = (
            configuration.borrow_and_update().clone(),
            Arc::clone(&metrics),
        );
        // Its failures are logged where they happen.
        tokio::task::spawn_blocking(move || remembered::measure(&configuration, &metrics))
            .await
            .ok();
    }
}
