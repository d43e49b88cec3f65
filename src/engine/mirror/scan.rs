//! Reads a partition's records once, from one offset to another, as a reader of what was committed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::engine::EngineError;
use crate::kafka::{
    BrokerId, Client, FetchPartition, FetchRequest, FetchedPartition, Isolation, KafkaError,
    TopicPartition, Topics,
};
use crate::record::{BatchRef, Offset, ProducerId, TopicId, batches};

use super::committed::{CommittedView, Seen};

const REQUEST_BYTES: i32 = 4 << 20;
const PATIENCE: Duration = Duration::from_millis(500);

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

/// A reader of one partition.
pub(super) struct Scan<'a> {
    client: &'a Client,
    key: TopicPartition,
    topic_id: TopicId,
    leader: Option<BrokerId>,
    next: Offset,
    end: Offset,
    whose: Whose,
    is_whole: bool,
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

impl<'a> Scan<'a> {
    pub fn new(
        client: &'a Client,
        key: TopicPartition,
        topic_id: TopicId,
        range: Range<Offset>,
        whose: Whose,
    ) -> Self {
        Self {
            client,
            key,
            topic_id,
            leader: None,
            next: range.start,
            end: range.end,
            whose,
            is_whole: true,
        }
    }

    /// Whether what was read so far had no holes, as compaction leaves them.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The next batches; none at the end of the range. What fails in passing is tried again until nothing has come for the
    /// client's deadline.
    pub async fn next(&mut self) -> Result<Option<Scanned>, EngineError> {
        let began = Instant::now();
        let retry = self.client.retry();
        let mut attempts = 0;
        while self.next < self.end {
            let error = match self.fetch().await {
                Ok(Some(fetched)) => {
                    let before = self.next;
                    let scanned = self.take_in(fetched)?;
                    match scanned.wanted.is_empty() {
                        false => return Ok(Some(scanned)),
                        true if self.next > before => continue,
                        true => KafkaError::silent(self.leader.unwrap_or(BrokerId(-1))),
                    }
                }
                Ok(None) => KafkaError::leaderless(&self.key.topic, self.key.partition),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error.into()),
            };
            if began.elapsed() > retry.deadline {
                return Err(error.into());
            }
            self.leader = None;
            tokio::time::sleep(retry.backoff(attempts)).await;
            attempts += 1;
        }
        Ok(None)
    }

    async fn fetch(&mut self) -> Result<Option<FetchedPartition>, KafkaError> {
        if self.leader.is_none() {
            let names = [self.key.topic.clone()];
            let metadata = self.client.metadata_now(Topics::Named(&names)).await?;
            let topic = metadata.topics.get(&self.key.topic);
            self.leader = topic.and_then(|topic| topic.partitions.get(&self.key.partition)?.leader);
        }
        let Some(leader) = self.leader else {
            return Ok(None);
        };
        let request = FetchRequest {
            max_wait: PATIENCE,
            min_bytes: 1,
            max_bytes: REQUEST_BYTES,
            isolation: Isolation::ReadCommitted,
            partitions: vec![FetchPartition {
                topic: self.key.topic.clone(),
                topic_id: self.topic_id,
                partition: self.key.partition,
                offset: self.next,
                leader_epoch: None,
                last_fetched_epoch: None,
                max_bytes: REQUEST_BYTES,
            }],
        };
        let fetched = self.client.fetch(leader, request).await?.pop();
        match fetched.as_ref().and_then(|fetched| fetched.error) {
            Some(code) => Err(KafkaError::for_topic(code, "READ", &self.key.topic)),
            None => Ok(fetched),
        }
    }

    fn take_in(&mut self, fetched: FetchedPartition) -> Result<Scanned, EngineError> {
        let failed = |source| EngineError::Batch {
            topic: self.key.topic.clone(),
            partition: self.key.partition,
            offset: self.next,
            source,
        };
        let mut view = CommittedView::new(fetched.aborted);
        let (mut wanted, mut next, mut at) = (Vec::new(), self.next, 0);
        for batch in batches(&fetched.records) {
            let batch = batch.map_err(failed)?;
            let place = at..at + batch.len();
            at = place.end;
            let seen = view.look(&batch).map_err(failed)?;
            if batch.last_offset() < self.next {
                continue;
            }
            if batch.base_offset() >= self.end {
                next = self.end;
                break;
            }
            self.is_whole &= batch.base_offset() <= next && !batch.has_holes();
            next = batch.next_offset();
            let is_data = seen == Seen::Records && batch.record_count() > 0;
            if is_data && self.whose.includes(batch.producer_id()) {
                wanted.push(place);
            }
        }
        self.next = next;
        Ok(Scanned {
            records: fetched.records,
            wanted,
        })
    }
}
