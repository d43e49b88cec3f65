//! DescribeLogDirs: how many bytes logs take on their leaders' disks (KIP-113).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{DescribeLogDirsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::record::PartitionId;

use super::{BrokerId, Client, ErrorCode, KafkaError, TopicPartition};

impl Client {
    /// Bytes of all segments that each partition's leader has on its disks, as `leaders` says who that is. A partition that a
    /// broker knows nothing of is left out.
    pub async fn log_sizes(
        &self,
        leaders: &[(TopicPartition, BrokerId)],
    ) -> Result<BTreeMap<TopicPartition, u64>, KafkaError> {
        let mut by_leader: BTreeMap<BrokerId, BTreeSet<&TopicPartition>> = BTreeMap::new();
        for (partition, leader) in leaders {
            by_leader.entry(*leader).or_default().insert(partition);
        }
        let ask = || {
            let asked = by_leader.iter();
            try_join_all(asked.map(|(leader, partitions)| self.log_sizes_on(*leader, partitions)))
        };
        let sizes = self.retry().run(ask).await?;
        Ok(sizes.into_iter().flatten().collect())
    }

    async fn log_sizes_on(
        &self,
        leader: BrokerId,
        wanted: &BTreeSet<&TopicPartition>,
    ) -> Result<Vec<(TopicPartition, u64)>, KafkaError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in wanted {
            let partitions = topics.entry(&partition.topic).or_default();
            partitions.push(partition.partition.0);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            DescribableLogDirTopic::default()
                .with_topic(TopicName(StrBytes::from_string(name.to_owned())))
                .with_partitions(partitions)
        });
        let request = DescribeLogDirsRequest::default().with_topics(Some(topics.collect()));
        let response = self.shared_connection(leader).await?.call(request).await?;
        refuse(response.error_code, leader)?;
        let mut sizes = Vec::new();
        for directory in response.results {
            refuse(directory.error_code, leader)?;
            for topic in directory.topics {
                // A log that moves to another disk of the broker is the same log twice.
                let current = topic
                    .partitions
                    .into_iter()
                    .filter(|log| !log.is_future_key);
                for log in current {
                    let partition = TopicPartition {
                        topic: topic.name.to_string(),
                        partition: PartitionId(log.partition_index),
                    };
                    if wanted.contains(&partition) {
                        sizes.push((partition, u64::try_from(log.partition_size).unwrap_or(0)));
                    }
                }
            }
        }
        Ok(sizes)
    }
}

fn refuse(code: i16, broker: BrokerId) -> Result<(), KafkaError> {
    match code.err() {
        None => Ok(()),
        Some(ErrorCode::ClusterAuthorizationFailed) => Err(KafkaError::Authorization {
            operation: "DESCRIBE",
            resource: "the cluster".to_owned(),
        }),
        Some(code) => Err(KafkaError::Broker {
            code,
            context: format!("asking {broker} for the sizes of logs"),
        }),
    }
}
