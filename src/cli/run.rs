//! `kafkeep run`

use clap::Args;

use crate::daemon::Daemon;
use crate::http::Server;

use super::{CliError, Exit, Global};

/// Run the daemon: the policies of the configuration, on their schedules
#[derive(Debug, Args)]
#[command(after_help = "\
SIGHUP and changes of the files reload the configuration; a wrong one changes nothing. SIGTERM and SIGINT end the daemon: runs stop,
and the next run goes on behind what they sealed.

Examples:
  kafkeep run --config /etc/kafkeep
  kafkeep check --config /etc/kafkeep && kafkeep run --config /etc/kafkeep")]
pub struct RunArgs {}

pub async fn run(_args: &RunArgs, global: &Global) -> Result<Exit, CliError> {
    let daemon = Daemon::prepare(&global.config)?;
    let listen = daemon.configuration().http.listen;
    let server = Server::bind(listen, daemon.view())
        .await
        .map_err(|source| CliError::Listen { listen, source })?;
    tracing::info!(%listen, "serving");
    let serving = tokio::spawn(server.serve());
    daemon.run().await;
    serving.abort();
    Ok(Exit::Done)
}
