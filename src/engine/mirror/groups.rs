//! Consumer groups follow to the target: their offsets, translated exactly, while nobody is in the group there.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::backup::GroupSelection;
use crate::kafka::{Client, CommittedOffset, KafkaError, TopicPartition};
use crate::record::{LeaderEpoch, Offset};

use super::landmarks::Landmarks;
use super::plan::MirrorPlan;
use super::progress::PREFIX;

/// Where records went, of all partitions of a session: the writer tells, and groups ask.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<HashMap<TopicPartition, Landmarks>>);

impl Positions {
    pub fn begin(&self, partition: TopicPartition, landmarks: Landmarks) {
        self.lock().insert(partition, landmarks);
    }

    /// Something of a partition of the source was committed.
    pub fn committed(&self, partition: &TopicPartition, change: impl FnOnce(&mut Landmarks)) {
        if let Some(landmarks) = self.lock().get_mut(partition) {
            change(landmarks);
        }
    }

    fn translate(&self, partition: &TopicPartition, offset: Offset) -> Option<Offset> {
        self.lock().get(partition)?.translate(offset)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, Landmarks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One group, when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// The group, which has the same name in both.
    pub group: String,
    /// Offsets that the target has.
    pub offsets: u64,
    /// Offsets that cannot be translated yet: their records are not copied, or were before this mirror last began.
    pub waiting: u64,
    /// Why nothing could be committed: somebody is in the group there.
    pub refused: Option<String>,
}

/// Sets the offsets of the chosen groups in the target to where their next records are there; none goes back.
pub(super) async fn follow(
    source: &Client,
    target: &Client,
    plan: &MirrorPlan,
    chosen: &GroupSelection,
    positions: &Positions,
) -> Result<Vec<GroupStatus>, EngineError> {
    let names: HashMap<&str, &str> = plan
        .topics
        .iter()
        .map(|topic| (topic.topic.as_str(), topic.target_topic.as_str()))
        .collect();
    let listed = source
        .list_groups()
        .await?
        .into_iter()
        .map(|group| group.group);
    let groups: Vec<String> = listed
        .filter(|group| !group.starts_with(PREFIX) && chosen.chooses(group))
        .collect();
    let there = target.committed_offsets(&groups).await?;
    let mut statuses = Vec::new();
    for (group, offsets) in source.committed_offsets(&groups).await? {
        let offsets = offsets?.offsets;
        let known = there.get(&group).and_then(|known| known.as_ref().ok());
        let mut status = GroupStatus {
            group,
            offsets: 0,
            waiting: 0,
            refused: None,
        };
        let mut ahead = BTreeMap::new();
        for (partition, committed) in offsets {
            let Some(target_topic) = names.get(partition.topic.as_str()) else {
                continue;
            };
            let Some(offset) = positions.translate(&partition, committed.offset) else {
                status.waiting += 1;
                continue;
            };
            status.offsets += 1;
            let key = TopicPartition {
                topic: (*target_topic).to_owned(),
                partition: partition.partition,
            };
            let before = known.and_then(|known| known.offsets.get(&key));
            if before.is_none_or(|before| before.offset < offset) {
                let moved = CommittedOffset {
                    offset,
                    leader_epoch: LeaderEpoch(-1),
                    metadata: committed.metadata,
                };
                ahead.insert(key, moved);
            }
        }
        if !ahead.is_empty() {
            let answers = target.commit_offsets(&status.group, &ahead).await;
            status.refused = refusal(answers)?;
        }
        if status.offsets + status.waiting > 0 {
            statuses.push(status);
        }
    }
    Ok(statuses)
}

/// Why a commit was refused, when that is the group's own matter.
fn refusal(
    answers: Result<crate::kafka::CommitAnswers, KafkaError>,
) -> Result<Option<String>, EngineError> {
    match answers {
        Ok(answers) => {
            let refused = answers.into_values().find_map(Result::err);
            Ok(refused.map(|error| error.to_string()))
        }
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => Ok(Some(error.to_string())),
    }
}
