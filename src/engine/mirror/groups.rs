//! Consumer groups follow to the target: their offsets, translated exactly, while nobody is in the group there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::engine::EngineError;
use crate::engine::groups::GroupSelection;
use crate::engine::own;
use crate::kafka::{
    Client, CommittedOffset, GroupOffsets, KafkaError, OffsetSpec, TopicPartition, Topics,
};
use crate::record::{LeaderEpoch, Offset, ProducerId};

use super::backfill::{Before, FARTHEST, OffsetPairs};
use super::offset_map::OffsetMap;
use super::offsets::offset;
use super::plan::MirrorPlan;
use super::scan::Scanning;
use super::state::GroupStatus;

/// Where records went, of all partitions of a session: the writer tells, and groups ask.
#[derive(Debug, Default)]
pub(super) struct GroupPositions {
    offset_map: Mutex<HashMap<TopicPartition, OffsetMap>>,
    /// Why nothing is known of what was copied before the session, where that was looked for.
    unknown: Mutex<HashMap<TopicPartition, &'static str>>,
}

impl GroupPositions {
    pub fn begin(&self, partition: TopicPartition, offset_map: OffsetMap) {
        self.lock().insert(partition, offset_map);
    }

    /// Something of a partition of the source was committed.
    pub fn committed(&self, partition: &TopicPartition, change: impl FnOnce(&mut OffsetMap)) {
        if let Some(offset_map) = self.lock().get_mut(partition) {
            change(offset_map);
        }
    }

    fn translate(&self, partition: &TopicPartition, offset: Offset) -> Option<Offset> {
        self.lock().get(partition)?.translate(offset)
    }

    /// Where the session began, when nothing is known of before, and nobody has looked.
    fn began(&self, partition: &TopicPartition) -> Option<(Offset, Offset)> {
        let began = self.lock().get(partition)?.began();
        began.filter(|_| !self.lock_unknown().contains_key(partition))
    }

