//! The target's logs beside the progress that was committed for them: whether they are still those that were written to.
//!
//! Kafka deletes the offsets that groups have committed on a topic along with it, but not at once; and a cluster may be made new
//! under a mirror that goes on. So progress counts only for the log that it was committed for: the topic's id says which that was
//! (KIP-516), and where there are no ids, how far the log reached.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::engine::EngineError;
use crate::engine::watchdog::Watchdog;
use crate::kafka::{Client, KafkaError, Metadata, OffsetSpec, TopicPartition};
use crate::record::{Offset, TopicId};

use super::MirrorOptions;
use super::offsets::offset;
use super::progress::{self, Progress};
use super::scan::{Scan, Scanning, Whose};

/// Partitions that are looked into at the same time, at most.
const LOOKS_AT_ONCE: usize = 8;

/// An open transaction is waited for so often: six seconds in all.
const STABLE_LOOKS: u32 = 6;

/// What the target holds of a mirror's topics.
#[derive(Default)]
pub(super) struct TargetLogs {
    /// Progress that counts: of the logs that are there.
    pub progress: BTreeMap<TopicPartition, Progress>,
    /// Progress of logs that are gone: what was mirrored to them is missing.
    pub gone: BTreeMap<TopicPartition, Gone>,
    /// Logs that end below what was written to them: where they end.
    pub cut_off: BTreeMap<TopicPartition, Offset>,
    /// Partitions without progress that count that hold records, or did.
    pub filled: BTreeSet<TopicPartition>,
}

/// What is known of a log that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gone {
    /// Of which topic of the source it was.
    pub source_topic_id: TopicId,
    /// Where in that topic its mirroring began; none where an earlier version did not say.
    pub first: Option<Offset>,
    pub why: &'static str,
}

pub(super) const DELETED: &str = "was deleted in the target";
pub(super) const CREATED_AGAIN: &str = "was deleted and created again in the target";

/// What became of a log since its progress was committed.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Same,
    Gone(&'static str),
    /// It ends here, below what was written to it.
    CutOff(Offset),
    /// The same without topic ids: it may have been created again.
    Shorter(Offset),
}

impl TargetLogs {
    /// Reads the progress of the mirror, and compares it with the logs of `topics`, its topics in the target.
    pub async fn read(
        target: &Client,
        to: &Metadata,
        topics: &[String],
        options: &MirrorOptions,
    ) -> Result<Self, EngineError> {
        let committed = progress::read(target, &options.id()).await?;
        let ends = ends(target, to, topics).await?;
        let mut logs = Self::default();
        let looking = Looking {
            target,
            scanning: Scanning {
                memory: options.memory.run(),
                watchdog: Watchdog::new(),
            },
        };
        for (key, progress) in committed {
            if !topics.contains(&key.topic) {
                continue;
            }
            let id = to.topics.get(&key.topic).map(|topic| topic.topic_id);
            let mut fate = fate(&progress, id, ends.get(&key).copied());
            if let Fate::Shorter(end) = fate {
                fate = match looking.holds_records(&key, id, end).await? {
                    true => Fate::CutOff(end),
                    false => Fate::Gone(CREATED_AGAIN),
                };
            }
            logs.add(key, progress, fate);
        }
        let unknown = ends
            .iter()
            .filter(|(key, end)| end.0 > 0 && !logs.progress.contains_key(key));
        let looks = unknown.map(async |(key, end)| {
            let id = to.topics.get(&key.topic).map(|topic| topic.topic_id);
            let is_filled = looking.holds_records(key, id, *end).await?;
            Ok::<_, EngineError>(is_filled.then(|| key.clone()))
        });
        let looks: Vec<_> = looks.collect();
        let filled: Vec<Option<TopicPartition>> = stream::iter(looks)
            .buffered(LOOKS_AT_ONCE)
            .try_collect()
            .await?;
        logs.filled = filled.into_iter().flatten().collect();
        Ok(logs)
    }

    /// Adds the progress of a log by what became of that.
    fn add(&mut self, key: TopicPartition, progress: Progress, fate: Fate) {
        match fate {
            Fate::Same => {}
            Fate::Gone(why) => {
                let gone = Gone {
                    source_topic_id: progress.note.topic_id,
                    first: progress.note.first,
                    why,
                };
                self.gone.insert(key, gone);
                return;
            }
            Fate::CutOff(end) | Fate::Shorter(end) => {
                self.cut_off.insert(key.clone(), end);
            }
        }
        self.progress.insert(key, progress);
    }
}

