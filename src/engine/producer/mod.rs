//! Writes batches to partitions of a cluster: idempotent, acks=all, each batch once and in the order of its partition. Restores and
//! mirrors share it.
//!
//! A partition has up to five batches in flight, at most one of them in a request; a leader has one connection, and up to five
//! requests in flight. What fails in passing is sent again in order, with the same sequence numbers, when nothing of its
//! partition is in flight any more: a broker recognises a repeat of the last five batches and answers with their first offset
//! (KIP-98). Acknowledgements are returned in the order of each partition, whatever the order of the answers.

mod brokers;
mod error;
mod leader;
mod partition_queue;
mod recovery;
mod refusal;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::kafka::{
    BrokerId, ErrorCode, FailureClock, KafkaError, Metadata, ProduceRequest, ProducedPartition,
    ProducerIdentity, TopicPartition,
};
use crate::record::ProducerStamp;

use brokers::Brokers;
use leader::Leader;
use partition_queue::{BatchNumber, PartitionQueue};
use refusal::Refusal;

pub(super) use error::ProduceError;
pub(super) use partition_queue::{Acknowledged, Batch, PartitionIndex, TargetLeader};

/// A request is not made larger than this by another batch. Brokers refuse requests beyond `socket.request.max.bytes`, by default
/// 100 MiB.
const REQUEST_BYTES: u64 = 16 << 20;

/// What becomes of a batch that fails in passing.
#[derive(Debug, Clone)]
pub(super) enum Mode {
    /// It is sent again, until nothing has succeeded for the deadline.
    Idempotent,
    /// It ends the producer: the transaction has to be aborted. The caller adds partitions to the transaction before it sends.
    Transactional {
        /// The name of the producer.
        id: String,
    },
}

/// Writes batches. `N` is what the caller notes for a batch.
pub(super) struct Producer<B: Brokers, N> {
    brokers: B,
    mode: Mode,
    limiter: Option<Arc<RateLimiter>>,
    queues: Vec<PartitionQueue<N>>,
    leaders: BTreeMap<BrokerId, Leader>,
    connections: BTreeMap<BrokerId, B::Connection>,
    /// Leaders that may have become able to be sent something.
    due: BTreeSet<BrokerId>,
    /// Partitions that wait for their leader to be looked for.
    without_leader: BTreeSet<PartitionIndex>,
    is_finding_leaders: bool,
    events: FuturesUnordered<BoxFuture<'static, Event<B::Connection>>>,
    unacknowledged: usize,
    failing: FailureClock,
    last_error: Option<KafkaError>,
}

/// What a producer waits for.
enum Event<C> {
    Connected(BrokerId, Result<C, KafkaError>),
    Answered(Sent, Result<Vec<ProducedPartition>, KafkaError>),
    LeadersFound(Vec<PartitionIndex>, Result<Metadata, KafkaError>),
}

/// A request in flight.
struct Sent {
    leader: BrokerId,
    /// Which of the leader's connections it was sent on.
    connection: u64,
    batches: Vec<(PartitionIndex, BatchNumber)>,
}

impl<B: Brokers, N> Producer<B, N> {
    /// Without partitions. A limiter bounds how fast batches are sent.
    pub fn new(brokers: B, mode: Mode, limiter: Option<Arc<RateLimiter>>) -> Self {
        Self {
            brokers,
            mode,
            limiter,
            queues: Vec::new(),
            leaders: BTreeMap::new(),
            connections: BTreeMap::new(),
            due: BTreeSet::new(),
            without_leader: BTreeSet::new(),
            is_finding_leaders: false,
            events: FuturesUnordered::new(),
            unacknowledged: 0,
            failing: FailureClock::default(),
            last_error: None,
        }
    }

    /// Adds a partition, whose batches `identity` writes and numbers from `first_sequence` on.
    pub fn add_partition(
        &mut self,
        target: TargetLeader,
        identity: ProducerIdentity,
        first_sequence: i32,
    ) -> PartitionIndex {
        let index = PartitionIndex(self.queues.len());
        // A lost first batch of a transaction ends that transaction, whatever became of those behind it.
        let is_known = self.is_transactional();
        let queue = PartitionQueue::new(index, target, identity, first_sequence, is_known);
        self.queues.push(queue);
        index
    }

    /// The stamp for the next batch of a partition.
    pub fn stamp(&self, partition: PartitionIndex) -> ProducerStamp {
        let queue = self.queues.get(partition.0);
        queue.map_or(ProducerStamp::NONE, PartitionQueue::stamp)
    }

    /// Passes over the sequence numbers of records that a partition has already.
    pub fn skip(&mut self, partition: PartitionIndex, records: u32) {
        if let Some(queue) = self.queues.get_mut(partition.0) {
            queue.skip(records);
        }
    }

