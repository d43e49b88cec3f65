//! Transactions (KIP-98): a producer with a name, whose batches and offsets count together or not at all.
//!
//! Brokers of transaction version 2 (KIP-890) take the older requests too, as long as all of a transaction are old: so no version
//! that means the new protocol is spoken.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest,
    GroupId, InitProducerIdRequest, ProducerId as WireProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::record::ProducerId;

use super::{
    BrokerId, Client, CommittedOffset, Connection, ErrorCode, KafkaError, ProducerIdentity, Retry,
    TopicPartition,
};

/// Kafka's number for transactions among the things that have a coordinator.
const TRANSACTION: i8 = 1;
/// The last version of each request that leaves adding partitions, and the epoch, to the client.
const ADD_PARTITIONS: i16 = 3;
const ADD_OFFSETS: i16 = 3;
const OFFSET_COMMIT: i16 = 4;
const END: i16 = 4;

/// From here on a producer that bears a name already says so when it asks for it (KIP-360, Kafka 2.5).
const RENEWAL: i16 = 3;
/// From here on one request asks for many coordinators (KIP-699).
const MANY_COORDINATORS: i16 = 4;

/// How long a cluster takes for a transaction's markers, when it is well.
const MARKERS_WITHIN: Duration = Duration::from_millis(3);

/// A producer whose name nobody else bears: who takes it fences the one before.
#[derive(Debug, Clone)]
pub struct TransactionalProducer {
    client: Client,
    transactional_id: String,
    timeout: Duration,
    identity: ProducerIdentity,
    /// Whether a renewal was asked for whose answer is not known: the cluster may have given the next epoch, or not.
    is_uncertain: bool,
}

/// What became of a name that its bearer asked to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// It is still its own.
    Kept,
    /// Another producer has taken it.
    Taken,
    /// The cluster gave it a later epoch: to another producer, or to this one in an answer that was lost. A coordinator keeps the
    /// epoch before the last in memory alone (Kafka's `TransactionLog`), so after it moved it cannot tell.
    Unknown,
}

impl Client {
    /// Becomes the producer of that name. What one before had not ended is aborted, and it can write no more. A transaction that
    /// is open for longer than `timeout` is aborted by the cluster.
    pub async fn transactional_producer(
        &self,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<TransactionalProducer, KafkaError> {
        let ask = || async {
            let coordinator = self.transaction_coordinator(transactional_id).await?;
            take_name(&coordinator, transactional_id, timeout, None).await
        };
        let identity = self.retry().run(ask).await?;
        Ok(TransactionalProducer {
            client: self.clone(),
            transactional_id: transactional_id.to_owned(),
            timeout,
            identity,
            is_uncertain: false,
        })
    }

    async fn transaction_coordinator(
        &self,
        transactional_id: &str,
    ) -> Result<Connection, KafkaError> {
        let connection = self.any_connection().await?;
        let version = connection.version::<FindCoordinatorRequest>(i16::MAX)?;
        let request = FindCoordinatorRequest::default().with_key_type(TRANSACTION);
        let request = match version < MANY_COORDINATORS {
            true => request.with_key(text(transactional_id)),
            false => request.with_coordinator_keys(vec![text(transactional_id)]),
        };
        let response = connection.call(request).await?;
        let (code, node) = match response.coordinators.first() {
            Some(coordinator) => (coordinator.error_code, coordinator.node_id),
            None => (response.error_code, response.node_id),
        };
        refuse(code, transactional_id)?;
        self.shared_connection(BrokerId(node.0)).await
    }
}

impl TransactionalProducer {
    /// Who it is on the wire.
    pub fn identity(&self) -> ProducerIdentity {
        self.identity
    }

