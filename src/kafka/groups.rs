//! Groups: which there are, and who coordinates them.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, ListGroupsRequest};
use kafka_protocol::protocol::StrBytes;
use serde::{Deserialize, Serialize};

use super::{BrokerId, Client, Connection, ErrorCode, KafkaError, Topics};

/// So many groups are asked for in one request, or by so many requests at once where one names one group.
pub(super) const GROUPS_AT_ONCE: usize = 200;
pub(super) const REQUESTS_AT_ONCE: usize = 16;
/// From here on a request for coordinators names many groups (KIP-699, Kafka 3.0).
const MANY_COORDINATORS: i16 = 4;

/// The protocol by which a group's members agree (ListGroups v5, Kafka 3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupType {
    /// Rebalanced by its members; also one without members, to which a simple client commits.
    Classic,
    /// Rebalanced by the coordinator (KIP-848).
    Consumer,
    /// Kafka Streams' own (KIP-1071).
    Streams,
    /// A share group (KIP-932): it acknowledges records one by one, and has no committed offsets.
    Share,
    /// One that this kafkeep does not know.
    #[serde(other)]
    Unknown,
}

impl GroupType {
    /// Brokers that do not say know only classic groups.
    fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "" | "classic" => Self::Classic,
            "consumer" => Self::Consumer,
            "streams" => Self::Streams,
            "share" => Self::Share,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Streams => "streams",
            Self::Share => "share",
            Self::Unknown => "unknown",
        })
    }
}

/// A group in its coordinator's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group's id.
    pub group: String,
    /// The protocol that its members speak.
    pub group_type: GroupType,
    /// Its state; brokers before Kafka 2.6 do not say.
    pub state: Option<String>,
}

pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

impl Client {
    /// The groups that the user may see, asked of every broker: each lists those that it coordinates.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, KafkaError> {
        self.retry().run(|| self.list_groups_once()).await
    }

    async fn list_groups_once(&self) -> Result<Vec<ListedGroup>, KafkaError> {
        let brokers = self.metadata(Topics::Named(&[])).await?.brokers;
        let lists = brokers.into_keys().map(|broker| async move {
            let connection = self.shared_connection(broker).await?;
            let response = connection.call(ListGroupsRequest::default()).await?;
            match response.error_code.err() {
                Some(ErrorCode::ClusterAuthorizationFailed) => Err(KafkaError::Authorization {
                    operation: "DESCRIBE",
                    resource: "the cluster".to_owned(),
                }),
                Some(code) => Err(KafkaError::Broker {
                    code,
                    context: "listing groups".to_owned(),
                }),
                None => Ok(response.groups),
            }
        });
        let listed = try_join_all(lists).await?.into_iter().flatten();
        let groups = listed.map(|group| ListedGroup {
            group: group.group_id.to_string(),
            group_type: GroupType::of(&group.group_type),
            state: (!group.group_state.is_empty()).then(|| group.group_state.to_string()),
        });
        Ok(groups.collect())
    }

    /// A connection to a group's coordinator, as it is now. Asking creates `__consumer_offsets` where no group has been yet.
    pub(super) async fn coordinator(&self, group: &str) -> Result<Connection, KafkaError> {
        let mut found = self.coordinators(&[group.to_owned()]).await?;
        match found.remove(group) {
            Some(broker) => self.shared_connection(broker?).await,
            None => Err(coordinator_missing(group)),
        }
    }

    /// The broker that coordinates each group.
    pub(super) async fn coordinators(
        &self,
        groups: &[String],
    ) -> Result<BTreeMap<String, Result<BrokerId, KafkaError>>, KafkaError> {
        // Brokers may have come and gone: their addresses are read anew.
        self.metadata(Topics::Named(&[])).await?;
        let connection = self.any_connection().await?;
        let version = connection.version::<FindCoordinatorRequest>(i16::MAX)?;
        let size = if version < MANY_COORDINATORS {
            1
        } else {
            GROUPS_AT_ONCE
        };
        // Owned, so that the future can go from thread to thread.
        let chunks: Vec<Vec<String>> = groups.chunks(size).map(<[String]>::to_vec).collect();
        let found: Vec<_> = stream::iter(chunks)
            .map(|groups| find_coordinators(&connection, version, groups))
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}

pub(super) fn coordinator_missing(group: &str) -> KafkaError {
    KafkaError::Broker {
        code: ErrorCode::CoordinatorNotAvailable,
        context: format!("group {group}"),
    }
}

async fn find_coordinators(
    connection: &Connection,
    version: i16,
    groups: Vec<String>,
) -> Result<Vec<(String, Result<BrokerId, KafkaError>)>, KafkaError> {
    let keys = groups
        .iter()
        .map(|group| StrBytes::from_string(group.clone()));
    let request = FindCoordinatorRequest::default();
    let found = |code: i16, node: i32, group: &str| match code.err() {
        Some(code) => Err(KafkaError::for_group(code, "DESCRIBE", group)),
        None => Ok(BrokerId(node)),
    };
    if version < MANY_COORDINATORS {
        let mut answers = Vec::with_capacity(groups.len());
        for (group, key) in groups.iter().zip(keys) {
            let asked = request.clone().with_key(key);
            let response = connection.call(asked).await?;
            let answer = found(response.error_code, response.node_id.0, group);
            answers.push((group.clone(), answer));
        }
        return Ok(answers);
    }
    let request = request.with_coordinator_keys(keys.collect());
    let response = connection.call(request).await?;
    let answers = response.coordinators.into_iter().map(|coordinator| {
        let group = coordinator.key.to_string();
        let answer = found(coordinator.error_code, coordinator.node_id.0, &group);
        (group, answer)
    });
    Ok(answers.collect())
}
