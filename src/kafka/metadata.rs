//! Metadata: brokers, topics, and which broker leads which partition.

use std::collections::BTreeMap;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::MetadataResponse;

use crate::record::{LeaderEpoch, PartitionId, TopicId};

use super::{BrokerId, ErrorCode};

/// Which topics to ask for. None is ever created by asking.
#[derive(Debug, Clone, Copy)]
pub enum Topics<'a> {
    /// Every topic that the user may see.
    All,
    /// The topics of these names.
    Named(&'a [String]),
}

/// What a cluster says of itself.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// The cluster's id.
    pub cluster_id: String,
    /// The broker that controls the cluster.
    pub controller: BrokerId,
    /// Where its brokers are.
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// Topics, by name; those that do not exist are left out.
    pub topics: BTreeMap<String, TopicMetadata>,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The host that it advertises.
    pub host: String,
    /// The port that it advertises.
    pub port: u16,
}

/// A topic, as the broker that was asked knows it.
#[derive(Debug, Clone)]
pub struct TopicMetadata {
    /// Its id; zero where brokers know none.
    pub topic_id: TopicId,
    /// Whether Kafka keeps it for itself.
    pub is_internal: bool,
    /// Its partitions, by their numbers.
    pub partitions: BTreeMap<PartitionId, PartitionMetadata>,
    /// Why nothing is known of it.
    pub error: Option<ErrorCode>,
}

/// A partition, as the broker that was asked knows it.
#[derive(Debug, Clone)]
pub struct PartitionMetadata {
    /// The broker that leads it; none during an election.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, which grows with each change of leader.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that hold a copy.
    pub replicas: Vec<BrokerId>,
    /// Why it has no leader, or cannot be used.
    pub error: Option<ErrorCode>,
}

impl Metadata {
    pub(super) fn of(response: MetadataResponse) -> Self {
        let brokers = response.brokers.into_iter().map(|broker| {
            let port = u16::try_from(broker.port).unwrap_or(0);
            (
                BrokerId(broker.node_id.0),
                Broker {
                    host: broker.host.to_string(),
                    port,
                },
            )
        });
        let topics = response.topics.into_iter().filter_map(|topic| {
            let name = topic.name?.to_string();
            let error = topic.error_code.err();
            if error == Some(ErrorCode::UnknownTopicOrPartition) {
                return None;
            }
            let partitions = topic.partitions.into_iter().map(|partition| {
                let leader =
                    (partition.leader_id.0 >= 0).then_some(BrokerId(partition.leader_id.0));
                let entry = PartitionMetadata {
                    leader,
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                    replicas: partition
                        .replica_nodes
                        .into_iter()
                        .map(|id| BrokerId(id.0))
                        .collect(),
                    error: partition.error_code.err(),
                };
                (PartitionId(partition.partition_index), entry)
            });
            let entry = TopicMetadata {
                topic_id: TopicId(topic.topic_id.into_bytes()),
                is_internal: topic.is_internal,
                partitions: partitions.collect(),
                error,
            };
            Some((name, entry))
        });
        Self {
            cluster_id: response
                .cluster_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            controller: BrokerId(response.controller_id.0),
            brokers: brokers.collect(),
            topics: topics.collect(),
        }
    }
}
