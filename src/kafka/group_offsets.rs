//! OffsetFetch and OffsetCommit: the offsets that groups have committed, read and set by a client that joins none.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::record::{LeaderEpoch, Offset, PartitionId};

use super::coordinates::by_partition;
use super::groups::{REQUESTS_AT_ONCE, coordinator_missing, group_id};
use super::{BrokerId, Client, Connection, ErrorCode, KafkaError, Retry, TopicPartition};

/// From here on one request names many groups (KIP-709, Kafka 3.0).
const MANY_GROUPS: i16 = 8;
/// From here on a broker says that a transaction is about to move an offset (KIP-447, Kafka 2.5).
const REQUIRE_STABLE: i16 = 7;
const GROUPS_AT_ONCE: usize = 50;
/// A coordinator appends one batch for a request: with metadata of Kafka's 4 KiB, it fits into its default of 1 MiB.
const OFFSETS_AT_ONCE: usize = 200;
/// How long to wait for transactions that are about to move offsets.
const STABLE_WITHIN: Duration = Duration::from_secs(3);

/// An offset that a group has committed for a partition: the first that it has not consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group reads.
    pub offset: Offset,
    /// The epoch of the record before it; -1 where the client did not say.
    pub leader_epoch: LeaderEpoch,
    /// What the client wrote beside it.
    pub metadata: String,
}

/// What one group has committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupOffsets {
    /// By partition; what has no committed offset is not there.
    pub offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// A transaction that had not ended may move some of them.
    pub is_unstable: bool,
}

type Fetched = BTreeMap<String, Result<GroupOffsets, KafkaError>>;

/// The result for each partition of a commit.
pub type CommitAnswers = BTreeMap<TopicPartition, Result<(), KafkaError>>;

impl Client {
    /// All offsets that groups have committed on topics that the user may describe. Waits a little for transactions
    /// that are about to commit some; then what was committed before them counts.
    pub async fn committed_offsets(&self, groups: &[String]) -> Result<Fetched, KafkaError> {
        let patience = Retry {
            deadline: self.retry().deadline.min(STABLE_WITHIN),
            ..self.retry()
        };
        let mut fetched = self.fetch_offsets(groups, true, patience).await?;
        let unsettled: Fetched = fetched
            .extract_if(.., |_, answer| {
                answer.as_ref().is_err_and(KafkaError::is_transient)
            })
            .collect();
        let left: Vec<String> = unsettled.keys().cloned().collect();
        if !left.is_empty() {
            fetched.extend(self.fetch_offsets(&left, false, self.retry()).await?);
        }
        for (group, error) in unsettled {
            if let (Some(Ok(offsets)), Err(KafkaError::Broker { code, .. })) =
                (fetched.get_mut(&group), error)
            {
                offsets.is_unstable = code == ErrorCode::UnstableOffsetCommit;
            }
        }
        Ok(fetched)
    }

    /// All offsets that groups have committed by now, on topics that the user may describe. What transactions are about to
    /// commit is not waited for, and does not count.
    pub async fn committed_offsets_now(&self, groups: &[String]) -> Result<Fetched, KafkaError> {
        self.fetch_offsets(groups, false, self.retry()).await
    }

    /// Asks again for what failed in passing, until `retry` gives up; then that error stands.
    async fn fetch_offsets(
        &self,
        groups: &[String],
        stable: bool,
        retry: Retry,
    ) -> Result<Fetched, KafkaError> {
        let missing = |group: &String| coordinator_missing(group);
        let ask = |left: Vec<String>| async move { self.fetch_offsets_once(&left, stable).await };
        retry.run_each(groups, missing, ask).await
    }

