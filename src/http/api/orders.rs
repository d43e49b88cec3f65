//! What is to be done: backup, restore, migrate, drain, validate. Each is a job; who asks waits for it, or is told its name.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{HeaderName, LOCATION};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::api::{
    BackupAnswer, BackupRequest, DrainAnswer, DrainRequest, MigrateRequest, MigrationAnswer, Order,
    Problem, ProblemKind, RestoreAnswer, RestoreRequest, ValidateRequest, ValidationAnswer, read,
};
use crate::auth::Scope;
use crate::daemon::{Idempotency, Job, JobState, Submission};

use super::documented::{Failures, JobHeaders};
use super::jobs::ShownJob;
use super::{ApiResponse, Call, body};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longer keys are none that a client makes.
const KEY_LIMIT: usize = 255;

/// Backs a topic up.
#[utoipa::path(
    post, path = "/api/kafka/clusters/{cluster_id}/backup", operation_id = "backup", tag = "backups",
    params(
        ("cluster_id" = String, Path, description = "its name in the configuration, or Kafka's own id"),
        JobHeaders,
    ),
    request_body = BackupRequest,
    responses((status = 200, description = "Done.", body = BackupAnswer), (status = 202, description = "Accepted, as a job.", body = ShownJob), Failures),
)]
pub(super) async fn backup(mut call: Call<'_>, cluster: &str) -> Result<ApiResponse, Problem> {
    let cluster = call.cluster("cluster_id", cluster, Scope::Backup).await?;
    let (request, body) = call.read::<BackupRequest>().await?;
    let repository = call.repository(request.repository.as_deref())?;
    let order = request.order(&cluster, &repository, call.api.backup_rate_limit)?;
    call.needs_topic(Scope::Backup, &cluster, &order.topic)?;
    call.submit(Order::Backup(order), &body).await
}

/// Restores a topic of a backup.
#[utoipa::path(
    post, path = "/api/kafka/clusters/{cluster_id}/restore", operation_id = "restore", tag = "backups",
    params(
        ("cluster_id" = String, Path, description = "its name in the configuration, or Kafka's own id"),
        JobHeaders,
    ),
    request_body = RestoreRequest,
    responses((status = 200, description = "Done.", body = RestoreAnswer), (status = 202, description = "Accepted, as a job.", body = ShownJob), Failures),
)]
pub(super) async fn restore(mut call: Call<'_>, cluster: &str) -> Result<ApiResponse, Problem> {
    let cluster = call.cluster("cluster_id", cluster, Scope::Restore).await?;
    let (request, body) = call.read::<RestoreRequest>().await?;
    let id = request.backup()?.to_string();
    let backup = call.backup(&id, Scope::Restore).await?;
    let (repository, topics) = (&backup.summary.repository, &backup.summary.topics);
    if let Some(topic) = request
        .topic
        .as_ref()
        .filter(|topic| !topics.contains(topic))
        && let Some(other) = call.newest_with(topic, Scope::Restore).await?
    {
        let message = format!("the backup holds no such topic; backup {other} does");
        return Err(Problem::not_found("topic", topic, message));
    }
    let order = request.order(&cluster, repository, topics, call.api.restore_rate_limit)?;
    call.needs_topic(Scope::Restore, &cluster, &order.target_topic)?;
    call.submit(Order::Restore(order), &body).await
}

/// Copies a topic to another cluster, or under another name.
#[utoipa::path(
    post, path = "/api/kafka/migrate", operation_id = "migrate", tag = "clusters",
    params(
        JobHeaders,
    ),
    request_body = MigrateRequest,
    responses((status = 200, description = "Done.", body = MigrationAnswer), (status = 202, description = "Accepted, as a job.", body = ShownJob), Failures),
)]
pub(super) async fn migrate(mut call: Call<'_>) -> Result<ApiResponse, Problem> {
    call.needs(Scope::Migrate)?;
    let (request, body) = call.read::<MigrateRequest>().await?;
    let scope = Scope::Migrate;
    let source = call
        .cluster("source_cluster", &request.source_cluster, scope)
        .await?;
    let target = call
        .cluster("target_cluster", &request.target_cluster, scope)
        .await?;
    let order = request.order(&source, &target)?;
    call.needs_topic(scope, &source, &order.source_topic)?;
    call.needs_topic(scope, &target, &order.target_topic)?;
    call.submit(Order::Migrate(order), &body).await
}

