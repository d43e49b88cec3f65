//! What groups are and who is in them, as their coordinators describe them.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::consumer_group_describe_response::Assignment;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest};

use crate::record::PartitionId;

use super::groups::{GROUPS_AT_ONCE, REQUESTS_AT_ONCE, coordinator_missing, group_id};
use super::{BrokerId, Client, Connection, ErrorCode, GroupType, KafkaError};

/// A group as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The protocol that its members speak.
    pub group_type: GroupType,
    /// Its state, in Kafka's words: `Empty`, `Stable`, …
    pub state: String,
    /// Changes whenever members or their subscriptions do; none where the type has no such number that is told.
    pub epoch: Option<i32>,
    /// Its members, with what is assigned to them.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub member_id: String,
    /// What its client calls itself.
    pub client_id: String,
    /// The host that it connects from, as its coordinator sees it.
    pub host: String,
    /// What it reads now, by topic; nothing where its clients agree by another protocol than consumers do.
    pub assignment: BTreeMap<String, Vec<PartitionId>>,
}

impl GroupDescription {
    /// Whether its members are finding out who reads what: the states of classic groups, and those of KIP-848.
    pub fn is_rebalancing(&self) -> bool {
        matches!(
            self.state.as_str(),
            "PreparingRebalance" | "CompletingRebalance" | "Assigning" | "Reconciling"
        )
    }
}

impl fmt::Display for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.trim_start_matches('/');
        write!(f, "{} ({} at {host})", self.member_id, self.client_id)
    }
}

type Described = BTreeMap<String, Result<Option<GroupDescription>, KafkaError>>;

impl Client {
    /// What a group is and who is in it; none when there is no such group.
    pub async fn describe_group(
        &self,
        group: &str,
    ) -> Result<Option<GroupDescription>, KafkaError> {
        let mut described = self.describe_groups(&[group.to_owned()]).await?;
        described.remove(group).unwrap_or(Ok(None))
    }

    /// What groups are and who is in them; none for those that are not there, and for those of other types than classic and
    /// consumer groups. Asks in batches; what fails in passing is asked again until the deadline, and then is that group's answer.
    pub async fn describe_groups(&self, groups: &[String]) -> Result<Described, KafkaError> {
        let missing = |group: &String| coordinator_missing(group);
        let ask = |left: Vec<String>| async move { self.describe_groups_once(&left).await };
        self.retry().run_each(groups, missing, ask).await
    }

