//! `kafkeep list`

use clap::Args;
use serde::Serialize;

use crate::engine::topics::{Candidate, TopicPattern, TopicPatterns};
use crate::repository::{BackupId, Completion, Manifest, RepositoryError};

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
    /// Only backups of the cluster with this id
    #[arg(long, value_name = "CLUSTER-ID")]
    cluster: Option<String>,
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
    let patterns = TopicPatterns::new(args.topics.clone());
    let mut listing = Listing {
        backups: Vec::new(),
        damaged: Vec::new(),
    };
    for backup_id in repository.backup_ids()?.into_iter().rev() {
        match repository.manifest(&backup_id) {
            Ok(manifest) if is_wanted(&manifest, args, &patterns) => {
                listing.backups.push(ListedBackup::of(&manifest))
            }
            Ok(_) => {}
            // Deleted between the listing and now.
            Err(RepositoryError::UnknownBackup { .. }) => {}
            Err(error) if error.is_damage() => listing.damaged.push(DamagedBackup {
                backup_id,
                error: error.to_string(),
            }),
            Err(error) => return Err(error.into()),
        }
    }
    output::report(&listing, global, print)?;
    Ok(if listing.damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

fn is_wanted(manifest: &Manifest, args: &ListArgs, patterns: &TopicPatterns) -> bool {
    let cluster = args
        .cluster
        .as_ref()
        .is_none_or(|cluster| *cluster == manifest.cluster_id);
    let topic = args.topics.is_empty()
        || manifest.topics.iter().any(|topic| {
            patterns.chooses(Candidate {
                name: &topic.topic,
                is_internal: false,
            })
        });
    cluster && topic
}

impl ListedBackup {
    fn of(manifest: &Manifest) -> Self {
        Self {
            backup_id: manifest.backup_id,
            sequence: manifest.sequence,
            status: manifest.status,
            policy: manifest.policy.clone(),
            cluster_id: manifest.cluster_id.clone(),
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
            backup.cluster_id.clone(),
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
