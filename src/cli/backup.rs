//! `kafkeep backup`

use clap::Args;

use crate::engine::backup::{BackupOptions, BackupReport, backup};
use crate::engine::rate::RateLimit;
use crate::engine::size::Size;
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::record::{Compression, PartitionId};
use crate::repository::{Completion, OffsetBound, Selection};

use super::connection_args::{ClusterArgs, RepositoryArgs};
use super::groups::{GroupPatterns, selection};
use super::memory::MemoryArgs;
use super::{CliError, Exit, Global, output, progress, signals};

/// Make one backup now: copies what is new since the last one, and is complete in itself
#[derive(Debug, Args)]
#[command(after_help = "\
A PATTERN is a name, a glob (orders.*) or a regular expression between slashes (/^orders-\\d+$/); ! excludes. \
With --partition, --start-offset, --end-offset, --max-messages, --no-keys or --no-headers it is a one-off \
backup: it copies its part anew, and later backups do not build on it. \
Ctrl-C seals what was copied, and the next backup goes on behind it. \
Groups' offsets are read before the records' bounds are fixed, so no group is ahead of its records. ACLs for them: \
DESCRIBE on the groups.

Examples:
  kafkeep backup --bootstrap-servers kafka1:9092 --repository /var/lib/kafkeep --topic 'orders.*' --topic '!orders.tmp'
  kafkeep backup --cluster prod --repository main --topic payments --compression zstd --rate-limit 50MiB/s
  kafkeep backup --cluster prod --repository main --topic 'orders.*' --groups 'billing-*'
  kafkeep backup --cluster prod --repository main --topic payments --partition 0 --start-offset 1000 --end-offset latest")]
pub struct BackupArgs {
    #[command(flatten)]
    source: ClusterArgs,
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Topics to back up; may be repeated
    #[arg(long = "topic", value_name = "PATTERN", required = true)]
    topics: Vec<TopicPattern>,
    /// A pattern that matches nothing is fine
    #[arg(long)]
    allow_empty: bool,
    /// Consumer groups whose committed offsets go with the topics: all, none or a pattern; may be repeated. By default all
    /// that can be read; with this option, one that cannot be read is an error
    #[arg(long, value_name = "all|none|PATTERN")]
    groups: Vec<GroupPatterns>,
    /// For batches that the producer did not compress
    #[arg(long, value_enum, value_name = "CODEC", default_value_t = Compression::Gzip)]
    compression: Compression,
    /// Read no faster than this, e.g. 50MiB/s or '10000 records/s'
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<RateLimit>,
    #[command(flatten)]
    memory: MemoryArgs,
    /// Seal a pack whenever it has this size: an interrupted backup is continued behind its last sealed pack
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pack_size: Size,
    /// Only this partition; may be repeated
    #[arg(long = "partition", value_name = "N", help_heading = "One-off backups")]
    partitions: Vec<i32>,
    /// Where to start: earliest, latest or an offset
    #[arg(long, value_name = "OFFSET", help_heading = "One-off backups")]
    start_offset: Option<OffsetBound>,
    /// Where to end (exclusive): latest or an offset
    #[arg(long, value_name = "OFFSET", help_heading = "One-off backups")]
    end_offset: Option<OffsetBound>,
    /// At most so many records, shared evenly among the partitions
    #[arg(long, value_name = "N", help_heading = "One-off backups")]
    max_messages: Option<u64>,
    /// Leave the keys out
    #[arg(long, help_heading = "One-off backups")]
    no_keys: bool,
    /// Leave the headers out
    #[arg(long, help_heading = "One-off backups")]
    no_headers: bool,
}

impl BackupArgs {
    fn selection(&self) -> Option<Selection> {
        let selection = Selection {
            partitions: self.partitions.iter().copied().map(PartitionId).collect(),
            start_offset: self.start_offset,
            end_offset: self.end_offset,
            max_messages: self.max_messages,
            no_keys: self.no_keys,
            no_headers: self.no_headers,
        };
        (selection != Selection::default()).then_some(selection)
    }
}

