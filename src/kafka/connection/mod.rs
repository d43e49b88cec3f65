//! One connection to one broker: requests are sent as they come, and answered in that order.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, VersionRange,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::buffers::Buffers;
use super::cluster::Cluster;
use super::{BrokerId, KafkaError};

/// The largest answer that is believed: above what any broker is configured to send.
const LARGEST_FRAME: usize = 256 << 20;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A handle; clones share the connection. It closes when the last is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    broker: BrokerId,
    address: Arc<str>,
    client_id: StrBytes,
    requests: mpsc::Sender<Outbound>,
    versions: Arc<BTreeMap<i16, VersionRange>>,
}

/// A request on its way: whole chunks that are written one after the other, never joined.
struct Outbound {
    chunks: Vec<Bytes>,
    answer: oneshot::Sender<Result<Bytes, io::Error>>,
}

/// An answer that is still to come.
#[derive(Debug)]
pub(super) struct PendingAnswer {
    answer: oneshot::Receiver<Result<Bytes, io::Error>>,
    address: Arc<str>,
}

impl PendingAnswer {
    /// The answer's bytes behind its correlation id.
    pub async fn receive(self) -> Result<Bytes, KafkaError> {
        let unreachable = |source| KafkaError::Unreachable {
            address: self.address.to_string(),
            source,
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, self.answer).await {
            Err(_) => Err(KafkaError::Timeout {
                address: self.address.to_string(),
                seconds: REQUEST_TIMEOUT.as_secs(),
            }),
            Ok(Err(_)) => Err(unreachable(io::ErrorKind::ConnectionReset.into())),
            Ok(Ok(answer)) => answer.map_err(unreachable),
        }
    }
}

impl Connection {
    /// Connects, and asks what the broker can do.
    pub(super) async fn open(
        cluster: &Cluster,
        broker: BrokerId,
        address: &str,
    ) -> Result<Self, KafkaError> {
        if cluster.tls.is_some() || cluster.sasl.is_some() {
            return Err(KafkaError::Configuration(
                "TLS and SASL are not built yet; use a plaintext listener".into(),
            ));
        }
        let unreachable = |source| KafkaError::Unreachable {
            address: address.to_owned(),
            source,
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (reading, writing) = stream.into_split();
        let (requests, incoming) = mpsc::channel(16);
        let (waiting, awaited) = mpsc::unbounded_channel();
        tokio::spawn(write_all(writing, incoming, waiting));
        tokio::spawn(read_all(reading, awaited));
        let mut connection = Self {
            broker,
            address: address.into(),
            client_id: StrBytes::from_string(cluster.client_id.clone()),
            requests,
            versions: Arc::new(BTreeMap::new()),
        };
        connection.versions = Arc::new(connection.ask_versions().await?);
        Ok(connection)
    }

    /// Version 0 is understood by every broker.
    async fn ask_versions(&self) -> Result<BTreeMap<i16, VersionRange>, KafkaError> {
        let response = self.call_version(ApiVersionsRequest::default(), 0).await?;
        let versions = response.api_keys.into_iter().map(|api| {
            (
                api.api_key,
                VersionRange {
                    min: api.min_version,
                    max: api.max_version,
                },
            )
        });
        Ok(versions.collect())
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
        let unsupported = || KafkaError::Unsupported {
            api: api_name::<R>().to_owned(),
            address: self.address.to_string(),
        };
        let offered = self.versions.get(&R::KEY).ok_or_else(unsupported)?;
        let common = offered.intersect(&R::VERSIONS);
        let newest = common.max.min(ceiling);
        if common.is_empty() || newest < common.min {
            Err(unsupported())
        } else {
            Ok(newest)
        }
    }

    /// Asks, and waits for the answer, in the newest common version.
    pub(super) async fn call<R: Request>(&self, request: R) -> Result<R::Response, KafkaError> {
        let version = self.version::<R>(i16::MAX)?;
        self.call_version(request, version).await
    }

    /// Asks in this version.
    pub(super) async fn call_version<R: Request>(
        &self,
        request: R,
        version: i16,
    ) -> Result<R::Response, KafkaError> {
        let bytes = self.send(&request, version).await?.receive().await?;
        self.decode::<R::Response>(api_name::<R>(), bytes, version)
    }

    /// Sends a request; the answer is awaited apart.
    pub(super) async fn send<R: Request>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<PendingAnswer, KafkaError> {
        let malformed = |error| self.malformed(api_name::<R>(), error);
        let mut body = BytesMut::new();
        self.header::<R>(version)
            .encode(&mut body, R::header_version(version))
            .map_err(malformed)?;
        request.encode(&mut body, version).map_err(malformed)?;
        self.send_chunks(vec![body.freeze()]).await
    }

    pub(super) fn header<R: Request>(&self, version: i16) -> RequestHeader {
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(self.client_id.clone()))
    }

