//! Carrying out what somebody asked for, once: a failure is the caller's to hear of at once.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{
    Answer, BackupAnswer, BackupOrder, DrainAnswer, DrainOrder, MigrateOrder, MigrationAnswer,
    Order, OrderKind, Problem, ProblemKind, RestoreAnswer, RestoreOrder, ValidateOrder,
    ValidationAnswer,
};
use crate::engine::backup::{BackupOptions, backup, stored_codec};
use crate::engine::drain::{Verdict, Watch, drain};
use crate::engine::mirror::{self, MirrorOptions, MirrorState, mirror};
use crate::engine::refusal::Reader;
use crate::engine::restore::{self, RestoreOptions};
use crate::engine::size::Size;
use crate::engine::verify::{Depth, VerifyOptions, VerifyReport, verify};
use crate::engine::watchdog::watched;
use crate::engine::{EngineError, Stop, blocking};
use crate::kafka::{Client, Cluster, Retry};
use crate::memory::MemoryBudget;
use crate::policy::RepositoryLocation;
use crate::repository::{BackupId, Completion, Repository};
use tracing::Instrument;

use super::cluster_ids::ClusterIds;
use super::progress::RunProgress;
use super::run::open_with_room;
use super::status::RunId;

/// An order with all that it needs to know; that does not change while it is carried out.
#[derive(Debug, Clone)]
pub(super) struct OrderJob {
    pub job_id: RunId,
    pub order: Arc<Order>,
    pub cluster: Option<Cluster>,
    /// Of a migration.
    pub source: Option<Cluster>,
    pub repository: Option<RepositoryLocation>,
    /// The memory for record batches of all runs.
    pub memory: MemoryBudget,
    /// What a backup may add to the repository at most.
    pub max_backup_size: Option<Size>,
    pub progress: Arc<RunProgress>,
    pub stop: Stop,
}

/// An order that is being carried out.
struct Execution<'a> {
    job: &'a OrderJob,
    /// What is learned of clusters on the way.
    cluster_ids: &'a ClusterIds,
}

/// How far a migration is is asked so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Carries it out. A failure's cause is logged where the caller is not told it in full.
pub(super) async fn execute_order(
    job: OrderJob,
    cluster_ids: &ClusterIds,
) -> Result<Answer, Problem> {
    let on = Execution {
        job: &job,
        cluster_ids,
    };
    let kind = job.order.kind().name();
    let span = tracing::info_span!("job", job_id = %job.job_id, kind);
    let carried_out = async {
        let outcome = match job.order.as_ref() {
            Order::Backup(order) => on.back_up(order).await.map(Answer::Backup),
            Order::Restore(order) => on.restore(order).await.map(Answer::Restore),
            Order::Migrate(order) => on.migrate(order).await.map(Answer::Migrate),
            Order::Drain(order) => on.watch(order).await.map(Answer::Drain),
            Order::Validate(order) => on.validate(order).await.map(Answer::Validate),
        };
        outcome.map_err(|failure| {
            let problem = failure.problem(job.order.kind());
            let cause = crate::quote::quote(&failure);
            // The end of the job is logged with what its caller is told.
            if cause != problem.message && !job.stop.is_cancelled() {
                tracing::error!("{cause}");
            }
            problem
        })
    };
    carried_out.instrument(span).await
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{}", .0.message)]
    Told(Problem),
}

impl Failure {
    fn problem(&self, kind: OrderKind) -> Problem {
        match self {
            Self::Engine(error) => Problem::of_order(kind, error),
            Self::Told(problem) => problem.clone(),
        }
    }
}

impl OrderJob {
    fn location(&self) -> Result<&RepositoryLocation, Failure> {
        self.repository.as_ref().ok_or_else(|| gone("repository"))
    }

    async fn repository(&self) -> Result<Arc<Repository>, Failure> {
        let location = self.location()?.at.clone();
        let opened = blocking("the thread that opens the repository", move || {
            location.open()
        });
        Ok(Arc::new(opened.await?))
    }
}

/// A reload took it away while the order waited.
fn gone(what: &str) -> Failure {
    let message = format!("the {what} is no longer configured");
    Failure::Told(Problem::new(ProblemKind::NotFound, message))
}

fn refuse_damage(report: &VerifyReport) -> Result<(), Failure> {
    let Some(first) = report.findings.first() else {
        return Ok(());
    };
    let message = format!(
        "the backup is damaged in {} places, and nothing was created; the first: {}",
        report.findings.len(),
        first.problem.text_for(Reader::Caller)
    );
    Err(Failure::Told(Problem::new(ProblemKind::Conflict, message)))
}

