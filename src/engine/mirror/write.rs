//! A session: transactions, one after the other, each with batches and with the offsets of the source behind them. Whatever goes
//! wrong ends the session; the next one begins where the last transaction ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::engine::backup::GroupSelection;
use crate::engine::rate::RateLimiter;
use crate::engine::{EngineError, Stop};
use crate::kafka::{
    BrokerId, Client, Connection, ErrorCode, KafkaError, OffsetSpec, ProduceBatch, ProduceRequest,
    ProducedPartition, TopicPartition, Topics, TransactionalProducer,
};
use crate::record::{
    BatchRef, HEADER_LEN, LeaderEpoch, Offset, ProducerId, ProducerStamp, RecordError,
    next_sequence, restamp_in_transaction,
};

use super::MirrorOptions;
use super::groups::{self, Positions};
use super::landmarks::Landmarks;
use super::plan::{Bounds, MirrorPlan, plan_within};
use super::prepare::Ready;
use super::progress::{self, Note, Progress};
use super::read::{Cursor, Event, Piece, Route, Source, read_all};
use super::state::{Advance, MirrorState, PartitionState};

/// A cluster aborts a transaction that is open for longer: then the mirror is gone.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// A transaction ends when it holds so much, or is so old.
const TRANSACTION_BYTES: u64 = 128 << 20;
const TRANSACTION_AGE: Duration = Duration::from_millis(500);
/// What an idempotent producer may have in flight (KIP-98).
const IN_FLIGHT: usize = 5;
/// Topics and settings are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A group forgets what it was not told for days (`offsets.retention.minutes`).
const RECOMMIT_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How long a session that ends may take to abort what it had begun.
const ABORT_WITHIN: Duration = Duration::from_secs(5);
/// One commit names so many partitions: they become one batch of the coordinator's.
const OFFSETS_AT_ONCE: usize = 500;

/// How a session ended that did not fail.
pub(super) enum Ended {
    /// All is there, or it was told to stop; with what should be looked at.
    Finished(Vec<String>),
    /// There are other topics, or partitions, than it knew.
    TopicsChanged,
}

/// Runs one session.
pub(super) async fn session(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
    bounds: &mut Bounds,
    state: &MirrorState,
) -> Result<Ended, EngineError> {
    // First: whoever bore the name before can commit no more progress then.
    let producer = target
        .transactional_producer(&options.id(), TRANSACTION_TIMEOUT)
        .await?;
    let mut plan = plan_within(source, target, options, bounds).await?;
    for (topic, partition) in plan.topics.iter_mut().flat_map(|topic| {
        let name = topic.topic.clone();
        topic
            .partitions
            .iter_mut()
            .map(move |partition| (name.clone(), partition))
    }) {
        let key = TopicPartition {
            topic,
            partition: partition.partition,
        };
        bounds
            .ends
            .entry(key.clone())
            .or_insert(partition.end_offset);
        if let Some(why) = bounds.refused.get(&key) {
            partition.state = PartitionState::Refused;
            partition.problem = Some(why.clone());
        }
    }
    confirm(bounds, &plan, state);
    make_ready(target, &plan).await?;
    remember_settings(bounds, &plan);
    let returning = progress::returning(source, &plan.target_cluster_id).await?;
    let mut warnings = plan.warnings.clone();
    if returning.is_none() {
        warnings.push("what another mirror brought from the target cannot be told apart: grant DESCRIBE on the source's groups".to_owned());
    }
    state.begin(plan.statuses());
    let (events, incoming) = mpsc::channel(16);
    let limiter = RateLimiter::new(options.rate_limit);
    let returning = returning.unwrap_or_default();
    let route = options.transform.clone().map(|transform| Route {
        transform,
        source_id: plan.source_cluster_id.clone(),
        target_id: plan.target_cluster_id.clone(),
    });
    let reading = Source::new(source, options.memory, limiter, events, returning, route);
    let cursors = cursors(&plan, options, bounds);
    let positions = Positions::default();
    let mut writer = Writer::new(
        target,
        producer,
        options,
        &plan,
        state,
        &positions,
        bounds.left,
    )
    .await?;
    // Ends the reading alone: what was read is still written.
    let enough = options.stop.child_token();
    // Nobody writes what is read.
    let written_all = Stop::new();
    let read = async {
        let read = enough.run_until_cancelled(read_all(&reading, cursors));
        let read = written_all.run_until_cancelled(read).await;
        drop(reading);
        read.flatten().unwrap_or(Ok(()))
    };
    let write = async {
        let written = writer.run(incoming).await;
        written_all.cancel();
        written
    };
    let mut changes = Changes {
        source,
        target,
        options,
        bounds: bounds.clone(),
        enough: &enough,
        state,
        positions: &positions,
    };
    let (read, written) = tokio::select! {
        ended = async { tokio::join!(read, write) } => ended,
        never = changes.follow(&plan) => match never {},
    };
    if written.is_ok() {
        changes.follow_groups(&plan).await?;
    }
    match written.and_then(|written| read.map(|()| written)) {
        Ok(Written::All) if enough.is_cancelled() && !options.stop.is_cancelled() => {
            Ok(Ended::TopicsChanged)
        }
        Ok(Written::All) => Ok(Ended::Finished(warnings)),
        Ok(Written::Refused(partition, why)) => {
            writer.abort().await;
            bounds.refused.insert(partition, why);
            Ok(Ended::TopicsChanged)
        }
        Err(error) => {
            bounds.unconfirmed = writer.unconfirmed();
            writer.abort().await;
            Err(error)
        }
    }
}

