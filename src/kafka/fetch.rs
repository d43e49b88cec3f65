//! Fetch: raw record batches, sessionless, several requests in flight.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::fetch_request::{FetchPartition as WirePartition, FetchTopic};
use kafka_protocol::messages::{self, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::memory::Reservation;
use crate::record::{LeaderEpoch, Offset, ProducerId, TopicId};
use crate::words::words;

use super::connection::PendingAnswer;
use super::coordinates::AskedPartitions;
use super::{Connection, ErrorCode, KafkaError, TopicPartition};

words! {
    /// How far a fetch may read.
    pub enum IsolationLevel {
        /// Kafka's default: to the high watermark.
        ReadUncommitted = "read_uncommitted",
        /// Only what was committed: to the last stable offset.
        ReadCommitted = "read_committed",
    }
    default ReadUncommitted
}

/// A Fetch request to one leader: its partitions, and how long and how much to wait for.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    /// Bytes that are worth an answer.
    pub min_bytes: i32,
    /// Bytes in all; a first batch that is larger comes nevertheless.
    pub max_bytes: i32,
    /// How far to read.
    pub isolation: IsolationLevel,
    /// From where, in the order of wishes.
    pub partitions: Vec<FetchPartition>,
}

/// A partition to fetch from.
#[derive(Debug, Clone)]
pub struct FetchPartition {
    /// Topic and number.
    pub key: Arc<TopicPartition>,
    /// The topic's id: with one, a recreated topic is not mistaken for this one (KIP-516).
    pub topic_id: TopicId,
    /// The first offset wanted.
    pub offset: Offset,
    /// The leader's epoch: a broker with another refuses (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// The epoch of the last batch held, to find out that the log has forked (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Bytes of this partition.
    pub max_bytes: i32,
}

/// What a broker answered for one partition.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    /// Topic and number, as they were asked for.
    pub key: Arc<TopicPartition>,
    /// Why there is nothing.
    pub error: Option<ErrorCode>,
    /// The high watermark now.
    pub high_watermark: Offset,
    /// The last stable offset now.
    pub last_stable_offset: Offset,
    /// Where the log starts now.
    pub log_start_offset: Offset,
    /// Where the leader's log leaves the one held: epoch and end offset.
    pub diverging_epoch: Option<(LeaderEpoch, Offset)>,
    /// Transactions that were aborted, as far as they have batches here: producer and first offset. Only under
    /// [`IsolationLevel::ReadCommitted`].
    pub aborted: Vec<(ProducerId, Offset)>,
    /// Record batches, the last one perhaps cut off. A part of the receive buffer, which holds its memory until the last part
    /// of it is dropped.
    pub records: Bytes,
}

/// From here on topics are named by id.
const BY_ID: i16 = 13;

/// An answer that is still to come.
#[derive(Debug)]
pub struct PendingFetch {
    answer: PendingAnswer,
    connection: Connection,
    version: i16,
    names: Vec<(TopicId, String)>,
    asked: AskedPartitions,
}

impl Connection {
    /// Sends a fetch, whose answer is read into `memory`; await the returned value's [`PendingFetch::receive`].
    pub async fn start_fetch(
        &self,
        request: FetchRequest,
        memory: Reservation,
    ) -> Result<PendingFetch, KafkaError> {
        let ids_known = request
            .partitions
            .iter()
            .all(|partition| !partition.topic_id.is_zero());
        let ceiling = if ids_known { 17 } else { BY_ID - 1 };
        let version = self.version::<messages::FetchRequest>(ceiling)?;
        let keys = request.partitions.iter();
        let asked = keys.map(|partition| Arc::clone(&partition.key)).collect();
        let mut names: Vec<(TopicId, String)> = Vec::new();
        let mut topics: Vec<FetchTopic> = Vec::new();
        for partition in request.partitions {
            let key = partition.key;
            let wire = WirePartition::default()
                .with_partition(key.partition.0)
                .with_current_leader_epoch(partition.leader_epoch.map_or(-1, |epoch| epoch.0))
                .with_fetch_offset(partition.offset.0)
                .with_last_fetched_epoch(partition.last_fetched_epoch.map_or(-1, |epoch| epoch.0))
                .with_log_start_offset(-1)
                .with_partition_max_bytes(partition.max_bytes);
            // Neighbours of one topic share its entry: order is the order of wishes.
            match (topics.last_mut(), names.last()) {
                (Some(topic), Some((_, name))) if *name == key.topic => topic.partitions.push(wire),
                _ => {
                    let mut topic = FetchTopic::default().with_partitions(vec![wire]);
                    if version >= BY_ID {
                        topic.topic_id = Uuid::from_bytes(partition.topic_id.0);
                    } else {
                        topic.topic = TopicName(StrBytes::from_string(key.topic.clone()));
                    }
                    topics.push(topic);
                    names.push((partition.topic_id, key.topic.clone()));
                }
            }
        }
        let wire = messages::FetchRequest::default()
            .with_max_wait_ms(i32::try_from(request.max_wait.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(request.min_bytes)
            .with_max_bytes(request.max_bytes)
            .with_isolation_level(if request.isolation == IsolationLevel::ReadCommitted {
                1
            } else {
                0
            })
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(topics);
        let answer = self.send_for(&wire, version, memory).await?;
        Ok(PendingFetch {
            answer,
            connection: self.clone(),
            version,
            names,
            asked,
        })
    }
}

impl PendingFetch {
    /// Waits for the answer: what it says of partitions that were asked for.
    pub async fn receive(self) -> Result<Vec<FetchedPartition>, KafkaError> {
        let bytes = self.answer.receive().await?;
        let response: FetchResponse = self.connection.decode("Fetch", bytes, self.version)?;
        if let Some(code) = response.error_code.err() {
            return Err(KafkaError::Broker {
                code,
                context: format!("fetch from {}", self.connection.address()),
            });
        }
        let mut fetched = Vec::new();
        for topic in response.responses {
            let id = TopicId(topic.topic_id.into_bytes());
            let name = if self.version >= BY_ID {
                let known = self.names.iter().find(|(known, _)| *known == id);
                known.map(|(_, name)| name.clone())
            } else {
                Some(topic.topic.to_string())
            };
            let Some(name) = name else { continue };
            let mut asked = self.asked.of_topic(name);
            for partition in topic.partitions {
                let Some(key) = asked(partition.partition_index) else {
                    continue;
                };
                let aborted = partition.aborted_transactions.into_iter().flatten();
                let diverging = &partition.diverging_epoch;
                fetched.push(FetchedPartition {
                    key,
                    error: partition.error_code.err(),
                    high_watermark: Offset(partition.high_watermark),
                    last_stable_offset: Offset(partition.last_stable_offset),
                    log_start_offset: Offset(partition.log_start_offset),
                    diverging_epoch: (diverging.end_offset >= 0)
                        .then_some((LeaderEpoch(diverging.epoch), Offset(diverging.end_offset))),
                    aborted: aborted
                        .map(|aborted| {
                            let producer = ProducerId(aborted.producer_id.0);
                            (producer, Offset(aborted.first_offset))
                        })
                        .collect(),
                    records: partition.records.unwrap_or_default(),
                });
            }
        }
        Ok(fetched)
    }
}
