//! Sets groups' offsets once all records are there, and reads back what it set.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};

use crate::engine::own;
use crate::engine::watchdog::Wait;
use crate::kafka::{Client, CommittedOffset, ErrorCode, GroupOffsets, KafkaError, TopicPartition};
use crate::record::LeaderEpoch;

use super::groups::live;
use super::means::Means;
use super::offset_map::PositionMap;
use super::outcome::Outcome;
use super::plan::{GroupRestore, OffsetAction, OffsetRestore, RestorePlan};
use super::report::{OffsetOutcome, RestoredGroup, RestoredOffset};

/// So many groups are set at once.
const GROUPS_AT_ONCE: usize = 8;

/// Commits the offsets of the plan's groups. The records are there whatever happens: what fails is in the report.
pub(super) async fn commit(
    means: &Means<'_>,
    plan: &RestorePlan,
    outcome: &Outcome,
) -> Vec<RestoredGroup> {
    let positions: BTreeMap<&TopicPartition, &PositionMap> = outcome
        .written
        .iter()
        .map(|written| (&written.target.key, &written.positions))
        .collect();
    let translated: Vec<RestoredGroup> = plan
        .groups
        .iter()
        .map(|group| translate(group, &positions))
        .collect();
    stream::iter(translated)
        .map(|group| {
            let committing = commit_group(means.client, group);
            let wait = Wait::Target("to take groups' offsets");
            means.watchdog.step(wait, committing)
        })
        .buffered(GROUPS_AT_ONCE)
        .collect()
        .await
}

fn translate(
    group: &GroupRestore,
    positions: &BTreeMap<&TopicPartition, &PositionMap>,
) -> RestoredGroup {
    RestoredGroup {
        group: group.group.clone(),
        group_type: group.group_type,
        outcome: OffsetOutcome::Skipped,
        reason: None,
        offsets: group
            .offsets
            .iter()
            .map(|offset| translate_offset(offset, positions))
            .collect(),
    }
}

fn translate_offset(
    offset: &OffsetRestore,
    positions: &BTreeMap<&TopicPartition, &PositionMap>,
) -> RestoredOffset {
    let mut restored = RestoredOffset {
        topic: offset.topic.clone(),
        target_topic: offset.target_topic.clone(),
        partition: offset.partition,
        source_offset: offset.source_offset,
        target_offset: None,
        replaced_offset: None,
        metadata: offset.metadata.clone(),
        outcome: OffsetOutcome::Applied,
        reason: None,
    };
    match &offset.action {
        OffsetAction::Skip { reason } => {
            restored.outcome = OffsetOutcome::Skipped;
            restored.reason = Some(reason.clone());
        }
        OffsetAction::Refuse { reason } => restored.refuse(reason),
        OffsetAction::Translate { landmark, clamped } => {
            let position = positions
                .get(&restored.key())
                .and_then(|positions| positions.get(*landmark));
            let Some(position) = position else {
                restored.refuse("its place in the target was lost; this is a bug in kafkeep");
                return restored;
            };
            restored.target_offset = Some(position.target);
            let cut = || {
                "records that the group had not read lie outside the times asked for: it goes on with the first one behind them".to_owned()
            };
            restored.reason = clamped.clone().or_else(|| position.is_cut.then(cut));
            if restored.reason.is_some() {
                restored.outcome = OffsetOutcome::Clamped;
            }
        }
    }
    restored
}

impl RestoredOffset {
    fn key(&self) -> TopicPartition {
        TopicPartition {
            topic: self.target_topic.clone(),
            partition: self.partition,
        }
    }

    fn refuse(&mut self, reason: &str) {
        self.outcome = OffsetOutcome::Refused;
        self.reason = Some(reason.to_owned());
    }

    fn is_due(&self) -> bool {
        matches!(
            self.outcome,
            OffsetOutcome::Applied | OffsetOutcome::Clamped
        )
    }
}

