//! Reads the planned partitions from their leaders: a worker a leader, two requests in flight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::engine::chain::Generation;
use crate::engine::rate::RateLimiter;
use crate::engine::{EngineError, Progress};
use crate::kafka::{
    BrokerId, Client, Connection, ErrorCode, FetchPartition, FetchRequest, FetchedPartition,
    Isolation, KafkaError, OffsetSpec, PendingFetch, TopicPartition, Topics,
};
use crate::record::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::repository::{BackupId, Gap, Repository};

use super::BackupOptions;
use super::plan::{BackupPlan, PartitionPlan, TopicPlan};
use super::seal::{Chunk, Sealing, seal_all};
use super::store::{Store, Stored};
use super::walk::{Walked, walk};

/// What one request asks for in all, and of one partition.
const REQUEST_BYTES: u64 = 8 << 20;
const PARTITION_BYTES: u64 = 4 << 20;
/// So many partitions are named in one request.
const REQUEST_PARTITIONS: usize = 256;
/// Requests in flight on a connection: one is answered while the next is being prepared by the broker.
const IN_FLIGHT: usize = 2;
/// A leader that gives nothing for so long is asked for anew.
const SILENCE: Duration = Duration::from_secs(5);

/// How copying ended.
pub(super) enum Copied {
    /// All that was planned is in packs.
    Whole(Box<Copy>),
    /// These logs are not what the chain continues: plan again without their chains.
    Forked(BTreeSet<Generation>),
    /// The run was told to stop; what it copied is sealed and written down.
    Stopped,
}

/// All that a run copied, with the plan it followed.
pub(super) struct Copy {
    /// The plan; gaps found on the way are added to it and bounds lowered by a limit of messages.
    pub plan: BackupPlan,
    /// What lies in packs, by the partition's place in the plan.
    pub stored: Stored,
}

/// How far the reading of one partition is.
struct Cursor {
    slot: usize,
    topic: Arc<str>,
    topic_id: TopicId,
    partition: PartitionId,
    leader: BrokerId,
    leader_epoch: LeaderEpoch,
    next: Offset,
    end: Offset,
    last_epoch: Option<LeaderEpoch>,
    /// Others have led the log since the chain's last batch: even if nothing is new, it must be asked whether it still is
    /// the log that the chain holds.
    unproved: bool,
    messages_left: Option<u64>,
    gaps: Vec<Gap>,
}

impl Cursor {
    fn new(slot: usize, topic: &TopicPlan, partition: &PartitionPlan) -> Self {
        let empty = partition.max_messages == Some(0);
        Self {
            slot,
            topic: topic.topic.as_str().into(),
            topic_id: topic.topic_id,
            partition: partition.partition,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            next: partition.resume,
            end: if empty {
                partition.resume
            } else {
                partition.end
            },
            last_epoch: partition.resume_epoch,
            unproved: partition
                .resume_epoch
                .is_some_and(|epoch| epoch < partition.leader_epoch),
            messages_left: partition.max_messages,
            gaps: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.is_at_end() && !self.unproved
    }

    fn is_at_end(&self) -> bool {
        self.next >= self.end
    }

    fn key(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.to_string(),
            partition: self.partition,
        }
    }

    fn request(&self, max_bytes: u64) -> FetchPartition {
        FetchPartition {
            topic: self.topic.to_string(),
            topic_id: self.topic_id,
            partition: self.partition,
            offset: self.next,
            leader_epoch: Some(self.leader_epoch),
            last_fetched_epoch: self.last_epoch,
            max_bytes: if self.is_at_end() {
                1
            } else {
                i32::try_from(max_bytes).unwrap_or(i32::MAX)
            },
        }
    }

    fn advance(&mut self, walked: &Walked) {
        self.next = walked.next;
        self.end = walked.end;
        self.last_epoch = walked.last_epoch.or(self.last_epoch);
        self.messages_left = self
            .messages_left
            .map(|left| left.saturating_sub(walked.records));
    }
}

/// What all workers of a run share.
struct Source<'a> {
    client: &'a Client,
    memory: Arc<Semaphore>,
    limiter: RateLimiter,
    chunks: mpsc::Sender<Chunk>,
    /// When any of them got something last.
    moved_at: Mutex<Instant>,
}

