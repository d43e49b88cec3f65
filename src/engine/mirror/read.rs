//! Reads what was committed in the source, prepares it on threads, and passes it to the writer.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::engine::EngineError;
use crate::engine::blocking::Threads;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{self, Expects, Flow, PARTITION_BYTES, Reading, Sink, Step, Wish};
use crate::engine::watchdog::Watchdog;
use crate::expression::MEMORY;
use crate::kafka::{
    Client, ErrorCode, FetchedPartition, IsolationLevel, KafkaError, TopicPartition,
};
use crate::memory::RunMemory;
use crate::record::{LeaderEpoch, Offset, ProducerId, RecordError, batches};

use super::expression::Evaluation;
use super::planner::{forked, recreated, truncated};
use super::prepare::{Prepared, hold_memory, prepare};
use super::state::PartitionState;
use super::transform::{Route, TransformError, Transformer};

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
    /// Where it is prepared.
    threads: Threads,
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
        threads: Threads,
    ) -> Self {
        Self {
            limiter,
            events,
            returning: Arc::new(returning),
            transform: transform.map(Arc::new),
            memory,
            threads,
            stopped: Mutex::default(),
        }
    }

    fn stopped(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares what was walked over, on a thread that may take its time, and passes it on. Where records grow much, that is
    /// done a part at a time: what became of a part is with the writer before the next one takes memory.
    /// False when the writer is gone.
    async fn prepare(&self, mut walked: Vec<Walked>) -> Result<bool, EngineError> {
        while !walked.is_empty() {
            let returning = Arc::clone(&self.returning);
            let route = self.transform.clone();
            let memory = self.memory.clone();
            let preparing = self
                .threads
                .blocking("the preparing thread", move |abandoned| {
                    let part =
                        prepare_part(walked, route.as_deref(), &returning, &memory, abandoned);
                    Ok::<_, EngineError>(part)
                });
            let part = preparing.await?;
            for (walked, prepared) in part.prepared {
                let event = self.event(walked, prepared);
                if self.events.send(event).await.is_err() {
                    return Ok(false);
                }
            }
            walked = part.left;
            walked.retain(|walked| !self.stopped().contains(&walked.slot));
        }
        Ok(true)
    }

    fn event(&self, walked: Walked, prepared: Result<Prepared, TransformError>) -> Event {
        let Walked { slot, next, .. } = walked;
        match prepared {
            Ok(prepared) => Event::Piece(Box::new(Piece {
                slot,
                prepared,
                next,
                leader_epoch: walked.leader_epoch,
            })),
            Err(error) => {
                self.stopped().insert(slot);
                let why = format!("what lies before offset {next} cannot be mirrored: {error}");
                Event::Stopped(slot, PartitionState::Refused, why)
            }
        }
    }
}

/// Some of what was walked over, prepared.
#[derive(Default)]
struct PreparedPart {
    prepared: Vec<(Walked, Result<Prepared, TransformError>)>,
    /// What is prepared afterwards.
    left: Vec<Walked>,
}

fn prepare_part(
    walked: Vec<Walked>,
    route: Option<&Route>,
    returning: &BTreeSet<ProducerId>,
    memory: &RunMemory,
    abandoned: &AtomicBool,
) -> PreparedPart {
    // It is there before batches are opened: whoever has opened one waits for nothing.
    let evaluates = route.is_some_and(|route| route.transform.evaluates());
    let is_wanted = !abandoned.load(Ordering::Relaxed);
    let reserved = (evaluates && is_wanted).then(|| memory.reserve_made_blocking(MEMORY as u64));
    let evaluation = Evaluation::new(abandoned);
    let (mut part, mut added) = (PreparedPart::default(), 0);
    let mut walked = walked.into_iter();
    for mut walked in walked.by_ref() {
        let transformer = route.map(|route| Transformer::new(route, &evaluation, &walked.key));
        let (records, aborted) = (&walked.records, walked.aborted.clone());
        let prepared = prepare(
            records,
            aborted,
            &walked.wanted,
            returning,
            transformer,
            added,
        );
        let left_from = prepared
            .as_ref()
            .map_or(None, |prepared| prepared.left_from);
        added += prepared.as_ref().map_or(0, |prepared| prepared.added);
        part.left
            .extend(left_from.map(|next| walked.split_off(next)));
        part.prepared.push((walked, prepared));
        if !part.left.is_empty() {
            break;
        }
    }
    part.left.extend(walked);
    drop(reserved);
    let made = part.prepared.iter_mut().filter_map(|(walked, prepared)| {
        let prepared = prepared.as_mut().ok()?;
        Some(prepared.made(&walked.records))
    });
    if !abandoned.load(Ordering::Relaxed) {
        hold_memory(made.flatten(), memory);
    }
    part
}

