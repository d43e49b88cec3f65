//! `/api/kafka/jobs`: what was asked for, how far it is, and what came of it.

use chrono::{DateTime, TimeDelta, Utc};
use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::{Answer, LISTED_TOPICS, OrderKind, Problem, ProblemKind};
use crate::auth::{Caller, Scope};
use crate::daemon::{Job, JobState, JobTopic, RunId};

use super::documented::Failures;
use super::query::{Query, page};
use super::{ApiResponse, Call, forbidden};

/// A job, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct ShownJob<'a> {
    /// Its id.
    #[schema(value_type = String)]
    job_id: RunId,
    /// What it does.
    kind: OrderKind,
    /// Where it stands.
    state: JobState,
    /// For what it waits.
    waiting_for: Option<&'a str>,
    /// Who asked for it.
    subject: &'a str,
    /// The cluster's name in the configuration; of a migration the target's.
    cluster_id: &'a str,
    /// The topics that it touches; in lists the first 10.
    topics: &'a [JobTopic],
    /// How many topics it touches.
    topics_count: usize,
    /// When it was accepted.
    created_at: DateTime<Utc>,
    /// When it began to work.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// How far it is.
    progress: JobProgress,
    /// What it came to, as the call would have been answered; in lists it is left out.
    #[schema(value_type = Option<Answer>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    /// Why it failed.
    error: Option<&'a Problem>,
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobProgress {
    /// What is counted: backup, verify, restore, migrate or drain.
    phase: &'static str,
    /// Records that are done, or an upper bound of them.
    done: u64,
    /// Records that are to be done in all, as far as it is known.
    total: u64,
    /// Bytes that are done.
    bytes: u64,
    /// Records a second, since it began to work.
    rate: Option<f64>,
    /// Seconds that are left, when it goes on like this.
    seconds_left: Option<u64>,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobPage<'a> {
    /// The jobs.
    jobs: Vec<ShownJob<'a>>,
    /// Give this as `after` for the next page; none on the last.
    #[schema(value_type = Option<String>)]
    next: Option<RunId>,
}

impl<'a> ShownJob<'a> {
    pub fn new(job: &'a Job, with_result: bool) -> Self {
        Self {
            job_id: job.job_id,
            kind: job.kind,
            state: job.state,
            waiting_for: job.waiting_for.as_deref(),
            subject: &job.identity.subject,
            cluster_id: &job.cluster,
            topics: match with_result {
                true => &job.topics,
                false => &job.topics[..job.topics.len().min(LISTED_TOPICS)],
            },
            topics_count: job.topics_count,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            progress: JobProgress::of(job, Utc::now()),
            result: job.result.as_deref().filter(|_| with_result),
            error: job.error.as_ref(),
        }
    }
}

impl JobProgress {
    fn of(job: &Job, now: DateTime<Utc>) -> Self {
        let (total, done, bytes) = job.progress.counts();
        let worked = job
            .started_at
            .map(|started| job.finished_at.unwrap_or(now) - started);
        let rate = worked
            .filter(|worked| *worked > TimeDelta::zero())
            .map(|worked| {
                let rate = done as f64 / worked.as_seconds_f64();
                (rate * 10.0).round() / 10.0
            });
        let left = total.saturating_sub(done);
        let seconds_left = rate.filter(|rate| *rate > 0.0 && !job.state.is_ended() && total > 0);
        Self {
            phase: job.progress.phase(),
            done,
            total,
            bytes,
            rate,
            seconds_left: seconds_left.map(|rate| (left as f64 / rate).ceil() as u64),
        }
    }
}

/// The scope that asking for such a job needs.
pub(super) fn scope(kind: OrderKind) -> Scope {
    match kind {
        OrderKind::Backup | OrderKind::Validate => Scope::Backup,
        OrderKind::Restore => Scope::Restore,
        OrderKind::Migrate => Scope::Migrate,
        OrderKind::Drain => Scope::Drain,
    }
}

/// One's own jobs, and those about what one may see, as far as that is known.
fn may_see(caller: &Caller, job: &Job) -> bool {
    let others = || {
        let are_all_known = job.topics.len() == job.topics_count;
        are_all_known
            && job
                .topics
                .iter()
                .all(|of| caller.may(Scope::Read, Some(&of.cluster), &of.topic))
    };
    job.identity == caller.identity || others()
}

