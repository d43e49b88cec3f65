//! A cluster's client: its connections for questions, and its metadata.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::connection::Access;
use super::{
    Address, Broker, BrokerId, Cluster, Connection, ErrorCode, KafkaError, Metadata, Retry, Topics,
};

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

/// How long to try to connect at first, at most.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);

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
        let access = Arc::new(Access::new(&cluster, retry.patience()));
        let first = || {
            first_answer(
                bootstrap_servers
                    .iter()
                    .map(|server| greet(&access, server)),
            )
        };
        // Nothing has begun yet: a slip in an address need not be waited for as long as a cluster in the middle of a run.
        let soon = Retry {
            deadline: retry.deadline.min(CONNECT_DEADLINE),
            ..retry
        };
        let (connection, metadata) = soon.run(first).await?;
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

    /// The cluster's id, as the brokers told it when the client connected.
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }

    /// The brokers that it was told to ask first, as `HOST:PORT,…`.
    pub fn bootstrap_servers(&self) -> String {
        let servers = self.inner.bootstrap_servers.iter();
        let servers: Vec<String> = servers.map(ToString::to_string).collect();
        servers.join(",")
    }

    /// How long this client tries again.
    pub fn retry(&self) -> Retry {
        self.inner.retry
    }

    /// What the cluster says of itself.
    pub async fn metadata(&self, topics: Topics<'_>) -> Result<Metadata, KafkaError> {
        self.inner.retry.run(|| self.metadata_now(topics)).await
    }

    /// What the cluster says of itself at the first try, for those who try again themselves. A broker that says nothing does
    /// not hold it up: others are asked as well.
    pub async fn metadata_now(&self, topics: Topics<'_>) -> Result<Metadata, KafkaError> {
        let asked: Vec<Ask> = self.to_ask();
        let asking = asked
            .into_iter()
            .map(|ask| self.ask_for_metadata(ask, topics));
        let (connection, metadata) = first_answer(asking).await?;
        self.connections().insert(BOOTSTRAP, connection);
        *self
            .inner
            .brokers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = metadata.brokers.clone();
        Ok(metadata)
    }

    /// Whom to ask, the likeliest to answer first: whoever is connected, then brokers that are known, then the bootstrap
    /// servers.
    fn to_ask(&self) -> Vec<Ask> {
        let connected: Vec<Connection> = {
            let mut connections = self.connections();
            connections.retain(|_, connection| connection.is_open());
            connections.values().cloned().collect()
        };
        let known = self.known_addresses();
        let servers = self.inner.bootstrap_servers.iter().cloned();
        let mut addresses: Vec<Address> = Vec::new();
        for address in known.into_iter().chain(servers) {
            let name = address.to_string();
            let is_connected = connected
                .iter()
                .any(|connection| connection.address() == name);
            if !is_connected && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let connected = connected.into_iter().map(Ask::On);
        connected
            .chain(addresses.into_iter().map(Ask::At))
            .collect()
    }

    fn known_addresses(&self) -> Vec<Address> {
        let brokers = self
            .inner
            .brokers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let addresses = brokers.values().map(|Broker { host, port }| Address {
            host: host.clone(),
            port: *port,
        });
        addresses.collect()
    }

    async fn ask_for_metadata(
        &self,
        ask: Ask,
        topics: Topics<'_>,
    ) -> Result<(Connection, Metadata), KafkaError> {
        let connection = match ask {
            Ask::On(connection) => connection,
            Ask::At(address) => Connection::open(&self.inner.access, BOOTSTRAP, &address).await?,
        };
        let metadata = ask_metadata(&connection, topics).await?;
        Ok((connection, metadata))
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
        self.metadata_now(Topics::Named(&[])).await?;
        let connections = self.connections();
        let answered = connections.get(&BOOTSTRAP).cloned();
        answered.ok_or_else(|| KafkaError::Configuration("no bootstrap servers".into()))
    }

    /// The connection for questions to a broker.
    pub async fn shared_connection(&self, broker: BrokerId) -> Result<Connection, KafkaError> {
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

    /// Who changes the cluster, at the first try. Under KRaft that may be any broker, also one that has just died: whoever asks
    /// again gets another.
    pub(super) async fn controller(&self) -> Result<Connection, KafkaError> {
        let controller = self.metadata_now(Topics::Named(&[])).await?.controller;
        if controller.0 < 0 {
            self.any_connection().await
        } else {
            self.shared_connection(controller).await
        }
    }
}

/// Whom to ask a question that every broker can answer.
enum Ask {
    On(Connection),
    At(Address),
}

/// How long one broker has before the next is asked as well.
const HEAD_START: Duration = Duration::from_secs(2);

/// The first answer of several brokers: each is asked when the one before has failed, or has said nothing for a while.
/// Failing all, what trying again cannot mend counts more.
async fn first_answer<T>(
    asking: impl Iterator<Item = impl Future<Output = Result<T, KafkaError>>>,
) -> Result<T, KafkaError> {
    let mut asking = asking.fuse();
    let mut asked = FuturesUnordered::new();
    let mut failure = KafkaError::Configuration("no bootstrap servers".into());
    let mut failures = 0;
    loop {
        let next = asking.next();
        let is_last = next.is_none();
        asked.extend(next);
        let head_start = async {
            if is_last {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(HEAD_START).await;
        };
        tokio::select! {
            biased;
            answer = asked.next() => match answer {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) if failures == 0 || failure.is_transient() => failure = error,
                Some(Err(_)) => {}
                None => return Err(failure),
            },
            () = head_start => continue,
        }
        failures += 1;
    }
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
        // A broker that was away has not heard of anybody yet, itself included.
        None if response.brokers.is_empty() => Err(KafkaError::Broker {
            code: ErrorCode::BrokerNotAvailable,
            context: format!("{} knows of no broker yet", connection.address()),
        }),
        None => Ok(Metadata::of(response)),
        Some(code) => Err(KafkaError::Broker {
            code,
            context: format!("asking {} for metadata", connection.address()),
        }),
    }
}