impl Walked {
    /// Leaves what lies before an offset; gives the rest.
    fn split_off(&mut self, next: Offset) -> Self {
        let rest = Self {
            slot: self.slot,
            key: Arc::clone(&self.key),
            records: self.records.clone(),
            aborted: self.aborted.clone(),
            wanted: next..self.wanted.end,
            next: self.next,
            leader_epoch: self.leader_epoch,
            count: 0,
        };
        self.wanted.end = next;
        self.next = next;
        rest
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
        for event in taken.events {
            if self.events.send(event).await.is_err() {
                return Ok(Flow::End);
            }
        }
        if !self.prepare(taken.walked).await? {
            return Ok(Flow::End);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mirror::transform::{ADDED_AT_ONCE, Transform};
    use crate::memory::MemoryBudget;
    use crate::record::{BatchBuilder, Compression, Headers, PartitionId, Timestamp};

    fn route(header: &str) -> Route {
        Route {
            transform: Transform {
                header_expressions: vec![("swollen".to_owned(), header.parse().unwrap())],
                ..Transform::default()
            },
            source_id: "here".to_owned(),
            target_id: "there".to_owned(),
            partitions: std::collections::BTreeMap::new(),
        }
    }

    fn walked(slot: usize, records: i64) -> Walked {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.push_parts(Timestamp(5), None, Some(b"1234567890"), Headers::default());
        }
        Walked {
            slot,
            key: Arc::new(TopicPartition {
                topic: "orders".to_owned(),
                partition: PartitionId(0),
            }),
            records: builder.finish().unwrap().unwrap(),
            aborted: Vec::new(),
            wanted: Offset(0)..Offset(records),
            next: Offset(records),
            leader_epoch: LeaderEpoch(0),
            count: u64::try_from(records).unwrap(),
        }
    }

    /// Prepares all, each part behind the other, as the writer would get it: by slot how many records, and where they end.
    fn prepared(
        mut left: Vec<Walked>,
        route: &Route,
        memory: &RunMemory,
    ) -> Vec<(usize, u64, i64)> {
        let mut pieces = Vec::new();
        while !left.is_empty() {
            let abandoned = AtomicBool::new(false);
            let part = prepare_part(left, Some(route), &BTreeSet::new(), memory, &abandoned);
            let mut bytes = 0;
            for (walked, prepared) in part.prepared {
                let prepared = prepared.unwrap();
                bytes += prepared.bytes();
                pieces.push((walked.slot, prepared.records(), walked.next.0));
            }
            assert!(bytes < 2 * ADDED_AT_ONCE as u64, "{bytes}");
            left = part.left;
        }
        pieces
    }

    #[test]
    fn an_answer_whose_records_swell_is_prepared_in_parts() {
        let budget = MemoryBudget::new(4 << 20);
        // Each record gets a header of 320 kB: 96 MB in all.
        let doubled = (0..15).fold("value".to_owned(), |inner, _| {
            format!("[{inner}].map(x, x + x)[0]")
        });
        let pieces = prepared(
            vec![walked(0, 200), walked(1, 100)],
            &route(&doubled),
            &budget.run(),
        );
        for (slot, records) in [(0, 200), (1, 100)] {
            let of_slot = pieces.iter().filter(|(of, ..)| *of == slot);
            assert_eq!(
                of_slot.clone().map(|(_, records, _)| records).sum::<u64>(),
                records
            );
            let ends: Vec<i64> = of_slot.map(|(.., end)| *end).collect();
            assert!(ends.is_sorted() && ends.last() == Some(&i64::try_from(records).unwrap()));
        }
        assert!(pieces.len() > 20, "{}", pieces.len());
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn what_nobody_waits_for_is_not_prepared() {
        let budget = MemoryBudget::new(4 << 20);
        let abandoned = AtomicBool::new(true);
        let (walked, route) = (vec![walked(0, 10), walked(1, 10)], route("value"));
        let part = prepare_part(
            walked,
            Some(&route),
            &BTreeSet::new(),
            &budget.run(),
            &abandoned,
        );
        let stopped = |prepared: &Result<Prepared, TransformError>| {
            matches!(prepared, Err(TransformError::Stopped))
        };
        assert!(part.prepared.iter().all(|(_, prepared)| stopped(prepared)));
    }
}