/// What the topic's id and the log's end say; none of them where the topic or the partition does not exist.
fn fate(progress: &Progress, topic_id: Option<TopicId>, end: Option<Offset>) -> Fate {
    let (Some(id), Some(end)) = (topic_id, end) else {
        return Fate::Gone(DELETED);
    };
    let known_id = progress.note.target_topic_id.filter(|id| !id.is_zero());
    let is_same = known_id.map(|known| known == id);
    if is_same == Some(false) {
        return Fate::Gone(CREATED_AGAIN);
    }
    let is_shorter = progress.note.target_end.is_some_and(|known| end < known);
    match (is_shorter, is_same) {
        (false, _) => Fate::Same,
        (true, Some(_)) => Fate::CutOff(end),
        (true, None) => Fate::Shorter(end),
    }
}

/// Where the logs of these topics end, of all partitions that there are.
async fn ends(
    target: &Client,
    to: &Metadata,
    topics: &[String],
) -> Result<BTreeMap<TopicPartition, Offset>, EngineError> {
    let known = topics
        .iter()
        .filter_map(|name| Some((name, to.topics.get(name)?)));
    let partitions = known.flat_map(|(name, topic)| {
        topic.partitions.keys().map(|partition| TopicPartition {
            topic: name.clone(),
            partition: *partition,
        })
    });
    let wanted: Vec<_> = partitions.map(|key| (key, OffsetSpec::Latest)).collect();
    let listed = target.list_offsets(&wanted).await?.into_iter();
    let ends = listed.map(|(key, end)| Ok((key, end?.offset)));
    ends.collect()
}

/// How logs are looked into.
struct Looking<'a> {
    target: &'a Client,
    scanning: Scanning,
}

impl Looking<'_> {
    /// Whether a log holds records for readers of what was committed, or did before they were deleted. What a mirror had begun to
    /// write when it found another log is aborted, and does not count.
    async fn holds_records(
        &self,
        key: &TopicPartition,
        topic_id: Option<TopicId>,
        end: Offset,
    ) -> Result<bool, EngineError> {
        let start = offset(self.target, key, OffsetSpec::Earliest).await?;
        if start > Offset(0) || end == Offset(0) {
            return Ok(end > Offset(0));
        }
        if !self.is_stable(key, end).await? {
            return Ok(true);
        }
        let whose = Whose::NotBy(BTreeSet::new());
        let (id, range) = (topic_id.unwrap_or_default(), start..end);
        let mut scan = Scan::new(self.target, key.clone(), id, range, whose, &self.scanning);
        match scan.next().await {
            Ok(found) => Ok(found.is_some()),
            // To write does not take the right to read: what cannot be looked into is left alone.
            Err(EngineError::Kafka(KafkaError::Authorization { .. })) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether no transaction is open below `end`. One that a mirror has just aborted is over in a moment; what comes of another
    /// producer's is not known.
    async fn is_stable(&self, key: &TopicPartition, end: Offset) -> Result<bool, EngineError> {
        for look in 0..STABLE_LOOKS {
            if offset(self.target, key, OffsetSpec::LastStable).await? >= end {
                return Ok(true);
            }
            tokio::time::sleep(self.target.retry().backoff(look)).await;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Note;
    use super::*;
    use crate::record::LeaderEpoch;

    const ID: TopicId = TopicId([1; 16]);
    const OTHER: TopicId = TopicId([2; 16]);
    const NONE: TopicId = TopicId([0; 16]);

    fn written_to(target_topic_id: Option<TopicId>, target_end: Option<i64>) -> Progress {
        Progress {
            next: Offset(300),
            leader_epoch: LeaderEpoch(0),
            note: Note {
                target_topic_id,
                target_end: target_end.map(Offset),
                ..Note::new("source", ID)
            },
        }
    }

    #[test]
    fn progress_counts_for_the_log_that_it_was_committed_for() {
        let fate = |progress: &Progress, id: TopicId, end: i64| {
            super::fate(progress, Some(id), Some(Offset(end)))
        };
        let known = written_to(Some(ID), Some(301));
        assert_eq!(fate(&known, ID, 301), Fate::Same);
        assert_eq!(fate(&known, OTHER, 400), Fate::Gone(CREATED_AGAIN));
        assert_eq!(fate(&known, ID, 300), Fate::CutOff(Offset(300)));
        assert_eq!(super::fate(&known, None, None), Fate::Gone(DELETED));
        assert_eq!(super::fate(&known, Some(ID), None), Fate::Gone(DELETED));
        // Brokers without topic ids.
        for without in [Some(NONE), None] {
            let without = written_to(without, Some(301));
            assert_eq!(fate(&without, NONE, 500), Fate::Same);
            assert_eq!(fate(&without, NONE, 50), Fate::Shorter(Offset(50)));
        }
        // An earlier version said neither.
        assert_eq!(fate(&written_to(None, None), ID, 7), Fate::Same);
    }
}
