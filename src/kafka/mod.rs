//! Kafka over the wire: connections, version negotiation, metadata and leaders, fetch, produce, administration.
//!
//! Messages are those of the crate `kafka-protocol`; what carries record batches is ours, so that they are handed
//! out and sent without being copied. Nothing here knows repositories or policies.

mod address;
mod admin;
mod client;
mod cluster;
mod connection;
mod coordinates;
mod error;
mod fetch;
mod group_description;
mod group_offsets;
mod groups;
mod log_dirs;
mod metadata;
mod offsets;
mod produce;
mod producers;
mod response_guard;
mod retry;
mod sasl;
#[cfg(test)]
mod testing;
mod tls;
mod topic_changes;
mod transactions;

pub use address::Address;
pub use admin::{ConfigEntry, ConfigSource, ProducerIdentity};
pub use client::Client;
pub use cluster::{ClientCredentials, Cluster, Sasl, Secret, Tls, TokenSource};
pub use connection::Connection;
pub use coordinates::{BrokerId, TopicPartition};
pub use error::{ErrorCode, KafkaError};
pub use fetch::{FetchPartition, FetchRequest, FetchedPartition, IsolationLevel, PendingFetch};
pub use group_description::{GroupDescription, GroupMember};
pub use group_offsets::{CommitAnswers, CommittedOffset, GroupOffsets};
pub use groups::{GroupType, ListedGroup};
pub use metadata::{Broker, Metadata, PartitionMetadata, TopicMetadata, Topics};
pub use offsets::{ListedOffset, OffsetSpec};
pub use produce::{PendingProduce, ProduceBatch, ProduceRequest, ProducedPartition};
pub use producers::{ActiveTransaction, ActiveTransactions};
pub use retry::{FailureClock, Retry};
pub use topic_changes::{NewTopic, TopicAnswers};
pub use transactions::{Renewal, TransactionalProducer};
