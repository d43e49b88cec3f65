//! What Ctrl-C does to a verb that can stop in good order.

use tokio::signal::unix::{SignalKind, signal};

use crate::engine::Stop;

use super::CliError;

/// As shells tell a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Told by the first SIGINT or SIGTERM, which begins `what`. The second one ends the process at once, which loses no more than a crash does.
pub fn on_signals(what: &'static str) -> Result<Stop, CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let stop = Stop::new();
    let told = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            tracing::warn!("{what}; once more to end at once");
            told.cancel();
        }
    });
    Ok(stop)
}
