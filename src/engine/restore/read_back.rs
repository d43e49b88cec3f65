//! Reads what the target holds of a restore, and digests it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::engine::EngineError;
use crate::kafka::{
    BrokerId, Client, ErrorCode, FetchPartition, FetchRequest, FetchedPartition, Isolation,
    KafkaError, ProducerIdentity, TopicPartition, Topics,
};
use crate::record::{BatchRef, Offset, RecordError, TopicId, batches};

use super::content::{Content, Judged};
use super::target::TargetPartition;

/// What one request asks for in all, and of one partition.
const REQUEST_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 4 << 20;
/// So many partitions are named in one request.
const REQUEST_PARTITIONS: usize = 256;
/// A leader prepares an answer to one while the other one's is being digested.
const WORKERS_PER_LEADER: usize = 2;

/// A part of a target partition, and whose batches in it count.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// The partition.
    pub key: TopicPartition,
    /// Who leads it.
    pub leader: BrokerId,
    /// The first offset.
    pub start: Offset,
    /// The first offset beyond it.
    pub end: Offset,
    /// Who wrote what counts.
    pub producer: ProducerIdentity,
    /// What is digested.
    pub judged: Judged,
}

impl Span {
    /// These offsets of a restore's target.
    pub fn of(target: &TargetPartition, offsets: Range<Offset>) -> Self {
        Self {
            key: target.key.clone(),
            leader: target.leader,
            start: offsets.start,
            end: offsets.end,
            producer: target.producer,
            judged: target.judged,
        }
    }
}

/// What lies there.
pub(super) struct Found {
    /// Of the producer's batches.
    pub content: Content,
    /// The first offset that somebody else wrote.
    pub foreign: Option<Offset>,
}

/// How far the reading of one span is.
struct Cursor {
    slot: usize,
    span: Span,
    next: Offset,
    found: Found,
}

impl Cursor {
    fn new(slot: usize, span: Span) -> Self {
        Self {
            slot,
            next: span.start,
            found: Found {
                content: Content::new(span.judged),
                foreign: None,
            },
            span,
        }
    }

    fn is_done(&self) -> bool {
        self.next >= self.span.end
    }

    fn request(&self) -> FetchPartition {
        FetchPartition {
            topic: self.span.key.topic.clone(),
            topic_id: TopicId::default(),
            partition: self.span.key.partition,
            offset: self.next,
            leader_epoch: None,
            last_fetched_epoch: None,
            max_bytes: PARTITION_BYTES,
        }
    }

    /// Takes in what was fetched; true when that led on.
    fn take_in(&mut self, records: &[u8]) -> Result<bool, EngineError> {
        let before = self.next;
        for batch in batches(records) {
            let taken = batch.and_then(|batch| self.take_in_batch(&batch));
            taken.map_err(|source| EngineError::Batch {
                topic: self.span.key.topic.clone(),
                partition: self.span.key.partition,
                offset: self.next,
                source,
            })?;
        }
        Ok(self.next > before)
    }

    fn take_in_batch(&mut self, batch: &BatchRef<'_>) -> Result<(), RecordError> {
        if batch.next_offset() <= self.next {
            return Ok(());
        }
        self.next = batch.next_offset();
        if batch.base_offset() >= self.span.end {
            return Ok(());
        }
        let ProducerIdentity {
            producer_id,
            producer_epoch,
        } = self.span.producer;
        let ours = batch.producer_id() == producer_id && batch.producer_epoch() == producer_epoch;
        if ours {
            batch.verify_crc()?;
            self.found.content.add(&batch.header(), batch.payload())
        } else {
            self.found.foreign.get_or_insert(batch.base_offset());
            Ok(())
        }
    }
}

/// Reads all of `spans`, from whoever leads them; what it found, in their order.
pub(super) async fn read_back(
    client: &Client,
    spans: Vec<Span>,
) -> Result<Vec<Found>, EngineError> {
    let cursors = spans
        .into_iter()
        .enumerate()
        .map(|(slot, span)| Cursor::new(slot, span));
    let (mut done, mut waiting): (Vec<_>, Vec<_>) = cursors.partition(Cursor::is_done);
    let retry = client.retry();
    let mut attempts = 0;
    let mut moved_at = Instant::now();
    while !waiting.is_empty() {
        let legs = join_all(
            by_worker(waiting.drain(..))
                .into_iter()
                .map(|((leader, _), cursors)| read_leader(client, leader, cursors)),
        )
        .await;
        let mut last_error = None;
        for leg in legs {
            let leg = leg?;
            done.extend(leg.done);
            waiting.extend(leg.left);
            last_error = leg.last_error.or(last_error);
            if leg.moved {
                moved_at = Instant::now();
                attempts = 0;
            }
        }
        if waiting.is_empty() {
            break;
        }
        if moved_at.elapsed() > retry.deadline {
            return Err(stalled(&waiting, moved_at.elapsed(), last_error));
        }
        tokio::time::sleep(retry.backoff(attempts)).await;
        attempts += 1;
        find_leaders(client, &mut waiting).await?;
    }
    done.sort_by_key(|cursor| cursor.slot);
    Ok(done.into_iter().map(|cursor| cursor.found).collect())
}

