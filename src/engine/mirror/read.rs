//! Reads what was committed in the source: a worker a leader, which asks for more before it passes on what it got.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::kafka::{
    BrokerId, Client, Connection, ErrorCode, FetchPartition, FetchRequest, FetchedPartition,
    Isolation, KafkaError, OffsetSpec, PendingFetch, TopicPartition, Topics,
};
use crate::record::{LeaderEpoch, Offset, ProducerId, RecordError, TopicId, batches};

use super::expression::Evaluation;
use super::prepare::{Prepared, prepare};
use super::state::PartitionState;
use super::transform::{Route, Transformer};

/// What one request asks for in all, and of one partition.
const REQUEST_BYTES: u64 = 8 << 20;
const PARTITION_BYTES: u64 = 4 << 20;
/// So many partitions are named in one request.
const REQUEST_PARTITIONS: usize = 1000;
/// How long a leader may wait for something to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What reading tells the writer.
pub(super) enum Event {
    /// Some of a partition.
    Piece(Box<Piece>),
    /// A partition is at its end.
    Finished(usize),
    /// A partition does not go on.
    Stopped(usize, PartitionState, String),
    /// The source deleted so many offsets of a partition before they were read.
    Lost(usize, u64),
    /// Where a partition ends now for readers of what was committed, and for others.
    End(usize, Offset, Offset),
}

/// Some of one partition, prepared.
pub(super) struct Piece {
    /// The partition's place in the session's table.
    pub slot: usize,
    pub prepared: Prepared,
    /// The first offset behind it.
    pub next: Offset,
    /// The epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
    /// Held for as long as its bytes are.
    pub memory: Arc<OwnedSemaphorePermit>,
}

/// How far the reading of one partition is.
pub(super) struct Cursor {
    pub slot: usize,
    pub key: TopicPartition,
    pub topic_id: TopicId,
    /// Nobody, while nobody leads it.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub next: Offset,
    /// None when there is no end.
    pub end: Option<Offset>,
    pub last_epoch: Option<LeaderEpoch>,
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    fn request(&self, max_bytes: u64) -> FetchPartition {
        FetchPartition {
            topic: self.key.topic.clone(),
            topic_id: self.topic_id,
            partition: self.key.partition,
            offset: self.next,
            leader_epoch: Some(self.leader_epoch),
            last_fetched_epoch: self.last_epoch,
            max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
        }
    }
}

/// What all workers share.
pub(super) struct Source<'a> {
    pub client: &'a Client,
    pub memory: Arc<Semaphore>,
    pub limiter: RateLimiter,
    pub events: mpsc::Sender<Event>,
    /// Who wrote what came from the target.
    pub returning: Arc<BTreeSet<ProducerId>>,
    /// How records change on their way.
    pub transform: Option<Arc<Route>>,
    /// When any of them heard something last.
    heard_at: Mutex<Instant>,
}

impl<'a> Source<'a> {
    pub fn new(
        client: &'a Client,
        memory: u64,
        limiter: RateLimiter,
        events: mpsc::Sender<Event>,
        returning: BTreeSet<ProducerId>,
        transform: Option<Route>,
    ) -> Self {
        Self {
            client,
            memory: Arc::new(Semaphore::new(kib(memory) as usize)),
            limiter,
            events,
            returning: Arc::new(returning),
            transform: transform.map(Arc::new),
            heard_at: Mutex::new(Instant::now()),
        }
    }

