//! Transactions, one after the other, each with batches and with the offsets of the source behind them. Whatever goes wrong ends the
//! session.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::EngineError;
use crate::kafka::{
    BrokerId, Client, Connection, ErrorCode, KafkaError, OffsetSpec, ProduceBatch, ProduceRequest,
    ProducedPartition, TopicPartition, TransactionalProducer,
};
use crate::record::{
    BatchRef, HEADER_LEN, Offset, ProducerStamp, RecordError, next_sequence, restamp_in_transaction,
};

use super::MirrorOptions;
use super::groups::Positions;
use super::landmarks::Landmarks;
use super::plan::MirrorPlan;
use super::prepare::{Destination, Ready};
use super::progress::Progress;
use super::read::{Event, Piece};
use super::state::{Advance, MirrorState, PartitionState, PartitionStatus};
use super::targets::{Queued, Sink, Targets};

/// A transaction ends when it holds so much, or is so old.
const TRANSACTION_BYTES: u64 = 128 << 20;
const TRANSACTION_AGE: Duration = Duration::from_millis(500);
/// What an idempotent producer may have in flight (KIP-98).
const IN_FLIGHT: usize = 5;
/// A group forgets what it was not told for days (`offsets.retention.minutes`).
const RECOMMIT_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How long a session that ends may take to abort what it had begun.
const ABORT_WITHIN: Duration = Duration::from_secs(5);
/// One commit names so many partitions: they become one batch of the coordinator's.
const OFFSETS_AT_ONCE: usize = 500;

/// How writing ended.
pub(super) enum Written {
    /// All that was read is committed.
    All,
    /// The target does not take a batch of this partition of the source.
    Refused(TopicPartition, String),
}

/// What a request holds of a partition of the target.
struct Sent {
    /// The partition's place among those of the target.
    sink: usize,
    /// The place of the partition of the source.
    slot: usize,
    destination: Destination,
    /// The offsets of the source.
    stretches: Vec<(Offset, u32)>,
}

/// An answer with what it was for.
type Answer = (
    BrokerId,
    Vec<Sent>,
    Result<Vec<ProducedPartition>, KafkaError>,
);

/// Writes what is read.
pub(super) struct Writer<'a> {
    client: &'a Client,
    producer: TransactionalProducer,
    group: String,
    state: &'a MirrorState,
    positions: &'a Positions,
    targets: Targets,
    connections: BTreeMap<BrokerId, Connection>,
    requests: BTreeMap<BrokerId, usize>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// When the transaction got its first piece.
    began_at: Option<Instant>,
    bytes: u64,
    is_open: bool,
    /// Whether it is not known if the transaction was committed.
    is_ending: bool,
    /// How many records may still come into the target; none when there is no limit.
    left: Option<u64>,
    recommit_at: Instant,
}

impl<'a> Writer<'a> {
    pub async fn new(
        client: &'a Client,
        producer: TransactionalProducer,
        options: &MirrorOptions,
        plan: &MirrorPlan,
        state: &'a MirrorState,
        positions: &'a Positions,
        left: Option<u64>,
    ) -> Result<Self, EngineError> {
        let producer_id = producer.identity().producer_id;
        let find = || Targets::find(client, plan, producer_id);
        let mut writer = Self {
            client,
            targets: client.retry().run(find).await?,
            producer,
            group: options.id(),
            state,
            positions,
            connections: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: FuturesUnordered::new(),
            began_at: None,
            bytes: 0,
            is_open: false,
            is_ending: false,
            left,
            recommit_at: Instant::now(),
        };
        // With new keys a partition's records go everywhere: no offset stands for another one.
        if !plan.changes_keys {
            writer.find_ends().await?;
        }
        Ok(writer)
    }

    /// What comes lies behind what the target's partitions hold now.
    async fn find_ends(&mut self) -> Result<(), EngineError> {
        let origins = self.targets.origins.iter().flatten();
        let wanted: Vec<_> = origins
            .map(|origin| (origin.key.clone(), OffsetSpec::Latest))
            .collect();
        let mut ends = self.client.list_offsets(&wanted).await?;
        for origin in self.targets.origins.iter().flatten() {
            if let (Some(Ok(end)), Some(advance)) = (ends.remove(&origin.key), &origin.advance) {
                let landmarks = Landmarks::begin(advance.next, end.offset);
                self.positions.begin(origin.source.clone(), landmarks);
            }
        }
        Ok(())
    }

