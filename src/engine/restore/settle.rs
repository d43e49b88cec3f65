//! After the last acknowledgement: the target's log is compared with what was sent, the settings that had to
//! wait and the groups' offsets are set, and the report is made.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::engine::EngineError;
use crate::kafka::Client;
use crate::record::Offset;

use super::commit;
use super::landmarks::Positions;
use super::plan::{RestorePlan, TopicAction};
use super::report::{RestoreReport, RestoredGroup, RestoredPartition, RestoredTopic, Skipped};
use super::target;

/// What the lanes wrote, and what the reader left out.
pub(super) struct Outcome {
    /// By target partition, topic by topic in the plan's order.
    pub written: Vec<Written>,
    /// By topic of the plan.
    pub skipped: Vec<Skipped>,
}

/// What was written to one target partition.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// The partition as it was before.
    pub target: target::TargetPartition,
    /// Records acknowledged.
    pub records: u64,
    /// Bytes of batches acknowledged.
    pub bytes: u64,
    /// First offset, and the first beyond what was written.
    pub offsets: Option<(Offset, Offset)>,
    /// Where groups' offsets lie in it.
    pub positions: Positions,
}

impl Written {
    /// The first offset beyond what was written.
    pub fn end(&self) -> Offset {
        self.offsets.map_or(self.target.end, |(_, end)| end)
    }
}

pub(super) async fn settle(
    client: &Client,
    plan: &RestorePlan,
    outcome: Outcome,
    clock: Instant,
) -> Result<RestoreReport, EngineError> {
    compare_ends(client, plan, &outcome).await?;
    client
        .incremental_alter_configs(&plan.afterwards(), false)
        .await?;
    let groups = commit::commit(client, plan, &outcome).await;
    Ok(report(plan, outcome, groups, clock))
}

/// In a topic that this restore created, the log must end where the last acknowledged batch ends.
async fn compare_ends(
    client: &Client,
    plan: &RestorePlan,
    outcome: &Outcome,
) -> Result<(), EngineError> {
    let created: Vec<&str> = plan
        .topics
        .iter()
        .filter(|topic| topic.action != TopicAction::Append)
        .map(|topic| topic.target_topic.as_str())
        .collect();
    let ours: Vec<&Written> = outcome
        .written
        .iter()
        .filter(|written| created.contains(&written.target.key.topic.as_str()))
        .collect();
    let ends = target::ends(
        client,
        ours.iter()
            .map(|written| written.target.key.clone())
            .collect(),
    )
    .await?;
    for written in ours {
        let key = &written.target.key;
        let expected = written.end();
        if ends.get(key) != Some(&expected) {
            let found = ends
                .get(key)
                .map_or_else(|| "nowhere".to_owned(), ToString::to_string);
            return Err(EngineError::Refused(format!(
                "{key} ends at {found} and not at {expected}: somebody else wrote to it during the restore; delete the topic and restore again"
            )));
        }
    }
    Ok(())
}

fn report(
    plan: &RestorePlan,
    outcome: Outcome,
    groups: Vec<RestoredGroup>,
    clock: Instant,
) -> RestoreReport {
    let messages_restored = outcome.written.iter().map(|written| written.records).sum();
    let total_size_bytes = outcome.written.iter().map(|written| written.bytes).sum();
    let mut by_topic: BTreeMap<String, Vec<RestoredPartition>> = BTreeMap::new();
    for written in outcome.written {
        let (start_offset, end_offset) = written
            .offsets
            .unwrap_or((written.target.end, written.target.end));
        by_topic
            .entry(written.target.key.topic)
            .or_default()
            .push(RestoredPartition {
                partition: written.target.key.partition,
                records: written.records,
                start_offset,
                end_offset,
            });
    }
    let topics = plan
        .topics
        .iter()
        .zip(outcome.skipped)
        .map(|(topic, skipped)| RestoredTopic {
            topic: topic.topic.clone(),
            target_topic: topic.target_topic.clone(),
            created: topic.action != TopicAction::Append,
            partitions: by_topic.remove(&topic.target_topic).unwrap_or_default(),
            skipped,
            notes: topic.notes.clone(),
        });
    RestoreReport {
        backup_id: plan.backup_id,
        cluster_id: plan.cluster_id.clone(),
        status: if groups.iter().any(RestoredGroup::is_refused) {
            "incomplete"
        } else {
            "completed"
        },
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        topics: topics.collect(),
        messages_restored,
        total_size_bytes,
        offsets: "mapped",
        groups,
        checksum_validated: true,
    }
}