    /// Sends chunks as one request; they begin with a request header, whose correlation id is filled in.
    pub(super) async fn send_chunks(
        &self,
        chunks: Vec<Bytes>,
    ) -> Result<PendingAnswer, KafkaError> {
        let (sender, answer) = oneshot::channel();
        let sent = self
            .requests
            .send(Outbound {
                chunks,
                answer: sender,
            })
            .await;
        sent.map_err(|_| KafkaError::Unreachable {
            address: self.address.to_string(),
            source: io::ErrorKind::ConnectionReset.into(),
        })?;
        Ok(PendingAnswer {
            answer,
            address: Arc::clone(&self.address),
        })
    }

    /// Decodes an answer.
    pub(super) fn decode<T: Decodable + HeaderVersion>(
        &self,
        api: &'static str,
        mut bytes: Bytes,
        version: i16,
    ) -> Result<T, KafkaError> {
        let malformed = |error| self.malformed(api, error);
        ResponseHeader::decode(&mut bytes, T::header_version(version)).map_err(malformed)?;
        T::decode(&mut bytes, version).map_err(malformed)
    }

    pub(super) fn malformed(&self, api: &'static str, error: impl std::fmt::Display) -> KafkaError {
        KafkaError::Malformed {
            api,
            address: self.address.to_string(),
            detail: error.to_string(),
        }
    }
}

/// Kafka's name of an API, from its request type's.
fn api_name<R>() -> &'static str {
    let path = std::any::type_name::<R>();
    let name = path.rsplit("::").next().unwrap_or(path);
    name.strip_suffix("Request").unwrap_or(name)
}

type Waiting = (i32, oneshot::Sender<Result<Bytes, io::Error>>);

/// Writes requests in the order in which they come, numbered from 0.
async fn write_all(
    mut stream: OwnedWriteHalf,
    mut requests: mpsc::Receiver<Outbound>,
    waiting: mpsc::UnboundedSender<Waiting>,
) {
    let mut correlation_id = 0_i32;
    while let Some(Outbound { chunks, answer }) = requests.recv().await {
        // Registered before it is written: the answer may be quick.
        if waiting.send((correlation_id, answer)).is_err() {
            return;
        }
        if write_request(&mut stream, &chunks, correlation_id)
            .await
            .is_err()
        {
            // Closing makes the reader fail, which tells everybody who waits.
            return;
        }
        correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
    }
}

async fn write_request(
    stream: &mut OwnedWriteHalf,
    chunks: &[Bytes],
    correlation_id: i32,
) -> io::Result<()> {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let mut first = BytesMut::from(chunks.first().map(Bytes::as_ref).unwrap_or_default());
    if let Some(place) = first.get_mut(4..8) {
        place.copy_from_slice(&correlation_id.to_be_bytes());
    }
    let length = u32::try_from(length)
        .map_err(|_| io::ErrorKind::InvalidInput)?
        .to_be_bytes();
    let mut buffers = Chunks::new(
        length.to_vec().into(),
        first.freeze(),
        chunks.get(1..).unwrap_or_default(),
    );
    while buffers.has_remaining() {
        if stream.write_buf(&mut buffers).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

/// Several chunks as one buffer, written vectored.
struct Chunks(std::collections::VecDeque<Bytes>);

impl Chunks {
    fn new(length: Bytes, first: Bytes, rest: &[Bytes]) -> Self {
        let chunks = [length, first].into_iter().chain(rest.iter().cloned());
        Self(chunks.filter(|chunk| !chunk.is_empty()).collect())
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map(Bytes::as_ref).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.0) {
            *slice = io::IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.0.pop_front();
        }
    }
}

/// Reads answers and hands each to the one who waits for it; after an error, nobody gets anything any more.
async fn read_all(mut stream: OwnedReadHalf, mut awaited: mpsc::UnboundedReceiver<Waiting>) {
    let buffers = Buffers::default();
    while let Some((correlation_id, answer)) = awaited.recv().await {
        let frame = read_frame(&mut stream, &buffers, correlation_id).await;
        let failed = frame.is_err();
        // Whoever gave up waiting does not want it.
        if answer.send(frame).is_err() {
            tracing::trace!(correlation_id, "nobody waits for this answer any more");
        }
        if failed {
            return;
        }
    }
}

/// One answer, from its correlation id on.
async fn read_frame(
    stream: &mut OwnedReadHalf,
    buffers: &Buffers,
    correlation_id: i32,
) -> io::Result<Bytes> {
    let length = stream.read_i32().await?;
    let length = usize::try_from(length)
        .ok()
        .filter(|length| (4..=LARGEST_FRAME).contains(length));
    let length = length.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "an answer of an impossible length",
        )
    })?;
    let mut buffer = buffers.take(length);
    let mut limited = stream.take(length as u64);
    while buffer.len() < length {
        if limited.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if buffer.first_chunk() != Some(&correlation_id.to_be_bytes()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "an answer to another request",
        ));
    }
    Ok(buffers.share(buffer))
}
