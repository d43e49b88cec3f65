//! What a mirror writes beside each offset that it commits: of which log it is, and who wrote it into the target.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::EngineError;
use crate::engine::own::PREFIX;
use crate::kafka::{Client, CommittedOffset, ErrorCode, KafkaError, TopicPartition};
use crate::record::{LeaderEpoch, Offset, ProducerId, TopicId};

const VERSION: u32 = 1;
/// An id is used up after 32,767 sessions; more than a few that are remembered would not fit into the metadata of a commit.
const PRODUCERS: usize = 16;

/// How far a partition was mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// The first offset of the source that was not mirrored.
    pub next: Offset,
    /// The epoch of the last batch that was.
    pub leader_epoch: LeaderEpoch,
    pub note: Note,
}

/// The metadata of a commit. `engine/own.rs` knows it by the fields that all versions write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub v: u32,
    /// The source's cluster.
    pub cluster_id: String,
    /// The source's topic: a recreated one is another log.
    pub topic_id: TopicId,
    /// Under which ids the mirror has written into the target, the latest last.
    pub producers: Vec<ProducerId>,
    /// The target's topic: one that was created again does not hold what was mirrored. Absent in commits of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_topic_id: Option<TopicId>,
    /// Up to where the target's log reached at least when this was committed: logs do not become shorter. Absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_end: Option<Offset>,
    /// Where in the source the mirroring of the partition began. Absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Offset>,
}

impl Note {
    pub fn new(cluster_id: &str, topic_id: TopicId) -> Self {
        Self {
            v: VERSION,
            cluster_id: cluster_id.to_owned(),
            topic_id,
            producers: Vec::new(),
            target_topic_id: None,
            target_end: None,
            first: None,
        }
    }

    pub fn wrote(&mut self, producer: ProducerId) {
        self.producers.retain(|known| *known != producer);
        self.producers.push(producer);
        let surplus = self.producers.len().saturating_sub(PRODUCERS);
        self.producers.drain(..surplus);
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text)
            .ok()
            .filter(|note: &Self| note.v == VERSION)
    }
}

impl Progress {
    /// As the target's group holds it.
    pub fn committed(&self) -> Result<CommittedOffset, EngineError> {
        let metadata = serde_json::to_string(&self.note);
        Ok(CommittedOffset {
            offset: self.next,
            leader_epoch: self.leader_epoch,
            metadata: metadata.map_err(|_| EngineError::Lost("a note of progress"))?,
        })
    }

    fn of(committed: &CommittedOffset) -> Option<Self> {
        Some(Self {
            next: committed.offset,
            leader_epoch: committed.leader_epoch,
            note: Note::read(&committed.metadata)?,
        })
    }
}

/// How far the mirror with the group `group` is, by partition of the target. A commit that is no mirror's is refused: somebody
/// uses the group for something else.
pub(super) async fn read(
    target: &Client,
    group: &str,
) -> Result<BTreeMap<TopicPartition, Progress>, EngineError> {
    let groups = [group.to_owned()];
    let mut fetched = target.committed_offsets(&groups).await?;
    let committed = match fetched.remove(group) {
        Some(Ok(committed)) => committed,
        Some(Err(KafkaError::Authorization { resource, .. })) => {
            // To read it is not enough: it will be committed to.
            let operation = "READ";
            return Err(KafkaError::Authorization {
                operation,
                resource,
            }
            .into());
        }
        Some(Err(error)) => return Err(error.into()),
        None => return Ok(BTreeMap::new()),
    };
    if committed.is_unstable {
        // The transaction before is being ended: what was committed now would be copied again.
        let code = ErrorCode::UnstableOffsetCommit;
        let context = format!("group {group}");
        return Err(KafkaError::Broker { code, context }.into());
    }
    let progress = committed.offsets.into_iter().map(|(partition, committed)| {
        let progress = Progress::of(&committed).ok_or_else(|| {
            EngineError::refused(format!(
                "group {group} of the target has an offset for {partition} that no mirror committed: give the mirror another name, or delete the group"
            ))
        })?;
        Ok((partition, progress))
    });
    progress.collect()
}

/// Under which ids mirrors have written into `source` what they read in the cluster `target_id`: it came from there, and does not
/// go back. None where groups may not be described.
pub(super) async fn returning(
    source: &Client,
    target_id: &str,
) -> Result<Option<BTreeSet<ProducerId>>, EngineError> {
    let listed = match source.list_groups().await {
        Ok(listed) => listed,
        Err(KafkaError::Authorization { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let groups = listed.into_iter().map(|group| group.group);
    let groups: Vec<String> = groups.filter(|group| group.starts_with(PREFIX)).collect();
    let mut producers = BTreeSet::new();
    for offsets in source.committed_offsets(&groups).await?.into_values() {
        let offsets = match offsets {
            Ok(offsets) => offsets.offsets,
            Err(KafkaError::Authorization { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let notes = offsets
            .values()
            .filter_map(|committed| Note::read(&committed.metadata));
        let of_target = notes.filter(|note| note.cluster_id == target_id);
        producers.extend(of_target.flat_map(|note| note.producers));
    }
    Ok(Some(producers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_earlier_versions_are_read_and_all_notes_are_known_as_kafkeeps_own() {
        let old =
            r#"{"v":1,"cluster_id":"prod","topic_id":"AAAAAAAAAAAAAAAAAAAAAA","producers":[7]}"#;
        let read = Note::read(old).unwrap();
        assert_eq!(read.producers, [ProducerId(7)]);
        assert_eq!((read.target_topic_id, read.target_end), (None, None));
        let mut note = Note::new("prod", TopicId([7; 16]));
        note.target_topic_id = Some(TopicId([8; 16]));
        note.target_end = Some(Offset(i64::MAX));
        note.first = Some(Offset(i64::MAX));
        for id in 0..100 {
            note.wrote(ProducerId(i64::MAX - id));
        }
        let text = serde_json::to_string(&note).unwrap();
        assert_eq!(Note::read(&text), Some(note));
        // Kafka's default of `offset.metadata.max.bytes` is 4096, and 500 notes go into one batch of at most 1 MiB.
        assert!(text.len() < 1024, "{}", text.len());
        for text in [old, &text] {
            assert!(crate::engine::own::is_progress("kafkeep.dr", text));
        }
    }
}