    /// Why an offset cannot be translated.
    fn waits(&self, partition: &TopicPartition, offset: Offset) -> String {
        let end = self.lock().get(partition).and_then(OffsetMap::end);
        let why = self.lock_unknown().get(partition).copied();
        match end {
            None => format!("{partition} stands still"),
            Some(end) if offset > end => format!("{partition} is copied up to {end} only"),
            Some(_) => format!(
                "offset {offset} of {partition} was copied before this mirror last began, and where it went is not known: {}",
                why.unwrap_or("it lies too far back")
            ),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, OffsetMap>> {
        self.offset_map
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_unknown(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, &'static str>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What groups follow by.
pub(super) struct Following<'a> {
    pub source: &'a Client,
    pub target: &'a Client,
    pub plan: &'a MirrorPlan,
    pub chosen: &'a GroupSelection,
    pub positions: &'a GroupPositions,
    /// Under which ids others have written into the source what came from the target.
    pub returning: &'a BTreeSet<ProducerId>,
    /// How records before the session's beginning are read.
    pub scanning: Scanning,
    /// Whether records are not the same on both sides.
    pub is_transformed: bool,
}

/// Sets the offsets of the chosen groups in the target to where their next records are there; none goes back.
pub(super) async fn follow(following: &Following<'_>) -> Result<Vec<GroupStatus>, EngineError> {
    let Following { source, target, .. } = *following;
    let listed = source.list_groups().await?.into_iter();
    let listed = listed.map(|group| group.group);
    let groups: Vec<String> = listed
        .filter(|group| following.chosen.chooses(group))
        .collect();
    let there = target.committed_offsets(&groups).await?;
    let mut here = source.committed_offsets(&groups).await?;
    here.retain(|group, known| {
        let is_own = |known: &mut GroupOffsets| known.leave_out_progress(group);
        !known.as_mut().is_ok_and(is_own)
    });
    let committed = here.values().filter_map(|known| known.as_ref().ok());
    let committed = committed.flat_map(|known| &known.offsets);
    following
        .look_back(committed.map(|(partition, committed)| (partition, committed.offset)))
        .await?;
    let topics = following.plan.topics.iter();
    let targets: HashMap<&str, &str> = topics
        .map(|topic| (topic.topic.as_str(), topic.target_topic.as_str()))
        .collect();
    let mut statuses = Vec::new();
    for (group, offsets) in here {
        let known = there.get(&group);
        statuses.extend(following.lead(group, offsets, known, &targets).await);
    }
    Ok(statuses)
}

impl Following<'_> {
    /// Moves one group forward in the target, from what it has committed on both sides. `targets` are the plan's topics there, by
    /// their name in the source. None where the group has committed nothing in the plan's topics.
    async fn lead(
        &self,
        group: String,
        here: Result<GroupOffsets, KafkaError>,
        there: Option<&Result<GroupOffsets, KafkaError>>,
        targets: &HashMap<&str, &str>,
    ) -> Option<GroupStatus> {
        let mut status = GroupStatus {
            group,
            offsets: 0,
            waiting: 0,
            waits: None,
            refused: None,
        };
        // One that cannot be looked at, on either side, keeps no other from following.
        let there = there.map(Result::as_ref).transpose();
        let failed = here.as_ref().err().or(there.as_ref().err().copied());
        status.refused = failed.map(ToString::to_string);
        let (Ok(GroupOffsets { offsets, .. }), Ok(there)) = (here, there) else {
            return Some(status);
        };
        let ahead = self.ahead(offsets, there, targets, &mut status);
        let is_taken = there.is_some_and(|there| there.has_progress(&status.group));
        if is_taken && !ahead.is_empty() {
            status.refused = Some(own::TAKEN.to_owned());
        } else if !ahead.is_empty() {
            let answers = self.target.commit_offsets(&status.group, &ahead).await;
            status.refused = refusal(answers);
        }
        (status.offsets + status.waiting > 0).then_some(status)
    }

    /// A group's offsets in the target that lie ahead of those it has committed there. Counts in `status` which of its offsets
    /// can be translated.
    fn ahead(
        &self,
        offsets: BTreeMap<TopicPartition, CommittedOffset>,
        there: Option<&GroupOffsets>,
        targets: &HashMap<&str, &str>,
        status: &mut GroupStatus,
    ) -> BTreeMap<TopicPartition, CommittedOffset> {
        let mut ahead = BTreeMap::new();
        for (partition, committed) in offsets {
            let Some(target_topic) = targets.get(partition.topic.as_str()) else {
                continue;
            };
            let Some(offset) = self.positions.translate(&partition, committed.offset) else {
                status.waiting += 1;
                let why = || self.positions.waits(&partition, committed.offset);
                status.waits.get_or_insert_with(why);
                continue;
            };
            status.offsets += 1;
            let key = TopicPartition {
                topic: (*target_topic).to_owned(),
                partition: partition.partition,
            };
            let before = there.and_then(|there| there.offsets.get(&key));
            if before.is_none_or(|before| before.offset < offset) {
                let moved = CommittedOffset {
                    offset,
                    leader_epoch: LeaderEpoch(-1),
                    metadata: committed.metadata,
                };
                ahead.insert(key, moved);
            }
        }
        ahead
    }

    /// Looks for what was copied before the session, where groups stand there.
    async fn look_back(
        &self,
        committed: impl Iterator<Item = (&TopicPartition, Offset)>,
    ) -> Result<(), EngineError> {
        let mut lowest: BTreeMap<&TopicPartition, Offset> = BTreeMap::new();
        for (partition, offset) in committed {
            let began = self.positions.began(partition);
            let is_near = |(start, _): &(Offset, Offset)| {
                (start.0.saturating_sub(FARTHEST)..start.0).contains(&offset.0)
            };
            if began.is_some_and(|began| is_near(&began)) {
                let known = lowest.entry(partition).or_insert(offset);
                *known = offset.min(*known);
            }
        }
        for (partition, lowest) in lowest {
            let Some((start, target_end)) = self.positions.began(partition) else {
                continue;
            };
            let found = match self.is_transformed {
                true => Err("its records were changed or filtered"),
                false => self.places(partition, lowest..start, target_end).await?,
            };
            match found {
                Ok(places) => self.positions.committed(partition, |offset_map| {
                    offset_map.lay_before(lowest, &places);
                }),
                Err(why) => drop(self.positions.lock_unknown().insert(partition.clone(), why)),
            }
        }
        Ok(())
    }

    async fn places(
        &self,
        partition: &TopicPartition,
        wanted: Range<Offset>,
        target_end: Offset,
    ) -> Result<Result<OffsetPairs, &'static str>, EngineError> {
        let found = self.plan.partitions().find(|(topic, planned)| {
            topic.topic == partition.topic && planned.partition == partition.partition
        });
        let Some((topic, planned)) = found else {
            return Ok(Err("it is not mirrored"));
        };
        let target_key = TopicPartition {
            topic: topic.target_topic.clone(),
            partition: partition.partition,
        };
        let start = offset(self.source, partition, OffsetSpec::Earliest).await?;
        if start > wanted.start {
            return Ok(Err("the source has deleted what follows"));
        }
        let names = [topic.target_topic.clone()];
        let metadata = self.target.metadata(Topics::Named(&names)).await?;
        let target_id = metadata.topics.get(&topic.target_topic);
        let before = Before {
            source: self.source,
            target: self.target,
            source_key: partition.clone(),
            target_key,
            source_id: topic.topic_id,
            target_id: target_id.map(|topic| topic.topic_id).unwrap_or_default(),
            producers: planned.note.producers.iter().copied().collect(),
            returning: self.returning.clone(),
            wanted,
            target_end,
            scanning: &self.scanning,
        };
        before.places().await
    }
}

/// Why a commit was refused, or not answered until the deadline.
fn refusal(answers: Result<crate::kafka::CommitAnswers, KafkaError>) -> Option<String> {
    match answers {
        Ok(answers) => {
            let refused = answers.into_values().find_map(Result::err);
            refused.map(|error| error.to_string())
        }
        Err(error) => Some(error.to_string()),
    }
}