    /// Adds a batch behind all others of its partition.
    pub fn enqueue(
        &mut self,
        partition: PartitionIndex,
        batch: Batch<N>,
    ) -> Result<(), EngineError> {
        let queue = self.queues.get_mut(partition.0);
        let queue = queue.ok_or(EngineError::Lost("a partition of the target"))?;
        queue.push(batch)?;
        self.unacknowledged += 1;
        self.update_index(partition);
        Ok(())
    }

    /// Whether every batch is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.unacknowledged == 0
    }

    /// Sends what leaders can be sent now, and looks for leaders that are missing. Where it is cancelled, batches are lost.
    pub async fn send(&mut self) -> Result<(), ProduceError<N>> {
        self.find_leaders()?;
        while let Some(leader) = self.due.pop_first() {
            while self.send_request(leader).await {}
        }
        Ok(())
    }

    /// Waits for what comes next: the batches that it acknowledged, in the order of each partition. None when nothing is in
    /// flight. It may be cancelled at any time.
    pub async fn next(&mut self) -> Option<Result<Vec<Acknowledged<N>>, ProduceError<N>>> {
        let event = self.events.next().await?;
        Some(match event {
            Event::Connected(leader, outcome) => {
                self.connected(leader, outcome).map(|()| Vec::new())
            }
            Event::Answered(sent, answer) => self.answered(sent, answer),
            Event::LeadersFound(partitions, outcome) => {
                self.found_leaders(partitions, outcome).map(|()| Vec::new())
            }
        })
    }

    fn is_transactional(&self) -> bool {
        matches!(self.mode, Mode::Transactional { .. })
    }

    /// Sends one request with the next batch of every partition that is ready; false when there is nothing to send now.
    async fn send_request(&mut self, to: BrokerId) -> bool {
        let Some(leader) = self.leaders.get_mut(&to).filter(|leader| leader.is_due()) else {
            return false;
        };
        if !self.connections.contains_key(&to) {
            if !std::mem::replace(&mut leader.is_connecting, true) {
                leader.connections += 1;
                let brokers = self.brokers.clone();
                let connecting = async move { Event::Connected(to, brokers.connect(to).await) };
                self.events.push(connecting.boxed());
            }
            return false;
        }
        let mut sent = Sent {
            leader: to,
            connection: leader.connections,
            batches: Vec::new(),
        };
        let request = self.fill_request(&mut sent).await;
        let connection = self.connections.get(&to);
        let Some(connection) = connection.filter(|_| !sent.batches.is_empty()) else {
            return false;
        };
        let answer = match self.brokers.produce(connection, request).await {
            Ok(pending) => pending,
            Err(error) => std::future::ready(Err(error)).boxed(),
        };
        let answered = answer.map(move |answer| Event::Answered(sent, answer));
        self.events.push(answered.boxed());
        true
    }

    /// Takes the next batches for a leader, in turn, and waits until the limiter lets them pass.
    async fn fill_request(&mut self, sent: &mut Sent) -> ProduceRequest {
        let (mut batches, mut bytes, mut records) = (Vec::new(), 0, 0);
        for partition in self.next_partitions(sent.leader) {
            let Some(queue) = self.queues.get_mut(partition.0) else {
                continue;
            };
            bytes += queue.next_bytes().unwrap_or(0);
            if let Some((number, batch, count)) = queue.send_next() {
                batches.push(batch);
                records += u64::from(count);
                sent.batches.push((partition, number));
            }
            self.update_index(partition);
        }
        if let Some((last, _)) = sent.batches.last() {
            let leader = self.leaders.entry(sent.leader).or_default();
            leader.requests += 1;
            leader.turn = PartitionIndex(last.0 + 1);
        }
        if let Some(limiter) = &self.limiter {
            let paused_at = Instant::now();
            limiter.moved(bytes, records).await;
            self.failing.paused(paused_at.elapsed());
        }
        ProduceRequest {
            transactional_id: match &self.mode {
                Mode::Idempotent => None,
                Mode::Transactional { id } => Some(id.clone()),
            },
            acks: -1,
            // Sooner than the broker is given up.
            timeout: self.brokers.retry().patience() / 2,
            batches,
        }
    }

    /// The partitions whose next batches fit into a request.
    fn next_partitions(&self, to: BrokerId) -> Vec<PartitionIndex> {
        let mut size = 0;
        let ready = self.leaders.get(&to).into_iter().flat_map(Leader::in_turn);
        let fitting = ready.take_while(|partition| {
            let queue = self.queues.get(partition.0);
            let bytes = queue.and_then(PartitionQueue::next_bytes).unwrap_or(0);
            let fits = size == 0 || size + bytes <= REQUEST_BYTES;
            size += bytes;
            fits
        });
        fitting.collect()
    }

    /// Lists a partition where it belongs: as ready to be sent, or as one whose leader must be found.
    fn update_index(&mut self, partition: PartitionIndex) {
        let Some(queue) = self.queues.get(partition.0) else {
            return;
        };
        let leader = self.leaders.entry(queue.leader).or_default();
        if queue.can_send() {
            leader.ready.insert(partition);
        } else {
            leader.ready.remove(&partition);
        }
        if leader.is_due() {
            self.due.insert(queue.leader);
        }
        if queue.needs_leader() {
            self.without_leader.insert(partition);
        }
    }

    fn connected(
        &mut self,
        to: BrokerId,
        outcome: Result<B::Connection, KafkaError>,
    ) -> Result<(), ProduceError<N>> {
        let leader = self.leaders.entry(to).or_default();
        leader.is_connecting = false;
        match outcome {
            Ok(connection) => {
                self.connections.insert(to, connection);
                self.due.insert(to);
            }
            Err(error) => {
                let waiting = std::mem::take(&mut leader.ready);
                self.tolerate(error)?;
                for partition in waiting {
                    if let Some(queue) = self.queues.get_mut(partition.0) {
                        queue.fail_all();
                    }
                    self.update_index(partition);
                }
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        sent: Sent,
        answer: Result<Vec<ProducedPartition>, KafkaError>,
    ) -> Result<Vec<Acknowledged<N>>, ProduceError<N>> {
        self.due.insert(sent.leader);
        let leader = self.leaders.entry(sent.leader).or_default();
        leader.requests = leader.requests.saturating_sub(1);
        let is_answered = answer.is_ok();
        let mut produced = HashMap::new();
        match answer {
            Ok(answer) => {
                let answer = answer.into_iter();
                produced.extend(answer.map(|produced| (Arc::clone(&produced.key), produced)));
            }
            Err(error) => {
                if leader.connections == sent.connection {
                    self.connections.remove(&sent.leader);
                }
                self.tolerate(error)?;
            }
        }
        let mut acknowledged = Vec::new();
        for (partition, number) in sent.batches {
            let Some(queue) = self.queues.get_mut(partition.0) else {
                continue;
            };
            match produced.remove(&queue.key) {
                Some(ProducedPartition {
                    error: None,
                    base_offset,
                    ..
                }) => {
                    queue.acknowledge(number, base_offset);
                    self.failing.succeeded();
                    while let Some(batch) = queue.pop_acknowledged() {
                        self.unacknowledged = self.unacknowledged.saturating_sub(1);
                        acknowledged.push(batch?);
                    }
                }
                Some(ProducedPartition {
                    error: Some(code),
                    error_message,
                    ..
                }) => self.refused(partition, number, code, error_message.as_deref())?,
                None => {
                    let error = left_out(&queue.key);
                    queue.fail(number);
                    if is_answered {
                        self.tolerate(error)?;
                    }
                }
            }
            self.update_index(partition);
        }
        Ok(acknowledged)
    }

    fn refused(
        &mut self,
        partition: PartitionIndex,
        number: BatchNumber,
        code: ErrorCode,
        said: Option<&str>,
    ) -> Result<(), ProduceError<N>> {
        let Some(queue) = self.queues.get_mut(partition.0) else {
            return Ok(());
        };
        let is_behind_another = queue.is_behind_another(number);
        let bytes = queue.bytes(number);
        match Refusal::from_code(code, said, &queue.key, bytes, is_behind_another) {
            Refusal::InPassing(error) => {
                queue.fail(number);
                self.tolerate(error)
            }
            Refusal::Behind(error) => {
                queue.fail(number);
                self.failing.failed();
                self.last_error.get_or_insert(error);
                Ok(())
            }
            Refusal::Batch(why) => Err(match queue.take_note(number) {
                Some(note) => ProduceError::Refused { note, why },
                None => EngineError::refused(why).into(),
            }),
            Refusal::Other(error) => Err(error.into()),
        }
    }

    /// Takes note of an error that an idempotent producer gets over. Any other ends the producer.
    fn tolerate(&mut self, error: KafkaError) -> Result<(), ProduceError<N>> {
        if self.is_transactional() || !error.is_transient() {
            return Err(EngineError::Kafka(error).into());
        }
        self.failing.failed();
        self.last_error = Some(error);
        Ok(())
    }
}

fn left_out(key: &TopicPartition) -> KafkaError {
    KafkaError::Broker {
        code: ErrorCode::RequestTimedOut,
        context: format!("the answer to a request says nothing about {key}"),
    }
}