    /// Writes until nothing more is read, and all of it is committed.
    pub async fn run(
        &mut self,
        mut incoming: mpsc::Receiver<Event>,
    ) -> Result<Written, EngineError> {
        // Where each partition begins is committed before anything else: it is known then, whatever happens.
        self.commit().await?;
        let mut open = true;
        loop {
            // Nothing more may come into the target: what was read beyond is left.
            open &= self.left != Some(0);
            self.send_all().await?;
            let is_due = self.is_due() || !open;
            if is_due && self.is_settled() {
                self.commit().await?;
                if !open {
                    return Ok(Written::All);
                }
                continue;
            }
            let due_at = self
                .began_at
                .map_or(self.recommit_at, |began| began + TRANSACTION_AGE);
            tokio::select! {
                biased;
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => {
                    if let Some(refused) = self.take_in(answer)? {
                        return Ok(refused);
                    }
                }
                event = incoming.recv(), if open && !is_due => match event {
                    Some(event) => self.hear(event)?,
                    None => open = false,
                },
                () = tokio::time::sleep_until(due_at), if !is_due => {
                    if self.began_at.is_none() {
                        self.recommit();
                    }
                }
            }
        }
    }

    /// Whether the transaction is large or old enough to end.
    fn is_due(&self) -> bool {
        let is_old = self
            .began_at
            .is_some_and(|began| began.elapsed() >= TRANSACTION_AGE);
        is_old || self.bytes >= TRANSACTION_BYTES
    }

    /// Whether all that was read is acknowledged.
    fn is_settled(&self) -> bool {
        self.answers.is_empty() && self.targets.sinks.iter().all(|sink| sink.queue.is_empty())
    }

    /// Everything is committed again as it is.
    fn recommit(&mut self) {
        for origin in self.targets.origins.iter_mut().flatten() {
            let next = self.state.next_offset(&origin.source);
            origin.advance.get_or_insert(Advance {
                next,
                ..Advance::default()
            });
        }
        self.began_at = Some(Instant::now());
    }

    fn hear(&mut self, event: Event) -> Result<(), EngineError> {
        match event {
            Event::Piece(piece) => self.enqueue(*piece)?,
            Event::End(slot, stable, end) => self.change(slot, |status| {
                status.end_offset = stable;
                status.held_back = u64::try_from(end.0 - stable.0).unwrap_or(0);
            }),
            Event::Lost(slot, lost) => self.change(slot, |status| status.lost_offsets += lost),
            Event::Finished(slot) => self.change(slot, |status| {
                if !status.state.is_stopped() {
                    status.state = PartitionState::Finished;
                }
            }),
            Event::Stopped(slot, state, why) => {
                if let Some(origin) = self.targets.origin(slot) {
                    tracing::error!("{} is not mirrored any more: {why}", origin.source);
                }
                self.change(slot, |status| {
                    status.state = state;
                    status.problem = Some(why);
                });
            }
        }
        Ok(())
    }

    fn change(&self, slot: usize, change: impl FnOnce(&mut PartitionStatus)) {
        if let Some(origin) = self.targets.origin(slot) {
            self.state.change(&origin.source, change);
        }
    }

    fn enqueue(&mut self, mut piece: Piece) -> Result<(), EngineError> {
        let Some(origin) = self.targets.origin_mut(piece.slot) else {
            return Ok(());
        };
        if let Some(left) = &mut self.left {
            if piece.prepared.records() > *left {
                let cut = piece.prepared.cut(*left);
                piece.next = cut.map_err(|source| origin.wrong_batch(source))?;
            }
            *left -= piece.prepared.records();
        }
        self.began_at.get_or_insert_with(Instant::now);
        let advance = origin.advance.get_or_insert_default();
        advance.next = piece.next;
        advance.records += piece.prepared.records();
        advance.bytes += piece.prepared.bytes();
        advance.skipped += piece.prepared.skipped;
        advance.timestamp = advance.timestamp.max(piece.prepared.timestamp);
        origin.leader_epoch = piece.leader_epoch;
        for ready in piece.prepared.ready {
            self.bytes += ready.bytes.len() as u64;
            let sink = self.targets.sink(piece.slot, ready.destination);
            let sink = sink.ok_or(EngineError::Lost("a partition of the target"))?;
            sink.queue.push_back(Queued {
                slot: piece.slot,
                ready,
            });
        }
        Ok(())
    }