fn by_worker(cursors: impl Iterator<Item = Cursor>) -> BTreeMap<(BrokerId, usize), Vec<Cursor>> {
    let mut by_worker: BTreeMap<_, Vec<Cursor>> = BTreeMap::new();
    for cursor in cursors {
        let worker = (cursor.span.leader, cursor.slot % WORKERS_PER_LEADER);
        by_worker.entry(worker).or_default().push(cursor);
    }
    by_worker
}

fn stalled(waiting: &[Cursor], silence: Duration, last_error: Option<KafkaError>) -> EngineError {
    let names: Vec<String> = waiting
        .iter()
        .take(3)
        .map(|cursor| format!("{} at {}", cursor.span.key, cursor.next))
        .collect();
    EngineError::Stalled {
        what: format!("reading back {}", names.join(", ")),
        seconds: silence.as_secs(),
        last: last_error.map_or_else(
            || "the leader answers without records".to_owned(),
            |error| error.to_string(),
        ),
    }
}

/// What one worker came back with.
#[derive(Default)]
struct Leg {
    done: Vec<Cursor>,
    /// To be read from whoever leads them now.
    left: Vec<Cursor>,
    moved: bool,
    last_error: Option<KafkaError>,
}

/// Reads from one leader until all is there, or something fails in passing, or nothing comes.
async fn read_leader(
    client: &Client,
    leader: BrokerId,
    mut cursors: Vec<Cursor>,
) -> Result<Leg, EngineError> {
    let mut leg = Leg::default();
    while !cursors.is_empty() {
        let asked: Vec<Cursor> = cursors
            .drain(..cursors.len().min(REQUEST_PARTITIONS))
            .collect();
        let answer = match fetch(client, leader, &asked).await {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => {
                leg.left.extend(asked.into_iter().chain(cursors));
                leg.last_error = Some(error);
                return Ok(leg);
            }
            Err(error) => return Err(error.into()),
        };
        if !leg.take_in(asked, answer, &mut cursors)? {
            leg.left.append(&mut cursors);
        }
    }
    Ok(leg)
}

async fn fetch(
    client: &Client,
    leader: BrokerId,
    cursors: &[Cursor],
) -> Result<Vec<FetchedPartition>, KafkaError> {
    let request = FetchRequest {
        max_wait: Duration::from_millis(500),
        min_bytes: 1,
        max_bytes: REQUEST_BYTES,
        isolation: Isolation::ReadUncommitted,
        partitions: cursors.iter().map(Cursor::request).collect(),
    };
    let connection = client.connection(leader).await?;
    connection.start_fetch(request).await?.receive().await
}

impl Leg {
    /// Takes an answer in: what is to be read on goes to the end of `ready`. False when nothing led on.
    fn take_in(
        &mut self,
        asked: Vec<Cursor>,
        answer: Vec<FetchedPartition>,
        ready: &mut Vec<Cursor>,
    ) -> Result<bool, EngineError> {
        let mut answer: BTreeMap<_, FetchedPartition> = answer
            .into_iter()
            .map(|fetched| ((fetched.topic.clone(), fetched.partition), fetched))
            .collect();
        let mut any = false;
        for mut cursor in asked {
            let key = (cursor.span.key.topic.clone(), cursor.span.key.partition);
            let Some(fetched) = answer.remove(&key) else {
                ready.push(cursor);
                continue;
            };
            if let Some(code) = fetched.error {
                let error = refused(&cursor, code);
                if !error.is_transient() {
                    return Err(error);
                }
                self.last_error = Some(KafkaError::for_topic(code, "READ", &key.0));
                self.left.push(cursor);
                continue;
            }
            any |= cursor.take_in(&fetched.records)?;
            if cursor.is_done() {
                self.done.push(cursor);
            } else {
                ready.push(cursor);
            }
        }
        self.moved |= any;
        Ok(any)
    }
}

fn refused(cursor: &Cursor, code: ErrorCode) -> EngineError {
    let key = &cursor.span.key;
    if code == ErrorCode::OffsetOutOfRange {
        return EngineError::Refused(format!(
            "{key} no longer has offset {}: records were deleted from it after the restore wrote them",
            cursor.next
        ));
    }
    KafkaError::for_topic(code, "READ", &key.topic).into()
}

async fn find_leaders(client: &Client, cursors: &mut [Cursor]) -> Result<(), EngineError> {
    let topics: BTreeSet<&str> = cursors
        .iter()
        .map(|cursor| cursor.span.key.topic.as_str())
        .collect();
    let names: Vec<String> = topics.into_iter().map(str::to_owned).collect();
    let metadata = match client.metadata_now(Topics::Named(&names)).await {
        Ok(metadata) => metadata,
        Err(error) if error.is_transient() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for cursor in cursors {
        let key = &cursor.span.key;
        let topic = metadata.topics.get(&key.topic);
        let leader = topic.and_then(|topic| topic.partitions.get(&key.partition)?.leader);
        cursor.span.leader = leader.unwrap_or(cursor.span.leader);
    }
    Ok(())
}
