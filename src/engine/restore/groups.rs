//! Which consumer groups a restore is going to set offsets for, and which of them can be translated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::groups::{GroupOffset, GroupState, GroupsState};
use crate::engine::own;
use crate::engine::refusal::Refusal;
use crate::engine::topics::nearest;
use crate::kafka::{Client, GroupDescription};
use crate::record::{Offset, PartitionId};
use crate::repository::{Manifest, Repository};

use super::GroupChoice;
use super::plan::{GroupRestore, OffsetAction, OffsetRestore, RestorePlan, TopicRestore};

impl RestorePlan {
    /// The source offsets to follow through the restore, by the backup's topic and partition.
    pub(super) fn offset_map(&self) -> BTreeMap<(String, PartitionId), BTreeSet<Offset>> {
        let mut offset_map: BTreeMap<_, BTreeSet<Offset>> = BTreeMap::new();
        for offset in self.groups.iter().flat_map(|group| &group.offsets) {
            if let OffsetAction::Translate { landmark, .. } = offset.action {
                let key = (offset.topic.clone(), offset.partition);
                offset_map.entry(key).or_default().insert(landmark);
            }
        }
        offset_map
    }
}

/// Plans the groups of `choice` for a restore of `topics`. What the backup does not hold is refused.
pub(super) async fn plan(
    client: &Client,
    repository: &Arc<Repository>,
    manifest: &Manifest,
    topics: &[TopicRestore],
    choice: &GroupChoice,
    refused: &mut Vec<Refusal>,
) -> Result<Vec<GroupRestore>, EngineError> {
    if *choice == GroupChoice::None {
        return Ok(Vec::new());
    }
    let Some(state) = manifest.groups else {
        refused.push(Refusal::from(format!(
            "backup {} holds no consumer groups' offsets: leave --groups out, or take another backup",
            manifest.backup_id
        )));
        return Ok(Vec::new());
    };
    let read = in_repository(
        repository,
        "the thread that reads the groups",
        move |repository| repository.state(&state),
    );
    let mut state: GroupsState = match read.await {
        Ok(state) => state,
        Err(EngineError::Repository(error)) if error.is_damage() => {
            refused.push(Refusal::from(format!(
                "the consumer groups of backup {} are damaged: {error}; leave --groups out, or take another backup",
                manifest.backup_id
            )));
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let own = state.leave_out_progress();
    let topics: BTreeMap<&str, &TopicRestore> = topics
        .iter()
        .map(|topic| (topic.topic.as_str(), topic))
        .collect();
    let mut groups: Vec<GroupRestore> = choose(&state, &own, choice, refused)
        .into_iter()
        .map(|group| GroupRestore {
            group: group.group.clone(),
            group_type: group.group_type,
            refused: None,
            offsets: offsets(group, &topics),
        })
        .collect();
    look_for_members(client, &mut groups).await?;
    Ok(groups)
}

fn choose<'a>(
    state: &'a GroupsState,
    own: &BTreeSet<String>,
    choice: &GroupChoice,
    refused: &mut Vec<Refusal>,
) -> Vec<&'a GroupState> {
    let GroupChoice::Named(names) = choice else {
        return state.groups.iter().collect();
    };
    let names: BTreeSet<&String> = names.iter().collect();
    let mut chosen = Vec::new();
    for name in names {
        match state.groups.iter().find(|group| group.group == *name) {
            Some(group) => chosen.push(group),
            None if own.contains(name) => refused.push(own::refusal(name)),
            None => refused.push(unknown(state, name).into()),
        }
    }
    chosen
}

fn unknown(state: &GroupsState, name: &str) -> String {
    if let Some(unread) = state.unread.iter().find(|unread| unread.group == name) {
        return format!("group {name} could not be backed up: {}", unread.reason);
    }
    let known = state.groups.iter().map(|group| group.group.as_str());
    let hint = nearest(name, known)
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    format!("the backup has no offsets of group `{name}`{hint}")
}

fn offsets(group: &GroupState, topics: &BTreeMap<&str, &TopicRestore>) -> Vec<OffsetRestore> {
    let mut offsets = Vec::new();
    for group_topic in &group.topics {
        let topic = topics.get(group_topic.topic.as_str()).copied();
        for committed in &group_topic.partitions {
            offsets.push(OffsetRestore {
                topic: group_topic.topic.clone(),
                target_topic: topic
                    .map_or(&group_topic.topic, |topic| &topic.target_topic)
                    .clone(),
                partition: committed.partition,
                source_offset: committed.offset,
                metadata: committed.metadata.clone(),
                action: action(&group_topic.topic, committed, topic),
            });
        }
    }
    offsets
}

