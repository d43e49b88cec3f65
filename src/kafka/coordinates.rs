//! What names brokers and partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;

use crate::record::PartitionId;

/// A broker's id (`node.id`), unique in its cluster.
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
    /// The partition's number, from 0 on.
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

/// What a broker answers, by partition. Of a topic's name and its part of the answer for one partition, `read` makes that
/// partition's number and the answer for it.
pub(super) fn by_partition<P, A>(
    topics: impl Iterator<Item = (TopicName, Vec<P>)>,
    read: impl Fn(&str, P) -> (i32, A),
) -> BTreeMap<TopicPartition, A> {
    let mut answers = BTreeMap::new();
    for (topic, partitions) in topics {
        for partition in partitions {
            let (number, answer) = read(&topic, partition);
            let key = TopicPartition {
                topic: topic.to_string(),
                partition: PartitionId(number),
            };
            answers.insert(key, answer);
        }
    }
    answers
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