/// Counts what the transaction held with which the session before broke off, when the target has it.
fn confirm(bounds: &mut Bounds, plan: &MirrorPlan, state: &MirrorState) {
    let unconfirmed = std::mem::take(&mut bounds.unconfirmed);
    let is_there = plan.partitions().any(|(topic, partition)| {
        let held = unconfirmed.get(&TopicPartition {
            topic: topic.topic.clone(),
            partition: partition.partition,
        });
        held.is_some_and(|advance| {
            advance.records > 0 && partition.committed_offset == Some(advance.next)
        })
    });
    if is_there {
        for (partition, advance) in &unconfirmed {
            state.committed(partition, advance);
            bounds.left = bounds.left.map(|left| left.saturating_sub(advance.records));
        }
    }
}

/// Creates and changes what the plan wants of the target's topics.
async fn make_ready(target: &Client, plan: &MirrorPlan) -> Result<(), EngineError> {
    let new = plan.new_topics();
    if !new.is_empty() {
        for (topic, answer) in target.create_topics(&new, false).await? {
            if let Err(error) = answer {
                return Err(EngineError::Refused(format!(
                    "topic {topic} cannot be created in the target: {error}"
                )));
            }
        }
    }
    let grow = plan
        .topics
        .iter()
        .filter(|topic| topic.add_partitions > 0 && !topic.create);
    let grow: BTreeMap<String, u32> = grow
        .map(|topic| {
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            (topic.target_topic.clone(), count)
        })
        .collect();
    if !grow.is_empty() {
        target.create_partitions(&grow).await?;
    }
    follow_settings(target, plan).await
}

async fn follow_settings(target: &Client, plan: &MirrorPlan) -> Result<(), EngineError> {
    let changes = plan
        .topics
        .iter()
        .filter(|topic| !topic.settings.is_empty());
    let changes = changes.map(|topic| (topic.target_topic.clone(), topic.settings.clone()));
    Ok(target
        .incremental_alter_configs(&changes.collect(), false)
        .await?)
}

fn cursors(plan: &MirrorPlan, options: &MirrorOptions, bounds: &Bounds) -> Vec<Cursor> {
    let partitions = plan.partitions().enumerate();
    let goes_on =
        partitions.filter(|(_, (_, partition))| partition.state == PartitionState::Mirroring);
    let cursors = goes_on.map(|(slot, (topic, partition))| {
        let key = TopicPartition {
            topic: topic.topic.clone(),
            partition: partition.partition,
        };
        let end = bounds.ends.get(&key).copied();
        Cursor {
            slot,
            topic_id: topic.topic_id,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            next: partition.start_offset,
            end: end.filter(|_| options.until.is_bounded()),
            last_epoch: partition.last_epoch,
            key,
        }
    });
    cursors.collect()
}

/// What changes in the source while a session goes on.
struct Changes<'a> {
    source: &'a Client,
    target: &'a Client,
    options: &'a MirrorOptions,
    bounds: Bounds,
    enough: &'a Stop,
    state: &'a MirrorState,
    positions: &'a Positions,
}

