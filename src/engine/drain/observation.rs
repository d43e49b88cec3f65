//! What one check saw, as plain values: what is judged.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::kafka::{ActiveTransaction, BrokerId, GroupDescription, IsolationLevel};
use crate::record::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

/// What one check saw. Of all that is here, commits were read first, and the ends of the logs afterwards.
#[derive(Debug, Clone)]
pub(super) struct Observation {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The groups, by name.
    pub groups: BTreeMap<String, SeenGroup>,
    /// The topics of all groups, by name.
    pub topics: BTreeMap<String, SeenTopic>,
}

/// A group.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenGroup {
    /// What its coordinator says of it; none when it does not know it.
    pub description: Option<GroupDescription>,
    /// Where it stands, by topic.
    pub committed: BTreeMap<String, BTreeMap<PartitionId, Commit>>,
    /// The topics that it is judged by, as far as they exist.
    pub topics: BTreeSet<String>,
    /// Why it could not be looked at.
    pub unread: Option<String>,
    /// A group with a name like this one's, when there is none of this name.
    pub similar: Option<String>,
}

/// A committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    /// The first that is not consumed.
    pub offset: Offset,
    /// The epoch of the last record that is, where the client said it; else -1.
    pub leader_epoch: LeaderEpoch,
}

/// A topic.
#[derive(Debug, Clone)]
pub(super) struct SeenTopic {
    /// Its id; zero where brokers know none.
    pub topic_id: TopicId,
    /// All its partitions.
    pub partitions: BTreeMap<PartitionId, SeenLog>,
}

/// The log of a partition.
#[derive(Debug, Clone)]
pub(super) struct SeenLog {
    /// Who leads it.
    pub leader: BrokerId,
    /// The newest epoch that is known of it.
    pub leader_epoch: LeaderEpoch,
    /// Where it begins.
    pub start: Offset,
    /// Where it ends.
    pub high_watermark: Offset,
    /// Where the first open transaction begins, or the log ends.
    pub last_stable: Offset,
    /// The transactions that are open in it, as far as its leader tells.
    pub open: Vec<ActiveTransaction>,
    /// Where time counts: the first offset with a timestamp of the moment or later; the high watermark when there is none.
    pub moment: Option<Offset>,
    /// What was found when looking ahead from offsets.
    pub ahead: BTreeMap<Offset, Ahead>,
}

impl SeenLog {
    /// Where it ends for a reader of this isolation.
    pub fn end(&self, isolation: IsolationLevel) -> Offset {
        match isolation {
            IsolationLevel::ReadUncommitted => self.high_watermark,
            IsolationLevel::ReadCommitted => self.last_stable,
        }
    }
}

/// What lies between an offset and the end of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Nothing that was committed: transaction markers, what compaction left of batches, aborted records.
    Nothing,
    /// Records; the timestamp of the first, where it was looked at.
    Records(Option<Timestamp>),
    /// It could not be told, for this reason.
    Unread(String),
}
