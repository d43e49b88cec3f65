//! Finds the leaders of partitions whose batches failed, again and again until the deadline.

use std::collections::BTreeSet;

use futures_util::future::FutureExt;

use crate::engine::EngineError;
use crate::kafka::{KafkaError, Metadata};

use super::brokers::Brokers;
use super::partition_queue::PartitionQueue;
use super::{Event, PartitionIndex, ProduceError, Producer};

/// Smaller batches are within the size limit of any broker.
const LARGE_BATCH: u64 = 1 << 20;

impl<B: Brokers, N> Producer<B, N> {
    /// Begins to look for the leaders of all partitions that need it, after a pause. One look at a time: partitions that fail
    /// meanwhile have the next.
    pub(super) fn find_leaders(&mut self) -> Result<(), EngineError> {
        if self.is_finding_leaders || self.without_leader.is_empty() {
            return Ok(());
        }
        let retry = self.brokers.retry();
        if self.failing.elapsed() > retry.deadline {
            return Err(self.stalled());
        }
        let partitions: Vec<_> = std::mem::take(&mut self.without_leader)
            .into_iter()
            .collect();
        let (mut topics, mut failures) = (BTreeSet::new(), u32::MAX);
        for partition in &partitions {
            if let Some(queue) = self.queues.get_mut(partition.0) {
                failures = failures.min(queue.failures);
                queue.find_leader();
                topics.insert(queue.key.topic.clone());
            }
        }
        tracing::warn!("retrying {} partitions: {}", partitions.len(), self.why());
        let (brokers, topics) = (self.brokers.clone(), Vec::from_iter(topics));
        let finding = async move {
            tokio::time::sleep(retry.backoff(failures)).await;
            Event::LeadersFound(partitions, brokers.metadata(&topics).await)
        };
        self.events.push(finding.boxed());
        self.is_finding_leaders = true;
        Ok(())
    }

    /// Goes on with the partitions that have a leader. The others are looked for again.
    pub(super) fn found_leaders(
        &mut self,
        partitions: Vec<PartitionIndex>,
        outcome: Result<Metadata, KafkaError>,
    ) -> Result<(), ProduceError<N>> {
        self.is_finding_leaders = false;
        let metadata = match outcome {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                self.tolerate(error)?;
                None
            }
        };
        for partition in partitions {
            let Some(queue) = self.queues.get_mut(partition.0) else {
                continue;
            };
            let topic = metadata
                .as_ref()
                .and_then(|found| found.topics.get(&queue.key.topic));
            let found = topic.and_then(|topic| topic.partitions.get(&queue.key.partition));
            match found.and_then(|found| Some((found.leader?, found.leader_epoch))) {
                Some((leader, epoch)) => queue.found_leader(leader, epoch),
                None => {
                    queue.fail_all();
                    if metadata.is_some() {
                        let (topic, partition) = (&queue.key.topic, queue.key.partition);
                        self.last_error = Some(KafkaError::leaderless(topic, partition));
                    }
                }
            }
            self.update_index(partition);
        }
        Ok(())
    }

    fn stalled(&self) -> EngineError {
        let queues = self.without_leader.iter();
        let names = queues.filter_map(|partition| self.queues.get(partition.0));
        let names: Vec<String> = names.take(3).map(|queue| queue.key.to_string()).collect();
        let more = match self.without_leader.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        EngineError::Stalled {
            what: format!("{}{more}", names.join(", ")),
            seconds: self.failing.elapsed().as_secs(),
            last: format!("{}{}", self.why(), self.size_hint()),
        }
    }

    fn why(&self) -> String {
        let last = self.last_error.as_ref();
        last.map_or_else(|| "no answer".to_owned(), ToString::to_string)
    }

    /// A broker closes the connection on a request that is larger than its `socket.request.max.bytes`, without a word.
    fn size_hint(&self) -> String {
        let queues = self.without_leader.iter();
        let queues = queues.filter_map(|partition| self.queues.get(partition.0));
        let largest = queues.filter_map(PartitionQueue::next_bytes).max();
        match (&self.last_error, largest) {
            (Some(KafkaError::Disconnected { .. }), Some(bytes)) if bytes >= LARGE_BATCH => {
                format!(
                    "; the next batch has {bytes} bytes: is the broker's socket.request.max.bytes smaller?"
                )
            }
            _ => String::new(),
        }
    }
}