    /// Sends as long as some leader may have another request.
    async fn send_all(&mut self) -> Result<(), EngineError> {
        let (mut added, mut leaders) = (Vec::new(), BTreeSet::new());
        for sink in &mut self.targets.sinks {
            if sink.queue.is_empty() {
                continue;
            }
            leaders.insert(sink.leader);
            if !std::mem::replace(&mut sink.is_added, true) {
                added.push(sink.key.clone());
            }
        }
        if !added.is_empty() {
            self.is_open = true;
            self.producer.add_partitions(&added).await?;
        }
        for leader in leaders {
            while self.requests.get(&leader).copied().unwrap_or(0) < IN_FLIGHT
                && self.send(leader).await?
            {}
        }
        Ok(())
    }

    /// Sends one request with the next batch of every partition that `leader` leads; false when there is none.
    async fn send(&mut self, leader: BrokerId) -> Result<bool, EngineError> {
        let (mut batches, mut sent) = (Vec::new(), Vec::new());
        let identity = self.producer.identity();
        for (place, sink) in self.targets.sinks.iter_mut().enumerate() {
            if sink.leader != leader || sink.in_flight >= IN_FLIGHT {
                continue;
            }
            let Some(queued) = sink.queue.pop_front() else {
                continue;
            };
            let stamp = ProducerStamp {
                producer_id: identity.producer_id,
                producer_epoch: identity.producer_epoch,
                base_sequence: sink.sequence,
            };
            let batch = stamped(sink, &queued.ready, &stamp);
            batches.push(batch.map_err(|source| EngineError::Batch {
                topic: sink.key.topic.clone(),
                partition: sink.key.partition,
                offset: Offset(0),
                source,
            })?);
            sink.sequence = next_sequence(sink.sequence, queued.ready.records);
            sink.in_flight += 1;
            sent.push(Sent {
                sink: place,
                slot: queued.slot,
                destination: queued.ready.destination,
                stretches: queued.ready.stretches,
            });
        }
        if sent.is_empty() {
            return Ok(false);
        }
        let request = ProduceRequest {
            transactional_id: Some(self.producer.transactional_id().to_owned()),
            acks: -1,
            timeout: self.client.retry().patience() / 2,
            batches,
        };
        let pending = self
            .connection(leader)
            .await?
            .start_produce(request)
            .await?;
        *self.requests.entry(leader).or_default() += 1;
        let answer = pending.receive().map(move |answer| (leader, sent, answer));
        self.answers.push(answer.boxed());
        Ok(true)
    }

    async fn connection(&mut self, leader: BrokerId) -> Result<Connection, KafkaError> {
        if let Some(connection) = self.connections.get(&leader) {
            return Ok(connection.clone());
        }
        let connection = self.client.connection(leader).await?;
        self.connections.insert(leader, connection.clone());
        Ok(connection)
    }

    /// Takes an answer in: what failed in passing ends the session, what is refused for good is told.
    fn take_in(&mut self, (leader, sent, answer): Answer) -> Result<Option<Written>, EngineError> {
        if let Some(requests) = self.requests.get_mut(&leader) {
            *requests = requests.saturating_sub(1);
        }
        let answer = answer?;
        for sent in sent {
            let Some(sink) = self.targets.sinks.get_mut(sent.sink) else {
                continue;
            };
            sink.in_flight = sink.in_flight.saturating_sub(1);
            let of_sink = |produced: &&ProducedPartition| {
                produced.topic == sink.key.topic && produced.partition == sink.key.partition
            };
            let Some(produced) = answer.iter().find(of_sink) else {
                return Err(EngineError::Lost("the answer to a batch"));
            };
            if let Some(code) = produced.error {
                let why = refusal(sink, code, produced.error_message.as_deref())?;
                let origin = self.targets.origin(sent.slot);
                let origin = origin.ok_or(EngineError::Lost("a partition of the source"))?;
                return Ok(Some(Written::Refused(origin.source.clone(), why)));
            }
            let mut at = produced.base_offset;
            if let (Destination::Same, Some(origin)) =
                (sent.destination, self.targets.origin_mut(sent.slot))
            {
                for (source, count) in sent.stretches {
                    origin.acknowledged.push((source, at, count));
                    at.0 += i64::from(count);
                }
            }
        }
        Ok(None)
    }