/// Waits until a consumer group has consumed what there is.
#[utoipa::path(
    post, path = "/api/kafka/clusters/{cluster_id}/drain", operation_id = "drain", tag = "clusters",
    params(
        ("cluster_id" = String, Path, description = "its name in the configuration, or Kafka's own id"),
        JobHeaders,
    ),
    request_body = DrainRequest,
    responses((status = 200, description = "Done.", body = DrainAnswer), (status = 202, description = "Accepted, as a job.", body = ShownJob), Failures),
)]
pub(super) async fn drain(mut call: Call<'_>, cluster: &str) -> Result<ApiResponse, Problem> {
    let cluster = call.cluster("cluster_id", cluster, Scope::Drain).await?;
    let (request, body) = call.read::<DrainRequest>().await?;
    let order = request.order(&cluster, chrono::Utc::now())?;
    for topic in &order.topics {
        call.needs_topic(Scope::Drain, &cluster, topic)?;
    }
    call.submit(Order::Drain(order), &body).await
}

/// Verifies a backup: every byte of it.
#[utoipa::path(
    post, path = "/api/kafka/backups/{backup_id}/validate", operation_id = "validate", tag = "backups",
    params(
        ("backup_id" = String, Path, description = "the backup"),
        JobHeaders,
    ),
    request_body = Option<ValidateRequest>,
    responses((status = 200, description = "Done.", body = ValidationAnswer), (status = 202, description = "Accepted, as a job.", body = ShownJob), Failures),
)]
pub(super) async fn validate(mut call: Call<'_>, id: &str) -> Result<ApiResponse, Problem> {
    let backup = call.backup(id, Scope::Backup).await?;
    let (request, body) = call.read::<ValidateRequest>().await?;
    let summary = &backup.summary;
    let cluster = backup
        .cluster
        .as_deref()
        .unwrap_or(&summary.kafka_cluster_id);
    let order = request.order(
        cluster,
        &summary.repository,
        summary.backup_id,
        &summary.topics,
    );
    call.submit(Order::Validate(order), &body).await
}

impl Call<'_> {
    /// The body; where nothing is needed, an empty one stands for `{}`, and so does `null`.
    async fn read<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<u8>), Problem> {
        let body = body::whole(self.request).await?;
        let json: &[u8] = match body.trim_ascii() {
            b"" | b"null" => b"{}",
            json => json,
        };
        Ok((read(json)?, body))
    }

    /// Has it done: the job that does it is waited for, unless the caller prefers not to.
    async fn submit(&self, order: Order, body: &[u8]) -> Result<ApiResponse, Problem> {
        let wait = match self.prefers_not_to_wait() {
            true => None,
            false => Some(self.waiting.begin(&self.caller.identity)?),
        };
        let submission = Submission {
            order,
            identity: self.caller.identity.clone(),
            idempotency: self.idempotency(body)?,
        };
        let job = self.view.submit(submission).await?;
        let location = format!("/api/kafka/jobs/{}", job.job_id);
        if wait.is_none() {
            let answered = ApiResponse::json(StatusCode::ACCEPTED, &ShownJob::new(&job, true))?;
            let answered = answered
                .with(LOCATION, location)
                .with(PREFERENCE_APPLIED, "respond-async");
            return Ok(answered.of_job(job.job_id));
        }
        let job_id = job.job_id;
        let ended = self.view.ended(job_id).await;
        let ended = ended.ok_or_else(|| {
            let message =
                format!("the daemon stops: job {job_id} may be found again when it is back");
            Problem::new(ProblemKind::ServiceUnavailable, message).again_after(10)
        })?;
        came_to(&ended).map(|answered| answered.of_job(job_id))
    }

    /// RFC 7240, section 4.1.
    fn prefers_not_to_wait(&self) -> bool {
        let preferences = self.request.headers().get_all(PREFER);
        let texts = preferences.iter().filter_map(|value| value.to_str().ok());
        texts
            .flat_map(|text| text.split(','))
            .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
    }

    fn idempotency(&self, body: &[u8]) -> Result<Option<Idempotency>, Problem> {
        let Some(key) = self.request.headers().get(IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        let is_visible = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let text = key
            .to_str()
            .ok()
            .filter(|text| (1..=KEY_LIMIT).contains(&text.len()))
            .filter(is_visible);
        let key = text.ok_or_else(|| {
            let message = format!("Idempotency-Key must have 1 to {KEY_LIMIT} visible characters");
            Problem::invalid("Idempotency-Key", "", message)
        })?;
        let mut digest = Sha256::new();
        digest.update(self.request.uri().path());
        digest.update([0]);
        digest.update(body);
        let digest = digest.finalize();
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(Idempotency {
            key: key.to_owned(),
            digest,
        }))
    }
}

/// What a job that has ended answers.
fn came_to(job: &Arc<Job>) -> Result<ApiResponse, Problem> {
    match (&job.result, &job.error, job.state) {
        (Some(result), _, JobState::Completed | JobState::Incomplete) => ApiResponse::ok(result),
        (_, Some(problem), JobState::Failed) => Err(problem.clone()),
        (_, _, JobState::Cancelled) => {
            let message = format!("job {} was cancelled", job.job_id);
            Err(Problem::new(ProblemKind::Conflict, message))
        }
        _ => Err(Problem::internal()),
    }
}
