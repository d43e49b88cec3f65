//! A cluster's client: its connections for questions, and its metadata.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Broker, BrokerId, Cluster, Connection, KafkaError, Metadata, Retry, Topics};

/// A cheap handle on one cluster; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    retry: Retry,
    cluster_id: String,
    /// Where brokers are, as last heard.
    brokers: Mutex<BTreeMap<BrokerId, Broker>>,
    /// Connections for questions; bulk gets its own.
    connections: Mutex<BTreeMap<BrokerId, Connection>>,
}

/// Stands for whichever bootstrap server answered.
const BOOTSTRAP: BrokerId = BrokerId(-1);

impl Client {
    /// Connects to the first bootstrap server that answers.
    pub async fn connect(cluster: Cluster, retry: Retry) -> Result<Self, KafkaError> {
        if cluster.bootstrap_servers.is_empty() {
            return Err(KafkaError::Configuration(
                "no bootstrap servers: name at least one HOST:PORT".into(),
            ));
        }
        let connection = retry.run(|| bootstrap(&cluster)).await?;
        let inner = Inner {
            cluster,
            retry,
            cluster_id: String::new(),
            brokers: Mutex::default(),
            connections: Mutex::new(BTreeMap::from([(BOOTSTRAP, connection)])),
        };
        let first = Self {
            inner: Arc::new(inner),
        };
        let cluster_id = first.metadata(Topics::Named(&[])).await?.cluster_id;
        let Inner {
            cluster,
            retry,
            brokers,
            connections,
            ..
        } = Arc::try_unwrap(first.inner)
            .map_err(|_| KafkaError::Configuration("the client is shared already".into()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                cluster,
                retry,
                cluster_id,
                brokers,
                connections,
            }),
        })
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// How long this client tries again.
    pub fn retry(&self) -> Retry {
        self.inner.retry
    }

    /// What the cluster says of itself.
    pub async fn metadata(&self, topics: Topics<'_>) -> Result<Metadata, KafkaError> {
        self.inner.retry.run(|| self.metadata_once(topics)).await
    }

    async fn metadata_once(&self, topics: Topics<'_>) -> Result<Metadata, KafkaError> {
        let wanted = match topics {
            Topics::All => None,
            Topics::Named(names) => {
                let topic = |name: &String| {
                    MetadataRequestTopic::default()
                        .with_name(Some(TopicName(StrBytes::from_string(name.clone()))))
                };
                Some(names.iter().map(topic).collect())
            }
        };
        let request = MetadataRequest::default()
            .with_topics(wanted)
            .with_allow_auto_topic_creation(false);
        let response = self.any_connection().await?.call(request).await;
        if response.as_ref().is_err_and(KafkaError::is_transient) {
            // Whoever was asked is gone: the next try asks somebody else.
            self.connections().clear();
        }
        let metadata = Metadata::of(response?);
        *self
            .inner
            .brokers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = metadata.brokers.clone();
        Ok(metadata)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, BTreeMap<BrokerId, Connection>> {
        self.inner
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Some broker that answers: one already connected, a known one, or a bootstrap server.
    pub(super) async fn any_connection(&self) -> Result<Connection, KafkaError> {
        let known = self.connections().values().next().cloned();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let connection = bootstrap(&self.inner.cluster).await?;
        self.connections().insert(BOOTSTRAP, connection.clone());
        Ok(connection)
    }

    /// The connection for questions to a broker.
    pub(super) async fn shared_connection(
        &self,
        broker: BrokerId,
    ) -> Result<Connection, KafkaError> {
        let known = self
            .connections()
            .get(&broker)
            .filter(|connection| connection.is_open())
            .cloned();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let connection = self.connection(broker).await?;
        self.connections().insert(broker, connection.clone());
        Ok(connection)
    }

    /// A fresh connection of one's own, for bulk.
    pub async fn connection(&self, broker: BrokerId) -> Result<Connection, KafkaError> {
        let known = self
            .inner
            .brokers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&broker)
            .cloned();
        let Some(Broker { host, port }) = known else {
            return Err(KafkaError::Unreachable {
                address: format!("{broker} (no address known)"),
                source: std::io::ErrorKind::NotFound.into(),
            });
        };
        Connection::open(&self.inner.cluster, broker, &format!("{host}:{port}")).await
    }

    /// Runs a question to the controller again while it fails in passing.
    pub(super) async fn controller(&self) -> Result<Connection, KafkaError> {
        let controller = self.metadata(Topics::Named(&[])).await?.controller;
        if controller.0 < 0 {
            self.any_connection().await
        } else {
            self.shared_connection(controller).await
        }
    }
}

async fn bootstrap(cluster: &Cluster) -> Result<Connection, KafkaError> {
    let mut last = KafkaError::Configuration("no bootstrap servers".into());
    for address in &cluster.bootstrap_servers {
        match Connection::open(cluster, BOOTSTRAP, address).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error,
        }
    }
    Err(last)
}
