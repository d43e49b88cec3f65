//! `/api/kafka/metrics`: the documented figures.

use chrono::Utc;

use crate::api::{BackupMetrics, OrderKind, Problem};
use crate::auth::Scope;
use crate::daemon::{JobState, RunState, Work};

use super::documented::Failures;
use super::{ApiResponse, Call, forbidden};

/// Figures of the backups.
#[utoipa::path(
    get, path = "/api/kafka/metrics", operation_id = "metrics", tag = "backups",
    responses((status = 200, description = "The figures.", body = BackupMetrics), Failures),
)]
pub(super) async fn answer(call: Call<'_>) -> Result<ApiResponse, Problem> {
    call.needs(Scope::Read)?;
    if call.caller.is_limited() {
        let why = "these figures are of all clusters and topics, and the token is limited to some: count what it lists";
        return Err(forbidden(why));
    }
    let now = Utc::now();
    let (backups, _) = call.backups(Scope::Read, None).await?;
    let status = call.view.status.borrow().clone();
    let of_policies = status.policies.iter().flat_map(|policy| &policy.running);
    let of_policies =
        of_policies.filter(|run| run.work == Work::Backup && run.state != RunState::Waiting);
    let jobs = call.view.jobs.borrow().clone();
    let of_jobs = jobs.values().filter(|job| {
        let works = matches!(job.state, JobState::Running | JobState::Stopping);
        job.kind == OrderKind::Backup && works
    });
    let active = of_policies.count() + of_jobs.count();
    let repositories = call.view.repositories.borrow().clone();
    let size = repositories
        .iter()
        .filter_map(|repository| repository.size_bytes)
        .sum();
    let summaries = backups.iter().map(|backup| backup.summary.as_ref());
    let failed_today = status.failed_backups.today(now);
    ApiResponse::ok(&BackupMetrics::new(
        summaries,
        size,
        active as u64,
        failed_today,
        now,
    ))
}
