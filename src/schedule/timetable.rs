//! What shall happen at the due moments.

use crate::words::words;
use std::time::Duration;

use super::due::Schedule;

words! {
    /// What happens when a run is due while the last one still runs; Kubernetes' words.
    pub enum Concurrency {
        /// The due run is left out.
        Forbid = "forbid",
        /// Both run.
        Allow = "allow",
        /// The running one is cancelled, the due one runs.
        Replace = "replace",
    }
    default Forbid
}

/// A schedule, and what is done when its moments cannot be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    /// When it is due.
    pub schedule: Schedule,
    /// What happens when the last run still runs. Left to whoever runs: a [`Timer`](super::Timer) knows nothing of runs.
    pub concurrency: Concurrency,
    /// Whether moments that were missed (the daemon was down, the machine asleep, the clock put forward) are made up for, by one
    /// run for all of them.
    pub catch_up: bool,
    /// How long after its moment a run may still start; none: however late.
    pub start_deadline: Option<Duration>,
    /// Nothing is due until this is taken away; what would have been is not made up for.
    pub suspend: bool,
}

impl Timetable {
    /// `schedule` with what holds when nothing else is written: no overlap, one run for what was missed, no deadline.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            concurrency: Concurrency::Forbid,
            catch_up: true,
            start_deadline: None,
            suspend: false,
        }
    }
}
