//! `/api/kafka/backups`: what there is, and taking it away.

use crate::api::{BackupDetails, BackupPage, DeletedBackup, Problem};
use crate::auth::Scope;
use crate::engine::backup_filter::{BackupFilter, FilterPart, NoSuchBackup};
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::repository::{BackupId, Completion};
use crate::words::Words;

use super::documented::Failures;
use super::places::Named;
use super::query::{Query, page};
use super::{ApiResponse, Call};

const PARAMETERS: &[&str] = &[
    "cluster",
    "topic",
    "repository",
    "policy",
    "status",
    "limit",
    "after",
];

/// The backups, newest first.
#[utoipa::path(
    get, path = "/api/kafka/backups", operation_id = "list_backups", tag = "backups",
    params(
        ("cluster" = Option<String>, Query, description = "only those of this cluster: its name, or Kafka's own id"),
        ("topic" = Option<String>, Query, min_length = 1, description = "only those with such a topic: a name or a pattern"),
        ("repository" = Option<String>, Query, description = "only those in this repository"),
        ("policy" = Option<String>, Query, description = "only those of this policy"),
        ("status" = Option<String>, Query, description = "only those that are completed, or incomplete"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "how many at once; 100 by default"),
        ("after" = Option<String>, Query, description = "the next of the page before"),
    ),
    responses((status = 200, description = "A page of them.", body = BackupPage), Failures),
)]
pub(super) async fn list(call: Call<'_>) -> Result<ApiResponse, Problem> {
    call.needs(Scope::Read)?;
    let query = Query::read(call.request.uri().query(), PARAMETERS)?;
    let limit = query.limit()?;
    // Ids sort as their texts do.
    let after = query.text("after").filter(|after| !after.is_empty());
    let topic: Option<TopicPattern> = query.value("topic", "a pattern")?;
    let filter = BackupFilter {
        policy: query.text("policy").map(str::to_owned),
        cluster: query.text("cluster").map(str::to_owned),
        topics: TopicPatterns::new(topic.into_iter().collect()),
    };
    let status: Option<Completion> = query.value("status", Completion::ONE_OF)?;
    let repository = query.text("repository");
    let repository = repository
        .map(|name| call.repository(Some(name)))
        .transpose()?;
    let (backups, damaged) = call.backups(Scope::Read, repository.as_deref()).await?;
    let chosen = filter.choose(&backups, &call.configured(Scope::Read));
    let chosen = chosen.map_err(no_such_backup)?;
    let wanted = chosen.into_iter().rev().filter(|backup| {
        let summary = &backup.summary;
        status.is_none_or(|status| summary.status == status)
            && after.is_none_or(|after| summary.backup_id.to_string().as_str() < after)
    });
    let (page, has_more) = page(wanted.map(Named::shown), limit);
    let last = page.last().map(|backup| backup.backup_id.to_string());
    ApiResponse::ok(&BackupPage {
        backups: page,
        next: last.filter(|_| has_more),
        damaged: damaged.iter().map(BackupId::to_string).collect(),
    })
}

/// 404, for the parameter that asks for what no backup has that the caller may see.
fn no_such_backup(none: NoSuchBackup) -> Problem {
    let parameter = match none.part {
        FilterPart::Policy => "policy",
        FilterPart::Cluster => "cluster",
        FilterPart::Topic => "topic",
    };
    Problem::not_found(parameter, none.value, none.why)
}

/// A backup, in full.
#[utoipa::path(
    get, path = "/api/kafka/backups/{backup_id}", operation_id = "show_backup", tag = "backups",
    params(("backup_id" = String, Path, description = "the backup")),
    responses((status = 200, description = "The backup.", body = BackupDetails), Failures),
)]
pub(super) async fn show(call: Call<'_>, id: &str) -> Result<ApiResponse, Problem> {
    let backup = call.backup(id, Scope::Read).await?;
    let manifest = call.view.manifest(&backup.summary).await?;
    ApiResponse::ok(&BackupDetails::new(backup.shown(), &manifest))
}

/// Takes a backup away, unless fewer than `min_backups` would be left.
#[utoipa::path(
    delete, path = "/api/kafka/backups/{backup_id}", operation_id = "delete_backup", tag = "backups",
    params(("backup_id" = String, Path, description = "the backup")),
    responses((status = 200, description = "It is gone.", body = DeletedBackup), Failures),
)]
pub(super) async fn delete(call: Call<'_>, id: &str) -> Result<ApiResponse, Problem> {
    let backup = call.backup(id, Scope::Admin).await?;
    let freed_bytes = call.view.delete_backup(&backup.summary).await?;
    ApiResponse::ok(&DeletedBackup {
        backup_id: backup.summary.backup_id,
        status: "deleted",
        freed_bytes,
    })
}
