//! One run of a backup policy: backup, verification, retention.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::backup::{BackupOptions, BackupReport, backup};
use crate::engine::expire::{self, ExpireOptions};
use crate::engine::verify::{VerifyOptions, verify};
use crate::engine::{EngineError, NoProgress};
use crate::kafka::{Client, Cluster, Retry};
use crate::policy::{BackupPolicy, RepositoryLocation, Verification};
use crate::repository::{BackupStatus, DirectoryStorage, Repository};

use super::status::{Figures, Outcome, RunResult};

/// What a run needs to know; it does not change while it runs.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub policy: Arc<BackupPolicy>,
    pub cluster: Cluster,
    pub repository: RepositoryLocation,
    /// Bytes of record batches that it may hold in memory.
    pub memory: u64,
    /// No try begins after this moment.
    pub last_start: DateTime<Utc>,
}

/// The pause before the second try; doubled for each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Runs the job; what fails in passing is tried again as long as a try may begin.
pub(super) async fn run(job: Job) -> Outcome {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match try_once(&job).await {
            Ok(outcome) => return outcome,
            Err(error) => error,
        };
        let again = Utc::now() + pause;
        if !error.is_transient() || again > job.last_start {
            return Outcome::without_backup(RunResult::Failed, error.to_string());
        }
        tracing::warn!(policy = %job.policy.name, %error, seconds = pause.as_secs(), "trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_once(job: &Job) -> Result<Outcome, EngineError> {
    let policy = &job.policy;
    let retry = Retry {
        deadline: policy.deadline,
        ..Retry::default()
    };
    let storage = DirectoryStorage::create(&job.repository.path)?;
    let repository = Arc::new(Repository::open_or_init(Arc::new(storage))?);
    refuse_without_room(job, &repository)?;
    let client = Client::connect(job.cluster.clone(), retry).await?;
    let options = BackupOptions {
        allow_empty: policy.allow_empty,
        compression: policy.compression,
        rate_limit: policy.rate_limit,
        groups: policy.groups.clone(),
        policy: Some(policy.name.clone()),
        memory: job.memory,
        ..BackupOptions::new(policy.topics.clone())
    };
    let report = backup(
        &client,
        Arc::clone(&repository),
        &options,
        Arc::new(NoProgress),
    )
    .await?;
    let (policy, cluster_id) = (Arc::clone(policy), report.cluster_id.clone());
    let afterwards = move || after(&policy, &cluster_id, &repository, report);
    tokio::task::spawn_blocking(afterwards)
        .await
        .map_err(|_| EngineError::Lost("the verifying thread"))
}

/// Refuses a backup where the repository is as large, or its disk as full, as the configuration lets it be.
fn refuse_without_room(job: &Job, repository: &Repository) -> Result<(), EngineError> {
    let location = &job.repository;
    let refused = |why: String| {
        Err(EngineError::Refused(format!(
            "no room for a backup in {}: {why}; keep fewer backups, or give it more room",
            location.path.display()
        )))
    };
    if let Some(max_size) = location.max_size {
        let size = repository.size()?;
        if size >= max_size.0 {
            return refused(format!("it has {size} bytes, max_size is {}", max_size.0));
        }
    }
    if let (Some(min_free), Some(free)) = (location.min_free, repository.free_bytes()?)
        && free < min_free.0
    {
        return refused(format!("{free} bytes are free, min_free is {}", min_free.0));
    }
    Ok(())
}

/// What follows a backup. It is there whatever happens now.
fn after(
    policy: &BackupPolicy,
    cluster_id: &str,
    repository: &Repository,
    report: BackupReport,
) -> Outcome {
    let mut outcome = outcome(&report);
    let mut problems: Vec<String> = report.warnings;
    let depth = match policy.verify {
        Verification::Off => None,
        Verification::Quick => Some(true),
        Verification::Full => Some(false),
    };
    if let Some(quick) = depth {
        let options = VerifyOptions {
            backups: vec![report.backup_id],
            quick,
        };
        match verify(repository, &options, &NoProgress) {
            Ok(verified) => {
                outcome.figures.verify_findings = Some(verified.findings.len() as u64);
                let found = verified.findings.into_iter().map(|finding| finding.problem);
                problems.extend(found.take(10));
            }
            Err(error) => problems.push(format!("it could not be verified: {error}")),
        }
    }
    if outcome
        .figures
        .verify_findings
        .is_some_and(|findings| findings > 0)
    {
        outcome.result = RunResult::Incomplete;
    }
    if outcome.result == RunResult::Success {
        let options = ExpireOptions {
            retention: policy.retention.clone(),
            policy: Some(policy.name.clone()),
            cluster_id: Some(cluster_id.to_owned()),
        };
        let now = Utc::now().with_timezone(&policy.time_zone);
        match expire::apply(repository, &options, &now) {
            Ok(expired) => outcome.figures.expired_backups = expired.removed_backups,
            // Somebody reads or writes: the next run expires.
            Err(error) if error.is_transient() => {
                tracing::info!(policy = %policy.name, %error, "nothing expired");
            }
            Err(error) => problems.push(format!("old backups could not be expired: {error}")),
        }
    }
    if !problems.is_empty() {
        outcome.error = Some(problems.join("; "));
    }
    outcome
}

fn outcome(report: &BackupReport) -> Outcome {
    let partitions = || report.topics.iter().flat_map(|topic| &topic.partitions);
    let gaps = partitions().flat_map(|partition| &partition.gaps);
    let gap_offsets = gaps.map(|gap| gap.end_offset.0.abs_diff(gap.start_offset.0));
    Outcome {
        result: match report.status {
            BackupStatus::Completed => RunResult::Success,
            BackupStatus::Incomplete => RunResult::Incomplete,
        },
        backup_id: Some(report.backup_id),
        error: None,
        figures: Figures {
            new_messages: report.new_messages,
            new_bytes: report.new_bytes,
            new_stored_bytes: report.new_stored_bytes,
            partitions: partitions().count() as u64,
            gap_offsets: gap_offsets.sum(),
            verify_findings: None,
            expired_backups: 0,
        },
    }
}