    /// The transactional id, by which the cluster fences older producers.
    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    /// Asks once whether the name is still its own. The cluster counts that as a use of the name, and gives it the next epoch.
    /// Brokers before Kafka 2.5 cannot tell, and are not asked.
    ///
    /// # Errors
    ///
    /// When the cluster gives no answer: a later call may get one.
    pub async fn renew(&mut self) -> Result<Renewal, KafkaError> {
        let (name, bearer) = (&self.transactional_id, Some(self.identity));
        let coordinator = self.client.transaction_coordinator(name).await?;
        // Before the question: who drops this future learns no answer either.
        let was_uncertain = std::mem::replace(&mut self.is_uncertain, true);
        match take_name(&coordinator, name, self.timeout, bearer).await {
            Ok(identity) => {
                self.identity = identity;
                self.is_uncertain = false;
                Ok(Renewal::Kept)
            }
            Err(error) if error.is_fenced() && was_uncertain => Ok(Renewal::Unknown),
            Err(error) if error.is_fenced() => {
                self.is_uncertain = false;
                Ok(Renewal::Taken)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds partitions to the transaction, which this begins if need be: before the first batch for each.
    pub async fn add_partitions(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            let numbers = topics.entry(&partition.topic).or_default();
            numbers.push(partition.partition.0);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(name(&self.transactional_id))
            .with_v3_and_below_producer_id(WireProducerId(self.identity.producer_id.0))
            .with_v3_and_below_producer_epoch(self.identity.producer_epoch)
            .with_v3_and_below_topics(topics.collect());
        let ask = || async {
            let connection = self.own_coordinator().await?;
            let response = connection
                .call_at_most(request.clone(), ADD_PARTITIONS)
                .await?;
            for topic in response.results_by_topic_v3_and_below {
                for partition in topic.results_by_partition {
                    match partition.partition_error_code.err() {
                        // Said of the others, when one is refused.
                        None | Some(ErrorCode::OperationNotAttempted) => {}
                        Some(ErrorCode::TopicAuthorizationFailed) => {
                            let code = ErrorCode::TopicAuthorizationFailed;
                            return Err(KafkaError::for_topic(code, "WRITE", &topic.name));
                        }
                        Some(_) => refuse(partition.partition_error_code, &self.transactional_id)?,
                    }
                }
            }
            Ok(())
        };
        // The markers of the transaction before are being written: that takes milliseconds.
        let retry = Retry {
            initial: MARKERS_WITHIN,
            ..self.client.retry()
        };
        retry.run(ask).await
    }

    /// Makes offsets of `group` part of the transaction.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), KafkaError> {
        self.add_offsets(group).await?;
        let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, committed) in offsets {
            let wire = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition.0)
                .with_committed_offset(committed.offset.0)
                .with_committed_leader_epoch(committed.leader_epoch.0)
                .with_committed_metadata(Some(text(&committed.metadata)));
            topics.entry(&partition.topic).or_default().push(wire);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TxnOffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions)
        });
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(name(&self.transactional_id))
            .with_group_id(GroupId(text(group)))
            .with_producer_id(WireProducerId(self.identity.producer_id.0))
            .with_producer_epoch(self.identity.producer_epoch)
            .with_generation_id(-1)
            .with_topics(topics.collect());
        let ask = || async {
            let connection = self.client.coordinator(group).await?;
            let response = connection
                .call_at_most(request.clone(), OFFSET_COMMIT)
                .await?;
            for topic in &response.topics {
                for partition in &topic.partitions {
                    match partition.error_code.err() {
                        Some(code @ ErrorCode::TopicAuthorizationFailed) => {
                            return Err(KafkaError::for_topic(code, "READ", &topic.name));
                        }
                        _ => refuse(partition.error_code, group)?,
                    }
                }
            }
            Ok(())
        };
        self.client.retry().run(ask).await
    }

    async fn add_offsets(&self, group: &str) -> Result<(), KafkaError> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(name(&self.transactional_id))
            .with_producer_id(WireProducerId(self.identity.producer_id.0))
            .with_producer_epoch(self.identity.producer_epoch)
            .with_group_id(GroupId(text(group)));
        let ask = || async {
            let connection = self.own_coordinator().await?;
            let response = connection
                .call_at_most(request.clone(), ADD_OFFSETS)
                .await?;
            refuse(response.error_code, group)
        };
        self.client.retry().run(ask).await
    }

    /// Ends the transaction: all of it counts, or nothing.
    pub async fn end(&self, committed: bool) -> Result<(), KafkaError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(name(&self.transactional_id))
            .with_producer_id(WireProducerId(self.identity.producer_id.0))
            .with_producer_epoch(self.identity.producer_epoch)
            .with_committed(committed);
        let ask = || async {
            let connection = self.own_coordinator().await?;
            let response = connection.call_at_most(request.clone(), END).await?;
            refuse(response.error_code, &self.transactional_id)
        };
        self.client.retry().run(ask).await
    }

    async fn own_coordinator(&self) -> Result<Connection, KafkaError> {
        self.client
            .transaction_coordinator(&self.transactional_id)
            .await
    }
}

impl KafkaError {
    /// Whether another producer has taken the name: this one is not to write any more (KIP-98).
    pub fn is_fenced(&self) -> bool {
        let fenced = [ErrorCode::ProducerFenced, ErrorCode::InvalidProducerEpoch];
        matches!(self, Self::Broker { code, .. } if fenced.contains(code))
    }
}

/// Asks once for a name: from whoever bears it, or as the one that bears it already.
async fn take_name(
    coordinator: &Connection,
    transactional_id: &str,
    timeout: Duration,
    bearer: Option<ProducerIdentity>,
) -> Result<ProducerIdentity, KafkaError> {
    let version = coordinator.version::<InitProducerIdRequest>(i16::MAX)?;
    if let Some(bearer) = bearer.filter(|_| version < RENEWAL) {
        return Ok(bearer);
    }
    let response = coordinator
        .call(init_request(transactional_id, timeout, bearer))
        .await?;
    refuse(response.error_code, transactional_id)?;
    Ok(ProducerIdentity {
        producer_id: ProducerId(response.producer_id.0),
        producer_epoch: response.producer_epoch,
    })
}

fn init_request(
    transactional_id: &str,
    timeout: Duration,
    bearer: Option<ProducerIdentity>,
) -> InitProducerIdRequest {
    let (producer_id, producer_epoch) = match bearer {
        Some(bearer) => (bearer.producer_id.0, bearer.producer_epoch),
        None => (-1, -1),
    };
    InitProducerIdRequest::default()
        .with_transactional_id(Some(name(transactional_id)))
        .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
        .with_producer_id(WireProducerId(producer_id))
        .with_producer_epoch(producer_epoch)
}

fn refuse(code: i16, name: &str) -> Result<(), KafkaError> {
    let authorization = |operation, resource: String| KafkaError::Authorization {
        operation,
        resource,
    };
    Err(match code.err() {
        None => return Ok(()),
        Some(ErrorCode::TransactionalIdAuthorizationFailed) => {
            authorization("WRITE", format!("transactional id {name}"))
        }
        Some(ErrorCode::GroupAuthorizationFailed) => authorization("READ", format!("group {name}")),
        Some(code) => KafkaError::Broker {
            code,
            context: format!("the transaction of {name}"),
        },
    })
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(transactional_id: &str) -> TransactionalId {
    TransactionalId(text(transactional_id))
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}
