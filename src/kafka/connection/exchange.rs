//! Requests out, answers in: numbered, answered in order, many in flight.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::memory::Reservation;

use super::super::KafkaError;
use super::super::response_guard::GuardedResponse;
use super::super::tls;
use super::dial::BrokerStream;
use super::frame::{FrameError, Frames, WriteHalf, write_frame};
use super::message::{api_name, decode, encode, malformed};

type AnswerSender = oneshot::Sender<Result<Bytes, KafkaError>>;

/// A request on its way: whole chunks that are written one after the other, never joined.
pub(super) struct Outbound {
    api: &'static str,
    chunks: Vec<Bytes>,
    memory: Option<Reservation>,
    answer: AnswerSender,
}

impl Outbound {
    /// A request, and where its answer will come. `chunks` begin with a request header; `memory` is for the answer.
    pub fn new(
        address: &Arc<str>,
        api: &'static str,
        chunks: Vec<Bytes>,
        memory: Option<Reservation>,
    ) -> (Self, PendingAnswer) {
        let (sender, answer) = oneshot::channel();
        let outbound = Self {
            api,
            chunks,
            memory,
            answer: sender,
        };
        let pending = PendingAnswer {
            api,
            answer,
            address: Arc::clone(address),
        };
        (outbound, pending)
    }

    /// Answers it, unsent, with an error.
    pub fn refuse(self, error: KafkaError) {
        deliver(self.answer, Err(error));
    }
}

/// An answer that is still to come.
#[derive(Debug)]
pub(in super::super) struct PendingAnswer {
    api: &'static str,
    answer: oneshot::Receiver<Result<Bytes, KafkaError>>,
    address: Arc<str>,
}

impl PendingAnswer {
    /// The answer's bytes from its correlation id on. It comes, or an error does: the reader has a clock.
    pub async fn receive(self) -> Result<Bytes, KafkaError> {
        let lost = |_| KafkaError::disconnected(&self.address, self.api, aborted());
        self.answer.await.unwrap_or_else(|error| Err(lost(error)))
    }
}

fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Whoever gave up waiting does not want it.
fn deliver(answer: AnswerSender, outcome: Result<Bytes, KafkaError>) {
    if answer.send(outcome).is_err() {
        tracing::trace!("nobody waits for this answer any more");
    }
}

/// How many requests may be unanswered, beside the one whose answer is read now; another is not written before.
///
/// The writer then waits for the reader, and the reader waits for the writer only when nothing is owed: so never both. Requests
/// that hold memory do not come to wait here. On a connection of its own, a reader has two in flight and a producer five; a
/// shared one has the questions of one client, at most sixteen of a kind at once.
pub(super) const UNANSWERED: usize = 64;

/// An answer that is owed.
struct Owed {
    api: &'static str,
    correlation_id: i32,
    memory: Option<Reservation>,
    answer: AnswerSender,
}

/// Writes requests, numbered from 0.
pub(in super::super) struct RequestWriter {
    address: Arc<str>,
    client_id: StrBytes,
    stream: WriteHalf,
    owed: mpsc::Sender<Owed>,
    correlation_id: i32,
}

/// Starts the exchange on a connection: answers are read by a task that lives until the writer is gone, or the
/// connection. `patience` is how long the broker may be silent while it owes an answer.
pub(super) fn start(
    stream: BrokerStream,
    address: &Arc<str>,
    client_id: StrBytes,
    patience: Duration,
) -> RequestWriter {
    let (owed, queue) = mpsc::channel(UNANSWERED);
    let frames = Frames::new(stream.reading);
    tokio::spawn(read_answers(frames, queue, Arc::clone(address), patience));
    RequestWriter {
        address: Arc::clone(address),
        client_id,
        stream: stream.writing,
        owed,
        correlation_id: 0,
    }
}

impl RequestWriter {
    /// The broker's `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks, and waits for the answer.
    pub async fn ask<R: Request<Response: GuardedResponse>>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, KafkaError> {
        let answer = self.ask_raw(request, version).await?;
        decode(&self.address, api_name::<R>(), answer, version)
    }

    /// Asks, and waits for the answer's bytes.
    pub(super) async fn ask_raw<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Bytes, KafkaError> {
        let bytes = encode(&self.address, &self.client_id, request, version)?;
        let (outbound, pending) = Outbound::new(&self.address, api_name::<R>(), vec![bytes], None);
        self.write(outbound).await;
        pending.receive().await
    }