    /// Ends the transaction with the offsets of all that it holds.
    async fn commit(&mut self) -> Result<(), EngineError> {
        let mut offsets = Vec::new();
        for origin in self.targets.origins.iter().flatten() {
            if let Some(advance) = &origin.advance {
                let progress = Progress {
                    next: advance.next,
                    leader_epoch: origin.leader_epoch,
                    note: origin.note.clone(),
                };
                offsets.push((origin.key.clone(), progress.committed()?));
            }
        }
        if !offsets.is_empty() {
            self.is_open = true;
            for offsets in offsets.chunks(OFFSETS_AT_ONCE) {
                let offsets = offsets.iter().cloned().collect();
                self.producer.commit_offsets(&self.group, &offsets).await?;
            }
            self.is_ending = true;
            self.producer.end(true).await?;
            self.is_ending = false;
        }
        self.is_open = false;
        self.began_at = None;
        self.bytes = 0;
        self.recommit_at = Instant::now() + RECOMMIT_EVERY;
        for sink in &mut self.targets.sinks {
            sink.is_added = false;
        }
        for origin in self.targets.origins.iter_mut().flatten() {
            let acknowledged = std::mem::take(&mut origin.acknowledged);
            self.positions.committed(&origin.source, |landmarks| {
                for (source, at, count) in acknowledged {
                    landmarks.add(source, at, count.into());
                }
                if let Some(advance) = &origin.advance {
                    landmarks.reached(advance.next);
                }
            });
            if let Some(advance) = origin.advance.take() {
                self.state.committed(&origin.source, &advance);
            }
        }
        Ok(())
    }

    /// What the transaction held, when it is not known whether it was committed.
    pub fn unconfirmed(&self) -> BTreeMap<TopicPartition, Advance> {
        let origins = self.targets.origins.iter().flatten();
        let origins = origins.filter(|_| self.is_ending);
        let advances = origins.filter_map(|origin| Some((origin.source.clone(), origin.advance?)));
        advances.collect()
    }

    /// Ends what was begun, so that readers of the target need not wait for a timeout.
    pub async fn abort(&mut self) {
        if std::mem::take(&mut self.is_open) {
            // When it fails the next session, or the cluster after a while, does the same.
            tokio::time::timeout(ABORT_WITHIN, self.producer.end(false))
                .await
                .ok();
        }
    }
}

fn stamped(sink: &Sink, ready: &Ready, stamp: &ProducerStamp) -> Result<ProduceBatch, RecordError> {
    let (view, _) = BatchRef::parse(&ready.bytes)?;
    Ok(ProduceBatch {
        topic: sink.key.topic.clone(),
        partition: sink.key.partition,
        header: restamp_in_transaction(&view, stamp)?,
        payload: ready.bytes.slice(HEADER_LEN..),
    })
}

/// Why a broker refuses a batch for good; else the error.
fn refusal(sink: &Sink, code: ErrorCode, said: Option<&str>) -> Result<String, KafkaError> {
    let error = KafkaError::for_topic(code, "WRITE", &sink.key.topic);
    let advice = match code {
        ErrorCode::MessageTooLarge => "raise max.message.bytes of the topic in the target",
        ErrorCode::InvalidTimestamp => {
            "raise message.timestamp.before.max.ms and after.max.ms of the topic in the target"
        }
        ErrorCode::InvalidRecord => "a compacted topic takes no record without a key",
        _ => return Err(error),
    };
    let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
    Ok(format!(
        "{} of the target refused a batch: {error}{said}: {advice}",
        sink.key
    ))
}
