//! `kafkeep list`

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::backup_filter::{BackupHead, Configured, Origin};
use crate::engine::topics::TopicPattern;
use crate::repository::{BackupId, Completion, Manifest, RepositoryError};

use super::backup_args::FilterArgs;
use super::connection_args::RepositoryArgs;
use super::{CliError, Exit, Global, output};

/// List the backups of a repository, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kafkeep list --repository /var/lib/kafkeep
  kafkeep list --repository main --topic 'orders.*' --json")]
pub struct ListArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only backups that hold such a topic; may be repeated
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
}

#[derive(Debug, Serialize)]
struct Listing {
    backups: Vec<ListedBackup>,
    damaged: Vec<DamagedBackup>,
}

#[derive(Debug, Serialize)]
struct ListedBackup {
    backup_id: BackupId,
    sequence: u64,
    status: Completion,
    policy: Option<String>,
    cluster_id: String,
    cluster_name: Option<String>,
    started_at: chrono::DateTime<chrono::Utc>,
    finished_at: chrono::DateTime<chrono::Utc>,
    one_off: bool,
    topics: u64,
    partitions: u64,
    total_messages: u64,
    total_size_bytes: u64,
    new_bytes: u64,
}

#[derive(Debug, Serialize)]
struct DamagedBackup {
    backup_id: BackupId,
    error: String,
}

pub fn run(args: &ListArgs, global: &Global) -> Result<Exit, CliError> {
    let repository = args.repository.open_blocking(global)?;
    let mut heads = Vec::new();
    let mut backups = Vec::new();
    let mut damaged = Vec::new();
    for backup_id in repository.backup_ids()? {
        match repository.manifest(&backup_id) {
            Ok(manifest) => {
                heads.push(BackupHead::from(&manifest));
                backups.push(ListedBackup::of(&manifest));
            }
            // Deleted between the listing and now.
            Err(RepositoryError::UnknownBackup { .. }) => {}
            Err(error) if error.is_damage() => damaged.push(DamagedBackup {
                backup_id,
                error: error.to_string(),
            }),
            Err(error) => return Err(error.into()),
        }
    }
    let filter = args.filter.with(&args.topics);
    let chosen = filter.choose(&heads, &Configured::default());
    let chosen = chosen.map_err(EngineError::from)?.into_iter();
    let chosen: BTreeSet<BackupId> = chosen.map(Origin::backup_id).collect();
    backups.retain(|backup| chosen.contains(&backup.backup_id));
    backups.reverse();
    damaged.reverse();
    let listing = Listing { backups, damaged };
    output::report(&listing, global, print)?;
    Ok(if listing.damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

impl ListedBackup {
    fn of(manifest: &Manifest) -> Self {
        Self {
            backup_id: manifest.backup_id,
            sequence: manifest.sequence,
            status: manifest.status,
            policy: manifest.policy.clone(),
            cluster_id: manifest.cluster_id.clone(),
            cluster_name: manifest.cluster_name.clone(),
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            one_off: manifest.selection.is_some(),
            topics: manifest.topics.len() as u64,
            partitions: manifest
                .topics
                .iter()
                .map(|topic| topic.partitions.len() as u64)
                .fold(0, u64::saturating_add),
            total_messages: manifest.totals.records,
            total_size_bytes: manifest.totals.bytes,
            new_bytes: manifest.totals.new_bytes,
        }
    }
}

fn print(listing: &Listing) -> Result<(), CliError> {
    if listing.backups.is_empty() && listing.damaged.is_empty() {
        return output::line("no backups");
    }
    let header = [
        "backup",
        "status",
        "started (utc)",
        "cluster",
        "topics",
        "partitions",
        "records",
        "bytes",
        "new",
    ];
    let mut table = output::table(header, &[4, 5, 6, 7, 8]);
    for backup in &listing.backups {
        let one_off = if backup.one_off { " (one-off)" } else { "" };
        table.add_row([
            backup.backup_id.to_string(),
            format!("{}{one_off}", backup.status),
            output::time(backup.started_at),
            output::plain(backup.cluster_name.as_ref().unwrap_or(&backup.cluster_id)),
            backup.topics.to_string(),
            backup.partitions.to_string(),
            output::count(backup.total_messages),
            output::bytes(backup.total_size_bytes),
            output::bytes(backup.new_bytes),
        ]);
    }
    output::line(table.trim_fmt())?;
    for damaged in &listing.damaged {
        output::line(format_args!(
            "damaged: backup {}: {}",
            damaged.backup_id,
            output::plain(&damaged.error)
        ))?;
    }
    Ok(())
}
