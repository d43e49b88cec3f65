//! Logs, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging: warnings by default, and what a daemon does; `RUST_LOG` overrides.
pub fn start(quiet: bool, verbose: u8, is_daemon: bool) {
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) if is_daemon => "warn,kafkeep=info",
        (false, 0) => "warn",
        (false, 1) => "info,kafkeep=debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 0)
        .compact()
        .init();
}
