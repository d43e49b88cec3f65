//! Up to where the target's logs reach at least. A log never becomes shorter: one whose end goes back is another log, or has lost
//! what it held, and then nothing may be committed as copied to it.

use std::collections::BTreeMap;
use std::fmt;

use crate::engine::EngineError;
use crate::engine::producer::{Acknowledged, PartitionIndex, TargetLeader};
use crate::kafka::{Client, KafkaError, OffsetSpec, TopicPartition, Topics};
use crate::record::{Offset, TopicId};

use super::targets::{Origin, Targets};

/// The ends of all logs that a session writes to, by their place in the producer.
pub(super) struct TargetEnds(Vec<Offset>);

impl TargetEnds {
    /// Where they are now.
    pub async fn read(client: &Client, targets: &Targets) -> Result<Self, EngineError> {
        Ok(Self(listed(client, targets, OffsetSpec::Latest).await?))
    }

    /// All of them, with the topics' ids.
    pub fn all(
        &self,
        targets: &Targets,
    ) -> impl Iterator<Item = (TopicPartition, TopicId, Offset)> {
        let all = targets.leaders.iter().zip(&self.0);
        all.map(|(TargetLeader { key, .. }, end)| {
            let id = targets.topic_ids.get(&key.topic);
            (key.clone(), id.copied().unwrap_or_default(), *end)
        })
    }

    /// The end of the log that an origin's progress is committed for.
    pub fn of(&self, targets: &Targets, origin: &Origin) -> Option<Offset> {
        let PartitionIndex(place) = targets.own_place(origin)?;
        self.0.get(place).copied()
    }

    /// Takes in where a batch lies.
    pub fn rise<N>(
        &mut self,
        targets: &Targets,
        batch: &Acknowledged<N>,
    ) -> Result<(), EngineError> {
        let PartitionIndex(place) = batch.partition;
        let (Some(end), Some(leader)) = (self.0.get_mut(place), targets.leaders.get(place)) else {
            return Err(EngineError::Lost("a partition of the target"));
        };
        if batch.base_offset < *end {
            return Err(other_log(&leader.key));
        }
        *end = Offset(batch.base_offset.0 + i64::from(batch.records));
        Ok(())
    }

    /// Asks the target whether it still has the logs that were written to, as long as they were. Says what it has deleted
    /// already of what was written since the run `began`.
    pub async fn prove(
        &self,
        client: &Client,
        targets: &Targets,
        began: &BTreeMap<TopicPartition, (TopicId, Offset)>,
    ) -> Result<Vec<String>, EngineError> {
        let names: Vec<String> = targets.topic_ids.keys().cloned().collect();
        let metadata = client.metadata(Topics::Named(&names)).await?;
        for (topic, id) in &targets.topic_ids {
            let found = metadata.topics.get(topic).map(|found| found.topic_id);
            if found != Some(*id) {
                return Err(other_log(topic));
            }
        }
        let ends = listed(client, targets, OffsetSpec::Latest).await?;
        let mut ends = targets.leaders.iter().zip(ends.iter().zip(&self.0));
        if let Some((TargetLeader { key, .. }, _)) = ends.find(|(_, (now, known))| now < known) {
            return Err(other_log(key));
        }
        let starts = listed(client, targets, OffsetSpec::Earliest).await?;
        let all = targets.leaders.iter().zip(starts.iter().zip(&self.0));
        let deleted = all.filter_map(|(TargetLeader { key, .. }, (start, end))| {
            let (_, began) = began.get(key)?;
            let gone = start.min(end).0 - began.0;
            (gone > 0).then(|| {
                format!(
                    "{key} begins at {start} in the target, so that {gone} of the offsets that were written from {began} on are deleted \
                     already: its retention counts from the records' timestamps"
                )
            })
        });
        Ok(deleted.collect())
    }
}

/// An offset of each log that is written to, by its place in the producer.
async fn listed(
    client: &Client,
    targets: &Targets,
    spec: OffsetSpec,
) -> Result<Vec<Offset>, EngineError> {
    let keys: Vec<_> = targets
        .leaders
        .iter()
        .map(|leader| leader.key.clone())
        .collect();
    let offsets = client.offsets_of(&keys, spec).await?;
    let found = keys.iter().map(|key| {
        let missing = || KafkaError::leaderless(&key.topic, key.partition);
        Ok(offsets.get(key).copied().ok_or_else(missing)?)
    });
    found.collect()
}

/// A log of the target is another one than the session began with. The next session's plan says what that means.
pub(super) fn other_log(what: impl fmt::Display) -> EngineError {
    EngineError::Changed(format!(
        "{what} was deleted, created again or cut off in the target meanwhile"
    ))
}
