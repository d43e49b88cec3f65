//! What is watched, and when it counts as drained.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::engine::topics::TopicPatterns;
use crate::kafka::IsolationLevel;
use crate::record::Timestamp;
use crate::words::words;

/// What is watched.
#[derive(Debug, Clone)]
pub struct DrainOptions {
    /// The groups.
    pub groups: TopicPatterns,
    /// The topics; none for those on which a group has committed, or whose partitions its members have.
    pub topics: Option<TopicPatterns>,
    /// When a group counts as drained.
    pub criteria: Criteria,
}

/// When a group counts as drained, and when as stalled.
#[derive(Debug, Clone)]
pub struct Criteria {
    /// What is compared.
    pub strategy: Strategy,
    /// How the groups read: what ends a log for them.
    pub isolation: IsolationLevel,
    /// So many checks in a row must agree that a group is drained; a rebalance in between starts the count anew.
    pub stable_checks: u32,
    /// A group with members that has not moved for so long is stalled.
    pub stall_after: Duration,
}

impl Default for Criteria {
    fn default() -> Self {
        Self {
            strategy: Strategy::Lag { max_lag: 0 },
            isolation: IsolationLevel::ReadUncommitted,
            stable_checks: 2,
            stall_after: Duration::from_secs(30),
        }
    }
}

words! {
    /// What a drain compares.
    pub enum DrainStrategy {
        /// How many records are left.
        LagBased = "lag_based" | "lag",
        /// How old they are.
        TimeBased = "time_based" | "time",
    }
    default LagBased
}

/// What must be consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All but so many records, over all partitions.
    Lag {
        /// So many.
        max_lag: u64,
    },
    /// All that is older than a moment.
    Time(TimeBound),
}

/// A moment. What is older is told by the time index, and by the timestamp of the first record that is not consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeBound {
    /// So long before a check.
    YoungerThan(Duration),
    /// This one.
    ProducedBefore(Timestamp),
}

impl Strategy {
    /// The records that may be left, where records count.
    pub(super) fn max_lag(self) -> u64 {
        match self {
            Self::Lag { max_lag } => max_lag,
            Self::Time(_) => 0,
        }
    }

    /// The moment, where time counts, for a check at `now`: what has this timestamp or a later one may be left.
    pub(super) fn moment(self, now: DateTime<Utc>) -> Option<Timestamp> {
        match self {
            Self::Lag { .. } => None,
            Self::Time(TimeBound::ProducedBefore(moment)) => Some(moment),
            Self::Time(TimeBound::YoungerThan(age)) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Some(Timestamp(now.timestamp_millis().saturating_sub(age).max(0)))
            }
        }
    }
}
