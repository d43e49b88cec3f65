//! Checking until the verdict stands.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::EngineError;
use crate::kafka::Client;
use crate::memory::MemoryBudget;

use super::criteria::DrainOptions;
use super::report::DrainReport;
use super::{Verdict, Watch};

/// How long to check again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the beginning of one check to that of the next.
    pub interval: Duration,
    /// Whether to wait until all is drained; else only as long as a verdict needs.
    pub until_drained: bool,
    /// When to stop waiting.
    pub timeout: Option<Duration>,
}

/// Checks until all groups are drained, or patience has come to its end; tells every check.
///
/// The first check is always made. What the cluster refuses, or does not answer in time, is an error.
pub async fn drain(
    client: &Client,
    options: DrainOptions,
    memory: MemoryBudget,
    patience: Patience,
    mut checked: impl FnMut(&DrainReport),
) -> Result<DrainReport, EngineError> {
    let needed = options.criteria.stable_checks;
    let mut watch = Watch::new(options, memory);
    let begun = Instant::now();
    let deadline = patience.timeout.map(|timeout| begun + timeout);
    loop {
        let started = Instant::now();
        let mut report = watch.check(client).await?;
        checked(&report);
        let stands = match patience.until_drained {
            true => report.is_drained(),
            false => is_final(&report) || report.checks >= needed && !is_settling(&report),
        };
        if stands {
            return Ok(report);
        }
        // The last check begins when the time is over: its answer is a fresh one.
        if deadline.is_some_and(|deadline| started >= deadline) {
            report.timed_out = true;
            return Ok(report);
        }
        let next = started + patience.interval;
        let next = deadline.map_or(next, |deadline| next.min(deadline));
        tokio::time::sleep_until(next).await;
    }
}

/// Whether more checks may find it drained: all that is missing is that it stays as it is.
fn is_settling(report: &DrainReport) -> bool {
    let mut groups = report.groups.iter();
    !report.is_drained()
        && groups.all(|group| group.stable_checks > 0 && group.status <= Verdict::Draining)
}

/// Whether another check would say the same, if nobody does anything.
fn is_final(report: &DrainReport) -> bool {
    matches!(
        report.status,
        Verdict::UnknownGroup | Verdict::Recreated | Verdict::UnreachableLag
    )
}