    /// Writes a request. Whether that worked, the one who waits for the answer learns from the reader, who sees the
    /// connection's end and, perhaps, the broker's last words.
    pub(super) async fn write(&mut self, outbound: Outbound) {
        let Outbound {
            api,
            chunks,
            memory,
            answer,
        } = outbound;
        tracing::trace!(broker = %self.address, api, "asking");
        let correlation_id = self.correlation_id;
        self.correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        // Registered before it is written: the answer may be quick.
        let owed = Owed {
            api,
            correlation_id,
            memory,
            answer,
        };
        if self.owed.send(owed).await.is_err() {
            return;
        }
        tokio::select! {
            // A broker that does not read would hold us for ever; the reader has a clock.
            () = self.owed.closed() => {}
            written = write_frame(&mut self.stream, &chunks, correlation_id) => {
                if let Err(error) = written {
                    tracing::debug!(broker = %self.address, %error, "writing failed");
                    self.hang_up().await;
                }
            }
        }
    }

    /// Resolves when answers are not read any more.
    pub(super) async fn closed(&mut self) {
        self.owed.closed().await;
    }

    /// Ends our side, which lets the reader see the other's end.
    pub(super) async fn hang_up(&mut self) {
        let goodbye = tokio::time::timeout(Duration::from_secs(1), self.stream.shutdown());
        if let Ok(Err(error)) = goodbye.await {
            tracing::trace!(broker = %self.address, %error, "closing failed");
        }
    }
}

/// What a broker may take at least: changes of topics are answered when they are made, and are told to take at most 30 s.
fn allowance(api: &str) -> Duration {
    match api {
        "CreateTopics" | "DeleteTopics" => Duration::from_secs(40),
        _ => Duration::ZERO,
    }
}

/// Reads answers and hands each to the one who waits for it; after an error, nobody gets anything any more.
async fn read_answers(
    mut frames: Frames,
    mut queue: mpsc::Receiver<Owed>,
    address: Arc<str>,
    patience: Duration,
) {
    while let Some((mut owed, begun)) = next_owed(&mut frames, &mut queue).await {
        let frame = match begun {
            Ok(()) => {
                let patience = patience.max(allowance(owed.api));
                let memory = owed.memory.take();
                frames.next(patience, memory, owed.answer.closed()).await
            }
            Err(error) => Err(error.into()),
        };
        let outcome = frame
            .map_err(|error| explain(error, &address, owed.api))
            .and_then(|frame| check_correlation(frame, &owed, &address));
        let failed = outcome.is_err();
        deliver(owed.answer, outcome);
        if failed {
            return;
        }
    }
}

/// The next answer that is owed. In between, the broker may hang up: then there is none.
async fn next_owed(
    frames: &mut Frames,
    queue: &mut mpsc::Receiver<Owed>,
) -> Option<(Owed, io::Result<()>)> {
    tokio::select! {
        biased;
        owed = queue.recv() => owed.map(|owed| (owed, Ok(()))),
        begun = frames.begin() => {
            // The request may have been written since the queue was looked at.
            let owed = queue.try_recv().ok()?;
            Some((owed, begun))
        }
    }
}

fn check_correlation(frame: Bytes, owed: &Owed, address: &str) -> Result<Bytes, KafkaError> {
    let due = owed.correlation_id.to_be_bytes();
    match frame.first_chunk() {
        Some(found) if *found == due => Ok(frame),
        found => Err(malformed(
            address,
            owed.api,
            format!(
                "it answers request {} where {} is due",
                i32::from_be_bytes(found.copied().unwrap_or_default()),
                owed.correlation_id
            ),
        )),
    }
}

fn explain(error: FrameError, address: &str, api: &'static str) -> KafkaError {
    match error {
        FrameError::Broken(source) => tls::explain(address, source)
            .unwrap_or_else(|source| KafkaError::disconnected(address, api, source)),
        FrameError::Silence(after) => KafkaError::Timeout {
            address: address.to_owned(),
            seconds: after.as_secs(),
        },
        FrameError::Length(bytes) => malformed(address, api, speaks(bytes)),
    }
}

/// What the first bytes of something that is no Kafka answer tell about who speaks.
fn speaks(bytes: [u8; 4]) -> String {
    match bytes {
        // A TLS record: an alert or a handshake message, of TLS 1.x.
        [0x15 | 0x16, 3, 0..=4, _] => {
            "this port speaks TLS: give the cluster a `tls` table (`tls = {}` trusts the system's authorities)"
                .to_owned()
        }
        [b'H', b'T', b'T', b'P'] => "this port speaks HTTP: name the port of a Kafka listener".to_owned(),
        _ => format!("its length would be {}", i32::from_be_bytes(bytes)),
    }
}