impl Changes<'_> {
    /// Follows settings; ends the session when there are other topics or partitions.
    async fn follow(&mut self, plan: &MirrorPlan) -> std::convert::Infallible {
        if !self.options.until.is_bounded() {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                match self.look(plan).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        let name = &self.options.name;
                        tracing::warn!(
                            "mirror {name}: topics and settings are not followed at present: {error}"
                        );
                    }
                }
            }
            tracing::info!(
                "mirror {}: the source has other topics or partitions",
                self.options.name
            );
            self.enough.cancel();
        }
        std::future::pending().await
    }

    async fn follow_groups(&self, plan: &MirrorPlan) -> Result<(), EngineError> {
        if self.options.groups == GroupSelection::None {
            return Ok(());
        }
        let (source, target, chosen) = (self.source, self.target, &self.options.groups);
        let followed = groups::follow(source, target, plan, chosen, self.positions).await?;
        self.state.groups_followed(followed);
        Ok(())
    }

    async fn look(&mut self, plan: &MirrorPlan) -> Result<bool, EngineError> {
        let now = plan_within(self.source, self.target, self.options, &self.bounds).await?;
        follow_settings(self.target, &now).await?;
        self.follow_groups(plan).await?;
        remember_settings(&mut self.bounds, &now);
        Ok(now.shape() != plan.shape())
    }
}

fn remember_settings(bounds: &mut Bounds, plan: &MirrorPlan) {
    let settings = plan.topics.iter();
    let settings = settings.map(|topic| (topic.topic.clone(), topic.source_settings.clone()));
    bounds.settings = settings.collect();
}

/// How writing ended.
enum Written {
    /// All that was read is committed.
    All,
    /// The target does not take a batch of this partition of the source.
    Refused(TopicPartition, String),
}

/// One partition as it is written to.
struct Target {
    source: TopicPartition,
    key: TopicPartition,
    leader: BrokerId,
    note: Note,
    sequence: i32,
    queue: VecDeque<Queued>,
    in_flight: usize,
    /// Whether it belongs to the transaction.
    is_added: bool,
    leader_epoch: LeaderEpoch,
    /// What the transaction has of it.
    advance: Option<Advance>,
    /// Where it lies in the target.
    acknowledged: Vec<(Offset, Offset, u32)>,
}

impl Target {
    fn wrong_batch(&self, source: RecordError) -> EngineError {
        EngineError::Batch {
            topic: self.source.topic.clone(),
            partition: self.source.partition,
            offset: self
                .advance
                .map_or_else(Offset::default, |advance| advance.next),
            source,
        }
    }
}

struct Queued {
    ready: Ready,
    memory: Arc<OwnedSemaphorePermit>,
}

/// What a request holds of a partition: its place, and the offsets of the source.
type Sent = (usize, Vec<(Offset, u32)>);
/// An answer with what it was for.
type Answer = (
    BrokerId,
    Vec<Sent>,
    Result<Vec<ProducedPartition>, KafkaError>,
);

