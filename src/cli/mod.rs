//! The command line: one file a verb; arguments in, a table or one JSON object out.
//!
//! Reports go to standard output, logs and progress to standard error.

mod backup;
mod backup_args;
mod check;
mod connection_args;
mod demo;
mod drain;
mod exit;
mod expire;
mod export;
mod global;
mod groups;
mod list;
mod log;
mod memory;
mod mirror;
mod output;
mod progress;
mod restore;
mod run;
mod show;
mod signals;
mod status;
mod token;
mod topic_settings;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use exit::{CliError, Exit};
use global::Global;

/// Keeps Kafka's logs safe: backs topics up by moving their sealed record batches, and restores them provably right.
#[derive(Debug, Parser)]
#[command(
    name = "kafkeep",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  kafkeep backup  --bootstrap-servers kafka1:9092 --repository /var/lib/kafkeep --topic 'orders.*'
  kafkeep list    --repository /var/lib/kafkeep
  kafkeep verify  --repository /var/lib/kafkeep
  kafkeep restore --repository /var/lib/kafkeep latest --bootstrap-servers dr1:9092 --dry-run

Exit codes: 0 done, 1 failed, 2 done but incomplete, damaged or not drained, 64 usage, 75 try again, 78 configuration."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::RunArgs),
    Backup(backup::BackupArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Verify(verify::VerifyArgs),
    Restore(restore::RestoreArgs),
    Export(export::ExportArgs),
    Expire(expire::ExpireArgs),
    Mirror(mirror::MirrorArgs),
    Drain(drain::DrainArgs),
    Check(check::CheckArgs),
    Status(status::StatusArgs),
    Token(token::TokenArgs),
    Demo(demo::DemoArgs),
}

/// The command line as it is parsed: for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    log::start(
        cli.global.log_format,
        cli.global.quiet,
        cli.global.verbose,
        matches!(cli.verb, Verb::Run(_)),
    );
    let outcome = run(&cli);
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error, cli.global.json);
            error.exit().into()
        }
    }
}

/// With fewer descriptors than this no verb gets anywhere, and the runtime does not come to say so.
const LEAST_DESCRIPTORS: u64 = 16;

/// How long threads that are at work when the verb has ended are waited for.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

fn run(cli: &Cli) -> Result<Exit, CliError> {
    let descriptors = getrlimit(Resource::Nofile).current;
    if descriptors.is_some_and(|limit| limit < LEAST_DESCRIPTORS) {
        return Err(CliError::Runtime(Errno::MFILE.into()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let outcome = runtime.block_on(async {
        match &cli.verb {
            Verb::Run(args) => run::run(args, &cli.global).await,
            Verb::Backup(args) => backup::run(args, &cli.global).await,
            Verb::List(args) => list::run(args, &cli.global),
            Verb::Show(args) => show::run(args, &cli.global),
            Verb::Verify(args) => verify::run(args, &cli.global).await,
            Verb::Restore(args) => restore::run(args, &cli.global).await,
            Verb::Export(args) => export::run(args, &cli.global).await,
            Verb::Expire(args) => expire::run(args, &cli.global),
            Verb::Mirror(args) => mirror::run(args, &cli.global).await,
            Verb::Drain(args) => drain::run(args, &cli.global).await,
            Verb::Check(args) => check::run(args, &cli.global),
            Verb::Status(args) => status::run(args, &cli.global).await,
            Verb::Token(args) => token::run(args, &cli.global),
            Verb::Demo(args) => demo::run(args, &cli.global).await,
        }
    });
    // A thread that still verifies for a daemon that was told to stop has nothing to lose.
    runtime.shutdown_timeout(SHUTDOWN_WITHIN);
    outcome
}