    /// What failed in passing for a whole coordinator has no answer.
    async fn fetch_offsets_once(
        &self,
        groups: &[String],
        stable: bool,
    ) -> Result<Fetched, KafkaError> {
        let mut fetched = Fetched::new();
        let mut by_coordinator: BTreeMap<BrokerId, Vec<String>> = BTreeMap::new();
        for (group, coordinator) in self.coordinators(groups).await? {
            match coordinator {
                Ok(broker) => by_coordinator.entry(broker).or_default().push(group),
                Err(error) => {
                    fetched.insert(group, Err(error));
                }
            }
        }
        let asked = by_coordinator
            .into_iter()
            .map(|(coordinator, groups)| self.fetch_from(coordinator, groups, stable));
        for answered in join_all(asked).await {
            match answered {
                Ok(answers) => fetched.extend(answers),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "asking for committed offsets again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(fetched)
    }

    async fn fetch_from(
        &self,
        coordinator: BrokerId,
        groups: Vec<String>,
        stable: bool,
    ) -> Result<Fetched, KafkaError> {
        let connection = self.shared_connection(coordinator).await?;
        let version = connection.version::<OffsetFetchRequest>(i16::MAX)?;
        let request =
            OffsetFetchRequest::default().with_require_stable(stable && version >= REQUIRE_STABLE);
        if version < MANY_GROUPS {
            let mut fetched = Fetched::new();
            for group in groups {
                let request = request
                    .clone()
                    .with_group_id(group_id(&group))
                    .with_topics(None);
                let answer = fetch_one(&connection, request, &group).await?;
                fetched.insert(group, answer);
            }
            return Ok(fetched);
        }
        // Owned, so that the future can go from thread to thread.
        let chunks: Vec<Vec<String>> = groups.chunks(GROUPS_AT_ONCE).map(<[_]>::to_vec).collect();
        let fetched: Vec<Fetched> = stream::iter(chunks)
            .map(|groups| fetch_many(&connection, request.clone(), groups))
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(fetched.into_iter().flatten().collect())
    }

    /// Commits offsets as a simple client does: into no generation, as no member (`OffsetCommit` v2-v9). A group with
    /// members refuses. The offsets' leader epochs belong to another log and are not sent.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<CommitAnswers, KafkaError> {
        let offsets: Vec<_> = offsets.iter().collect();
        let mut answers = CommitAnswers::new();
        for offsets in offsets.chunks(OFFSETS_AT_ONCE) {
            answers.extend(self.commit_chunk(group, offsets).await?);
        }
        Ok(answers)
    }

    /// Repeats the commit while it fails in passing: the same offsets twice are the same as once.
    async fn commit_chunk(
        &self,
        group: &str,
        offsets: &[(&TopicPartition, &CommittedOffset)],
    ) -> Result<CommitAnswers, KafkaError> {
        let retry = self.retry();
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            let answers = self.commit_once(group, offsets).await;
            let settled = match &answers {
                Ok(answers) => !answers
                    .values()
                    .any(|answer| answer.as_ref().is_err_and(KafkaError::is_transient)),
                Err(error) => !error.is_transient(),
            };
            let pause = retry.backoff(attempts);
            if settled || started.elapsed() + pause > retry.deadline {
                return answers;
            }
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
    }

    async fn commit_once(
        &self,
        group: &str,
        offsets: &[(&TopicPartition, &CommittedOffset)],
    ) -> Result<CommitAnswers, KafkaError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (key, committed) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(key.partition.0)
                .with_committed_offset(committed.offset.0)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::from_string(committed.metadata.clone())));
            topics.entry(&key.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(StrBytes::from_string(name.to_owned())))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let response = self.coordinator(group).await?.call(request).await?;
        let topics = response.topics.into_iter();
        let topics = topics.map(|topic| (topic.name, topic.partitions));
        Ok(by_partition(topics, |topic, partition| {
            let answer = match partition.error_code.err() {
                Some(code) => Err(commit_refused(code, group, topic)),
                None => Ok(()),
            };
            (partition.partition_index, answer)
        }))
    }
}

fn commit_refused(code: ErrorCode, group: &str, topic: &str) -> KafkaError {
    match code {
        ErrorCode::TopicAuthorizationFailed => KafkaError::Authorization {
            operation: "READ",
            resource: format!("topic {topic}"),
        },
        code => KafkaError::for_group(code, "READ", group),
    }
}

async fn fetch_many(
    connection: &Connection,
    request: OffsetFetchRequest,
    groups: Vec<String>,
) -> Result<Fetched, KafkaError> {
    let asked = groups.iter().map(|group| {
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(None)
    });
    let response = connection
        .call(request.with_groups(asked.collect()))
        .await?;
    let answers = response.groups.into_iter().map(|answer| {
        let partitions = answer.topics.into_iter().flat_map(|topic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |partition| Row {
                topic: name.clone(),
                partition: partition.partition_index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
        });
        let group = answer.group_id.to_string();
        let offsets = offsets(&group, answer.error_code, partitions);
        (group, offsets)
    });
    Ok(answers.collect())
}

async fn fetch_one(
    connection: &Connection,
    request: OffsetFetchRequest,
    group: &str,
) -> Result<Result<GroupOffsets, KafkaError>, KafkaError> {
    let response = connection.call(request).await?;
    let partitions = response.topics.into_iter().flat_map(|topic| {
        let name = topic.name.to_string();
        topic.partitions.into_iter().map(move |partition| Row {
            topic: name.clone(),
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
        })
    });
    Ok(offsets(group, response.error_code, partitions))
}

/// One partition of an answer, in either of its two shapes.
struct Row {
    topic: String,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<StrBytes>,
    error_code: i16,
}

fn offsets(
    group: &str,
    error_code: i16,
    rows: impl Iterator<Item = Row>,
) -> Result<GroupOffsets, KafkaError> {
    if let Some(code) = error_code.err() {
        return Err(KafkaError::for_group(code, "DESCRIBE", group));
    }
    let mut offsets = BTreeMap::new();
    for row in rows {
        match row.error_code.err() {
            None => {}
            Some(ErrorCode::TopicAuthorizationFailed) => {
                return Err(KafkaError::Authorization {
                    operation: "DESCRIBE",
                    resource: format!("topic {}", row.topic),
                });
            }
            Some(code) => return Err(KafkaError::for_group(code, "DESCRIBE", group)),
        }
        // -1 stands for none.
        if row.offset < 0 {
            continue;
        }
        let key = TopicPartition {
            topic: row.topic,
            partition: PartitionId(row.partition),
        };
        let committed = CommittedOffset {
            offset: Offset(row.offset),
            leader_epoch: LeaderEpoch(row.leader_epoch),
            metadata: row
                .metadata
                .map(|text| text.to_string())
                .unwrap_or_default(),
        };
        offsets.insert(key, committed);
    }
    Ok(GroupOffsets {
        offsets,
        is_unstable: false,
    })
}
