//! Which consumer groups a backup holds, and where they stood.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::EngineError;
use crate::engine::groups::{
    GroupOffset, GroupSelection, GroupState, GroupTopic, GroupsState, UnreadGroup,
};
use crate::engine::own;
use crate::engine::refusal::Refusal;
use crate::kafka::{Client, GroupOffsets, GroupType, KafkaError, ListedGroup, TopicPartition};

/// Reads where the chosen groups stand on `partitions`; none when no groups are wanted.
pub(super) async fn capture(
    client: &Client,
    selection: &GroupSelection,
    partitions: &[TopicPartition],
    warnings: &mut Vec<Refusal>,
) -> Result<Option<GroupsState>, EngineError> {
    if matches!(selection, GroupSelection::None) {
        return Ok(None);
    }
    let listed = match client.list_groups().await {
        Err(error @ (KafkaError::Unsupported { .. } | KafkaError::Authorization { .. }))
            if !selection.is_strict() =>
        {
            warnings.push(format!("consumer groups are not backed up: {error}").into());
            return Ok(None);
        }
        listed => listed?,
    };
    let chosen = choose(listed, selection, client.cluster_id())?;
    let (shared, ordinary): (Vec<ListedGroup>, Vec<ListedGroup>) = chosen
        .into_values()
        .partition(|group| group.group_type == GroupType::Share);
    let mut state = GroupsState::default();
    state
        .unread
        .extend(shared.into_iter().map(|group| UnreadGroup {
            group: group.group,
            reason: "is a share group, which has no committed offsets to back up".to_owned(),
        }));
    let names: Vec<String> = ordinary.iter().map(|group| group.group.clone()).collect();
    let mut fetched = if names.is_empty() {
        BTreeMap::new()
    } else {
        client.committed_offsets(&names).await?
    };
    let partitions: BTreeSet<&TopicPartition> = partitions.iter().collect();
    for group in ordinary {
        match fetched.remove(&group.group) {
            Some(Ok(mut offsets)) => {
                if offsets.leave_out_progress(&group.group) {
                    refuse_own(&group.group, selection)?;
                    continue;
                }
                state
                    .groups
                    .extend(group_state(group, offsets, &partitions, warnings))
            }
            Some(Err(error)) if selection.is_strict() => return Err(error.into()),
            Some(Err(error)) => state.unread.push(UnreadGroup {
                group: group.group,
                reason: error.to_string(),
            }),
            None => {}
        }
    }
    refuse_unread(&state.unread, selection, warnings)?;
    Ok(Some(state))
}

/// What kafkeep keeps for itself is in no backup, and cannot be asked for by its name.
fn refuse_own(group: &str, selection: &GroupSelection) -> Result<(), EngineError> {
    match selection {
        GroupSelection::Matching(patterns) if patterns.literals().any(|name| name == group) => {
            Err(EngineError::refused(own::refusal(group)))
        }
        _ => Ok(()),
    }
}

/// The chosen groups, by name. A pattern that matches none is refused.
fn choose(
    listed: Vec<ListedGroup>,
    selection: &GroupSelection,
    cluster_id: &str,
) -> Result<BTreeMap<String, ListedGroup>, EngineError> {
    if let GroupSelection::Matching(patterns) = selection
        && let Some(pattern) = patterns.unmatched(listed.iter().map(|group| group.group.as_str()))
    {
        return Err(EngineError::refused(format!(
            "no consumer group `{pattern}` in cluster {cluster_id}, or none that may be seen: \
             check the name, or grant ACL DESCRIBE on group {pattern}"
        )));
    }
    Ok(listed
        .into_iter()
        .filter(|group| selection.chooses(&group.group))
        .map(|group| (group.group.clone(), group))
        .collect())
}

/// A group as far as it stands on `partitions`; none when it does not.
fn group_state(
    group: ListedGroup,
    fetched: GroupOffsets,
    partitions: &BTreeSet<&TopicPartition>,
    warnings: &mut Vec<Refusal>,
) -> Option<GroupState> {
    let mut topics: Vec<GroupTopic> = Vec::new();
    for (key, committed) in fetched.offsets {
        if !partitions.contains(&key) {
            continue;
        }
        let offset = GroupOffset {
            partition: key.partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata,
            is_beyond_end: false,
        };
        match topics.last_mut().filter(|last| last.topic == key.topic) {
            Some(topic) => topic.partitions.push(offset),
            None => topics.push(GroupTopic {
                topic: key.topic,
                partitions: vec![offset],
            }),
        }
    }
    if topics.is_empty() {
        return None;
    }
    if fetched.is_unstable {
        warnings.push(format!(
            "group {}: a transaction was about to move its offsets; those before it are backed up",
            group.group
        ).into());
    }
    Some(GroupState {
        group: group.group,
        group_type: group.group_type,
        state: group.state,
        is_unstable: fetched.is_unstable,
        topics,
    })
}

/// Groups that were asked for by name or as all must be there; else a line for each.
fn refuse_unread(
    unread: &[UnreadGroup],
    selection: &GroupSelection,
    warnings: &mut Vec<Refusal>,
) -> Result<(), EngineError> {
    let line = |group: &UnreadGroup| format!("group {}: {}", group.group, group.reason);
    // `all` can only mean all that have offsets.
    if let (GroupSelection::Matching(_), Some(first)) = (selection, unread.first()) {
        return Err(EngineError::refused(line(first)));
    }
    warnings.extend(
        unread
            .iter()
            .map(|group| format!("{}; it is not in the backup", line(group)).into()),
    );
    Ok(())
}