    fn heard(&self) {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        let heard_at = self.heard_at.lock();
        heard_at.unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// What could not be read of some leader.
#[derive(Default)]
struct Leg {
    left: Vec<Cursor>,
    heard: bool,
    last_error: Option<KafkaError>,
}

/// Reads until every cursor is at its end, or the writer is gone. What a leader could not give is asked of the next one, while the
/// others read on; when none has been heard for the client's deadline, that is an error.
pub(super) async fn read_all(source: &Source<'_>, cursors: Vec<Cursor>) -> Result<(), EngineError> {
    let (done, waiting): (Vec<_>, Vec<_>) = cursors.into_iter().partition(Cursor::is_done);
    for cursor in done {
        if source
            .events
            .send(Event::Finished(cursor.slot))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    let mut legs: FuturesUnordered<_> = by_leader(waiting)
        .into_values()
        .map(|cursors| attempt(source, cursors, 0))
        .collect();
    while let Some(attempted) = legs.next().await {
        let (leg, attempts) = attempted?;
        if leg.left.is_empty() || source.events.is_closed() {
            continue;
        }
        let silence = source.silence();
        if silence > source.client.retry().deadline {
            return Err(stalled(&leg, silence));
        }
        if let Some(error) = &leg.last_error {
            tracing::debug!("reading {} partitions again: {error}", leg.left.len());
        }
        let attempts = if leg.heard { 1 } else { attempts + 1 };
        legs.push(attempt(source, leg.left, attempts));
    }
    Ok(())
}

fn by_leader(cursors: Vec<Cursor>) -> BTreeMap<Option<BrokerId>, Vec<Cursor>> {
    let mut by_leader: BTreeMap<Option<BrokerId>, Vec<Cursor>> = BTreeMap::new();
    for cursor in cursors {
        by_leader.entry(cursor.leader).or_default().push(cursor);
    }
    by_leader
}

fn stalled(leg: &Leg, silence: Duration) -> EngineError {
    let names = leg.left.iter().take(3).map(|cursor| cursor.key.to_string());
    EngineError::Stalled {
        what: names.collect::<Vec<_>>().join(", "),
        seconds: silence.as_secs(),
        last: leg
            .last_error
            .as_ref()
            .map_or_else(|| "nobody leads them".to_owned(), ToString::to_string),
    }
}

/// Reads some cursors from who leads them; behind attempts that failed, after a pause, from those who lead them then.
async fn attempt(
    source: &Source<'_>,
    mut cursors: Vec<Cursor>,
    attempts: u32,
) -> Result<(Leg, u32), EngineError> {
    if let Some(failed) = attempts.checked_sub(1) {
        tokio::time::sleep(source.client.retry().backoff(failed)).await;
        cursors = find_leaders(source, cursors).await?;
    }
    let mut all = Leg::default();
    let reading = by_leader(cursors).into_iter();
    let mut reading: FuturesUnordered<_> = reading
        .map(|(leader, cursors)| read_leader(source, leader, cursors))
        .collect();
    while let Some(leg) = reading.next().await {
        let leg = leg?;
        all.left.extend(leg.left);
        all.heard |= leg.heard;
        all.last_error = leg.last_error.or(all.last_error);
    }
    Ok((all, attempts))
}

/// Points cursors at their present leaders; those of a topic that is another one now stop.
async fn find_leaders(
    source: &Source<'_>,
    cursors: Vec<Cursor>,
) -> Result<Vec<Cursor>, EngineError> {
    let topics: BTreeSet<&str> = cursors
        .iter()
        .map(|cursor| cursor.key.topic.as_str())
        .collect();
    let names: Vec<String> = topics.into_iter().map(str::to_owned).collect();
    let metadata = match source.client.metadata_now(Topics::Named(&names)).await {
        Ok(metadata) => metadata,
        Err(error) if error.is_transient() => return Ok(cursors),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::with_capacity(cursors.len());
    for mut cursor in cursors {
        let topic = metadata.topics.get(&cursor.key.topic);
        let is_other = topic
            .is_some_and(|topic| !topic.topic_id.is_zero() && topic.topic_id != cursor.topic_id);
        if is_other {
            let why = "the source's topic was deleted and created anew: delete it in the target, or give the mirror another name and rename";
            let event = Event::Stopped(cursor.slot, PartitionState::Recreated, why.to_owned());
            // A writer that is gone has its reason.
            source.events.send(event).await.ok();
            continue;
        }
        // A broker that was cut off for a while may name the leader of an older epoch: itself.
        if let Some(partition) = topic.and_then(|topic| topic.partitions.get(&cursor.key.partition))
            && partition.leader_epoch >= cursor.leader_epoch
        {
            cursor.leader = partition.leader;
            cursor.leader_epoch = partition.leader_epoch;
        }
        found.push(cursor);
    }
    Ok(found)
}

struct Flight {
    cursors: Vec<Cursor>,
    pending: PendingFetch,
    memory: OwnedSemaphorePermit,
}

/// Some of an answer that is to be prepared.
struct Walked {
    slot: usize,
    key: TopicPartition,
    records: Bytes,
    aborted: Vec<(ProducerId, Offset)>,
    wanted: Range<Offset>,
    next: Offset,
    leader_epoch: LeaderEpoch,
    count: u64,
}

/// One leader's worker.
struct Worker<'a> {
    source: &'a Source<'a>,
    connection: Connection,
    ready: VecDeque<Cursor>,
    leg: Leg,
}

async fn read_leader(
    source: &Source<'_>,
    leader: Option<BrokerId>,
    cursors: Vec<Cursor>,
) -> Result<Leg, EngineError> {
    let left = |error: Option<KafkaError>, cursors| Leg {
        left: cursors,
        last_error: error,
        ..Leg::default()
    };
    let Some(leader) = leader else {
        return Ok(left(None, cursors));
    };
    let connection = match source.client.connection(leader).await {
        Ok(connection) => connection,
        Err(error) if error.is_transient() => return Ok(left(Some(error), cursors)),
        Err(error) => return Err(error.into()),
    };
    let worker = Worker {
        source,
        connection,
        ready: cursors.into(),
        leg: Leg::default(),
    };
    worker.read().await
}

impl Worker<'_> {
    async fn read(mut self) -> Result<Leg, EngineError> {
        let mut flight = None;
        loop {
            let Flight {
                cursors,
                pending,
                memory,
            } = match flight.take() {
                Some(flight) => flight,
                None => match self.ask(true).await {
                    Ok(Some(flight)) => flight,
                    Ok(None) => return Ok(self.leg),
                    Err(error) => return self.give_up(error),
                },
            };
            let answer = match pending.receive().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.ready.extend(cursors);
                    return self.give_up(error);
                }
            };
            self.source.heard();
            self.leg.heard = true;
            let walked = self.take_in(cursors, answer).await?;
            // The next request goes out before these bytes are worked on.
            flight = match self.ask(false).await {
                Ok(flight) => flight,
                Err(error) => return self.give_up(error),
            };
            if !self.pass_on(walked, memory).await? {
                return Ok(self.leg);
            }
        }
    }

