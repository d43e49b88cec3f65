//! A cluster's client: its connections for questions, and its metadata.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Access;
use super::{Address, Broker, BrokerId, Cluster, Connection, KafkaError, Metadata, Retry, Topics};

/// A cheap handle on one cluster; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bootstrap_servers: Vec<Address>,
    access: Arc<Access>,
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
        let servers = cluster.bootstrap_servers.iter();
        let bootstrap_servers: Vec<Address> = servers
            .map(|server| server.parse().map_err(KafkaError::Configuration))
            .collect::<Result<_, _>>()?;
        if bootstrap_servers.is_empty() {
            return Err(KafkaError::Configuration(
                "no bootstrap servers: name at least one HOST:PORT".into(),
            ));
        }
        let access = Arc::new(Access::new(&cluster));
        let first = || bootstrap(&access, &bootstrap_servers);
        let (connection, metadata) = retry.run(first).await?;
        Ok(Self {
            inner: Arc::new(Inner {
                bootstrap_servers,
                access,
                retry,
                cluster_id: metadata.cluster_id,
                brokers: Mutex::new(metadata.brokers),
                connections: Mutex::new(BTreeMap::from([(BOOTSTRAP, connection)])),
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
        let metadata = ask_metadata(&self.any_connection().await?, topics).await;
        if metadata.as_ref().is_err_and(KafkaError::is_transient) {
            // Whoever was asked is gone: the next try asks somebody else.
            self.connections().clear();
        }
        let metadata = metadata?;
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
        let known = {
            let mut connections = self.connections();
            connections.retain(|_, connection| connection.is_open());
            connections.values().next().cloned()
        };
        if let Some(connection) = known {
            return Ok(connection);
        }
        let (connection, _) = bootstrap(&self.inner.access, &self.inner.bootstrap_servers).await?;
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
        Connection::open(&self.inner.access, broker, &Address { host, port }).await
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

/// The first of these that answers a question, and its answer. Failing that, what trying again cannot mend counts more.
async fn bootstrap(
    access: &Arc<Access>,
    servers: &[Address],
) -> Result<(Connection, Metadata), KafkaError> {
    let mut failure = KafkaError::Configuration("no bootstrap servers".into());
    for (number, address) in servers.iter().enumerate() {
        let error = match greet(access, address).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if number == 0 || failure.is_transient() {
            failure = error;
        }
    }
    Err(failure)
}

async fn greet(
    access: &Arc<Access>,
    address: &Address,
) -> Result<(Connection, Metadata), KafkaError> {
    let connection = Connection::open(access, BOOTSTRAP, address).await?;
    match ask_metadata(&connection, Topics::Named(&[])).await {
        Ok(metadata) => Ok((connection, metadata)),
        Err(error @ KafkaError::Disconnected { .. }) => {
            Err(access.refused(address).await.unwrap_or(error))
        }
        Err(error) => Err(error),
    }
}

async fn ask_metadata(connection: &Connection, topics: Topics<'_>) -> Result<Metadata, KafkaError> {
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
    let response = connection.call(request).await?;
    match response.error_code.err() {
        None => Ok(Metadata::of(response)),
        Some(code) => Err(KafkaError::Broker {
            code,
            context: format!("asking {} for metadata", connection.address()),
        }),
    }
}
