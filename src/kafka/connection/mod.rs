//! One connection to one broker: dialled, authenticated, then requests are sent as they come, and answered in that order.

mod dial;
mod exchange;
mod frame;
mod message;
mod probe;
mod versions;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::sync::mpsc;

use crate::memory::Reservation;

use super::response_guard::GuardedResponse;
use super::sasl::{Authenticator, Session};
use super::{Address, BrokerId, Cluster, KafkaError, Tls, tls};
use dial::BrokerStream;
use exchange::Outbound;
use message::api_name;

pub(super) use exchange::{PendingAnswer, RequestWriter};
pub(super) use versions::Versions;

/// How brokers let us in; what all connections of a client share.
#[derive(Debug)]
pub(super) struct Access {
    tls: Option<Tls>,
    authenticator: Option<Authenticator>,
    client_id: StrBytes,
    /// How long a broker may be silent while it owes an answer.
    patience: Duration,
    /// Where we have been let in.
    let_in: Mutex<BTreeSet<Arc<str>>>,
}

/// More to make a connection is not worth while: the next try may succeed at once.
const LONGEST_DIAL: Duration = Duration::from_secs(10);

impl Access {
    pub fn new(cluster: &Cluster, patience: Duration) -> Self {
        Self {
            patience,
            let_in: Mutex::default(),
            tls: cluster.tls.clone(),
            authenticator: cluster.sasl.clone().map(Authenticator::new),
            client_id: StrBytes::from_string(cluster.client_id.clone()),
        }
    }

