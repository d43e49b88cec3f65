//! `kafkeep export`

use std::path::PathBuf;

use clap::Args;

use crate::engine::blocking;
use crate::engine::export::{
    self, ExportFormat, ExportOptions, ExportPlan, ExportReport, ExportedPartition, Omitted,
    SEGMENT_BYTES,
};
use crate::engine::size::Size;
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::engine::watchdog::watched;
use crate::kafka::Retry;
use crate::record::PartitionId;

use super::backup_args::{FilterArgs, find};
use super::connection_args::RepositoryArgs;
use super::memory::MemoryArgs;
use super::{CliError, Exit, Global, output, progress};

/// Take topics out of a backup into files, without Kafka
#[derive(Debug, Args)]
#[command(after_help = "\
log writes a directory DIR/TOPIC-PARTITION of Kafka's own segments and indexes, batch for batch as they were stored, \
aborted transactions and their markers included; a broker serves them. jsonl writes DIR/TOPIC-PARTITION.jsonl, one \
committed record a line. Nothing is overwritten. A damaged partition is left out and named; the others are written, \
and the exit code is 2, as it is where the backup has gaps.

Examples:
  kafkeep export --repository /var/lib/kafkeep latest --topic orders --out /tmp/orders
  kafkeep export --repository main 20261124T021500Z-3f9a1c --topic 'orders.*' --partition 3 --out ./out --format jsonl
  kafkeep export --repository main latest --topic orders --out ./out --format jsonl && jq .key ./out/orders-0.jsonl")]
pub struct ExportArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The backup's id, the start of it, or `latest`
    backup: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// These topics of the backup; may be repeated
    #[arg(long = "topic", value_name = "PATTERN", required = true)]
    topics: Vec<TopicPattern>,
    /// Only this partition; may be repeated
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// The directory to write into; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = ExportFormat::Log)]
    format: ExportFormat,
    /// Begin a new segment when one would be longer
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = segment_bytes)]
    segment_bytes: u32,
    /// Print the plan and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// Positions in an index are 31 bits.
fn segment_bytes(text: &str) -> Result<u32, String> {
    let size = text
        .parse::<Size>()
        .ok()
        .and_then(|size| u32::try_from(size.0).ok());
    size.filter(|size| (1024..1 << 31).contains(size))
        .ok_or_else(|| format!("write a size such as 64MiB, from 1KiB to below 2GiB; {SEGMENT_BYTES} is Kafka's own"))
}

impl ExportArgs {
    fn options(&self) -> ExportOptions {
        ExportOptions {
            topics: TopicPatterns::new(self.topics.clone()),
            partitions: self.partitions.iter().copied().map(PartitionId).collect(),
            format: self.format,
            out: self.out.clone(),
            segment_bytes: self.segment_bytes,
        }
    }
}

pub async fn run(args: &ExportArgs, global: &Global) -> Result<Exit, CliError> {
    let memory = args.memory.budget()?;
    let repository = args.repository.open(global).await?;
    let filter = args.filter.with(&args.topics);
    let backup_id = find(&repository, &args.backup, filter).await?;
    let (planned, options) = (repository.clone(), args.options());
    let plan = blocking("the planning thread", move || {
        export::plan(&planned, &backup_id, &options)
    })
    .await?;
    if args.dry_run {
        output::report(&plan, global, print_plan)?;
        return Ok(Exit::of_plan(&plan.refused));
    }
    let progress = progress::progress("export", global);
    let run_memory = memory.run();
    let exporting = watched(
        Retry::DEADLINE,
        &memory,
        progress,
        "the exporting thread",
        move |progress| export::apply(&repository, &plan, &run_memory, progress),
    );
    let report = exporting.await?;
    output::report(&report, global, print_report)?;
    Ok(report.status.into())
}

const COLUMNS: [&str; 7] = [
    "topic",
    "partition",
    "start",
    "end",
    "records",
    "bytes",
    "into",
];

fn print_plan(plan: &ExportPlan) -> Result<(), CliError> {
    output::line(format_args!(
        "plan: export backup {} into {}\n",
        plan.backup_id,
        plan.out.display()
    ))?;
    let mut table = output::table(COLUMNS, &[1, 2, 3, 4, 5]);
    for topic in &plan.topics {
        for partition in &topic.partitions {
            table.add_row([
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.start_offset.to_string(),
                partition.end_offset.to_string(),
                output::count(partition.records),
                output::bytes(partition.bytes),
                partition.name.clone(),
            ]);
        }
    }
    output::line(table)?;
    for refusal in &plan.refused {
        output::line(format_args!("\nrefused: {refusal}"))?;
    }
    output::line(format_args!(
        "\n{} records, {}; nothing was written",
        output::count(plan.records()),
        output::bytes(plan.bytes())
    ))
}

fn print_report(report: &ExportReport) -> Result<(), CliError> {
    let mut table = output::table(COLUMNS, &[1, 2, 3, 4, 5]);
    for topic in &report.topics {
        for partition in &topic.partitions {
            let path = partition.path.as_ref();
            table.add_row([
                topic.topic.clone(),
                partition.partition.to_string(),
                partition.start_offset.to_string(),
                partition.end_offset.to_string(),
                output::count(partition.written.records),
                output::bytes(partition.written.bytes),
                path.map_or_else(|| "left out".to_owned(), |path| path.display().to_string()),
            ]);
        }
    }
    output::line(table)?;
    for topic in &report.topics {
        for partition in &topic.partitions {
            print_particulars(&topic.topic, partition)?;
        }
    }
    if let Some(path) = &report.log_start_offset_checkpoint {
        output::line(format_args!(
            "\na broker is to have the lines of {} in its own file of this name",
            path.display()
        ))?;
    }
    output::line(format_args!(
        "\n{}: exported backup {} into {}: {} records, {}, in {}; every checksum of what was written was right",
        report.status,
        report.backup_id,
        report.out.display(),
        output::count(report.total_messages),
        output::bytes(report.total_size_bytes),
        output::duration(report.duration_ms)
    ))
}

fn print_particulars(topic: &str, exported: &ExportedPartition) -> Result<(), CliError> {
    let partition = exported.partition;
    if let Some(damage) = &exported.damage {
        output::line(format_args!("damaged: {damage}"))?;
    }
    for gap in &exported.gaps {
        output::gap(topic, partition, gap)?;
    }
    if let Some(log) = exported.written.log {
        if log.first_segment < exported.start_offset {
            output::line(format_args!(
                "{topic}-{partition}: the log starts at offset {}, within its first batch, which begins at {}",
                exported.start_offset, log.first_segment
            ))?;
        }
        if log.open_transactions > 0 {
            output::line(format_args!(
                "{topic}-{partition}: {} transaction(s) have no end, and hold up consumers of committed records",
                log.open_transactions
            ))?;
        }
    }
    let omitted = exported.written.omitted;
    if omitted != Omitted::default() {
        output::line(format_args!(
            "{topic}-{partition}: left out {} records of aborted and {} of open transactions, {} transaction markers, {} outside the backup's bounds",
            omitted.aborted, omitted.open, omitted.control, omitted.cut
        ))?;
    }
    Ok(())
}
