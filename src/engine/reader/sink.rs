//! A verb, as the reader sees it: what it wants of a partition, and what it does with an answer.

use std::ops::Range;

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::kafka::{FetchedPartition, IsolationLevel, KafkaError};
use crate::record::Offset;

use super::Cursor;

/// What a request asks for in all, at most.
const REQUEST_BYTES: u64 = 8 << 20;
/// What a request asks for of one partition, at most.
pub const PARTITION_BYTES: u64 = 4 << 20;

/// What a sink wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Bytes, at most; one batch comes in any case.
    pub max_bytes: u64,
    /// What the leader is expected to have.
    pub expects: Expects,
}

/// What a leader is expected to have of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// Records: a leader that gives none is asked for again.
    Records,
    /// Records, or the log's end, at which more may come.
    RecordsOrEnd,
    /// An answer, even without records, at once.
    Answer,
}

/// What became of a partition.
#[derive(Debug)]
pub enum Step {
    /// It led on, and goes on.
    Moved,
    /// Nothing came of it; it goes on.
    Nothing,
    /// It is read no further.
    Settled,
    /// Another leader may do better.
    Elsewhere(KafkaError),
}

/// Whether the reading goes on behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does. The rate limit counts what was passed on.
    On {
        /// Bytes.
        bytes: u64,
        /// Records.
        records: u64,
    },
    /// The whole reading ends.
    End,
}

/// A verb, as the reader sees it.
pub trait Sink: Sync {
    /// What the sink keeps of a partition.
    type Part: Send;
    /// What the parts of one answer became, in their order.
    type Taken: Default + Send;

    /// How far it reads.
    fn isolation(&self) -> IsolationLevel;

    /// How fast.
    fn limiter(&self) -> &RateLimiter;

    /// What a request asks for in all, at most.
    fn request_bytes(&self) -> u64 {
        REQUEST_BYTES
    }

    /// What is wanted of a partition next; none when it is settled.
    fn wish(&self, cursor: &mut Cursor<Self::Part>) -> Option<Wish>;

    /// Takes in what came of a partition, and moves the cursor over it.
    fn take(
        &self,
        cursor: &mut Cursor<Self::Part>,
        fetched: FetchedPartition,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The leader's log left the one that was read so far, at this offset (KIP-595).
    fn diverged(
        &self,
        cursor: &mut Cursor<Self::Part>,
        end: Offset,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The log does not have the offset wanted; it has these.
    fn outside(
        &self,
        cursor: &mut Cursor<Self::Part>,
        log: Range<Offset>,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The topic is another one than that of which was read so far.
    fn recreated(
        &self,
        cursor: &mut Cursor<Self::Part>,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The leader refuses a partition, and trying again would not help.
    fn refused(
        &self,
        _cursor: &mut Cursor<Self::Part>,
        error: KafkaError,
        _taken: &mut Self::Taken,
    ) -> Result<Step, EngineError> {
        Err(error.into())
    }

    /// Whether a partition that could not be read for this reason is settled, instead of being read again later.
    fn gives_up(&self, _cursor: &mut Cursor<Self::Part>, _error: &KafkaError) -> bool {
        false
    }

    /// Passes on what came of one answer. The next request is on its way meanwhile.
    fn pass_on(&self, taken: Self::Taken)
    -> impl Future<Output = Result<Flow, EngineError>> + Send;
}