async fn commit_group(client: &Client, mut group: RestoredGroup) -> RestoredGroup {
    if group.offsets.iter().any(RestoredOffset::is_due)
        && let Err(reason) = try_commit(client, &mut group).await
    {
        for offset in group.offsets.iter_mut().filter(|offset| offset.is_due()) {
            offset.refuse(&reason);
        }
        group.reason = Some(reason);
    }
    group.outcome = group
        .offsets
        .iter()
        .map(|offset| offset.outcome)
        .max()
        .unwrap_or(OffsetOutcome::Skipped);
    group
}

/// Why nothing was committed, or nothing is known of what was.
type Refusal = String;

async fn try_commit(client: &Client, group: &mut RestoredGroup) -> Result<(), Refusal> {
    // To commit takes READ on the group, which implies to describe it.
    let resource = format!("group {}", group.group);
    let said = |error: KafkaError| error.implied_by("READ", &resource).to_string();
    if let Some(members) = members(client, &group.group).await.map_err(said)? {
        return Err(members);
    }
    let before = committed(client, &group.group).await.map_err(said)?;
    if before.has_progress(&group.group) {
        return Err(own::TAKEN.to_owned());
    }
    let wanted: BTreeMap<TopicPartition, CommittedOffset> = group
        .offsets
        .iter()
        .filter(|offset| offset.is_due())
        .filter_map(|offset| Some((offset.key(), offset.wanted()?)))
        .collect();
    let answers = client
        .commit_offsets(&group.group, &wanted)
        .await
        .map_err(said)?;
    let joined = answers.values().any(is_refused_for_members);
    let joined = if joined {
        members(client, &group.group).await.map_err(said)?
    } else {
        None
    };
    let after = committed(client, &group.group)
        .await
        .map_err(|error| format!("what was committed could not be read back: {error}"))?;
    for offset in group.offsets.iter_mut().filter(|offset| offset.is_due()) {
        let key = offset.key();
        offset.replaced_offset = before.offsets.get(&key).map(|committed| committed.offset);
        match answers.get(&key) {
            Some(Ok(())) => offset.compare(after.offsets.get(&key)),
            Some(Err(error)) => {
                offset.refuse(joined.as_deref().unwrap_or(error.to_string().as_str()));
            }
            None => offset.refuse("the coordinator said nothing to it"),
        }
    }
    Ok(())
}

fn is_refused_for_members(answer: &Result<(), KafkaError>) -> bool {
    matches!(
        answer,
        Err(KafkaError::Broker {
            code: ErrorCode::UnknownMemberId | ErrorCode::RebalanceInProgress,
            ..
        })
    )
}

impl RestoredOffset {
    fn wanted(&self) -> Option<CommittedOffset> {
        Some(CommittedOffset {
            offset: self.target_offset?,
            // The source's epochs mean nothing in the target's log.
            leader_epoch: LeaderEpoch(-1),
            metadata: self.metadata.clone(),
        })
    }

    /// Compares what was committed with what the coordinator says now.
    fn compare(&mut self, found: Option<&CommittedOffset>) {
        if found == self.wanted().as_ref() {
            return;
        }
        let found = found.map_or_else(
            || "nothing".to_owned(),
            |found| format!("offset {} with metadata {:?}", found.offset, found.metadata),
        );
        self.refuse(&format!(
            "it was committed, but reads back as {found}: somebody else commits for the group"
        ));
    }
}

async fn members(client: &Client, group: &str) -> Result<Option<String>, KafkaError> {
    let description = client.describe_group(group).await?;
    Ok(description.as_ref().and_then(live))
}

async fn committed(client: &Client, group: &str) -> Result<GroupOffsets, KafkaError> {
    let mut fetched = client.committed_offsets(&[group.to_owned()]).await?;
    match fetched.remove(group) {
        Some(offsets) => offsets,
        None => Ok(GroupOffsets::default()),
    }
}
