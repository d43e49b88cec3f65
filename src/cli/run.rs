//! `kafkeep run`

use std::path::PathBuf;

use clap::Args;

use crate::daemon::Daemon;
use crate::http::Server;

use super::{CliError, Exit, Global, signals};

/// Run the daemon: the policies of the configuration, on their schedules
#[derive(Debug, Args)]
#[command(after_help = "\
SIGHUP and changes of the files reload the configuration; a wrong one changes nothing. SIGTERM and SIGINT end the daemon: runs stop, \
and the next run goes on behind what they sealed. A second SIGTERM or SIGINT ends it at once.

Examples:
  kafkeep run --config /etc/kafkeep
  kafkeep check --config /etc/kafkeep && kafkeep run --config /etc/kafkeep")]
pub struct RunArgs {
    /// Where to keep what a restart should not forget, apart from all repositories; it may be lost without harm. By default
    /// nothing is kept
    #[arg(long, value_name = "DIR")]
    state_directory: Option<PathBuf>,
}

pub async fn run(args: &RunArgs, global: &Global) -> Result<Exit, CliError> {
    // First, so that a signal that comes while the files are read is heard.
    let (stop, reload) = (signals::stop()?, signals::reload()?);
    let daemon = Daemon::prepare(&global.config, args.state_directory.as_deref())?;
    let view = daemon.view();
    let listen = view.configuration.borrow().http.listen;
    let server = Server::bind(listen, view)
        .await
        .map_err(|source| CliError::Listen { listen, source })?;
    server.check_certificate()?;
    tracing::info!("serving on {listen}");
    let serving = tokio::spawn(server.serve());
    daemon.run(&stop, &reload).await;
    serving.abort();
    Ok(Exit::Done)
}