struct Writer<'a> {
    client: &'a Client,
    producer: TransactionalProducer,
    group: String,
    state: &'a MirrorState,
    positions: &'a Positions,
    /// By the partition's place in the session's table; none for those that stand still.
    targets: Vec<Option<Target>>,
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
    async fn new(
        client: &'a Client,
        producer: TransactionalProducer,
        options: &MirrorOptions,
        plan: &MirrorPlan,
        state: &'a MirrorState,
        positions: &'a Positions,
        left: Option<u64>,
    ) -> Result<Self, EngineError> {
        let mut writer = Self {
            client,
            producer,
            group: options.id(),
            state,
            positions,
            targets: Vec::new(),
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
        let producer_id = writer.producer.identity().producer_id;
        let ready = || find_targets(client, plan, producer_id);
        writer.targets = client.retry().run(ready).await?;
        writer.find_ends().await?;
        Ok(writer)
    }

    /// What comes lies behind what the target's partitions hold now.
    async fn find_ends(&mut self) -> Result<(), EngineError> {
        let targets = self.targets.iter().flatten();
        let wanted: Vec<_> = targets
            .map(|target| (target.key.clone(), OffsetSpec::Latest))
            .collect();
        let mut ends = self.client.list_offsets(&wanted).await?;
        for target in self.targets.iter().flatten() {
            if let (Some(Ok(end)), Some(advance)) = (ends.remove(&target.key), &target.advance) {
                let landmarks = Landmarks::begin(advance.next, end.offset);
                self.positions.begin(target.source.clone(), landmarks);
            }
        }
        Ok(())
    }

    /// Writes until nothing more is read, and all of it is committed.
    async fn run(&mut self, mut incoming: mpsc::Receiver<Event>) -> Result<Written, EngineError> {
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
        let mut targets = self.targets.iter().flatten();
        self.answers.is_empty() && targets.all(|target| target.queue.is_empty())
    }

    /// Everything is committed again as it is.
    fn recommit(&mut self) {
        for target in self.targets.iter_mut().flatten() {
            let next = self.state.next_offset(&target.source);
            target.advance.get_or_insert(Advance {
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
                if let Some(Some(target)) = self.targets.get(slot) {
                    tracing::error!("{} is not mirrored any more: {why}", target.source);
                }
                self.change(slot, |status| {
                    status.state = state;
                    status.problem = Some(why);
                });
            }
        }
        Ok(())
    }

    fn change(&self, slot: usize, change: impl FnOnce(&mut super::PartitionStatus)) {
        if let Some(Some(target)) = self.targets.get(slot) {
            self.state.change(&target.source, change);
        }
    }

    fn enqueue(&mut self, mut piece: Piece) -> Result<(), EngineError> {
        let Some(Some(target)) = self.targets.get_mut(piece.slot) else {
            return Ok(());
        };
        if let Some(left) = &mut self.left {
            if piece.prepared.records() > *left {
                let cut = piece.prepared.cut(*left);
                piece.next = cut.map_err(|source| target.wrong_batch(source))?;
            }
            *left -= piece.prepared.records();
        }
        self.began_at.get_or_insert_with(Instant::now);
        let advance = target.advance.get_or_insert_default();
        advance.next = piece.next;
        advance.skipped.aborted += piece.prepared.skipped.aborted;
        advance.skipped.returning += piece.prepared.skipped.returning;
        advance.skipped.filtered += piece.prepared.skipped.filtered;
        advance.skipped.errors += piece.prepared.skipped.errors;
        advance.timestamp = advance.timestamp.max(piece.prepared.timestamp);
        target.leader_epoch = piece.leader_epoch;
        for ready in piece.prepared.ready {
            advance.records += u64::from(ready.records);
            advance.bytes += ready.bytes.len() as u64;
            self.bytes += ready.bytes.len() as u64;
            target.queue.push_back(Queued {
                ready,
                memory: Arc::clone(&piece.memory),
            });
        }
        Ok(())
    }

    /// Sends as long as some leader may have another request.
    async fn send_all(&mut self) -> Result<(), EngineError> {
        let waiting = |target: &&mut Target| !target.queue.is_empty();
        let new = self
            .targets
            .iter_mut()
            .flatten()
            .filter(waiting)
            .filter(|target| !target.is_added);
        let mut added = Vec::new();
        for target in new {
            target.is_added = true;
            added.push(target.key.clone());
        }
        if !added.is_empty() {
            self.is_open = true;
            self.producer.add_partitions(&added).await?;
        }
        let leaders = self
            .targets
            .iter()
            .flatten()
            .filter(|target| !target.queue.is_empty());
        let leaders: BTreeSet<BrokerId> = leaders.map(|target| target.leader).collect();
        for leader in leaders {
            while self.requests.get(&leader).copied().unwrap_or(0) < IN_FLIGHT
                && self.send(leader).await?
            {}
        }
        Ok(())
    }

    /// Sends one request with the next batch of every partition that `leader` leads; false when there is none.
    async fn send(&mut self, leader: BrokerId) -> Result<bool, EngineError> {
        let (mut batches, mut sent, mut held) = (Vec::new(), Vec::new(), Vec::new());
        let identity = self.producer.identity();
        for (slot, target) in self.targets.iter_mut().enumerate() {
            let Some(target) = target else { continue };
            if target.leader != leader || target.in_flight >= IN_FLIGHT {
                continue;
            }
            let Some(queued) = target.queue.pop_front() else {
                continue;
            };
            let stamp = ProducerStamp {
                producer_id: identity.producer_id,
                producer_epoch: identity.producer_epoch,
                base_sequence: target.sequence,
            };
            batches.push(stamped(target, &queued.ready, &stamp)?);
            target.sequence = next_sequence(target.sequence, queued.ready.records);
            target.in_flight += 1;
            sent.push((slot, queued.ready.stretches));
            held.push(queued.memory);
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
        let answer = pending.receive().map(move |answer| {
            drop(held);
            (leader, sent, answer)
        });
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
        for (slot, stretches) in sent {
            let Some(Some(target)) = self.targets.get_mut(slot) else {
                continue;
            };
            target.in_flight = target.in_flight.saturating_sub(1);
            let of_target = |produced: &&ProducedPartition| {
                produced.topic == target.key.topic && produced.partition == target.key.partition
            };
            let Some(produced) = answer.iter().find(of_target) else {
                return Err(EngineError::Lost("the answer to a batch"));
            };
            if let Some(code) = produced.error {
                return refused(target, code, produced.error_message.as_deref()).map(Some);
            }
            let mut at = produced.base_offset;
            for (source, count) in stretches {
                target.acknowledged.push((source, at, count));
                at.0 += i64::from(count);
            }
        }
        Ok(None)
    }

    /// Ends the transaction with the offsets of all that it holds.
    async fn commit(&mut self) -> Result<(), EngineError> {
        let mut offsets = Vec::new();
        for target in self.targets.iter().flatten() {
            if let Some(advance) = &target.advance {
                let progress = Progress {
                    next: advance.next,
                    leader_epoch: target.leader_epoch,
                    note: target.note.clone(),
                };
                offsets.push((target.key.clone(), progress.committed()?));
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
        for target in self.targets.iter_mut().flatten() {
            target.is_added = false;
            let acknowledged = std::mem::take(&mut target.acknowledged);
            self.positions.committed(&target.source, |landmarks| {
                for (source, at, count) in acknowledged {
                    landmarks.add(source, at, count.into());
                }
                if let Some(advance) = &target.advance {
                    landmarks.reached(advance.next);
                }
            });
            if let Some(advance) = target.advance.take() {
                self.state.committed(&target.source, &advance);
            }
        }
        Ok(())
    }

    /// What the transaction held, when it is not known whether it was committed.
    fn unconfirmed(&self) -> BTreeMap<TopicPartition, Advance> {
        let targets = self.targets.iter().flatten().filter(|_| self.is_ending);
        let advances = targets.filter_map(|target| Some((target.source.clone(), target.advance?)));
        advances.collect()
    }

    /// Ends what was begun, so that readers of the target need not wait for a timeout.
    async fn abort(&mut self) {
        if std::mem::take(&mut self.is_open) {
            // When it fails the next session, or the cluster after a while, does the same.
            tokio::time::timeout(ABORT_WITHIN, self.producer.end(false))
                .await
                .ok();
        }
    }
}

/// Every partition that goes on, when all of them have a leader.
async fn find_targets(
    client: &Client,
    plan: &MirrorPlan,
    producer_id: ProducerId,
) -> Result<Vec<Option<Target>>, KafkaError> {
    let names: BTreeSet<&String> = plan
        .topics
        .iter()
        .map(|topic| &topic.target_topic)
        .collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let metadata = client.metadata_now(Topics::Named(&names)).await?;
    let mut targets = Vec::new();
    for (topic, partition) in plan.partitions() {
        if partition.state != PartitionState::Mirroring {
            targets.push(None);
            continue;
        }
        let found = metadata.topics.get(&topic.target_topic);
        let leader = found.and_then(|found| found.partitions.get(&partition.partition)?.leader);
        let missing = || KafkaError::leaderless(&topic.target_topic, partition.partition);
        let mut note = partition.note.clone();
        note.wrote(producer_id);
        targets.push(Some(Target {
            source: TopicPartition {
                topic: topic.topic.clone(),
                partition: partition.partition,
            },
            key: TopicPartition {
                topic: topic.target_topic.clone(),
                partition: partition.partition,
            },
            leader: leader.ok_or_else(missing)?,
            note,
            sequence: 0,
            queue: VecDeque::new(),
            in_flight: 0,
            is_added: false,
            leader_epoch: partition.last_epoch.unwrap_or(LeaderEpoch(-1)),
            acknowledged: Vec::new(),
            advance: Some(Advance {
                next: partition.start_offset,
                ..Advance::default()
            }),
        }));
    }
    Ok(targets)
}

fn stamped(
    target: &Target,
    ready: &Ready,
    stamp: &ProducerStamp,
) -> Result<ProduceBatch, EngineError> {
    let stamped =
        BatchRef::parse(&ready.bytes).and_then(|(view, _)| restamp_in_transaction(&view, stamp));
    let header = stamped.map_err(|source| target.wrong_batch(source))?;
    Ok(ProduceBatch {
        topic: target.key.topic.clone(),
        partition: target.key.partition,
        header,
        payload: ready.bytes.slice(HEADER_LEN..),
    })
}

/// What a broker's refusal of a batch means.
fn refused(target: &Target, code: ErrorCode, said: Option<&str>) -> Result<Written, EngineError> {
    let error = KafkaError::for_topic(code, "WRITE", &target.key.topic);
    let advice = match code {
        ErrorCode::MessageTooLarge => "raise max.message.bytes of the topic in the target",
        ErrorCode::InvalidTimestamp => {
            "raise message.timestamp.before.max.ms and after.max.ms of the topic in the target"
        }
        ErrorCode::InvalidRecord => "a compacted topic takes no record without a key",
        _ => return Err(error.into()),
    };
    let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
    let why = format!(
        "{} of the target refused a batch: {error}{said}: {advice}",
        target.key
    );
    Ok(Written::Refused(target.source.clone(), why))
}
