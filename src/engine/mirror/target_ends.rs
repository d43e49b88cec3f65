//! Up to where the target's logs reach at least. A log never becomes shorter: one whose end goes back is another log, or has lost
//! what it held, and then nothing may be committed as copied to it.

use std::fmt;

use crate::engine::EngineError;
use crate::engine::producer::{Acknowledged, PartitionIndex, TargetLeader};
use crate::kafka::{Client, KafkaError, OffsetSpec, Topics};
use crate::record::Offset;

use super::targets::{Origin, Targets};

/// The ends of all logs that a session writes to, by their place in the producer.
pub(super) struct TargetEnds(Vec<Offset>);

impl TargetEnds {
    /// Where they are now.
    pub async fn read(client: &Client, targets: &Targets) -> Result<Self, EngineError> {
        let wanted = targets.leaders.iter();
        let wanted = wanted.map(|leader| (leader.key.clone(), OffsetSpec::Latest));
        let wanted: Vec<_> = wanted.collect();
        let mut listed = client.list_offsets(&wanted).await?;
        let ends = targets.leaders.iter().map(|TargetLeader { key, .. }| {
            let missing = || Err(KafkaError::leaderless(&key.topic, key.partition));
            let listed = listed.remove(key).unwrap_or_else(missing)?;
            Ok(listed.offset)
        });
        Ok(Self(ends.collect::<Result<_, EngineError>>()?))
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

    /// Asks the target whether it still has the logs that were written to, as long as they were.
    pub async fn prove(&self, client: &Client, targets: &Targets) -> Result<(), EngineError> {
        let names: Vec<String> = targets.topic_ids.keys().cloned().collect();
        let metadata = client.metadata(Topics::Named(&names)).await?;
        for (topic, id) in &targets.topic_ids {
            let found = metadata.topics.get(topic).map(|found| found.topic_id);
            if found != Some(*id) {
                return Err(other_log(topic));
            }
        }
        let Self(now) = Self::read(client, targets).await?;
        let mut ends = targets.leaders.iter().zip(now.iter().zip(&self.0));
        match ends.find(|(_, (now, known))| now < known) {
            Some((TargetLeader { key, .. }, _)) => Err(other_log(key)),
            None => Ok(()),
        }
    }
}

/// A log of the target is another one than the session began with. The next session's plan says what that means.
pub(super) fn other_log(what: impl fmt::Display) -> EngineError {
    EngineError::Changed(format!(
        "{what} was deleted, created again or cut off in the target meanwhile"
    ))
}