/// Bounds that no log could satisfy are a slip, not a wish for an empty backup.
fn refuse_impossible_bounds(args: &BackupArgs) -> Result<(), CliError> {
    let refused = |why: String| Err(CliError::Usage(why));
    if let Some(partition) = args.partitions.iter().find(|partition| **partition < 0) {
        return refused(format!("--partition {partition}: partitions count from 0"));
    }
    match (args.start_offset, args.end_offset) {
        (Some(OffsetBound::At(start)), Some(OffsetBound::At(end))) if start > end => refused(
            format!("--start-offset {start} lies beyond --end-offset {end}: exchange them"),
        ),
        _ => Ok(()),
    }
}

/// Smaller packs would drown in their number, larger ones lose too much when a run is interrupted.
fn pack_size(size: Size) -> Result<u64, CliError> {
    const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=4 << 30;
    if SIZES.contains(&size.0) {
        Ok(size.0)
    } else {
        Err(CliError::Usage(
            "--pack-size: choose between 1MiB and 4GiB".into(),
        ))
    }
}

pub async fn run(args: &BackupArgs, global: &Global) -> Result<Exit, CliError> {
    refuse_impossible_bounds(args)?;
    let memory = args.memory.budget()?;
    let groups = selection(&args.groups)?;
    let client = args.source.connect(global).await?;
    let repository = args.repository.open_or_init(global).await?;
    let options = BackupOptions {
        allow_empty: args.allow_empty,
        compression: args.compression,
        rate_limit: args.rate_limit,
        selection: args.selection(),
        pack_size: pack_size(args.pack_size)?,
        groups,
        stop: signals::stop_after("sealing what was copied")?,
        memory,
        cluster_name: args.source.name().map(str::to_owned),
        ..BackupOptions::new(TopicPatterns::new(args.topics.clone()))
    };
    let report = backup(
        &client,
        repository,
        &options,
        progress::progress("backup", global),
    )
    .await?;
    output::report(&report, global, print)?;
    Ok(if report.status == Completion::Completed {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

fn print(report: &BackupReport) -> Result<(), CliError> {
    let mut table = output::table(
        ["topic", "partitions", "records", "bytes", "gaps"],
        &[1, 2, 3, 4],
    );
    for topic in &report.topics {
        let sum = |of: fn(&crate::engine::backup::PartitionReport) -> u64| {
            topic.partitions.iter().map(of).sum::<u64>()
        };
        table.add_row([
            topic.topic.clone(),
            topic.partitions.len().to_string(),
            output::count(sum(|partition| partition.records)),
            output::bytes(sum(|partition| partition.bytes)),
            output::count(sum(|partition| partition.gaps.len() as u64)),
        ]);
    }
    output::line(table.trim_fmt())?;
    for topic in &report.topics {
        for partition in &topic.partitions {
            for gap in &partition.gaps {
                output::gap(&topic.topic, partition.partition, gap)?;
            }
        }
    }
    if !report.groups.is_empty() {
        let mut table = output::table(["group", "type", "offsets"], &[2]);
        for group in &report.groups {
            table.add_row([
                output::plain(&group.group),
                group.group_type.to_string(),
                output::count(group.offsets as u64),
            ]);
        }
        output::line(format_args!("\n{table}"))?;
    }
    for warning in &report.warnings {
        output::line(format_args!(
            "warning: {}",
            output::plain(&warning.to_string())
        ))?;
    }
    output::line(format_args!(
        "\nbackup {} {}: {} records, {} ({} new, {} reused), {} stored, in {}",
        report.backup_id,
        report.status,
        output::count(report.total_messages),
        output::bytes(report.total_size_bytes),
        output::bytes(report.new_bytes),
        output::bytes(report.reused_bytes),
        output::bytes(report.compressed_size_bytes),
        output::duration(report.duration_ms),
    ))
}
