//! Where a group stands in a log.

use crate::kafka::IsolationLevel;
use crate::record::{LeaderEpoch, Offset, TopicId};

use super::history::PartitionPast;
use super::observation::{Ahead, Commit, SeenLog};

/// Where a group stands in a log, before what lies ahead of it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// At the end, or behind it where a reader of other records got further.
    AtEnd,
    /// Before the end: what it has to consume begins at an offset.
    Behind(Offset),
    /// It has not committed anything, and the log has offsets from there on.
    NeverCommitted(Offset),
    /// It stands below the start of the log, so many offsets.
    Unreachable(u64),
    /// It committed on another log.
    Recreated(Replaced),
}

/// What tells that a log is another than that of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    /// The topic has another id than when the commit was first seen.
    Topic(TopicId),
    /// The log ends before the commit, although its end was read later.
    End,
    /// The commit is of a leader epoch that the log has not come to.
    Epoch(LeaderEpoch),
}

impl Standing {
    /// Of a group with this commit and past.
    pub fn of(
        commit: Option<Commit>,
        topic_id: TopicId,
        log: &SeenLog,
        past: Option<&PartitionPast>,
        isolation: IsolationLevel,
    ) -> Self {
        let end = log.end(isolation);
        let unmoved = past.filter(|past| past.committed == commit.map(|commit| commit.offset));
        let Some(commit) = commit else {
            let proven = unmoved.filter(|past| past.topic_id == topic_id);
            let from = proven.and_then(|past| past.consumed_to);
            let from = from.map_or(log.start, |from| from.max(log.start));
            return if from < end {
                Self::NeverCommitted(from)
            } else {
                Self::AtEnd
            };
        };
        if let Some(past) = unmoved
            && past.topic_id != topic_id
        {
            return Self::Recreated(Replaced::Topic(past.topic_id));
        }
        if commit.offset > log.high_watermark {
            return Self::Recreated(Replaced::End);
        }
        if commit.leader_epoch > log.leader_epoch {
            return Self::Recreated(Replaced::Epoch(commit.leader_epoch));
        }
        let consumed_to = unmoved.and_then(|past| past.consumed_to);
        let from = consumed_to.map_or(commit.offset, |to| to.max(commit.offset));
        if from < log.start {
            Self::Unreachable(log.start.0.abs_diff(from.0))
        } else if from < end {
            Self::Behind(from)
        } else {
            Self::AtEnd
        }
    }

    /// What was found ahead of it.
    pub fn ahead(self, log: &SeenLog) -> Option<&Ahead> {
        match self {
            Self::Behind(from) | Self::NeverCommitted(from) => log.ahead.get(&from),
            Self::AtEnd | Self::Unreachable(_) | Self::Recreated(_) => None,
        }
    }

    /// How many offsets it has to consume, those included that it never can; none where nothing is ahead.
    pub fn lag(self, log: &SeenLog, isolation: IsolationLevel) -> u64 {
        let end = log.end(isolation);
        let from = |from: Offset| u64::try_from(end.0.saturating_sub(from.0)).unwrap_or(0);
        match self {
            Self::AtEnd => 0,
            Self::Behind(_) | Self::NeverCommitted(_)
                if self.ahead(log) == Some(&Ahead::Nothing) =>
            {
                0
            }
            Self::Behind(offset) | Self::NeverCommitted(offset) => from(offset),
            Self::Unreachable(lost) => from(log.start).saturating_add(lost),
            Self::Recreated(_) => from(log.start),
        }
    }
}
