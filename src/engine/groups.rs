//! Consumer groups: which of them a verb takes, and what a backup holds of them: the offsets that they had committed on its topics.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kafka::GroupType;
use crate::record::{LeaderEpoch, Offset, PartitionId};
use crate::repository::TopicEntry;

use super::topics::{Candidate, TopicPatterns};

/// Which consumer groups' offsets go into a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GroupSelection {
    /// All that can be read; what cannot is a warning.
    #[default]
    Readable,
    /// None.
    None,
    /// All; what cannot be read is an error.
    All,
    /// Those that the patterns choose; what cannot be read is an error.
    Matching(TopicPatterns),
}

impl GroupSelection {
    /// Whether a group that it chooses and that cannot be read is an error.
    pub(super) fn is_strict(&self) -> bool {
        matches!(self, Self::All | Self::Matching(_))
    }

    /// Whether it chooses the group of that name.
    pub fn chooses(&self, group: &str) -> bool {
        match self {
            Self::Readable | Self::All => true,
            Self::None => false,
            Self::Matching(patterns) => patterns.chooses(Candidate {
                name: group,
                is_internal: false,
            }),
        }
    }
}

/// The groups of a backup, as a state of the repository. Read before the bounds of the partitions were fixed, so that no
/// group stands beyond the records that are backed up with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsState {
    /// Those with committed offsets on the backup's partitions, by name.
    pub groups: Vec<GroupState>,
    /// Those whose offsets could not be read.
    pub unread: Vec<UnreadGroup>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Its id.
    pub group: String,
    /// Its type.
    #[serde(rename = "type")]
    pub group_type: GroupType,
    /// Its state then, in Kafka's words; none where the brokers do not say.
    pub state: Option<String>,
    /// Whether a transaction was about to move some of the offsets (KIP-447): these are the ones before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unstable: bool,
    /// What it had committed, by topic.
    pub topics: Vec<GroupTopic>,
}

/// What a group had committed on a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupTopic {
    /// The topic's name.
    pub topic: String,
    /// Partitions with a committed offset, ascending.
    pub partitions: Vec<GroupOffset>,
}

/// A committed offset: the first that the group had not consumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The partition.
    pub partition: PartitionId,
    /// The offset, as it was found.
    pub offset: Offset,
    /// The leader epoch that was committed with it; -1 for none.
    pub leader_epoch: LeaderEpoch,
    /// What the client wrote beside it.
    pub metadata: String,
    /// Whether it lies beyond the end of the backup's records: the client had committed what was not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_beyond_end: bool,
}

/// A group that is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadGroup {
    /// Its id.
    pub group: String,
    /// Why.
    pub reason: String,
}

impl GroupState {
    /// How many offsets it had committed.
    pub fn offsets(&self) -> usize {
        self.topics.iter().map(|topic| topic.partitions.len()).sum()
    }
}

impl GroupsState {
    /// Marks the offsets that lie beyond what the backup holds.
    pub(super) fn compare_with(&mut self, topics: &[TopicEntry]) {
        let ends: BTreeMap<(&str, PartitionId), Offset> = topics
            .iter()
            .flat_map(|topic| {
                let ends = topic.partitions.iter();
                ends.map(|entry| ((topic.topic.as_str(), entry.partition), entry.end_offset))
            })
            .collect();
        for topic in self.groups.iter_mut().flat_map(|group| &mut group.topics) {
            for committed in &mut topic.partitions {
                let end = ends.get(&(topic.topic.as_str(), committed.partition));
                committed.is_beyond_end = end.is_some_and(|end| committed.offset > *end);
            }
        }
    }
}
