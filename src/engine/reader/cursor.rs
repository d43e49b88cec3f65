//! How far the reading of one partition is.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::kafka::{BrokerId, FetchPartition, Retry, TopicPartition};
use crate::record::{LeaderEpoch, Offset, TopicId};

/// A partition that is read.
#[derive(Debug)]
pub struct Cursor<P> {
    /// Topic and number; requests and answers share them.
    pub key: Arc<TopicPartition>,
    /// The topic's id; zero where it does not matter or is not known.
    pub topic_id: TopicId,
    /// Who leads it, as far as is known.
    pub leader: Option<BrokerId>,
    /// Under which epoch; none where any will do.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The next offset wanted.
    pub next: Offset,
    /// The epoch of the last batch before it, for the leader to notice that the log has forked (KIP-595).
    pub last_epoch: Option<LeaderEpoch>,
    /// What the sink keeps of it.
    pub part: P,
    /// How often in a row it could not be read; the reader counts.
    pub failures: u32,
}

impl<P> Cursor<P> {
    /// Begins at `next`, with nobody known to lead it.
    pub fn new(key: TopicPartition, next: Offset, part: P) -> Self {
        Self {
            key: Arc::new(key),
            topic_id: TopicId::default(),
            leader: None,
            leader_epoch: None,
            next,
            last_epoch: None,
            part,
            failures: 0,
        }
    }

    pub(super) fn to_fetch(&self, max_bytes: u64) -> FetchPartition {
        FetchPartition {
            key: Arc::clone(&self.key),
            topic_id: self.topic_id,
            offset: self.next,
            leader_epoch: self.leader_epoch,
            last_fetched_epoch: self.last_epoch,
            max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

impl<P> fmt::Display for Cursor<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.key, self.next)
    }
}

/// A partition whose leader is to be looked for.
#[derive(Debug)]
pub(super) struct Homeless<P> {
    pub cursor: Cursor<P>,
    /// Not before then.
    pub not_before: Instant,
    /// Whether the leader said that its log does not have the offset wanted.
    pub is_outside: bool,
}

impl<P> Homeless<P> {
    /// One that was not looked for yet.
    pub fn new(cursor: Cursor<P>) -> Self {
        Self {
            cursor,
            not_before: Instant::now(),
            is_outside: false,
        }
    }

    /// One that could not be read: the more often in a row, the longer the pause.
    pub fn failed(mut cursor: Cursor<P>, retry: Retry) -> Self {
        let not_before = Instant::now() + retry.backoff(cursor.failures);
        cursor.failures += 1;
        Self {
            cursor,
            not_before,
            is_outside: false,
        }
    }

    /// One of which the leader does not have the offset wanted. This is asked for again at once, the first time.
    pub fn outside(mut cursor: Cursor<P>, retry: Retry) -> Self {
        let pause = cursor
            .failures
            .checked_sub(1)
            .map(|failures| retry.backoff(failures));
        cursor.failures += 1;
        Self {
            cursor,
            not_before: Instant::now() + pause.unwrap_or_default(),
            is_outside: true,
        }
    }
}