    /// What failed in passing for a whole coordinator has no answer.
    async fn describe_groups_once(&self, groups: &[String]) -> Result<Described, KafkaError> {
        let mut described = Described::new();
        let mut by_coordinator: BTreeMap<BrokerId, Vec<String>> = BTreeMap::new();
        let mut coordinators = self.coordinators(groups).await?;
        for group in groups {
            match coordinators.remove(group) {
                Some(Ok(broker)) => by_coordinator
                    .entry(broker)
                    .or_default()
                    .push(group.clone()),
                Some(Err(error)) => {
                    described.insert(group.clone(), Err(error));
                }
                None => {
                    described.insert(group.clone(), Err(coordinator_missing(group)));
                }
            }
        }
        let asked = by_coordinator
            .into_iter()
            .map(|(coordinator, groups)| self.describe_at(coordinator, groups));
        for answered in join_all(asked).await {
            match answered {
                Ok(answers) => described.extend(answers),
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "asking for descriptions of groups again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(described)
    }

    async fn describe_at(
        &self,
        coordinator: BrokerId,
        groups: Vec<String>,
    ) -> Result<Described, KafkaError> {
        let connection = self.shared_connection(coordinator).await?;
        // Owned, so that the future can go from thread to thread.
        let chunks: Vec<Vec<String>> = groups.chunks(GROUPS_AT_ONCE).map(<[_]>::to_vec).collect();
        let described: Vec<Described> = stream::iter(chunks)
            .map(|groups| describe(&connection, groups))
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(described.into_iter().flatten().collect())
    }
}

/// First by the API of KIP-848, which knows only groups of that type, then the others by the older one.
async fn describe(
    coordinator: &Connection,
    mut groups: Vec<String>,
) -> Result<Described, KafkaError> {
    let mut described = describe_consumer_groups(coordinator, &groups).await?;
    groups.retain(|group| !described.contains_key(group));
    if !groups.is_empty() {
        described.extend(describe_classic_groups(coordinator, &groups).await?);
    }
    Ok(described)
}

/// Only those that are such groups, or may not be described.
async fn describe_consumer_groups(
    coordinator: &Connection,
    groups: &[String],
) -> Result<Described, KafkaError> {
    let ids = groups.iter().map(|group| group_id(group));
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(ids.collect());
    let response = match coordinator.call(request).await {
        Err(KafkaError::Unsupported { .. }) => return Ok(Described::new()),
        response => response?,
    };
    let mut described = Described::new();
    for found in response.groups {
        let group = found.group_id.to_string();
        let answer = match found.error_code.err() {
            None => Ok(Some(GroupDescription {
                group_type: GroupType::Consumer,
                state: found.group_state.to_string(),
                epoch: Some(found.group_epoch),
                members: found
                    .members
                    .into_iter()
                    .map(|member| GroupMember {
                        member_id: member.member_id.to_string(),
                        client_id: member.client_id.to_string(),
                        host: member.client_host.to_string(),
                        assignment: by_topic(member.assignment),
                    })
                    .collect(),
            })),
            // Of another type, or none at all; the broker may have the protocol switched off.
            Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion) => continue,
            Some(ErrorCode::TopicAuthorizationFailed) => Err(KafkaError::Authorization {
                operation: "DESCRIBE",
                resource: format!("the topics that group {group} is subscribed to"),
            }),
            Some(code) => Err(KafkaError::for_group(code, "DESCRIBE", &group)),
        };
        described.insert(group, answer);
    }
    Ok(described)
}

fn by_topic(assignment: Assignment) -> BTreeMap<String, Vec<PartitionId>> {
    let topics = assignment.topic_partitions.into_iter();
    let topics = topics.map(|topic| {
        let partitions = topic.partitions.into_iter().map(PartitionId);
        (topic.topic_name.to_string(), partitions.collect())
    });
    topics.collect()
}

async fn describe_classic_groups(
    coordinator: &Connection,
    groups: &[String],
) -> Result<Described, KafkaError> {
    let ids = groups.iter().map(|group| group_id(group));
    let request = DescribeGroupsRequest::default().with_groups(ids.collect());
    let response = coordinator.call(request).await?;
    let mut described = Described::new();
    for found in response.groups {
        let group = found.group_id.to_string();
        let answer = match found.error_code.err() {
            Some(ErrorCode::GroupIdNotFound) => Ok(None),
            Some(code) => Err(KafkaError::for_group(code, "DESCRIBE", &group)),
            // What older brokers say of a group that is not there.
            None if found.group_state.as_str() == "Dead" => Ok(None),
            None => {
                let of_consumers = found.protocol_type.as_str() == CONSUMERS;
                let members = found.members.into_iter().map(|member| GroupMember {
                    member_id: member.member_id.to_string(),
                    client_id: member.client_id.to_string(),
                    host: member.client_host.to_string(),
                    assignment: of_consumers
                        .then(|| read_assignment(&member.member_assignment))
                        .flatten()
                        .unwrap_or_default(),
                });
                Ok(Some(GroupDescription {
                    group_type: GroupType::Classic,
                    state: found.group_state.to_string(),
                    epoch: None,
                    members: members.collect(),
                }))
            }
        };
        described.insert(group, answer);
    }
    Ok(described)
}

/// The protocol type of groups of consumers (`ConsumerProtocol.PROTOCOL_TYPE`).
const CONSUMERS: &str = "consumer";

/// A `ConsumerProtocolAssignment`, whose versions all begin alike. None when it is none, or is not there yet.
fn read_assignment(mut bytes: &[u8]) -> Option<BTreeMap<String, Vec<PartitionId>>> {
    let rest = &mut bytes;
    let _version = i16::from_be_bytes(take(rest)?);
    let mut topics = BTreeMap::new();
    for _ in 0..i32::from_be_bytes(take(rest)?) {
        let length = usize::try_from(i16::from_be_bytes(take(rest)?)).ok()?;
        let (name, behind) = rest.split_at_checked(length)?;
        let topic = std::str::from_utf8(name).ok()?;
        *rest = behind;
        let mut partitions = Vec::new();
        for _ in 0..i32::from_be_bytes(take(rest)?) {
            partitions.push(PartitionId(i32::from_be_bytes(take(rest)?)));
        }
        topics.insert(topic.to_owned(), partitions);
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Wire;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    fn encoded(version: i16, topics: &[(&str, Vec<i32>)]) -> BytesMut {
        let topics = topics.iter().map(|(name, partitions)| {
            Wire::default()
                .with_topic(TopicName(StrBytes::from_string((*name).to_owned())))
                .with_partitions(partitions.clone())
        });
        let mut bytes = BytesMut::new();
        bytes.put_i16(version);
        ConsumerProtocolAssignment::default()
            .with_assigned_partitions(topics.collect())
            .encode(&mut bytes, version)
            .unwrap();
        bytes
    }

    #[test]
    fn an_assignment_is_read_in_every_version() {
        for version in 0..=3 {
            let bytes = encoded(version, &[("orders", vec![0, 7]), ("ä", vec![])]);
            let expected = BTreeMap::from([
                ("orders".to_owned(), vec![PartitionId(0), PartitionId(7)]),
                ("ä".to_owned(), vec![]),
            ]);
            assert_eq!(read_assignment(&bytes), Some(expected), "version {version}");
        }
        assert_eq!(read_assignment(&[]), None, "it is not there yet");
    }

    proptest! {
        #[test]
        fn no_bytes_assign_more_than_they_hold(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = read_assignment(&bytes).unwrap_or_default();
            let partitions: usize = read.values().map(Vec::len).sum();
            prop_assert!(partitions * 4 <= bytes.len());
        }

        #[test]
        fn an_assignment_that_is_cut_off_assigns_nothing(cut in 1usize..30) {
            let bytes = encoded(0, &[("orders", vec![0, 7, 9])]);
            // User data, of which nothing is said here, stands behind what is read.
            let read = bytes.len() - 4;
            prop_assert_eq!(read_assignment(&bytes[..read.saturating_sub(cut)]), None);
        }
    }
}
