//! `kafkeep verify`

use clap::Args;

use crate::engine::EngineError;
use crate::engine::topics::TopicPattern;
use crate::engine::verify::{Depth, VerifyOptions, VerifyReport, verify};
use crate::engine::watchdog::watched;
use crate::kafka::Retry;

use crate::repository::RepositoryError;

use super::backup_args::{FilterArgs, find_all};
use super::connection_args::RepositoryArgs;
use super::memory::MemoryArgs;
use super::{CliError, Exit, Global, output, progress};

/// Check that backups are whole and unchanged, without Kafka; exits with 2 when they are not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kafkeep verify --repository /var/lib/kafkeep                  every byte of every backup
  kafkeep verify --repository /var/lib/kafkeep latest --quick   sizes and footers of the newest")]
pub struct VerifyArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Backups by id, the start of it, or `latest`; all when none is named
    backups: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only backups that hold such a topic; may be repeated
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<TopicPattern>,
    /// All backups, which is the default
    #[arg(long, conflicts_with_all = ["backups", "policy", "cluster", "topics"])]
    all: bool,
    /// Stop at sizes and footers: no block is read
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    memory: MemoryArgs,
}

pub async fn run(args: &VerifyArgs, global: &Global) -> Result<Exit, CliError> {
    let memory = args.memory.budget()?;
    let repository = args.repository.open(global).await.map_err(damaged)?;
    let filter = args.filter.with(&args.topics);
    let backups = find_all(&repository, &args.backups, filter).await?;
    let options = VerifyOptions {
        backups,
        depth: Depth::new(args.quick),
        memory: memory.clone(),
        ..VerifyOptions::default()
    };
    let progress = progress::progress("verify", global);
    let verifying = watched(
        Retry::DEADLINE,
        &memory,
        progress,
        "the verifying thread",
        move |progress| verify(&repository, &options, progress),
    );
    let report = verifying.await?;
    output::report(&report, global, print)?;
    Ok(if report.findings.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// A repository that says nothing of itself is a finding, too.
fn damaged(error: CliError) -> CliError {
    match error {
        CliError::Engine(EngineError::Repository(
            error @ RepositoryError::ObjectDamaged { .. },
        )) => CliError::Damaged(error),
        error => error,
    }
}

fn print(report: &VerifyReport) -> Result<(), CliError> {
    for finding in &report.findings {
        let mut at = Vec::new();
        at.extend(finding.topic.as_ref().map(|topic| match finding.partition {
            Some(partition) => format!("{topic}-{partition}"),
            None => format!("topic {topic}"),
        }));
        if let (Some(first), Some(last)) = (finding.first_offset, finding.last_offset) {
            at.push(format!("offsets {first} to {last}"));
        }
        at.extend(finding.pack.map(|pack| format!("pack {pack}")));
        let backups: Vec<String> = finding.backups.iter().map(ToString::to_string).collect();
        let problem = finding.problem.to_string();
        output::line(format_args!("damaged: {}", output::plain(&problem)))?;
        if !at.is_empty() {
            output::line(format_args!("         in {}", at.join(", ")))?;
        }
        if !backups.is_empty() {
            output::line(format_args!(
                "         touches backup(s) {}",
                backups.join(", ")
            ))?;
        }
    }
    output::line(format_args!(
        "{}: {} backup(s), {} pack(s), {} blocks, {} batches, {} read{}",
        report.status,
        report.backups,
        report.packs,
        output::count(report.blocks),
        output::count(report.batches),
        output::bytes(report.bytes),
        if report.depth == Depth::Quick {
            " (quick: sizes and footers only)"
        } else {
            ""
        }
    ))
}