/// What a migration is answered with. One that a partition keeps from its end is no success, unless it was cancelled.
fn migrated(answer: MigrationAnswer, is_cancelled: bool) -> Result<MigrationAnswer, Failure> {
    match answer.status {
        Completion::Incomplete if !is_cancelled => Err(stopped_short(&answer)),
        _ => Ok(answer),
    }
}

fn stopped_short(answer: &MigrationAnswer) -> Failure {
    let message = format!(
        "the migration ended early, with {} records in topic {}: {}; delete that topic before you migrate again",
        answer.messages_migrated,
        answer.target_topic,
        answer.warnings.first().map_or("", String::as_str),
    );
    Failure::Told(Problem::new(ProblemKind::InternalError, message))
}

fn tell_progress(progress: &RunProgress, state: &MirrorState) {
    let partitions = state.partitions();
    let sum = |of: fn(&mirror::PartitionStatus) -> u64| partitions.iter().map(of).sum::<u64>();
    let done = sum(|partition| partition.records + partition.filtered_records);
    let ahead = sum(|partition| partition.lag_records);
    progress.stands_at(done + ahead, done, sum(|partition| partition.bytes));
}

impl Execution<'_> {
    async fn client(&self, name: &str, cluster: &Option<Cluster>) -> Result<Client, Failure> {
        let Some(cluster) = cluster else {
            return Err(gone("cluster"));
        };
        let connected = Client::connect(cluster.clone(), Retry::default()).await;
        let client = connected.map_err(EngineError::from)?;
        self.cluster_ids.learn(name, cluster, client.cluster_id());
        Ok(client)
    }

    async fn back_up(&self, order: &BackupOrder) -> Result<BackupAnswer, Failure> {
        let location = self.job.location()?;
        let client = self.client(&order.cluster, &self.job.cluster).await?;
        let (repository, room) = open_with_room(location, self.job.max_backup_size).await?;
        let options = BackupOptions {
            memory: self.job.memory.clone(),
            room,
            stop: self.job.stop.clone(),
            ..order.options.clone()
        };
        let progress = Arc::clone(&self.job.progress);
        let report = backup(&client, Arc::clone(&repository), &options, progress).await?;
        let stored = stored_codec(&repository, report.backup_id).await;
        // The backup is made, whatever can be told of it.
        let stored = stored.unwrap_or_else(|error| {
            tracing::warn!(
                "the codec of backup {} is unknown: {error}",
                report.backup_id
            );
            None
        });
        Ok(BackupAnswer::new(order, report, stored))
    }

    async fn restore(&self, order: &RestoreOrder) -> Result<RestoreAnswer, Failure> {
        let repository = self.job.repository().await?;
        let client = self.client(&order.cluster, &self.job.cluster).await?;
        let options = RestoreOptions {
            memory: self.job.memory.clone(),
            ..order.options.clone()
        };
        let restoring = async {
            // What can be refused is before a verification that may take hours.
            let plan =
                restore::plan(&client, Arc::clone(&repository), &order.backup_id, &options).await?;
            plan.refuse()?;
            if order.validate {
                self.job.progress.verifies(true);
                let report = self
                    .verified(Arc::clone(&repository), order.backup_id, Depth::Full)
                    .await?;
                self.job.progress.verifies(false);
                refuse_damage(&report)?;
            }
            let progress = Arc::clone(&self.job.progress);
            Ok::<_, Failure>(restore::apply(&client, repository, plan, &options, progress).await?)
        };
        match self.job.stop.run_until_cancelled(restoring).await {
            Some(restored) => Ok(RestoreAnswer::new(order, restored?)),
            None => {
                let message = format!(
                    "the restore was cancelled; if topic {} is there, it holds a part: the same restore goes on with it, or delete it",
                    order.target_topic
                );
                Err(Failure::Told(Problem::new(ProblemKind::Conflict, message)))
            }
        }
    }

    async fn verified(
        &self,
        repository: Arc<Repository>,
        backup_id: BackupId,
        depth: Depth,
    ) -> Result<VerifyReport, EngineError> {
        let (stop, progress) = (self.job.stop.clone(), Arc::clone(&self.job.progress));
        let memory = self.job.memory.clone();
        let deadline = Retry::DEADLINE;
        watched(
            deadline,
            &memory.clone(),
            progress,
            "the verifying thread",
            move |progress| {
                // Told as damage otherwise.
                repository.manifest(&backup_id)?;
                let options = VerifyOptions {
                    backups: vec![backup_id],
                    depth,
                    memory,
                    stop,
                };
                verify(&repository, &options, progress)
            },
        )
        .await
    }

    async fn validate(&self, order: &ValidateOrder) -> Result<ValidationAnswer, Failure> {
        let report = self
            .verified(self.job.repository().await?, order.backup_id, order.depth)
            .await?;
        Ok(ValidationAnswer::new(order, report))
    }

    async fn migrate(&self, order: &MigrateOrder) -> Result<MigrationAnswer, Failure> {
        let source = self.client(&order.source, &self.job.source).await?;
        let target = self.client(&order.target, &self.job.cluster).await?;
        let id = format!("migration-{}", self.job.job_id);
        let options = MirrorOptions {
            name: id.clone(),
            memory: self.job.memory.clone(),
            stop: self.job.stop.clone(),
            ..order.options.clone()
        };
        let plan = mirror::plan(&source, &target, &options).await?;
        let stands = plan.topics.iter().flat_map(|topic| &topic.partitions);
        if let Some(problem) = stands
            .filter_map(|partition| partition.problem.as_ref())
            .next()
        {
            return Err(EngineError::conflict(problem.clone()).into());
        }
        let state = Arc::new(MirrorState::default());
        let migrating = mirror(&source, &target, &options, &state);
        tokio::pin!(migrating);
        let report = loop {
            match tokio::time::timeout(LOOK_EVERY, &mut migrating).await {
                Ok(report) => break report?,
                Err(_) => tell_progress(&self.job.progress, &state),
            }
        };
        tell_progress(&self.job.progress, &state);
        let answer = MigrationAnswer::new(order, id, report);
        migrated(answer, self.job.stop.is_cancelled())
    }

    async fn watch(&self, order: &DrainOrder) -> Result<DrainAnswer, Failure> {
        let client = self.client(&order.cluster, &self.job.cluster).await?;
        // Nobody waits for a group that is not there.
        let mut first = Watch::new(order.options.clone(), self.job.memory.clone());
        let first = first.check(&client).await?;
        if first.status == Verdict::UnknownGroup {
            let group = first.groups.first();
            let reason = group.map(|group| group.reason.text_for(Reader::Caller));
            let reason = reason.unwrap_or_default();
            let unknown = Problem::not_found("group_id", &order.group_id, reason);
            return Err(Failure::Told(unknown));
        }
        let mut most = 0;
        let progress = Arc::clone(&self.job.progress);
        let (options, memory) = (order.options.clone(), self.job.memory.clone());
        let draining = drain(&client, options, memory, order.patience, |report| {
            most = most.max(report.total_lag);
            progress.stands_at(most, most - report.total_lag, 0);
        });
        let Some(report) = self.job.stop.run_until_cancelled(draining).await else {
            return Err(EngineError::Stopped.into());
        };
        Ok(DrainAnswer::new(order, report?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MigrateRequest, read};
    use crate::engine::mirror::{MirrorReport, PartitionState, PartitionStatus};
    use crate::engine::refusal::{Advice, Refusal};
    use crate::record::PartitionId;

    #[test]
    fn a_migration_whose_filter_fails_over_every_record_has_failed() {
        let body = br#"{"source_cluster": "prod", "source_topic": "a", "target_cluster": "dr", "target_topic": "b",
            "transformation": {"filter_expression": "json(value).amount > 1"}}"#;
        let request: MigrateRequest = read(body).unwrap();
        let order = request.order("prod", "dr").unwrap();
        let mut partition = PartitionStatus::new("a", PartitionId(0), "b");
        partition.state = PartitionState::Refused;
        let problem = Refusal::new("offset 0: the filter fails: this is no JSON");
        partition.problem = Some(problem.advise(Advice::EmptyOrAppend));
        let report = MirrorReport {
            status: Completion::Incomplete,
            source_cluster_id: "s".to_owned(),
            target_cluster_id: "t".to_owned(),
            started_at: chrono::DateTime::UNIX_EPOCH,
            duration_ms: 1,
            records: 0,
            bytes: 0,
            partitions: vec![partition],
            groups: Vec::new(),
            warnings: Vec::new(),
        };
        let answer = MigrationAnswer::new(&order, "migration-1".to_owned(), report);
        let failure = migrated(answer.clone(), false).unwrap_err();
        let problem = failure.problem(OrderKind::Migrate);
        assert_eq!(problem.kind, ProblemKind::InternalError);
        assert!(problem.message.contains("the filter fails"), "{problem:?}");
        assert!(!problem.message.contains("--if-exists"), "{problem:?}");
        assert!(migrated(answer, true).is_ok(), "cancelled is not failed");
    }
}
