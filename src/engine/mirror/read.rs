//! Reads what was committed in the source, prepares it on threads, and passes it to the writer.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::EngineError;
use crate::engine::blocking::blocking;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{self, Expects, Flow, PARTITION_BYTES, Reading, Sink, Step, Wish};
use crate::engine::watchdog::Watchdog;
use crate::kafka::{
    Client, ErrorCode, FetchedPartition, IsolationLevel, KafkaError, TopicPartition,
};
use crate::memory::RunMemory;
use crate::record::{LeaderEpoch, Offset, ProducerId, RecordError, batches};

use super::expression::Evaluation;
use super::planner::{forked, recreated, truncated};
use super::prepare::{Prepared, hold_memory, prepare};
use super::state::PartitionState;
use super::transform::{Route, Transformer};

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

/// Some of one partition, prepared. Its bytes hold their memory.
pub(super) struct Piece {
    /// The partition's place in the session's table.
    pub slot: usize,
    pub prepared: Prepared,
    /// The first offset behind it.
    pub next: Offset,
    /// The epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
}

/// What a mirror keeps of a partition while it reads it.
pub(super) struct Part {
    /// The partition's place in the session's table.
    pub slot: usize,
    /// None when there is no end.
    pub end: Option<Offset>,
    /// Whether it was not asked yet if the source's log still is the one that was mirrored (KIP-595): that is asked even where
    /// nothing is new.
    pub unproved: bool,
}

/// How far the reading of one partition is.
pub(super) type Cursor = reader::Cursor<Part>;

fn is_at_end(cursor: &Cursor) -> bool {
    cursor.part.end.is_some_and(|end| cursor.next >= end)
}

fn is_done(cursor: &Cursor) -> bool {
    is_at_end(cursor) && !cursor.part.unproved
}

/// What came of one answer.
#[derive(Default)]
pub(super) struct Taken {
    events: Vec<Event>,
    walked: Vec<Walked>,
    records: u64,
}

impl Taken {
    fn stop(&mut self, cursor: &Cursor, state: PartitionState, why: String) -> Step {
        let event = Event::Stopped(cursor.part.slot, state, why);
        self.events.push(event);
        Step::Settled
    }
}

/// Some of an answer that is to be prepared.
struct Walked {
    slot: usize,
    key: Arc<TopicPartition>,
    records: Bytes,
    aborted: Vec<(ProducerId, Offset)>,
    wanted: Range<Offset>,
    next: Offset,
    leader_epoch: LeaderEpoch,
    count: u64,
}

/// A mirror, as the reader sees it.
pub(super) struct SourceReader {
    limiter: RateLimiter,
    events: mpsc::Sender<Event>,
    /// Who wrote what came from the target.
    returning: Arc<BTreeSet<ProducerId>>,
    /// How records change on their way.
    transform: Option<Arc<Route>>,
    /// Memory for what is read, and for what it becomes.
    memory: RunMemory,
    /// Slots of which something cannot be mirrored.
    stopped: Mutex<BTreeSet<usize>>,
}

/// Reads until every cursor is at its end, or the writer is gone.
pub(super) async fn read_all(
    client: &Client,
    source: &SourceReader,
    watchdog: Watchdog,
    cursors: Vec<Cursor>,
) -> Result<(), EngineError> {
    for cursor in cursors.iter().filter(|cursor| is_done(cursor)) {
        let finished = Event::Finished(cursor.part.slot);
        if source.events.send(finished).await.is_err() {
            return Ok(());
        }
    }
    let reading = Reading {
        leaders: client,
        sink: source,
        memory: source.memory.clone(),
        watchdog,
    };
    reader::read(&reading, cursors).await.map(drop)
}

impl SourceReader {
    pub fn new(
        limiter: RateLimiter,
        events: mpsc::Sender<Event>,
        returning: BTreeSet<ProducerId>,
        transform: Option<Route>,
        memory: RunMemory,
    ) -> Self {
        Self {
            limiter,
            events,
            returning: Arc::new(returning),
            transform: transform.map(Arc::new),
            memory,
            stopped: Mutex::default(),
        }
    }

