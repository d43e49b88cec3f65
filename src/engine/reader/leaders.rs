//! What the reader asks of a cluster. A [`Client`] answers it; so do scripted leaders in the simulation.

use std::collections::BTreeMap;
use std::ops::Range;

use futures_util::stream::{self, StreamExt};

use crate::kafka::{
    BrokerId, Client, Connection, FetchRequest, FetchedPartition, KafkaError, Metadata, OffsetSpec,
    Retry, TopicPartition, Topics,
};
use crate::memory::Reservation;
use crate::record::Offset;

/// Where logs begin and end.
pub type Ranges = BTreeMap<TopicPartition, Range<Offset>>;

/// Partitions whose range is asked for at the same time, at most.
const RANGES_AT_ONCE: usize = 16;

/// A cluster, as the reader needs it.
pub trait Leaders: Sync {
    /// A connection to one leader.
    type Link: Link;

    /// Connects, once.
    fn connect(
        &self,
        leader: BrokerId,
    ) -> impl Future<Output = Result<Self::Link, KafkaError>> + Send;

    /// Who leads these topics' partitions now, asked once.
    fn find(&self, topics: &[String]) -> impl Future<Output = Result<Metadata, KafkaError>> + Send;

    /// Where these logs begin and end now, asked once of the leaders that `metadata` names. A partition for which that
    /// cannot be told now is left out.
    fn ranges(
        &self,
        metadata: &Metadata,
        keys: &[TopicPartition],
    ) -> impl Future<Output = Result<Ranges, KafkaError>> + Send;

    /// How often and for how long to try again.
    fn retry(&self) -> Retry;
}

/// A connection to one leader: answers come in the order of the requests.
pub trait Link: Send + Sync {
    /// An answer that is still to come.
    type Pending: Pending;

    /// Sends a request, whose answer is read into `memory`.
    fn ask(
        &self,
        request: FetchRequest,
        memory: Reservation,
    ) -> impl Future<Output = Result<Self::Pending, KafkaError>> + Send;
}

/// An answer that is still to come.
pub trait Pending: Send {
    /// Waits for it; a leader that is silent for too long is an error.
    fn receive(self) -> impl Future<Output = Result<Vec<FetchedPartition>, KafkaError>> + Send;
}

impl Leaders for Client {
    type Link = Connection;

    async fn connect(&self, leader: BrokerId) -> Result<Connection, KafkaError> {
        self.connection(leader).await
    }

    async fn find(&self, topics: &[String]) -> Result<Metadata, KafkaError> {
        self.metadata_now(Topics::Named(topics)).await
    }

    async fn ranges(
        &self,
        metadata: &Metadata,
        keys: &[TopicPartition],
    ) -> Result<Ranges, KafkaError> {
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            asked.push(self.range(metadata, key));
        }
        let asked = stream::iter(asked).buffer_unordered(RANGES_AT_ONCE);
        let answers: Vec<_> = asked.collect().await;
        let mut ranges = Ranges::new();
        for (key, answer) in answers {
            match answer {
                Ok(range) => {
                    ranges.insert(key, range);
                }
                Err(error) if error.is_transient() => {
                    tracing::debug!("the range of {key} is not known yet: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ranges)
    }

    fn retry(&self) -> Retry {
        Client::retry(self)
    }
}

/// A cluster that is asked on its connections for questions: for many short readings, one after the other.
pub struct Questions(pub Client);

impl Leaders for Questions {
    type Link = Connection;

    async fn connect(&self, leader: BrokerId) -> Result<Connection, KafkaError> {
        self.0.shared_connection(leader).await
    }

    async fn find(&self, topics: &[String]) -> Result<Metadata, KafkaError> {
        self.0.find(topics).await
    }

    async fn ranges(
        &self,
        metadata: &Metadata,
        keys: &[TopicPartition],
    ) -> Result<Ranges, KafkaError> {
        self.0.ranges(metadata, keys).await
    }

    fn retry(&self) -> Retry {
        self.0.retry()
    }
}

impl Client {
    /// Where a log begins and ends, as its leader says.
    async fn range(
        &self,
        metadata: &Metadata,
        key: &TopicPartition,
    ) -> (TopicPartition, Result<Range<Offset>, KafkaError>) {
        let ask = async |spec| {
            let wanted = [(key.clone(), spec)];
            let listed = self.list_offsets_now(metadata, &wanted).await?.remove(key);
            let none = || Err(KafkaError::leaderless(&key.topic, key.partition));
            listed.unwrap_or_else(none).map(|listed| listed.offset)
        };
        let range = async { Ok(ask(OffsetSpec::Earliest).await?..ask(OffsetSpec::Latest).await?) };
        (key.clone(), range.await)
    }
}

impl Link for Connection {
    type Pending = crate::kafka::PendingFetch;

    async fn ask(
        &self,
        request: FetchRequest,
        memory: Reservation,
    ) -> Result<Self::Pending, KafkaError> {
        self.start_fetch(request, memory).await
    }
}

impl Pending for crate::kafka::PendingFetch {
    async fn receive(self) -> Result<Vec<FetchedPartition>, KafkaError> {
        Self::receive(self).await
    }
}
