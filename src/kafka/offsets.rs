//! ListOffsets: where logs start and end, as their leaders say.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId as WireBrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::record::{LeaderEpoch, Offset, Timestamp};

use super::coordinates::by_partition;
use super::retry::settled;
use super::{BrokerId, Client, KafkaError, Metadata, TopicPartition, Topics};

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start: the first offset that is left.
    Earliest,
    /// The high watermark: the first offset that consumers cannot read yet.
    Latest,
    /// Below which no transaction is open.
    LastStable,
    /// The first record with this timestamp or a later one.
    Timestamp(Timestamp),
}

impl OffsetSpec {
    fn on_the_wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest | Self::LastStable => -1,
            Self::Timestamp(timestamp) => timestamp.0,
        }
    }
}

/// The answer for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 when no record is as late as the timestamp.
    pub offset: Offset,
    /// The timestamp of the record found.
    pub timestamp: Timestamp,
    /// The epoch it belongs to.
    pub leader_epoch: LeaderEpoch,
}

type Answers = BTreeMap<TopicPartition, Result<ListedOffset, KafkaError>>;

impl Client {
    /// Asks the leader of each partition; what fails in passing is asked again until the deadline.
    pub async fn list_offsets(
        &self,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Answers, KafkaError> {
        self.retry()
            .run(|| async {
                let mut topics: Vec<&String> = wanted.iter().map(|(key, _)| &key.topic).collect();
                topics.dedup();
                let names: Vec<String> = topics.into_iter().cloned().collect();
                let metadata = self.metadata(Topics::Named(&names)).await?;
                self.list_offsets_now(&metadata, wanted).await
            })
            .await
    }

    /// One kind of offset of every partition.
    ///
    /// # Errors
    ///
    /// What any of the leaders refuses; when one cannot be asked before the deadline.
    pub async fn offsets_of(
        &self,
        partitions: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, Offset>, KafkaError> {
        let wanted: Vec<_> = partitions.iter().map(|key| (key.clone(), spec)).collect();
        let answers = self.list_offsets(&wanted).await?.into_iter();
        answers
            .map(|(partition, listed)| Ok((partition, listed?.offset)))
            .collect()
    }

    /// Asks the leaders that `metadata` knows, all at once, a request each and kind of offset. A partition that fails in
    /// passing fails all: for those who try again themselves.
    pub async fn list_offsets_now(
        &self,
        metadata: &Metadata,
        wanted: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Answers, KafkaError> {
        let mut answers = Answers::new();
        let mut by_leader: BTreeMap<(BrokerId, bool), Vec<&(TopicPartition, OffsetSpec)>> =
            BTreeMap::new();
        for entry in wanted {
            let (partition, spec) = entry;
            let found = metadata
                .topics
                .get(&partition.topic)
                .and_then(|topic| topic.partitions.get(&partition.partition));
            match found.and_then(|found| found.leader) {
                Some(leader) => {
                    let stable = *spec == OffsetSpec::LastStable;
                    by_leader.entry((leader, stable)).or_default().push(entry);
                }
                None => {
                    let error = KafkaError::leaderless(&partition.topic, partition.partition);
                    answers.insert(partition.clone(), Err(error));
                }
            }
        }
        let asked = by_leader
            .into_iter()
            .map(|((leader, stable), wanted)| self.ask(leader, stable, wanted));
        for part in try_join_all(asked).await? {
            answers.extend(part);
        }
        settled(answers)
    }

    async fn ask(
        &self,
        leader: BrokerId,
        stable: bool,
        wanted: Vec<&(TopicPartition, OffsetSpec)>,
    ) -> Result<Answers, KafkaError> {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (partition, spec) in wanted {
            let wire = ListOffsetsPartition::default()
                .with_partition_index(partition.partition.0)
                .with_current_leader_epoch(-1)
                .with_timestamp(spec.on_the_wire());
            topics.entry(&partition.topic).or_default().push(wire);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_string(name.to_owned())))
                .with_partitions(partitions)
        });
        let request = ListOffsetsRequest::default()
            .with_replica_id(WireBrokerId(-1))
            .with_isolation_level(i8::from(stable))
            .with_topics(topics.collect());
        let response = self.shared_connection(leader).await?.call(request).await?;
        let topics = response.topics.into_iter();
        let topics = topics.map(|topic| (topic.name, topic.partitions));
        Ok(by_partition(topics, |topic, partition| {
            let answer = match partition.error_code.err() {
                Some(code) => Err(KafkaError::for_topic(code, "DESCRIBE", topic)),
                None => Ok(ListedOffset {
                    offset: Offset(partition.offset),
                    timestamp: Timestamp(partition.timestamp),
                    leader_epoch: LeaderEpoch(partition.leader_epoch),
                }),
            };
            (partition.partition_index, answer)
        }))
    }
}