fn action(name: &str, committed: &GroupOffset, topic: Option<&TopicRestore>) -> OffsetAction {
    let Some(topic) = topic else {
        return OffsetAction::Skip {
            reason: format!("topic {name} is not restored"),
        };
    };
    let number = committed.partition;
    let partition = topic
        .partitions
        .iter()
        .find(|partition| partition.partition == number);
    let Some(partition) = partition else {
        return OffsetAction::Skip {
            reason: format!("partition {number} of topic {name} is not restored"),
        };
    };
    if topic.partitioned_by_key {
        return OffsetAction::Refuse {
            reason: format!(
                "topic {} has another number of partitions ({}): records go where their key's hash puts them, \
                 and no offset stands for what the group had consumed",
                topic.target_topic, topic.target_partitions
            ),
        };
    }
    let (start, end) = (partition.start_offset, partition.end_offset);
    let clamped = if committed.offset < start {
        Some(format!("the backup begins at offset {start}"))
    } else if committed.offset > end {
        Some(format!("the backup ends at offset {end}"))
    } else {
        None
    };
    OffsetAction::Translate {
        landmark: committed.offset.clamp(start, end.max(start)),
        clamped,
    }
}

/// Says which groups have members in the target now. Only groups that are there are asked for, so that planning creates
/// nothing.
async fn look_for_members(client: &Client, groups: &mut [GroupRestore]) -> Result<(), EngineError> {
    let present: BTreeSet<String> = client
        .list_groups()
        .await?
        .into_iter()
        .map(|listed| listed.group)
        .collect();
    for group in groups {
        if !present.contains(&group.group) {
            continue;
        }
        group.refused = match client.describe_group(&group.group).await {
            Ok(description) => description.as_ref().and_then(live),
            Err(error) => Some(error.to_string()),
        };
    }
    Ok(())
}

/// Why nothing can be committed for a group, when it has members.
pub(super) fn live(description: &GroupDescription) -> Option<String> {
    const NAMED: usize = 5;
    let members = &description.members;
    let named: Vec<String> = members
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    let more = match members.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!members.is_empty()).then(|| {
        format!(
            "it is {} in the target, with {} member(s): {}{more}; stop them first",
            description.state,
            members.len(),
            named.join(", "),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::groups::GroupTopic;
    use crate::kafka::GroupType;
    use crate::record::LeaderEpoch;

    fn group(name: &str, metadata: &str) -> GroupState {
        let committed = GroupOffset {
            partition: PartitionId(0),
            offset: Offset(100),
            leader_epoch: LeaderEpoch(-1),
            metadata: metadata.to_owned(),
            is_beyond_end: false,
        };
        GroupState {
            group: name.to_owned(),
            group_type: GroupType::Classic,
            state: None,
            is_unstable: false,
            topics: vec![GroupTopic {
                topic: "dr.s3".to_owned(),
                partitions: vec![committed],
            }],
        }
    }

    #[test]
    fn the_progress_of_mirrors_in_backups_of_earlier_versions_is_not_restored() {
        let note =
            r#"{"v":1,"cluster_id":"prod","topic_id":"AAAAAAAAAAAAAAAAAAAAAA","producers":[7]}"#;
        let mut state = GroupsState {
            groups: vec![
                group("billing", note),
                group("kafkeep.mg3", note),
                group("kafkeep.user", ""),
            ],
            unread: Vec::new(),
        };
        let own = state.leave_out_progress();
        let mut refused = Vec::new();
        let chosen = choose(&state, &own, &GroupChoice::All, &mut refused);
        let names: Vec<&str> = chosen.iter().map(|group| group.group.as_str()).collect();
        assert_eq!(names, ["billing", "kafkeep.user"]);
        assert_eq!(refused, Vec::<Refusal>::new());
        let named = GroupChoice::Named(vec!["kafkeep.mg3".to_owned()]);
        assert!(choose(&state, &own, &named, &mut refused).is_empty());
        assert!(
            refused[0].to_string().contains("the progress of a mirror"),
            "{refused:?}"
        );
    }
}
