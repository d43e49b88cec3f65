//! What earlier checks saw, as far as later ones need it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use crate::record::{Offset, PartitionId, TopicId};

use super::Verdict;

/// By group.
pub(super) type History = BTreeMap<String, GroupPast>;

/// What is known of a group.
#[derive(Debug, Clone)]
pub(super) struct GroupPast {
    /// Its partitions, by topic.
    pub partitions: BTreeMap<String, BTreeMap<PartitionId, PartitionPast>>,
    /// Its members then.
    pub members: BTreeSet<String>,
    /// Its epoch then.
    pub epoch: Option<i32>,
    /// The last verdict, and since when it has been the same.
    pub verdict: (Verdict, DateTime<Utc>),
    /// So many checks in a row found it within its bounds.
    pub stable_checks: u32,
    /// The pace.
    pub pace: Pace,
}

impl GroupPast {
    /// What is known of a partition.
    pub fn partition(&self, topic: &str, partition: PartitionId) -> Option<&PartitionPast> {
        self.partitions.get(topic)?.get(&partition)
    }
}

/// What is known of a group's place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartitionPast {
    /// The topic whose log it committed on.
    pub topic_id: TopicId,
    /// What it had committed.
    pub committed: Option<Offset>,
    /// Below this offset there was nothing left to consume, although it may have committed less.
    pub consumed_to: Option<Offset>,
    /// The end of the log.
    pub end: Offset,
    /// The furthest commit that it went back from, until it moves on.
    pub rewound_from: Option<Offset>,
    /// When it was first seen, or began anew.
    pub since: DateTime<Utc>,
    /// When its commit was last seen to have advanced.
    pub moved_at: Option<DateTime<Utc>>,
    /// When it was last seen to have consumed all that was there a check before.
    pub caught_up_at: Option<DateTime<Utc>>,
}

impl PartitionPast {
    /// Since when it has not been seen to move.
    pub fn still_since(&self) -> DateTime<Utc> {
        self.moved_at.unwrap_or(self.since)
    }
}

/// How far a group had come at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The moment.
    pub at: DateTime<Utc>,
    /// Offsets consumed since the first check.
    pub consumed: u64,
    /// Offsets that were added to the logs since then.
    pub arrived: u64,
    /// What was left.
    pub lag: u64,
}

/// The last marks of a group: long enough for a pace, short enough for the present one.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(VecDeque<Mark>);

/// Clients commit every 5 s by default: a pace over less would be none.
const PACE_OVER: TimeDelta = TimeDelta::seconds(60);
const MOST_MARKS: usize = 64;

impl Pace {
    /// Adds what was seen at a check: `consumed` and `arrived` since the one before.
    pub fn add(&mut self, at: DateTime<Utc>, consumed: u64, arrived: u64, lag: u64) {
        let (before, arrived_before) = self.0.back().map_or((0, 0), |m| (m.consumed, m.arrived));
        self.0.push_back(Mark {
            at,
            consumed: before.saturating_add(consumed),
            arrived: arrived_before.saturating_add(arrived),
            lag,
        });
        while self.0.len() > MOST_MARKS
            || (self.0.len() > 2
                && self
                    .0
                    .front()
                    .is_some_and(|first| at - first.at > PACE_OVER))
        {
            self.0.pop_front();
        }
    }

    /// Offsets consumed and arrived a second; none before the second check.
    pub fn per_second(&self) -> Option<(f64, f64)> {
        let (first, last, seconds) = self.span()?;
        let consumed = last.consumed.saturating_sub(first.consumed) as f64;
        let arrived = last.arrived.saturating_sub(first.arrived) as f64;
        Some((consumed / seconds, arrived / seconds))
    }

    /// Seconds until `left` offsets are consumed, when it goes on like this; none when it does not get less.
    pub fn seconds_for(&self, left: u64) -> Option<u64> {
        let (first, last, seconds) = self.span()?;
        let less = first.lag.checked_sub(last.lag).filter(|less| *less > 0)?;
        // Saturates, as all casts from floating point do.
        Some((left as f64 * seconds / less as f64).ceil() as u64)
    }

    fn span(&self) -> Option<(&Mark, &Mark, f64)> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let seconds = (last.at - first.at).as_seconds_f64();
        (seconds > 0.0).then_some((first, last, seconds))
    }
}
