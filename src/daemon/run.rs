//! One try of one run: back up, then verify; or expire.

use std::sync::Arc;

use chrono::Utc;
use tracing::Instrument;

use super::work::PolicyWork;
use crate::engine::backup::{BackupOptions, BackupReport, SpaceLimit, backup};
use crate::engine::backup_filter::{BackupFilter, Configured};
use crate::engine::expire::{self, ExpireOptions};
use crate::engine::size::Size;
use crate::engine::verify::{Depth, VerifyOptions, verify};
use crate::engine::watchdog::watched;
use crate::engine::{EngineError, Progress, Stop, blocking};
use crate::kafka::{Client, Cluster, Retry};
use crate::memory::MemoryBudget;
use crate::policy::{BackupPolicy, RepositoryLocation, Verification};
use crate::quote::quote;
use crate::repository::{Completion, Gap, Repository};

use super::cluster_ids::ClusterIds;
use super::progress::RunProgress;
use crate::api::{Answer, Problem};

use super::status::{Expired, Figures, Outcome, RunId, RunResult};

/// What a run needs to know; it does not change while it runs.
#[derive(Debug, Clone)]
pub(super) struct PolicyJob {
    pub run_id: RunId,
    pub work: PolicyWork,
    pub policy: Arc<BackupPolicy>,
    pub cluster: Cluster,
    pub repository: RepositoryLocation,
    /// The memory for record batches of all runs.
    pub memory: MemoryBudget,
    /// What its backup may add to the repository at most.
    pub max_backup_size: Option<Size>,
    pub progress: Arc<RunProgress>,
    pub stop: Stop,
}

/// What a try came to.
#[derive(Debug, Clone)]
pub(super) enum TryResult {
    /// There is a backup.
    BackedUp(Outcome),
    /// The retention was applied.
    Expired(Expired),
    /// It failed in passing: another try may succeed.
    Again(String),
    /// It failed, and will again.
    Failed(String),
    /// It was told to stop.
    Stopped,
    /// What somebody asked for was done, or why not.
    Answered(Box<Result<Answer, Problem>>),
}

impl From<EngineError> for TryResult {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Stopped => Self::Stopped,
            error if error.is_transient() => Self::Again(quote(error)),
            error => Self::Failed(quote(error)),
        }
    }
}

/// Tries once. What it logs carries the policy's name and the run's.
pub(super) async fn run(job: PolicyJob, cluster_ids: &ClusterIds) -> TryResult {
    let span = tracing::info_span!("run", policy = %job.policy.name, run_id = %job.run_id);
    let tried = async {
        match job.work {
            PolicyWork::Backup => back_up(&job, cluster_ids).await.map(TryResult::BackedUp),
            PolicyWork::Expire => apply_retention(&job).await.map(TryResult::Expired),
        }
    };
    tried.instrument(span).await.unwrap_or_else(TryResult::from)
}

async fn back_up(job: &PolicyJob, cluster_ids: &ClusterIds) -> Result<Outcome, EngineError> {
    let policy = &job.policy;
    let retry = Retry {
        deadline: policy.deadline,
        ..Retry::default()
    };
    let (repository, room) = open_with_room(&job.repository, job.max_backup_size).await?;
    let client = Client::connect(job.cluster.clone(), retry).await?;
    cluster_ids.learn(&policy.cluster, &job.cluster, client.cluster_id());
    let options = BackupOptions {
        memory: job.memory.clone(),
        room,
        stop: job.stop.clone(),
        ..policy.options()
    };
    let progress = Arc::clone(&job.progress);
    let report = backup(&client, Arc::clone(&repository), &options, progress).await?;
    let job = job.clone();
    let (deadline, memory) = (job.policy.deadline, job.memory.clone());
    let told: Arc<dyn Progress> = job.progress.clone();
    let verifying = watched(
        deadline,
        &memory,
        told,
        "the verifying thread",
        move |told| Ok(verified(&job, &repository, report, told)),
    );
    verifying.await
}

/// Opens the repository that a backup goes to, or makes it, and says how much the backup may add.
pub(super) async fn open_with_room(
    location: &RepositoryLocation,
    max_backup_size: Option<Size>,
) -> Result<(Arc<Repository>, Option<SpaceLimit>), EngineError> {
    let location = location.clone();
    blocking("the thread that opens the repository", move || {
        let repository = Arc::new(location.at.open_or_init()?);
        let room = room(max_backup_size, &location, &repository)?;
        Ok::<_, EngineError>((repository, room))
    })
    .await
}

