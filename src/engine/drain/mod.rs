//! Drain checks: whether consumer groups have consumed all that there is, and if not, why.
//!
//! A check *observes* with a bounded number of requests, however many groups there are, and *judges* what it saw and what earlier
//! checks saw. The order of observing makes the verdict safe: commits are read before the ends of the logs. A commit that reaches
//! an end that was read after it has consumed everything up to that moment; and one that lies beyond it is of another log.
//!
//! Which isolation a group reads with, Kafka does not tell. So the end of a log is the high watermark, unless the operator says
//! that the group reads committed records: then it is the last stable offset. The first is right for Kafka's own default, and
//! safe for the other: no group is called drained while a transaction is open that may still become records.

mod case;
mod criteria;
mod history;
mod judge;
mod observation;
mod observe;
mod reason;
mod report;
mod row;
mod standing;
mod tail;
mod until;
mod verdict;
mod walk;

#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod walk_tests;

pub use criteria::{Criteria, DrainOptions, DrainStrategy, Strategy, TimeBound};
pub use report::{DecidingPartition, DrainReport, GroupReport, PartitionReport, PartitionState};
pub use until::{Patience, drain};
pub use verdict::{DrainState, Verdict};

use std::time::Instant;

use crate::kafka::Client;
use crate::memory::MemoryBudget;

use super::EngineError;
use history::History;

/// Groups that are watched: what earlier checks saw of them is kept between checks, whoever calls them, and whenever.
#[derive(Debug)]
pub struct Watch {
    options: DrainOptions,
    memory: MemoryBudget,
    history: History,
    begun: Instant,
    checks: u32,
}

impl Watch {
    /// Begins to watch. What is read of logs takes memory of this budget.
    pub fn new(options: DrainOptions, memory: MemoryBudget) -> Self {
        Self {
            options,
            memory,
            history: History::default(),
            begun: Instant::now(),
            checks: 0,
        }
    }

    /// Looks once, and judges. A check that fails leaves the history as it is.
    pub async fn check(&mut self, client: &Client) -> Result<DrainReport, EngineError> {
        let observing = observe::observe(client, &self.options, &self.history, &self.memory);
        let (seen, warnings) = observing.await?;
        let mut report = DrainReport::new(client.cluster_id(), seen.at, warnings);
        for group in seen.groups.keys() {
            let past = self.history.remove(group);
            let judged = judge::judge(&self.options.criteria, &seen, group, past.as_ref());
            if let Some(judged) = judged {
                self.history.insert(group.clone(), judged.past);
                report.add(judged.group, judged.partitions);
            }
        }
        self.history
            .retain(|group, _| seen.groups.contains_key(group));
        self.checks += 1;
        report.checks = self.checks;
        report.duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}
