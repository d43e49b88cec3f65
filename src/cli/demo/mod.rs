//! `kafkeep demo`: what kafkeep does, on a broker inside this process.

mod compare;
mod error;
mod story;
mod traffic;

use clap::Args;

use super::{CliError, Exit, Global};

pub use error::DemoError;

/// See it work: a broker in the process, traffic, two backups, damage found, a restore, and the proof
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is installed and nothing outside a temporary directory is written. The broker is librdkafka's mock cluster.

Examples:
  kafkeep demo
  kafkeep demo --keep-running      and then try the other commands on the broker and the repository it names")]
pub struct DemoArgs {
    /// Keep the broker and the repository until Ctrl-C, to try the other commands on them
    #[arg(long)]
    keep_running: bool,
}

pub async fn run(args: &DemoArgs, global: &Global) -> Result<Exit, CliError> {
    story::tell(args.keep_running, global).await
}