/// How much a backup may add: the least of what `max_backup_size`, `max_size` and `min_free` leave; none without any of them.
fn room(
    max_backup_size: Option<Size>,
    location: &RepositoryLocation,
    repository: &Repository,
) -> Result<Option<SpaceLimit>, EngineError> {
    let mut rooms = Vec::new();
    if let Some(limit) = max_backup_size {
        rooms.push((limit.0, format!("max_backup_size is {limit}")));
    }
    if let Some(limit) = location.max_size {
        let size = Size(repository.usage()?.bytes);
        let bound = format!("{} takes {size} of max_size, {limit}", location.at);
        rooms.push((limit.0.saturating_sub(size.0), bound));
    }
    if let (Some(limit), Some(free)) = (location.min_free, repository.free_bytes()?) {
        let bound = format!(
            "{} are free, of which min_free, {limit}, stay free",
            Size(free)
        );
        rooms.push((free.saturating_sub(limit.0), bound));
    }
    let least = rooms.into_iter().min();
    Ok(least.map(|(bytes, bound)| SpaceLimit { bytes, bound }))
}

/// Verifies what was backed up. The backup is there whatever is found.
fn verified(
    job: &PolicyJob,
    repository: &Repository,
    report: BackupReport,
    progress: &dyn Progress,
) -> Outcome {
    let mut outcome = outcome(&report);
    let warnings = report.warnings.iter();
    let mut problems: Vec<String> = warnings.map(ToString::to_string).collect();
    let depth = match job.policy.verify {
        Verification::Off => None,
        Verification::Quick => Some(Depth::Quick),
        Verification::Full => Some(Depth::Full),
    };
    if let Some(depth) = depth {
        job.progress.verifies(true);
        let options = VerifyOptions {
            backups: vec![report.backup_id],
            depth,
            memory: job.memory.clone(),
            stop: job.stop.clone(),
        };
        match verify(repository, &options, progress) {
            Ok(verified) => {
                outcome.figures.verify_findings = Some(verified.findings.len() as u64);
                if !verified.findings.is_empty() {
                    outcome.result = RunResult::Incomplete;
                }
                let found = verified.findings.into_iter();
                let found = found.map(|finding| finding.problem.to_string());
                problems.extend(found.take(10));
            }
            Err(EngineError::Stopped) => {
                problems.push("it was told to stop before it was verified".to_owned());
            }
            Err(error) => problems.push(format!("it could not be verified: {error}")),
        }
    }
    if !problems.is_empty() {
        outcome.error = Some(quote(problems.join("; ")));
    }
    outcome
}

/// Takes away what the policy does not keep; the cluster is not asked.
async fn apply_retention(job: &PolicyJob) -> Result<Expired, EngineError> {
    let job = job.clone();
    blocking("the expiring thread", move || {
        let mut expired = Expired::default();
        if let Some(repository) = job.repository.at.open_existing()? {
            let options = ExpireOptions {
                retention: job.policy.retention.clone(),
                filter: BackupFilter {
                    policy: Some(job.policy.name.clone()),
                    ..BackupFilter::default()
                },
                configured: Configured {
                    policies: [job.policy.name.clone()].into(),
                    ..Configured::default()
                },
                ..ExpireOptions::default()
            };
            let now = Utc::now().with_timezone(&job.policy.time_zone);
            let plan = expire::apply(&repository, &options, &now)?;
            for warning in &plan.warnings {
                tracing::warn!("{warning}");
            }
            expired.removed_backups = plan.removed_backups;
            expired.freed_bytes = plan.freed_bytes;
        }
        expired.finished_at = Utc::now();
        Ok::<_, EngineError>(expired)
    })
    .await
}

fn outcome(report: &BackupReport) -> Outcome {
    let partitions = || report.topics.iter().flat_map(|topic| &topic.partitions);
    let gaps = partitions().flat_map(|partition| &partition.gaps);
    let gap_offsets = gaps.map(Gap::offsets);
    Outcome {
        result: match report.status {
            Completion::Completed => RunResult::Success,
            Completion::Incomplete => RunResult::Incomplete,
        },
        backup_id: Some(report.backup_id),
        error: None,
        figures: Figures {
            new_messages: report.new_messages,
            new_bytes: report.new_bytes,
            new_stored_bytes: report.new_stored_bytes,
            stored_bytes: report.compressed_size_bytes,
            partitions: partitions().count() as u64,
            gap_offsets: gap_offsets.sum(),
            verify_findings: None,
        },
    }
}