impl Source<'_> {
    fn moved(&self) {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silence(&self) -> Duration {
        let moved_at = self.moved_at.lock();
        moved_at.unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Copies everything that `plan` says into packs.
pub(super) async fn copy(
    client: &Client,
    repository: &Arc<Repository>,
    run_id: BackupId,
    options: &BackupOptions,
    mut plan: BackupPlan,
    progress: &Arc<dyn Progress>,
) -> Result<Copied, EngineError> {
    let cursors = cursors(&plan);
    let selection = options.selection.as_ref();
    let sealing = Sealing {
        compression: options.compression,
        drop_keys: selection.is_some_and(|selection| selection.no_keys),
        drop_headers: selection.is_some_and(|selection| selection.no_headers),
    };
    let (chunks, chunks_in) = mpsc::channel(8);
    let (sealed, sealed_in) = mpsc::channel(4);
    let storing = {
        let (repository, progress) = (Arc::clone(repository), Arc::clone(progress));
        let store = Store::new(&plan, run_id, options);
        tokio::task::spawn_blocking(move || store.store_all(&repository, sealed_in, &progress))
    };
    let source = Source {
        client,
        memory: Arc::new(Semaphore::new(kib(options.memory) as usize)),
        limiter: RateLimiter::new(options.rate_limit),
        chunks,
        moved_at: Mutex::new(Instant::now()),
    };
    let reading = async {
        let read = read_all(&source, cursors);
        let read = options.stop.run_until_cancelled(read).await;
        drop(source);
        read.unwrap_or(Ok(Read::Stopped))
    };
    let (read, sealing) = tokio::join!(reading, seal_all(chunks_in, sealing, sealed));
    // The store's error comes first: the others may only have noticed that it is gone.
    let stored = storing
        .await
        .map_err(|_| EngineError::Lost("the storing thread"))??;
    sealing?;
    match read? {
        Read::Whole(cursors) => {
            note_outcome(&mut plan, cursors);
            Ok(Copied::Whole(Box::new(Copy { plan, stored })))
        }
        Read::Forked(slots) => Ok(Copied::Forked(generations(&plan, &slots))),
        Read::Stopped => Ok(Copied::Stopped),
    }
}

fn cursors(plan: &BackupPlan) -> Vec<Cursor> {
    plan.partitions()
        .enumerate()
        .map(|(slot, (topic, partition))| Cursor::new(slot, topic, partition))
        .collect()
}

/// Writes what the readers found out into the plan: gaps, and ends lowered by a limit of messages.
fn note_outcome(plan: &mut BackupPlan, mut cursors: Vec<Cursor>) {
    cursors.sort_by_key(|cursor| cursor.slot);
    let partitions = plan
        .topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions);
    for (partition, cursor) in partitions.zip(cursors) {
        partition.end = cursor.end;
        partition.last_stable_offset = partition.last_stable_offset.min(cursor.end);
        partition.gaps.extend(cursor.gaps);
    }
}

fn generations(plan: &BackupPlan, slots: &BTreeSet<usize>) -> BTreeSet<Generation> {
    plan.partitions()
        .enumerate()
        .filter(|(slot, _)| slots.contains(slot))
        .map(|(_, (topic, _))| Generation {
            cluster_id: plan.cluster_id.clone(),
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
        })
        .collect()
}

enum Read {
    Whole(Vec<Cursor>),
    Forked(BTreeSet<usize>),
    Stopped,
}

/// What an attempt to read some cursors came back with.
#[derive(Default)]
struct Leg {
    done: Vec<Cursor>,
    /// To be read from whoever leads them now.
    left: Vec<Cursor>,
    forked: BTreeSet<usize>,
    moved: bool,
    last_error: Option<KafkaError>,
}

impl Leg {
    fn join(&mut self, other: Self) {
        self.done.extend(other.done);
        self.left.extend(other.left);
        self.forked.extend(other.forked);
        self.moved |= other.moved;
        self.last_error = other.last_error.or(self.last_error.take());
    }
}

/// Reads until every cursor is at its end. What a leader could not give is asked of the next one, while the others read
/// on, until nothing at all moves for the client's deadline.
async fn read_all(source: &Source<'_>, cursors: Vec<Cursor>) -> Result<Read, EngineError> {
    let (mut done, waiting): (Vec<_>, Vec<_>) = cursors.into_iter().partition(Cursor::is_done);
    let legs = by_leader(waiting).into_values();
    let mut legs: FuturesUnordered<_> = legs.map(|cursors| attempt(source, cursors, 0)).collect();
    while let Some(leg) = legs.next().await {
        let (leg, attempts) = leg?;
        if !leg.forked.is_empty() {
            return Ok(Read::Forked(leg.forked));
        }
        done.extend(leg.done);
        if leg.left.is_empty() {
            continue;
        }
        let silence = source.silence();
        if silence > source.client.retry().deadline {
            return Err(stalled(&leg.left, silence, leg.last_error));
        }
        if let Some(error) = &leg.last_error {
            tracing::warn!("retrying {} partitions: {error}", leg.left.len());
        }
        let attempts = if leg.moved { 1 } else { attempts + 1 };
        legs.push(attempt(source, leg.left, attempts));
    }
    Ok(Read::Whole(done))
}

fn by_leader(cursors: Vec<Cursor>) -> BTreeMap<BrokerId, Vec<Cursor>> {
    let mut by_leader: BTreeMap<BrokerId, Vec<Cursor>> = BTreeMap::new();
    for cursor in cursors {
        by_leader.entry(cursor.leader).or_default().push(cursor);
    }
    by_leader
}

/// Reads some cursors; behind attempts that failed, after a pause, from those who lead them then.
async fn attempt(
    source: &Source<'_>,
    mut cursors: Vec<Cursor>,
    attempts: u32,
) -> Result<(Leg, u32), EngineError> {
    if let Some(failed) = attempts.checked_sub(1) {
        tokio::time::sleep(source.client.retry().backoff(failed)).await;
        find_leaders(source.client, &mut cursors).await?;
    }
    let leaders = by_leader(cursors).into_iter();
    let reading = leaders.map(|(leader, cursors)| read_leader(source, leader, cursors));
    let mut all = Leg::default();
    for leg in try_join_all(reading).await? {
        all.join(leg);
    }
    Ok((all, attempts))
}

fn stalled(waiting: &[Cursor], silence: Duration, last_error: Option<KafkaError>) -> EngineError {
    let names: Vec<String> = waiting
        .iter()
        .take(3)
        .map(|cursor| format!("{} at {}", cursor.key(), cursor.next))
        .collect();
    let more = waiting.len().saturating_sub(names.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    EngineError::Stalled {
        what: format!("{}{more}", names.join(", ")),
        seconds: silence.as_secs(),
        last: last_error.map_or_else(
            || "the leader answers without records".to_owned(),
            |error| error.to_string(),
        ),
    }
}

/// Points every cursor at its present leader; a partition without one keeps its old leader for the next try.
async fn find_leaders(client: &Client, cursors: &mut [Cursor]) -> Result<(), EngineError> {
    let topics: BTreeSet<&str> = cursors.iter().map(|cursor| &*cursor.topic).collect();
    let names: Vec<String> = topics.into_iter().map(str::to_owned).collect();
    let metadata = match client.metadata_now(Topics::Named(&names)).await {
        Ok(metadata) => metadata,
        Err(error) if error.is_transient() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for cursor in cursors {
        let Some(topic) = metadata.topics.get(&*cursor.topic) else {
            continue;
        };
        if !topic.topic_id.is_zero() && topic.topic_id != cursor.topic_id {
            return Err(EngineError::Refused(format!(
                "topic {} was deleted and created anew while it was being read; run the backup again",
                cursor.topic
            )));
        }
        // A broker that was cut off for a while may name the leader of an older epoch: itself.
        if let Some(partition) = topic.partitions.get(&cursor.partition)
            && let Some(leader) = partition.leader
            && partition.leader_epoch >= cursor.leader_epoch
        {
            cursor.leader = leader;
            cursor.leader_epoch = partition.leader_epoch;
        }
    }
    Ok(())
}

struct Flight {
    cursors: Vec<Cursor>,
    pending: PendingFetch,
    memory: Arc<OwnedSemaphorePermit>,
}

/// One leader's worker.
struct Worker<'a> {
    source: &'a Source<'a>,
    connection: Connection,
    ready: VecDeque<Cursor>,
    flying: VecDeque<Flight>,
    leg: Leg,
    moved_at: Instant,
}

async fn read_leader(
    source: &Source<'_>,
    leader: BrokerId,
    cursors: Vec<Cursor>,
) -> Result<Leg, EngineError> {
    let connection = match source.client.connection(leader).await {
        Ok(connection) => connection,
        Err(error) if error.is_transient() => {
            return Ok(Leg {
                left: cursors,
                last_error: Some(error),
                ..Leg::default()
            });
        }
        Err(error) => return Err(error.into()),
    };
    let worker = Worker {
        source,
        connection,
        ready: cursors.into(),
        flying: VecDeque::new(),
        leg: Leg::default(),
        moved_at: Instant::now(),
    };
    worker.read().await
}

impl Worker<'_> {
    async fn read(mut self) -> Result<Leg, EngineError> {
        loop {
            if let Err(error) = self.refill().await {
                return self.give_up(Vec::new(), error);
            }
            let Some(Flight {
                cursors,
                pending,
                memory,
            }) = self.flying.pop_front()
            else {
                return Ok(self.leg);
            };
            let answer = match pending.receive().await {
                Ok(answer) => answer,
                Err(error) => return self.give_up(cursors, error),
            };
            let (chunks, bytes, records) = self.take_in(cursors, answer, &memory).await?;
            drop(memory);
            // The next request goes out before these bytes are worked on.
            if let Err(error) = self.refill().await {
                self.pass_on(chunks).await;
                return self.give_up(Vec::new(), error);
            }
            if !self.pass_on(chunks).await || !self.leg.forked.is_empty() {
                return Ok(self.leg);
            }
            let pause = Instant::now();
            self.source.limiter.moved(bytes, records).await;
            // Silence is the leader's, not the limiter's.
            self.moved_at += pause.elapsed();
            if bytes > 0 {
                self.source.moved();
            }
            if self.moved_at.elapsed() > SILENCE {
                let silent = KafkaError::silent(self.connection.broker());
                return self.give_up(Vec::new(), silent);
            }
        }
    }

    /// Hands everything back for another leader to be found, unless the error is for good.
    fn give_up(mut self, cursors: Vec<Cursor>, error: KafkaError) -> Result<Leg, EngineError> {
        if !error.is_transient() {
            return Err(error.into());
        }
        self.leg.left.extend(cursors);
        self.leg
            .left
            .extend(self.flying.into_iter().flat_map(|flight| flight.cursors));
        self.leg.left.extend(self.ready);
        self.leg.last_error = Some(error);
        Ok(self.leg)
    }

    /// Keeps requests in flight: a second one only from memory that is free, so that no worker waits for
    /// memory while it holds some.
    async fn refill(&mut self) -> Result<(), KafkaError> {
        while self.flying.len() < IN_FLIGHT && !self.ready.is_empty() {
            let bytes = self.source.limiter.request_bytes(REQUEST_BYTES);
            let memory = Arc::clone(&self.source.memory);
            let memory = if self.flying.is_empty() {
                memory
                    .acquire_many_owned(kib(bytes))
                    .await
                    .map_err(|_| KafkaError::silent(self.connection.broker()))?
            } else if let Ok(permit) = memory.try_acquire_many_owned(kib(bytes)) {
                permit
            } else {
                break;
            };
            // Half of the partitions each, so that two requests can be in flight.
            let count = if self.flying.is_empty() {
                self.ready.len().div_ceil(2)
            } else {
                self.ready.len()
            };
            let cursors: Vec<Cursor> = self.ready.drain(..count.min(REQUEST_PARTITIONS)).collect();
            let per_partition = PARTITION_BYTES.min(bytes);
            let request = FetchRequest {
                max_wait: Duration::from_millis(500),
                // Where nothing is new, nothing is waited for.
                min_bytes: i32::from(!cursors.iter().any(Cursor::is_at_end)),
                max_bytes: i32::try_from(bytes).unwrap_or(i32::MAX),
                isolation: Isolation::ReadUncommitted,
                partitions: cursors
                    .iter()
                    .map(|cursor| cursor.request(per_partition))
                    .collect(),
            };
            match self.connection.start_fetch(request).await {
                Ok(pending) => self.flying.push_back(Flight {
                    cursors,
                    pending,
                    memory: Arc::new(memory),
                }),
                Err(error) => {
                    self.ready.extend(cursors);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Walks an answer: cursors move on, and what they passed becomes chunks. Returns bytes and records too.
    async fn take_in(
        &mut self,
        cursors: Vec<Cursor>,
        answer: Vec<FetchedPartition>,
        memory: &Arc<OwnedSemaphorePermit>,
    ) -> Result<(Vec<Chunk>, u64, u64), EngineError> {
        let mut answer: BTreeMap<(String, PartitionId), FetchedPartition> = answer
            .into_iter()
            .map(|partition| ((partition.topic.clone(), partition.partition), partition))
            .collect();
        let (mut chunks, mut bytes, mut records) = (Vec::new(), 0, 0);
        for mut cursor in cursors {
            let Some(fetched) = answer.remove(&(cursor.topic.to_string(), cursor.partition)) else {
                self.ready.push_front(cursor);
                continue;
            };
            if fetched.diverging_epoch.is_some() {
                self.leg.forked.insert(cursor.slot);
                continue;
            }
            cursor.unproved &= fetched.error.is_some();
            match fetched.error {
                Some(ErrorCode::OffsetOutOfRange) => {
                    if let Some(cursor) = self.skip_deleted(cursor).await? {
                        self.put_back(cursor, true);
                    }
                    continue;
                }
                Some(code) => {
                    self.set_aside(cursor, code)?;
                    continue;
                }
                None => {}
            }
            let walked = walk(
                &fetched.records,
                cursor.next,
                cursor.end,
                cursor.messages_left,
            )
            .map_err(|source| EngineError::Batch {
                topic: cursor.topic.to_string(),
                partition: cursor.partition,
                offset: cursor.next,
                source,
            })?;
            let moved = walked.next > cursor.next || walked.end < cursor.end;
            cursor.advance(&walked);
            records += walked.records;
            for piece in walked.pieces {
                bytes += piece.raw.len() as u64;
                chunks.push(Chunk {
                    slot: cursor.slot,
                    topic: Arc::clone(&cursor.topic),
                    topic_id: cursor.topic_id,
                    partition: cursor.partition,
                    piece,
                    memory: Arc::clone(memory),
                });
            }
            self.put_back(cursor, moved);
        }
        Ok((chunks, bytes, records))
    }

    /// A cursor that got something goes to the end of the queue; one that did not stays in front.
    fn put_back(&mut self, cursor: Cursor, moved: bool) {
        if moved {
            self.leg.moved = true;
            self.moved_at = Instant::now();
            self.source.moved();
        }
        if cursor.is_done() {
            self.leg.done.push(cursor);
        } else if moved {
            self.ready.push_back(cursor);
        } else {
            self.ready.push_front(cursor);
        }
    }

    /// An error of one partition: another leader may do better, or nobody.
    fn set_aside(&mut self, cursor: Cursor, code: ErrorCode) -> Result<(), EngineError> {
        let error = KafkaError::for_topic(code, "READ", &cursor.topic);
        if !error.is_transient() {
            return Err(error.into());
        }
        self.leg.left.push(cursor);
        self.leg.last_error = Some(error);
        Ok(())
    }

    /// The log does not have the offset asked for. Confirmed at the leader: when it was deleted meanwhile,
    /// that is a gap; when the log ends below it, the log was truncated.
    async fn skip_deleted(&mut self, mut cursor: Cursor) -> Result<Option<Cursor>, EngineError> {
        let key = cursor.key();
        let wanted = [(key.clone(), OffsetSpec::Earliest)];
        let listed = match self.source.client.list_offsets(&wanted).await?.remove(&key) {
            Some(listed) => listed?,
            None => {
                return Err(EngineError::Refused(format!(
                    "the leader of {key} gave no offsets"
                )));
            }
        };
        if listed.offset > cursor.next {
            let gap_end = listed.offset.min(cursor.end);
            if gap_end > cursor.next {
                cursor.gaps.push(Gap {
                    start_offset: cursor.next,
                    end_offset: gap_end,
                    reason:
                        "the source deleted them while the backup ran (retention or DeleteRecords)"
                            .to_owned(),
                });
                cursor.next = gap_end;
            }
            cursor.last_epoch = None;
            cursor.unproved = false;
            return Ok(Some(cursor));
        }
        let end = [(key.clone(), OffsetSpec::Latest)];
        let end = self.source.client.list_offsets(&end).await?.remove(&key);
        if matches!(end, Some(Ok(end)) if end.offset < cursor.next) {
            self.leg.forked.insert(cursor.slot);
            return Ok(None);
        }
        self.set_aside(cursor, ErrorCode::OffsetOutOfRange)?;
        Ok(None)
    }

    /// Hands chunks to the sealing threads; false when they are gone.
    async fn pass_on(&mut self, chunks: Vec<Chunk>) -> bool {
        for chunk in chunks {
            if self.source.chunks.send(chunk).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// A number of bytes in permits of the memory budget.
fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
