//! Reads what the target holds of a restore, and digests it.

use std::ops::Range;

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{self, Expects, Flow, PARTITION_BYTES, Reading, Sink, Step, Wish};
use crate::kafka::{
    BrokerId, ErrorCode, FetchedPartition, IsolationLevel, KafkaError, ProducerIdentity,
    TopicPartition,
};
use crate::record::{BatchRef, Offset, RecordError, batches};

use super::content::{Content, Judged};
use super::means::Means;
use super::target::TargetPartition;

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

/// What is kept of a span while it is read.
struct Part {
    slot: usize,
    span: Span,
    found: Found,
}

type Cursor = reader::Cursor<Part>;

fn cursor(slot: usize, span: Span) -> Cursor {
    let found = Found {
        content: Content::new(span.judged),
        foreign: None,
    };
    let (key, leader, start) = (span.key.clone(), span.leader, span.start);
    let part = Part { slot, span, found };
    Cursor {
        leader: Some(leader),
        ..Cursor::new(key, start, part)
    }
}

impl Part {
    fn take_in(&mut self, next: &mut Offset, batch: &BatchRef<'_>) -> Result<(), RecordError> {
        if batch.next_offset() <= *next {
            return Ok(());
        }
        *next = batch.next_offset();
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
    means: &Means<'_>,
    spans: Vec<Span>,
) -> Result<Vec<Found>, EngineError> {
    let cursors = spans.into_iter().enumerate();
    let cursors = cursors.map(|(slot, span)| cursor(slot, span));
    let digesting = Digesting(RateLimiter::new(None));
    let reading = Reading {
        leaders: means.client,
        sink: &digesting,
        memory: means.memory.clone(),
        watchdog: means.watchdog.clone(),
    };
    let mut read = reader::read(&reading, cursors.collect()).await?;
    read.sort_by_key(|cursor| cursor.part.slot);
    Ok(read.into_iter().map(|cursor| cursor.part.found).collect())
}

/// Reading back, as the reader sees it.
struct Digesting(RateLimiter);

impl Sink for Digesting {
    type Part = Part;
    /// Bytes that were digested.
    type Taken = u64;

    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadUncommitted
    }

    fn limiter(&self) -> &RateLimiter {
        &self.0
    }

    fn wish(&self, cursor: &mut Cursor) -> Option<Wish> {
        (cursor.next < cursor.part.span.end).then_some(Wish {
            max_bytes: PARTITION_BYTES,
            expects: Expects::Records,
        })
    }

    fn take(
        &self,
        cursor: &mut Cursor,
        fetched: FetchedPartition,
        taken: &mut u64,
    ) -> Result<Step, EngineError> {
        let before = cursor.next;
        for batch in batches(&fetched.records) {
            let next = &mut cursor.next;
            let digested = batch.and_then(|batch| cursor.part.take_in(next, &batch));
            digested.map_err(|source| EngineError::Batch {
                topic: cursor.key.topic.clone(),
                partition: cursor.key.partition,
                offset: cursor.next,
                source,
            })?;
        }
        *taken += fetched.records.len() as u64;
        Ok(match cursor.next > before {
            true => Step::Moved,
            false => Step::Nothing,
        })
    }

    fn diverged(
        &self,
        cursor: &mut Cursor,
        _end: Offset,
        _taken: &mut u64,
    ) -> Result<Step, EngineError> {
        Err(deleted(cursor))
    }

    fn outside(
        &self,
        cursor: &mut Cursor,
        log: Range<Offset>,
        _taken: &mut u64,
    ) -> Result<Step, EngineError> {
        if log.contains(&cursor.next) {
            let code = ErrorCode::OffsetOutOfRange;
            let error = KafkaError::for_topic(code, "READ", &cursor.key.topic);
            return Ok(Step::Elsewhere(error));
        }
        Err(deleted(cursor))
    }

    fn recreated(&self, cursor: &mut Cursor, _taken: &mut u64) -> Result<Step, EngineError> {
        Err(deleted(cursor))
    }

    async fn pass_on(&self, bytes: u64) -> Result<Flow, EngineError> {
        Ok(Flow::On { bytes, records: 0 })
    }
}

fn deleted(cursor: &Cursor) -> EngineError {
    EngineError::refused(format!(
        "{} no longer has offset {}: records were deleted from it after the restore wrote them",
        cursor.key, cursor.next
    ))
}
