//! Where a group stands in one partition.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::kafka::GroupMember;
use crate::record::{Offset, PartitionId, Timestamp, TopicId};

use super::criteria::Criteria;
use super::history::{GroupPast, PartitionPast};
use super::observation::{Ahead, Commit, Observation, SeenGroup, SeenLog};
use super::report::PartitionState;
use super::standing::Standing;

/// A group's place in one partition, now and before.
pub(super) struct Row<'a> {
    /// When it was looked at.
    pub at: DateTime<Utc>,
    pub topic: &'a str,
    pub partition: PartitionId,
    pub log: &'a SeenLog,
    pub end: Offset,
    pub commit: Option<Commit>,
    pub standing: Standing,
    pub lag: u64,
    /// Nothing is left that the criteria want to be consumed.
    pub is_within_time: bool,
    pub past: Option<&'a PartitionPast>,
    pub now: PartitionPast,
    pub member: Option<&'a GroupMember>,
}

/// All rows of a group of an observation.
pub(super) fn rows<'a>(
    criteria: &Criteria,
    seen: &'a Observation,
    group: &'a SeenGroup,
    past: Option<&'a GroupPast>,
) -> Vec<Row<'a>> {
    let members = group.description.iter().flat_map(|found| &found.members);
    let mut readers: BTreeMap<(&str, PartitionId), &GroupMember> = BTreeMap::new();
    for member in members {
        for (topic, partitions) in &member.assignment {
            readers.extend(partitions.iter().map(|id| ((topic.as_str(), *id), member)));
        }
    }
    let moment = criteria.strategy.moment(seen.at);
    let topics = group.topics.iter();
    let topics = topics.filter_map(|topic| seen.topics.get_key_value(topic));
    let mut rows = Vec::new();
    for (topic, found) in topics {
        for (partition, log) in &found.partitions {
            let commit = group.committed.get(topic).and_then(|of| of.get(partition));
            let commit = commit.copied();
            let past = past.and_then(|past| past.partition(topic, *partition));
            let isolation = criteria.isolation;
            let standing = Standing::of(commit, found.topic_id, log, past, isolation);
            let lag = standing.lag(log, isolation);
            let end = log.end(isolation);
            let offset = commit.map(|commit| commit.offset);
            rows.push(Row {
                at: seen.at,
                topic,
                partition: *partition,
                log,
                end,
                commit,
                standing,
                lag,
                is_within_time: is_within_time(standing, lag, log, moment),
                past,
                now: follow(past, seen.at, found.topic_id, offset, standing, lag, end),
                member: readers.get(&(topic.as_str(), *partition)).copied(),
            });
        }
    }
    rows
}

/// Whether all that is left is as young as the moment. The time index finds the first offset that is: what lies before it is
/// older. And the first record that is left must be as young itself, since a record from the future would mislead the index.
fn is_within_time(standing: Standing, lag: u64, log: &SeenLog, moment: Option<Timestamp>) -> bool {
    let (Some(moment), Some(first)) = (moment, log.moment) else {
        return lag == 0;
    };
    let from = match standing {
        Standing::Behind(from) | Standing::NeverCommitted(from) => from,
        Standing::AtEnd => return true,
        Standing::Unreachable(_) | Standing::Recreated(_) => return false,
    };
    lag == 0
        || from >= first
            && matches!(standing.ahead(log), Some(Ahead::Records(Some(time))) if *time >= moment)
}

/// What the next check has to know of a partition.
fn follow(
    past: Option<&PartitionPast>,
    at: DateTime<Utc>,
    topic_id: TopicId,
    committed: Option<Offset>,
    standing: Standing,
    lag: u64,
    end: Offset,
) -> PartitionPast {
    let fresh = PartitionPast {
        topic_id,
        committed,
        consumed_to: None,
        end,
        rewound_from: None,
        since: at,
        moved_at: None,
        caught_up_at: None,
    };
    let is_consumed =
        lag == 0 && !matches!(standing, Standing::Unreachable(_) | Standing::Recreated(_));
    let mut now = match past {
        None => fresh,
        // The log that the commit is of stays what it was, until another is committed.
        Some(past) if past.committed == committed => PartitionPast {
            topic_id: if committed.is_some() {
                past.topic_id
            } else {
                topic_id
            },
            consumed_to: past.consumed_to.filter(|_| past.topic_id == topic_id),
            end,
            ..*past
        },
        Some(past) if past.committed > committed => PartitionPast {
            rewound_from: past
                .rewound_from
                .max(past.committed)
                .filter(|_| committed.is_some()),
            ..fresh
        },
        Some(past) => PartitionPast {
            moved_at: Some(at),
            since: past.since,
            caught_up_at: past.caught_up_at,
            ..fresh
        },
    };
    if is_consumed {
        now.consumed_to = now.consumed_to.max(Some(end));
    }
    let had_caught_up = past.is_some_and(|past| committed >= Some(past.end));
    if is_consumed || had_caught_up {
        now.caught_up_at = Some(at);
    }
    now
}

impl Row<'_> {
    pub fn state(&self) -> PartitionState {
        match self.standing {
            Standing::Recreated(_) => PartitionState::Recreated,
            Standing::Unreachable(_) => PartitionState::Unreachable,
            _ if self.lag == 0 => PartitionState::Consumed,
            _ if self.now.rewound_from.is_some() => PartitionState::Rewound,
            Standing::NeverCommitted(_) => PartitionState::NeverCommitted,
            Standing::AtEnd | Standing::Behind(_) => PartitionState::Lagging,
        }
    }

    /// How long it has not moved.
    pub fn still_for(&self) -> TimeDelta {
        (self.at - self.now.still_since()).max(TimeDelta::zero())
    }

    /// Offsets consumed since the check before.
    pub fn consumed(&self) -> u64 {
        let before = self.past.and_then(|past| past.committed);
        match (before, self.commit) {
            (Some(before), Some(now)) => span(before, now.offset),
            (None, Some(now)) if self.past.is_some() => span(self.log.start, now.offset),
            _ => 0,
        }
    }

    pub fn arrived(&self) -> u64 {
        self.past.map_or(0, |past| span(past.end, self.end))
    }
}

/// How many offsets `[from, to)` has.
pub(super) fn span(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0)
}

pub(super) fn whole_seconds(time: TimeDelta) -> u64 {
    u64::try_from(time.num_seconds()).unwrap_or(0)
}