    fn stopped(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares what was walked over, on a thread that may take its time.
    async fn prepare(&self, walked: Vec<Walked>) -> Result<Vec<Event>, EngineError> {
        let returning = Arc::clone(&self.returning);
        let route = self.transform.clone();
        let memory = self.memory.clone();
        let preparing = blocking("the preparing thread", move || {
            let evaluation = Evaluation::new();
            let mut all = Vec::with_capacity(walked.len());
            for walked in walked {
                let transformer = route.as_ref();
                let transformer =
                    transformer.map(|route| Transformer::new(route, &evaluation, &walked.key));
                let (records, aborted) = (&walked.records, walked.aborted);
                let prepared = prepare(records, aborted, &walked.wanted, &returning, transformer);
                all.push((
                    walked.slot,
                    walked.next,
                    walked.leader_epoch,
                    walked.records,
                    prepared,
                ));
            }
            let prepared = all.iter_mut().filter_map(|(_, _, _, records, prepared)| {
                let prepared = prepared.as_mut().ok()?;
                Some(prepared.made(records))
            });
            hold_memory(prepared.flatten(), &memory);
            Ok::<_, EngineError>(all)
        });
        let events = preparing.await?.into_iter();
        let events = events.map(|(slot, next, leader_epoch, _, prepared)| match prepared {
            Ok(prepared) => Event::Piece(Box::new(Piece {
                slot,
                prepared,
                next,
                leader_epoch,
            })),
            Err(error) => {
                self.stopped().insert(slot);
                let why = format!("what lies before offset {next} cannot be mirrored: {error}");
                Event::Stopped(slot, PartitionState::Refused, why)
            }
        });
        Ok(events.collect())
    }
}

impl Sink for SourceReader {
    type Part = Part;
    type Taken = Taken;

    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadCommitted
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn wish(&self, cursor: &mut Cursor) -> Option<Wish> {
        let goes_on = !is_done(cursor) && !self.stopped().contains(&cursor.part.slot);
        let wish = match is_at_end(cursor) {
            true => Wish {
                max_bytes: 1,
                expects: Expects::Answer,
            },
            false => Wish {
                max_bytes: PARTITION_BYTES,
                expects: Expects::RecordsOrEnd,
            },
        };
        goes_on.then_some(wish)
    }

    fn take(
        &self,
        cursor: &mut Cursor,
        fetched: FetchedPartition,
        taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        let (stable, end) = (fetched.last_stable_offset, fetched.high_watermark);
        // The leader has found no fork up to here.
        cursor.part.unproved = false;
        if is_at_end(cursor) {
            taken.events.push(Event::Finished(cursor.part.slot));
            return Ok(Step::Settled);
        }
        let most = self.limiter.request_records();
        let most = most.saturating_sub(taken.records);
        let walked = match walk(cursor, fetched, most) {
            Ok(walked) => walked,
            Err(error) => {
                let why = format!("offset {} cannot be read: {error}", cursor.next);
                return Ok(taken.stop(cursor, PartitionState::Refused, why));
            }
        };
        let slot = cursor.part.slot;
        taken.events.push(Event::End(slot, stable, end));
        let moved = walked.is_some();
        taken.records += walked.as_ref().map_or(0, |walked| walked.count);
        taken.walked.extend(walked);
        Ok(match self.wish(cursor) {
            None => Step::Settled,
            Some(_) if moved => Step::Moved,
            Some(_) => Step::Nothing,
        })
    }

    fn diverged(
        &self,
        cursor: &mut Cursor,
        end: Offset,
        taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        Ok(taken.stop(cursor, PartitionState::Truncated, forked(end)))
    }

    fn outside(
        &self,
        cursor: &mut Cursor,
        log: Range<Offset>,
        taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        if log.start > cursor.next {
            let lost = log.start.0.abs_diff(cursor.next.0);
            taken.events.push(Event::Lost(cursor.part.slot, lost));
            cursor.next = log.start;
            cursor.last_epoch = None;
            cursor.part.unproved = false;
            return Ok(Step::Moved);
        }
        if log.end < cursor.next {
            let why = truncated(log.end, cursor.next);
            return Ok(taken.stop(cursor, PartitionState::Truncated, why));
        }
        let code = ErrorCode::OffsetOutOfRange;
        let error = KafkaError::for_topic(code, "READ", &cursor.key.topic);
        Ok(Step::Elsewhere(error))
    }

    fn recreated(&self, cursor: &mut Cursor, taken: &mut Taken) -> Result<Step, EngineError> {
        Ok(taken.stop(cursor, PartitionState::Recreated, recreated()))
    }

    async fn pass_on(&self, mut taken: Taken) -> Result<Flow, EngineError> {
        let is_stopped = |slot: usize| self.stopped().contains(&slot);
        taken.walked.retain(|walked| !is_stopped(walked.slot));
        let walked = taken.walked.iter();
        let bytes = walked.map(|walked| walked.records.len() as u64).sum();
        let mut events = taken.events;
        if !taken.walked.is_empty() {
            events.extend(self.prepare(taken.walked).await?);
        }
        for event in events {
            if self.events.send(event).await.is_err() {
                return Ok(Flow::End);
            }
        }
        if self.events.is_closed() {
            return Ok(Flow::End);
        }
        Ok(Flow::On {
            bytes,
            records: taken.records,
        })
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
        if cursor
            .part
            .end
            .is_some_and(|end| batch.base_offset() >= end)
        {
            // Nothing that is wanted comes any more, be it that the log has no records up to the end.
            next = next.max(cursor.part.end.unwrap_or(next));
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
    let next = cursor.part.end.map_or(next, |end| next.min(end));
    if next == start {
        return Ok(None);
    }
    cursor.next = next;
    cursor.last_epoch = leader_epoch.or(cursor.last_epoch);
    Ok(Some(Walked {
        slot: cursor.part.slot,
        key: Arc::clone(&cursor.key),
        records: fetched.records,
        aborted: fetched.aborted,
        wanted: start..next,
        next,
        leader_epoch: cursor.last_epoch.unwrap_or(LeaderEpoch(-1)),
        count,
    }))
}