const PARAMETERS: &[&str] = &["kind", "state", "cluster", "limit", "after"];
/// The jobs, newest first.
#[utoipa::path(
    get, path = "/api/kafka/jobs", operation_id = "list_jobs", tag = "jobs",
    params(
        ("kind" = Option<OrderKind>, Query, description = "only those that do this"),
        ("state" = Option<JobState>, Query, description = "only those that stand there"),
        ("cluster" = Option<String>, Query, description = "only those about this cluster, by its name in the configuration"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "how many at once; 100 by default"),
        ("after" = Option<String>, Query, description = "the next of the page before"),
    ),
    responses((status = 200, description = "A page of them.", body = JobPage), Failures),
)]
pub(super) fn list(call: &Call<'_>) -> Result<ApiResponse, Problem> {
    call.needs(Scope::Read)?;
    let query = Query::read(call.request.uri().query(), PARAMETERS)?;
    let limit = query.limit()?;
    // Ids sort as their texts do.
    let after = query.text("after").filter(|after| !after.is_empty());
    let one_of = |name: &str, words: &[&str]| match query.text(name) {
        Some(word) if !words.contains(&word) => Err(Problem::invalid(
            name,
            word,
            format!("{name} must be one of {}", words.join(", ")),
        )),
        word => Ok(word),
    };
    let kind = one_of("kind", &OrderKind::ALL.map(OrderKind::name))?;
    let state = one_of("state", &JobState::ALL.map(JobState::name))?;
    let all = call.view.jobs.borrow().clone();
    let wanted = all.values().rev().filter(|job| {
        kind.is_none_or(|kind| job.kind.name() == kind)
            && state.is_none_or(|state| job.state.name() == state)
            && query
                .text("cluster")
                .is_none_or(|cluster| job.cluster == cluster)
            && after.is_none_or(|after| job.job_id.to_string().as_str() < after)
            && may_see(&call.caller, job)
    });
    let (page, has_more) = page(wanted, limit);
    let next = page.last().map(|job| job.job_id).filter(|_| has_more);
    ApiResponse::ok(&JobPage {
        jobs: page
            .into_iter()
            .map(|job| ShownJob::new(job, false))
            .collect(),
        next,
    })
}

fn find(call: &Call<'_>, id: &str) -> Result<std::sync::Arc<Job>, Problem> {
    let job_id: Option<RunId> = id.parse().ok();
    let job = job_id.and_then(|job_id| call.view.jobs.borrow().get(&job_id).cloned());
    let job = job.filter(|job| may_see(&call.caller, job));
    job.ok_or_else(|| Problem::not_found("job_id", id, "there is no such job, or it is forgotten"))
}

/// A job, with what it came to.
#[utoipa::path(
    get, path = "/api/kafka/jobs/{job_id}", operation_id = "show_job", tag = "jobs",
    params(("job_id" = String, Path, description = "the job")),
    responses((status = 200, description = "The job.", body = ShownJob), Failures),
)]
pub(super) fn show(call: &Call<'_>, id: &str) -> Result<ApiResponse, Problem> {
    let job = find(call, id)?;
    if job.identity != call.caller.identity {
        call.needs(Scope::Read)?;
    }
    ApiResponse::ok(&ShownJob::new(&job, true))
}

/// Tells a job to seal what it has and to end.
#[utoipa::path(
    delete, path = "/api/kafka/jobs/{job_id}", operation_id = "cancel_job", tag = "jobs",
    params(("job_id" = String, Path, description = "the job")),
    responses((status = 202, description = "It is told.", body = ShownJob), Failures),
)]
pub(super) async fn cancel(call: Call<'_>, id: &str) -> Result<ApiResponse, Problem> {
    let job = find(&call, id)?;
    let scope = scope(job.kind);
    let mut topics = job.topics.iter();
    if !topics.all(|of| call.caller.may(scope, Some(&of.cluster), &of.topic)) {
        return Err(forbidden("the token does not allow to cancel this job"));
    }
    if !call.view.cancel(job.job_id).await {
        let message = "the job has ended already";
        return Err(Problem::of_field(
            ProblemKind::Conflict,
            "job_id",
            id,
            message,
        ));
    }
    let now = call
        .view
        .jobs
        .borrow()
        .get(&job.job_id)
        .cloned()
        .unwrap_or(job);
    let answered = ApiResponse::json(StatusCode::ACCEPTED, &ShownJob::new(&now, true))?;
    Ok(answered.of_job(now.job_id))
}
