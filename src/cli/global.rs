//! What every verb takes.

use std::path::PathBuf;

use clap::Args;

use super::log::LogFormat;

#[derive(Debug, Args)]
pub(super) struct Global {
    /// Print one JSON report on standard output, and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// Log errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What logs on standard error look like
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "auto",
        hide_possible_values = false
    )]
    pub log_format: LogFormat,
    /// The directory of kafkeep.toml, for clusters and repositories given by name
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/etc/kafkeep"
    )]
    pub config: PathBuf,
}