    /// Hands everything back for another leader to be found, unless the error is for good.
    fn give_up(mut self, error: KafkaError) -> Result<Leg, EngineError> {
        if !error.is_transient() {
            return Err(error.into());
        }
        self.leg.left.extend(self.ready);
        self.leg.last_error = Some(error);
        Ok(self.leg)
    }

    /// Sends a request for all that is wanted of the leader; none when nothing is, or when there is no memory for it yet and
    /// nobody wants to wait.
    async fn ask(&mut self, waits: bool) -> Result<Option<Flight>, KafkaError> {
        if self.ready.is_empty() {
            return Ok(None);
        }
        let bytes = self.source.limiter.request_bytes(REQUEST_BYTES);
        let memory = Arc::clone(&self.source.memory);
        let memory = match waits {
            true => memory.acquire_many_owned(kib(bytes)).await.ok(),
            false => memory.try_acquire_many_owned(kib(bytes)).ok(),
        };
        let Some(memory) = memory else {
            return Ok(None);
        };
        let count = self.ready.len().min(REQUEST_PARTITIONS);
        let cursors: Vec<Cursor> = self.ready.drain(..count).collect();
        let of_each = PARTITION_BYTES.min(bytes);
        let request = FetchRequest {
            max_wait: PATIENCE,
            min_bytes: 1,
            max_bytes: i32::try_from(bytes).unwrap_or(i32::MAX),
            isolation: Isolation::ReadCommitted,
            partitions: cursors
                .iter()
                .map(|cursor| cursor.request(of_each))
                .collect(),
        };
        match self.connection.start_fetch(request).await {
            Ok(pending) => Ok(Some(Flight {
                cursors,
                pending,
                memory,
            })),
            Err(error) => {
                self.ready.extend(cursors);
                Err(error)
            }
        }
    }

