//! `kafkeep show`

use clap::Args;

use crate::repository::Manifest;

use super::places::{RepositoryArgs, backup_id};
use super::{CliError, Exit, Global, output};

/// Show what one backup holds: topics, partitions, bounds, gaps
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kafkeep show --repository /var/lib/kafkeep latest
  kafkeep show --repository main 20261124T021500Z-3f9a1c --json")]
pub struct ShowArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The backup's id, the start of it, or `latest`
    backup: String,
}

pub fn run(args: &ShowArgs, global: &Global) -> Result<Exit, CliError> {
    let repository = args.repository.open(global)?;
    let manifest = repository.manifest(&backup_id(&repository, &args.backup)?)?;
    if global.json {
        output::json(&manifest)?;
    } else {
        print(&manifest)?;
    }
    Ok(Exit::Done)
}

fn print(manifest: &Manifest) -> Result<(), CliError> {
    output::line(format_args!(
        "backup      {} ({})",
        manifest.backup_id, manifest.status
    ))?;
    output::line(format_args!("cluster     {}", manifest.cluster_id))?;
    if let Some(policy) = &manifest.policy {
        output::line(format_args!("policy      {policy}"))?;
    }
    output::line(format_args!(
        "taken       {} to {} UTC, by kafkeep {}",
        output::time(manifest.started_at),
        output::time(manifest.finished_at),
        manifest.kafkeep_version
    ))?;
    let totals = &manifest.totals;
    output::line(format_args!(
        "holds       {} records, {}, stored in {}; {} were new",
        output::count(totals.records),
        output::bytes(totals.bytes),
        output::bytes(totals.stored_bytes),
        output::bytes(totals.new_bytes)
    ))?;
    if manifest.selection.is_some() {
        output::line("one-off     a part that was asked for; later backups do not build on it")?;
    }
    let header = [
        "topic",
        "partition",
        "start",
        "end",
        "last stable",
        "records",
        "bytes",
        "new",
    ];
    let mut table = output::table(header, &[1, 2, 3, 4, 5, 6, 7]);
    for topic in &manifest.topics {
        for partition in &topic.partitions {
            table.add_row([
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.start_offset.to_string(),
                partition.end_offset.to_string(),
                partition.last_stable_offset.to_string(),
                output::count(partition.records),
                output::bytes(partition.bytes),
                output::count(partition.new_records),
            ]);
        }
    }
    output::line(format_args!("\n{table}"))?;
    for topic in &manifest.topics {
        if let Some(reason) = &topic.chain_restarted {
            output::line(format_args!("{}: copied anew, since {reason}", topic.topic))?;
        }
        for partition in &topic.partitions {
            for gap in &partition.gaps {
                output::line(format_args!(
                    "gap: {}-{} offsets {} to {}: {}",
                    topic.topic,
                    partition.partition,
                    gap.start_offset,
                    gap.end_offset.0 - 1,
                    gap.reason
                ))?;
            }
        }
    }
    Ok(())
}
