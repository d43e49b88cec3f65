//! What names brokers and partitions.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::record::PartitionId;

/// A broker's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: PartitionId,
}

/// The partitions that a request names; its answer shares their keys.
#[derive(Debug)]
pub(super) struct AskedPartitions(BTreeSet<Arc<TopicPartition>>);

impl FromIterator<Arc<TopicPartition>> for AskedPartitions {
    fn from_iter<I: IntoIterator<Item = Arc<TopicPartition>>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl AskedPartitions {
    /// The keys of one topic's partitions by number; none for a partition that was not asked for.
    pub fn of_topic(&self, topic: String) -> impl FnMut(i32) -> Option<Arc<TopicPartition>> {
        let mut key = TopicPartition {
            topic,
            partition: PartitionId(-1),
        };
        move |number| {
            key.partition = PartitionId(number);
            self.0.get(&key).cloned()
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
