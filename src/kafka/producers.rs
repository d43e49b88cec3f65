//! DescribeProducers: which transactions are open in a log, and whose they are (KIP-664).

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{DescribeProducersRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::record::{Offset, ProducerId, Timestamp};

use super::coordinates::by_partition;
use super::retry::settled;
use super::{BrokerId, Client, KafkaError, Metadata, TopicPartition, Topics};

/// A transaction that is open in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveTransaction {
    /// The producer that began it.
    pub producer_id: ProducerId,
    /// The offset of its first batch.
    pub first_offset: Offset,
    /// The largest timestamp of its producer's last batch: the time of its records, not necessarily that of writing.
    pub last_record: Timestamp,
}

/// By partition, the oldest first.
pub type ActiveTransactions = BTreeMap<TopicPartition, Vec<ActiveTransaction>>;

type Answers = BTreeMap<TopicPartition, Result<Vec<ActiveTransaction>, KafkaError>>;

impl Client {
    /// The transactions that are open in these partitions. A partition without any is left out, as is one that the brokers do
    /// not tell about: those before Kafka 2.8 know no such request, and it takes the right to read the topic.
    ///
    /// # Errors
    ///
    /// When a leader cannot be asked before the deadline.
    pub async fn active_transactions(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<ActiveTransactions, KafkaError> {
        if partitions.is_empty() {
            return Ok(ActiveTransactions::new());
        }
        let topics: BTreeSet<&String> = partitions.iter().map(|key| &key.topic).collect();
        let topics: Vec<String> = topics.into_iter().cloned().collect();
        let retry = self.retry();
        let asked = retry.run(|| async {
            let metadata = self.metadata(Topics::Named(&topics)).await?;
            self.active_transactions_now(&metadata, partitions).await
        });
        match asked.await {
            Ok(answers) => Ok(answers
                .into_iter()
                .filter_map(|(key, answer)| Some((key, answer.ok()?)))
                .filter(|(_, active)| !active.is_empty())
                .collect()),
            Err(KafkaError::Unsupported { .. } | KafkaError::Authorization { .. }) => {
                Ok(ActiveTransactions::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn active_transactions_now(
        &self,
        metadata: &Metadata,
        partitions: &[TopicPartition],
    ) -> Result<Answers, KafkaError> {
        let mut by_leader: BTreeMap<BrokerId, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for key in partitions {
            let topic = metadata.topics.get(&key.topic);
            let found = topic.and_then(|topic| topic.partitions.get(&key.partition));
            if let Some(leader) = found.and_then(|found| found.leader) {
                let topics = by_leader.entry(leader).or_default();
                topics.entry(&key.topic).or_default().push(key.partition.0);
            }
        }
        let asked = by_leader.into_iter();
        let asked = asked.map(|(leader, topics)| self.active_transactions_on(leader, topics));
        settled(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    async fn active_transactions_on(
        &self,
        leader: BrokerId,
        topics: BTreeMap<&str, Vec<i32>>,
    ) -> Result<Answers, KafkaError> {
        let topics = topics.into_iter().map(|(name, partitions)| {
            TopicRequest::default()
                .with_name(TopicName(StrBytes::from_string(name.to_owned())))
                .with_partition_indexes(partitions)
        });
        let request = DescribeProducersRequest::default().with_topics(topics.collect());
        let response = self.shared_connection(leader).await?.call(request).await?;
        let topics = response.topics.into_iter();
        let topics = topics.map(|topic| (topic.name, topic.partitions));
        Ok(by_partition(topics, |topic, partition| {
            let answer = match partition.error_code.err() {
                Some(code) => Err(KafkaError::for_topic(code, "READ", topic)),
                None => Ok(active(&partition.active_producers)),
            };
            (partition.partition_index, answer)
        }))
    }
}

fn active(
    producers: &[kafka_protocol::messages::describe_producers_response::ProducerState],
) -> Vec<ActiveTransaction> {
    // -1 where a producer has no transaction open.
    let open = producers
        .iter()
        .filter(|producer| producer.current_txn_start_offset >= 0);
    let mut active: Vec<ActiveTransaction> = open
        .map(|producer| ActiveTransaction {
            producer_id: ProducerId(producer.producer_id.0),
            first_offset: Offset(producer.current_txn_start_offset),
            last_record: Timestamp(producer.last_timestamp),
        })
        .collect();
    active.sort_by_key(|transaction| transaction.first_offset);
    active
}
