//! `/api/kafka/backups`: what there is, and taking it away.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::{BackupDetails, BackupPage, BackupSummary, DeletedBackup, LISTED_TOPICS, Problem};
use crate::auth::Scope;
use crate::engine::backup_filter::{BackupFilter, FilterPart, NoSuchBackup, listed};
use crate::engine::topics::{Candidate, TopicPattern, TopicPatterns};
use crate::engine::{EngineError, blocking};
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
    let of_topic = |error| Problem::from(&error).with_field("topic");
    let pattern = query.text("topic").map(TopicPattern::of_caller);
    let pattern = pattern.transpose().map_err(of_topic)?;
    let filter = BackupFilter {
        policy: query.text("policy").map(str::to_owned),
        cluster: query.text("cluster").map(str::to_owned),
        // Patterns of callers are tried on a thread, within a time.
        topics: TopicPatterns::default(),
    };
    let status: Option<Completion> = query.value("status", Completion::ONE_OF)?;
    let repository = query.text("repository");
    let repository = repository
        .map(|name| call.repository(Some(name)))
        .transpose()?;
    let (backups, damaged) = call.backups(Scope::Read, repository.as_deref()).await?;
    let chosen = filter.choose(&backups, &call.configured(Scope::Read));
    let mut chosen = chosen.map_err(no_such_backup)?;
    if let Some(pattern) = pattern {
        let topics = chosen_topics(pattern.clone(), &backups);
        let topics = topics.await.map_err(of_topic)?;
        chosen = with_topics(chosen, &topics, &pattern, &backups)?;
    }
    let wanted = chosen.into_iter().rev().filter(|backup| {
        let summary = &backup.summary;
        status.is_none_or(|status| summary.status == status)
            && after.is_none_or(|after| summary.backup_id.to_string().as_str() < after)
    });
    let (page, has_more) = page(wanted.map(|backup| backup.shown(LISTED_TOPICS)), limit);
    let last = page.last().map(|backup| backup.backup_id.to_string());
    ApiResponse::ok(&BackupPage {
        backups: page,
        next: last.filter(|_| has_more),
        damaged: damaged.iter().map(BackupId::to_string).collect(),
    })
}

/// A pattern is tried for so long.
const TRIED_FOR: Duration = Duration::from_secs(2);

/// The topics of these backups that a caller's pattern chooses. It is tried on a thread, and on each name once.
async fn chosen_topics(
    pattern: TopicPattern,
    backups: &[Named],
) -> Result<HashSet<String>, EngineError> {
    let summaries = backups.iter().map(|backup| Arc::clone(&backup.summary));
    let summaries: Vec<Arc<BackupSummary>> = summaries.collect();
    blocking("the thread that looks for topics", move || {
        let until = Instant::now() + TRIED_FOR;
        let patterns = TopicPatterns::new(vec![pattern]);
        let names: HashSet<&String> = summaries.iter().flat_map(|of| &of.topics).collect();
        let mut chosen = HashSet::new();
        for name in names {
            if Instant::now() > until {
                return Err(EngineError::refused(
                    "the pattern takes too long: give a simpler one",
                ));
            }
            let candidate = Candidate {
                name,
                is_internal: false,
            };
            if patterns.chooses(candidate) {
                chosen.insert(name.clone());
            }
        }
        Ok(chosen)
    })
    .await
}

/// Those of the chosen backups that hold one of these topics, which are those that the pattern chooses.
fn with_topics<'a>(
    chosen: Vec<&'a Named>,
    topics: &HashSet<String>,
    pattern: &TopicPattern,
    backups: &[Named],
) -> Result<Vec<&'a Named>, Problem> {
    let holds = |backup: &Named| {
        let mut held = backup.summary.topics.iter();
        held.any(|name| topics.contains(name))
    };
    let is_any = !chosen.is_empty();
    let with: Vec<&Named> = chosen.into_iter().filter(|backup| holds(backup)).collect();
    if !with.is_empty() || !is_any {
        return Ok(with);
    }
    let why = match backups.iter().rev().find(|backup| holds(backup)) {
        Some(other) => format!(
            "no such backup holds a topic `{pattern}`; backup {} does",
            other.summary.backup_id
        ),
        None => {
            let there = backups.iter().flat_map(|backup| &backup.summary.topics);
            let there: BTreeSet<&String> = there.collect();
            format!(
                "no backup holds a topic `{pattern}`; there are backups of topics {}",
                listed(there)
            )
        }
    };
    Err(Problem::not_found("topic", pattern.to_string(), why))
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
    ApiResponse::ok(&BackupDetails::new(backup.shown(usize::MAX), &manifest))
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