    /// Takes note of where we are let in. Who was let in before, and is not now, may be in the middle of a change of
    /// credentials or certificates: the broker knows the new ones already, our files do not, or the other way round.
    fn noted<T>(
        &self,
        address: &Arc<str>,
        outcome: Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let mut let_in = self.let_in.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(value) => {
                let_in.insert(Arc::clone(address));
                Ok(value)
            }
            Err(error) if error.is_about_trust() && let_in.contains(address) => {
                Err(KafkaError::Lapsed(Box::new(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// A listener that wants credentials lets us in without, and hangs up at the first question. This tells why.
    pub async fn refused(&self, address: &Address) -> Option<KafkaError> {
        match self.authenticator {
            Some(_) => None,
            None => probe::sasl_wanted(address, self.tls.as_ref()).await,
        }
    }
}

/// A handle; clones share the connection. It closes when the last is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    broker: BrokerId,
    address: Arc<str>,
    client_id: StrBytes,
    requests: mpsc::Sender<Outbound>,
    versions: Arc<Versions>,
}

impl Connection {
    /// Connects, asks what the broker can do, and authenticates.
    pub(super) async fn open(
        access: &Arc<Access>,
        broker: BrokerId,
        address: &Address,
    ) -> Result<Self, KafkaError> {
        let name: Arc<str> = address.to_string().into();
        let opened = Self::open_now(access, broker, address, Arc::clone(&name)).await;
        access.noted(&name, opened)
    }

    async fn open_now(
        access: &Arc<Access>,
        broker: BrokerId,
        address: &Address,
        name: Arc<str>,
    ) -> Result<Self, KafkaError> {
        let patience = access.patience.min(LONGEST_DIAL);
        let stream = match dial::dial(address, access.tls.as_ref(), patience).await {
            Err(KafkaError::Disconnected { what, source, .. })
                if what == tls::HANDSHAKE && probe::speaks_plain_text(address).await =>
            {
                return Err(KafkaError::Tls {
                    address: name.to_string(),
                    problem: "this port speaks plain text: name an SSL or SASL_SSL listener, or leave out `tls`".into(),
                    source,
                });
            }
            dialled => dialled?,
        };
        Self::begin(access, broker, name, stream).await
    }

    /// The first words on a fresh stream.
    async fn begin(
        access: &Arc<Access>,
        broker: BrokerId,
        name: Arc<str>,
        stream: BrokerStream,
    ) -> Result<Self, KafkaError> {
        let mut writer = exchange::start(stream, &name, access.client_id.clone(), access.patience);
        let versions = Versions::ask(&mut writer).await;
        let versions = Arc::new(versions.map_err(|error| hint(error, access.tls.as_ref()))?);
        let session = match &access.authenticator {
            Some(authenticator) => authenticator.authenticate(&mut writer, &versions).await?,
            None => Session::ENDLESS,
        };
        let (requests, incoming) = mpsc::channel(16);
        let connection = Self {
            broker,
            address: Arc::clone(&name),
            client_id: access.client_id.clone(),
            requests,
            versions: Arc::clone(&versions),
        };
        tokio::spawn(serve(
            writer,
            incoming,
            Arc::clone(access),
            versions,
            name,
            session,
        ));
        Ok(connection)
    }

    /// The broker at the other end.
    pub fn broker(&self) -> BrokerId {
        self.broker
    }

    /// Whether it still takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The newest version of an API that both sides know, at most `ceiling`.
    pub(super) fn version<R: Request>(&self, ceiling: i16) -> Result<i16, KafkaError> {
        self.versions.newest::<R>(&self.address, ceiling)
    }

    /// Asks, and waits for the answer, in the newest common version.
    pub(super) async fn call<R: Request<Response: GuardedResponse>>(
        &self,
        request: R,
    ) -> Result<R::Response, KafkaError> {
        self.call_at_most(request, i16::MAX).await
    }

    /// The same in a version that is not newer than `ceiling`.
    pub(super) async fn call_at_most<R: Request<Response: GuardedResponse>>(
        &self,
        request: R,
        ceiling: i16,
    ) -> Result<R::Response, KafkaError> {
        let version = self.version::<R>(ceiling)?;
        let bytes = self.send(&request, version).await?.receive().await?;
        self.decode(api_name::<R>(), bytes, version)
    }

    /// Sends a request; the answer is awaited apart.
    pub(super) async fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<PendingAnswer, KafkaError> {
        let bytes = message::encode(&self.address, &self.client_id, request, version)?;
        self.send_chunks::<R>(vec![bytes], None).await
    }

    /// Sends a request whose answer is read into `memory`.
    pub(super) async fn send_for<R: Request>(
        &self,
        request: &R,
        version: i16,
        memory: Reservation,
    ) -> Result<PendingAnswer, KafkaError> {
        let bytes = message::encode(&self.address, &self.client_id, request, version)?;
        self.send_chunks::<R>(vec![bytes], Some(memory)).await
    }

    pub(super) fn header<R: Request>(&self, version: i16) -> RequestHeader {
        message::header::<R>(&self.client_id, version)
    }

    /// Sends chunks as one request; they begin with a request header, whose correlation id is filled in. The answer is read
    /// into `memory`, if there is some.
    pub(super) async fn send_chunks<R: Request>(
        &self,
        chunks: Vec<Bytes>,
        memory: Option<Reservation>,
    ) -> Result<PendingAnswer, KafkaError> {
        let api = api_name::<R>();
        let (outbound, pending) = Outbound::new(&self.address, api, chunks, memory);
        let sent = self.requests.send(outbound).await;
        let closed = |_| {
            let source = io::ErrorKind::ConnectionAborted.into();
            KafkaError::disconnected(&self.address, api, source)
        };
        sent.map(|()| pending).map_err(closed)
    }

    /// Decodes an answer.
    pub(super) fn decode<T: GuardedResponse>(
        &self,
        api: &'static str,
        bytes: Bytes,
        version: i16,
    ) -> Result<T, KafkaError> {
        message::decode(&self.address, api, bytes, version)
    }

    pub(super) fn malformed(&self, api: &'static str, error: impl std::fmt::Display) -> KafkaError {
        message::malformed(&self.address, api, error)
    }
}

/// Why a broker may have hung up at the very first request.
fn hint(error: KafkaError, tls: Option<&Tls>) -> KafkaError {
    let better = match tls {
        None => "; is this a TLS listener, and the cluster without a `tls` table?",
        Some(Tls {
            cert_file: None, ..
        }) => "; does the listener want a client certificate (tls.cert_file, tls.key_file)?",
        Some(_) => "; does the listener refuse our client certificate?",
    };
    match error {
        KafkaError::Disconnected {
            address,
            what,
            source,
            ..
        } => KafkaError::Disconnected {
            address,
            what,
            hint: better,
            source,
        },
        other => other,
    }
}

/// Writes what comes until the last handle is gone or the connection breaks. A session that ends is renewed in between:
/// answers keep their order, so those that are still on their way are not in the way.
async fn serve(
    mut writer: RequestWriter,
    mut requests: mpsc::Receiver<Outbound>,
    access: Arc<Access>,
    versions: Arc<Versions>,
    address: Arc<str>,
    mut session: Session,
) {
    loop {
        let outbound = tokio::select! {
            biased;
            () = writer.closed() => break,
            outbound = requests.recv() => outbound,
        };
        let Some(outbound) = outbound else { break };
        if let Some(authenticator) = access.authenticator.as_ref().filter(|_| session.is_over()) {
            let renewed = authenticator.authenticate(&mut writer, &versions).await;
            match access.noted(&address, renewed) {
                Ok(renewed) => session = renewed,
                Err(error) => {
                    outbound.refuse(error);
                    break;
                }
            }
        }
        writer.write(outbound).await;
    }
    writer.hang_up().await;
}

#[cfg(test)]
mod tests;
