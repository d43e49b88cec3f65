//! What a producer needs of a cluster. Tests put a scripted cluster in its place.

use futures_util::future::{BoxFuture, FutureExt};

use crate::kafka::{
    BrokerId, Client, Connection, KafkaError, Metadata, ProduceRequest, ProducedPartition, Retry,
    Topics,
};

/// The answer to a request that was sent. It always comes, or an error does: connections have a clock.
pub(in crate::engine) type PendingAnswer =
    BoxFuture<'static, Result<Vec<ProducedPartition>, KafkaError>>;

/// A cluster as its producer sees it.
pub(in crate::engine) trait Brokers: Clone + Send + Sync + 'static {
    /// A connection to one broker.
    type Connection: Send + Sync;

    /// How long to try again.
    fn retry(&self) -> Retry;

    /// Opens a connection.
    fn connect(
        &self,
        broker: BrokerId,
    ) -> impl Future<Output = Result<Self::Connection, KafkaError>> + Send;

    /// Sends a request. Requests on one connection are written in the order of these calls.
    fn produce(
        &self,
        connection: &Self::Connection,
        request: ProduceRequest,
    ) -> impl Future<Output = Result<PendingAnswer, KafkaError>> + Send;

    /// Asks once who leads the partitions of these topics.
    fn metadata(
        &self,
        topics: &[String],
    ) -> impl Future<Output = Result<Metadata, KafkaError>> + Send;
}

impl Brokers for Client {
    type Connection = Connection;

    fn retry(&self) -> Retry {
        Self::retry(self)
    }

    async fn connect(&self, broker: BrokerId) -> Result<Connection, KafkaError> {
        self.connection(broker).await
    }

    async fn produce(
        &self,
        connection: &Connection,
        request: ProduceRequest,
    ) -> Result<PendingAnswer, KafkaError> {
        let pending = connection.start_produce(request).await?;
        Ok(pending.receive().boxed())
    }

    async fn metadata(&self, topics: &[String]) -> Result<Metadata, KafkaError> {
        self.metadata_now(Topics::Named(topics)).await
    }
}
