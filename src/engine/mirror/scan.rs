//! Reads a partition's records once, from one offset to another, as a reader of what was committed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc;

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{Cursor, Expects, Flow, Questions, Reading, Sink, Step, Wish, read};
use crate::engine::watchdog::Watchdog;
use crate::kafka::{
    Client, ErrorCode, FetchedPartition, IsolationLevel, KafkaError, TopicPartition,
};
use crate::memory::RunMemory;
use crate::record::{BatchRef, Offset, ProducerId, TopicId, batches};

use super::committed::{CommittedView, Seen};

const REQUEST_BYTES: u64 = 4 << 20;

/// Which batches of a partition.
#[derive(Debug, Clone)]
pub(super) enum Whose {
    /// Those that none of these wrote.
    NotBy(BTreeSet<ProducerId>),
    /// Those that one of these wrote.
    By(BTreeSet<ProducerId>),
}

impl Whose {
    fn includes(&self, producer: ProducerId) -> bool {
        match self {
            Self::NotBy(producers) => !producers.contains(&producer),
            Self::By(producers) => producers.contains(&producer),
        }
    }
}

/// How scans read: the run's watchdog, and memory of its own for each, since one waits for the other while it holds some.
#[derive(Debug, Clone)]
pub(super) struct Scanning {
    pub memory: RunMemory,
    pub watchdog: Watchdog,
}

/// A reader of one partition.
pub(super) struct Scan {
    /// Ends when the range is read, or with why it cannot be.
    reading: BoxFuture<'static, Result<(), EngineError>>,
    scanned: mpsc::Receiver<Scanned>,
    is_read: bool,
    is_whole: Arc<AtomicBool>,
}

/// Batches with records, in order; the first and the last may have some outside of the range.
pub(super) struct Scanned {
    records: Bytes,
    wanted: Vec<Range<usize>>,
}

impl Scanned {
    pub fn batches(&self) -> impl Iterator<Item = Result<BatchRef<'_>, EngineError>> {
        let views = self.wanted.iter().map(|place| {
            let bytes = self.records.get(place.clone()).unwrap_or_default();
            BatchRef::parse(bytes).map(|(view, _)| view)
        });
        views.map(|view| view.map_err(|_| EngineError::Lost("a batch")))
    }
}

impl Scan {
    pub fn new(
        client: &Client,
        key: TopicPartition,
        topic_id: TopicId,
        range: Range<Offset>,
        whose: Whose,
        scanning: &Scanning,
    ) -> Self {
        let (pieces, scanned) = mpsc::channel(1);
        let is_whole = Arc::new(AtomicBool::new(true));
        let sink = Scanner {
            end: range.end,
            whose,
            pieces,
            is_whole: Arc::clone(&is_whole),
            limiter: RateLimiter::new(None),
        };
        let cursor = Cursor {
            topic_id,
            ..Cursor::new(key, range.start, ())
        };
        let (client, memory) = (client.clone(), scanning.memory.another());
        let watchdog = scanning.watchdog.clone();
        let reading = async move {
            let reading = Reading {
                leaders: &Questions(client),
                sink: &sink,
                memory,
                watchdog,
            };
            read(&reading, vec![cursor]).await.map(drop)
        };
        Self {
            reading: reading.boxed(),
            scanned,
            is_read: false,
            is_whole,
        }
    }

    /// Whether what was read so far had no holes, as compaction leaves them.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// The next batches; none at the end of the range. What fails in passing is tried again until nothing has come for the
    /// client's deadline.
    pub async fn next(&mut self) -> Result<Option<Scanned>, EngineError> {
        if !self.is_read {
            tokio::select! {
                biased;
                Some(scanned) = self.scanned.recv() => return Ok(Some(scanned)),
                read = &mut self.reading => {
                    read?;
                    self.is_read = true;
                }
            }
        }
        Ok(self.scanned.recv().await)
    }
}

/// A scan, as the reader sees it.
struct Scanner {
    end: Offset,
    whose: Whose,
    pieces: mpsc::Sender<Scanned>,
    is_whole: Arc<AtomicBool>,
    limiter: RateLimiter,
}

impl Sink for Scanner {
    type Part = ();
    type Taken = Option<Scanned>;

    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadCommitted
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn request_bytes(&self) -> u64 {
        REQUEST_BYTES
    }

    fn wish(&self, cursor: &mut Cursor<()>) -> Option<Wish> {
        (cursor.next < self.end).then_some(Wish {
            max_bytes: REQUEST_BYTES,
            expects: Expects::Records,
        })
    }

    fn take(
        &self,
        cursor: &mut Cursor<()>,
        fetched: FetchedPartition,
        taken: &mut Option<Scanned>,
    ) -> Result<Step, EngineError> {
        let failed = |source| EngineError::Batch {
            topic: cursor.key.topic.clone(),
            partition: cursor.key.partition,
            offset: cursor.next,
            source,
        };
        let mut view = CommittedView::new(fetched.aborted);
        let (mut wanted, mut next, mut at) = (Vec::new(), cursor.next, 0);
        let mut is_whole = true;
        for batch in batches(&fetched.records) {
            let batch = batch.map_err(failed)?;
            let place = at..at + batch.len();
            at = place.end;
            let seen = view.look(&batch).map_err(failed)?;
            if batch.last_offset() < cursor.next {
                continue;
            }
            if batch.base_offset() >= self.end {
                next = self.end;
                break;
            }
            is_whole &= batch.base_offset() <= next && !batch.has_holes();
            next = batch.next_offset();
            let is_data = seen == Seen::Records && batch.record_count() > 0;
            if is_data && self.whose.includes(batch.producer_id()) {
                wanted.push(place);
            }
        }
        self.is_whole.fetch_and(is_whole, Ordering::Relaxed);
        let has_moved = next > cursor.next;
        cursor.next = next;
        if !wanted.is_empty() {
            *taken = Some(Scanned {
                records: fetched.records,
                wanted,
            });
        }
        Ok(match has_moved {
            true => Step::Moved,
            false => Step::Nothing,
        })
    }

    fn diverged(
        &self,
        cursor: &mut Cursor<()>,
        _end: Offset,
        _taken: &mut Option<Scanned>,
    ) -> Result<Step, EngineError> {
        Err(out_of_range(cursor).into())
    }

    fn outside(
        &self,
        cursor: &mut Cursor<()>,
        _log: Range<Offset>,
        _taken: &mut Option<Scanned>,
    ) -> Result<Step, EngineError> {
        Err(out_of_range(cursor).into())
    }

    fn recreated(
        &self,
        cursor: &mut Cursor<()>,
        _taken: &mut Option<Scanned>,
    ) -> Result<Step, EngineError> {
        let code = ErrorCode::UnknownTopicId;
        Err(KafkaError::for_topic(code, "READ", &cursor.key.topic).into())
    }

    async fn pass_on(&self, taken: Option<Scanned>) -> Result<Flow, EngineError> {
        let mut bytes = 0;
        if let Some(scanned) = taken {
            bytes = scanned.records.len() as u64;
            if self.pieces.send(scanned).await.is_err() {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::On { bytes, records: 0 })
    }
}

fn out_of_range(cursor: &Cursor<()>) -> KafkaError {
    KafkaError::for_topic(ErrorCode::OffsetOutOfRange, "READ", &cursor.key.topic)
}