    /// Moves cursors on over an answer.
    async fn take_in(
        &mut self,
        cursors: Vec<Cursor>,
        answer: Vec<FetchedPartition>,
    ) -> Result<Vec<Walked>, EngineError> {
        let mut answer: BTreeMap<TopicPartition, FetchedPartition> = answer
            .into_iter()
            .map(|fetched| {
                let key = TopicPartition {
                    topic: fetched.topic.clone(),
                    partition: fetched.partition,
                };
                (key, fetched)
            })
            .collect();
        let mut all = Vec::new();
        let mut most = self.source.limiter.request_records();
        for mut cursor in cursors {
            let Some(fetched) = answer.remove(&cursor.key) else {
                self.ready.push_front(cursor);
                continue;
            };
            if let Some((_, end)) = fetched.diverging_epoch {
                let why = format!(
                    "the source's log is another one from offset {end} on than what was mirrored (unclean leader election)"
                );
                self.stop(&cursor, PartitionState::Truncated, why).await;
                continue;
            }
            match fetched.error {
                Some(ErrorCode::OffsetOutOfRange) => self.out_of_range(cursor).await?,
                Some(code) => self.set_aside(cursor, code)?,
                None => {
                    let ends = (fetched.last_stable_offset, fetched.high_watermark);
                    match walk(&mut cursor, fetched, most) {
                        Ok(walked) => {
                            let count = walked.as_ref().map_or(0, |walked| walked.count);
                            most = most.saturating_sub(count);
                            all.extend(walked);
                            self.put_back(cursor, ends).await;
                        }
                        Err(error) => {
                            let why = format!("offset {} cannot be read: {error}", cursor.next);
                            self.stop(&cursor, PartitionState::Refused, why).await;
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    async fn put_back(&mut self, cursor: Cursor, (stable, end): (Offset, Offset)) {
        // A writer that is gone has its reason.
        self.source
            .events
            .send(Event::End(cursor.slot, stable, end))
            .await
            .ok();
        if !cursor.is_done() {
            self.ready.push_back(cursor);
        }
    }

    async fn stop(&self, cursor: &Cursor, state: PartitionState, why: String) {
        let event = Event::Stopped(cursor.slot, state, why);
        self.source.events.send(event).await.ok();
    }

    /// An error of one partition: another leader may do better, or nobody.
    fn set_aside(&mut self, cursor: Cursor, code: ErrorCode) -> Result<(), EngineError> {
        let error = KafkaError::for_topic(code, "READ", &cursor.key.topic);
        if !error.is_transient() {
            return Err(error.into());
        }
        self.leg.left.push(cursor);
        self.leg.last_error = Some(error);
        Ok(())
    }

    /// The log does not have the offset asked for. Confirmed at the leader: it was deleted meanwhile, or the log ends below.
    async fn out_of_range(&mut self, mut cursor: Cursor) -> Result<(), EngineError> {
        let ask = async |spec| {
            let wanted = [(cursor.key.clone(), spec)];
            let mut listed = self.source.client.list_offsets(&wanted).await?;
            listed.remove(&cursor.key).unwrap_or_else(|| {
                Err(KafkaError::leaderless(
                    &cursor.key.topic,
                    cursor.key.partition,
                ))
            })
        };
        let (start, end) = (
            ask(OffsetSpec::Earliest).await?,
            ask(OffsetSpec::Latest).await?,
        );
        if start.offset > cursor.next {
            let lost = start.offset.0.abs_diff(cursor.next.0);
            self.source
                .events
                .send(Event::Lost(cursor.slot, lost))
                .await
                .ok();
            cursor.next = start.offset;
            cursor.last_epoch = None;
            self.ready.push_back(cursor);
            return Ok(());
        }
        if end.offset < cursor.next {
            let why = format!(
                "the source's log ends at offset {}, below {}, which was mirrored: it was truncated",
                end.offset, cursor.next
            );
            self.stop(&cursor, PartitionState::Truncated, why).await;
            return Ok(());
        }
        self.set_aside(cursor, ErrorCode::OffsetOutOfRange)
    }

    /// Prepares what was walked over, on a thread that may, and hands it to the writer; false when that is gone.
    async fn pass_on(
        &mut self,
        walked: Vec<Walked>,
        mut memory: OwnedSemaphorePermit,
    ) -> Result<bool, EngineError> {
        if walked.is_empty() {
            return Ok(!self.source.events.is_closed());
        }
        let bytes = walked
            .iter()
            .map(|walked| walked.records.len() as u64)
            .sum();
        let records = walked.iter().map(|walked| walked.count).sum();
        // What was reserved and did not come is free again.
        let surplus = memory.num_permits().saturating_sub(kib(bytes) as usize);
        drop(memory.split(surplus));
        let memory = Arc::new(memory);
        let returning = Arc::clone(&self.source.returning);
        let route = self.source.transform.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let evaluation = Evaluation::new();
            let prepare = |walked: Walked| {
                let transformer = route.as_ref();
                let transformer =
                    transformer.map(|route| Transformer::new(route, &evaluation, &walked.key));
                let (records, aborted) = (&walked.records, walked.aborted);
                let prepared = prepare(records, aborted, &walked.wanted, &returning, transformer);
                (walked.slot, walked.next, walked.leader_epoch, prepared)
            };
            walked.into_iter().map(prepare).collect::<Vec<_>>()
        });
        let prepared = prepared
            .await
            .map_err(|_| EngineError::Lost("the preparing thread"))?;
        for (slot, next, leader_epoch, prepared) in prepared {
            let event = match prepared {
                Ok(prepared) => Event::Piece(Box::new(Piece {
                    slot,
                    prepared,
                    next,
                    leader_epoch,
                    memory: Arc::clone(&memory),
                })),
                Err(error) => {
                    self.ready.retain(|cursor| cursor.slot != slot);
                    let why = format!("what lies before offset {next} cannot be mirrored: {error}");
                    Event::Stopped(slot, PartitionState::Refused, why)
                }
            };
            if self.source.events.send(event).await.is_err() {
                return Ok(false);
            }
        }
        self.source.limiter.moved(bytes, records).await;
        Ok(true)
    }
}

/// Moves a cursor over the whole batches of an answer, as far as it goes and over `most` records or few more; none where there are
/// none.
fn walk(
    cursor: &mut Cursor,
    fetched: FetchedPartition,
    most: u64,
) -> Result<Option<Walked>, RecordError> {
    let start = cursor.next;
    let (mut next, mut leader_epoch, mut count) = (start, None, 0);
    for batch in batches(&fetched.records) {
        let batch = batch?;
        if cursor.end.is_some_and(|end| batch.base_offset() >= end) {
            // Nothing that is wanted comes any more, be it that the log has no records up to the end.
            next = next.max(cursor.end.unwrap_or(next));
            break;
        }
        if batch.last_offset() < start {
            continue;
        }
        let Some(left) = most.checked_sub(count).filter(|left| *left > 0) else {
            break;
        };
        leader_epoch = Some(batch.leader_epoch());
        let first = batch.base_offset().max(start);
        if first.0.saturating_add_unsigned(left) < batch.next_offset().0 {
            next = Offset(first.0.saturating_add_unsigned(left));
            count = most;
            break;
        }
        next = batch.next_offset();
        count += u64::from(batch.record_count());
    }
    let next = cursor.end.map_or(next, |end| next.min(end));
    if next == start {
        return Ok(None);
    }
    cursor.next = next;
    cursor.last_epoch = leader_epoch.or(cursor.last_epoch);
    Ok(Some(Walked {
        slot: cursor.slot,
        key: cursor.key.clone(),
        records: fetched.records,
        aborted: fetched.aborted,
        wanted: start..next,
        next,
        leader_epoch: cursor.last_epoch.unwrap_or(LeaderEpoch(-1)),
        count,
    }))
}
