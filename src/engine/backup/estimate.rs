//! How much a backup is going to add to its repository, estimated before it starts.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::refusal::Refusal;
use crate::kafka::{Client, KafkaError, TopicPartition};
use crate::repository::PartitionEntry;

use super::SpaceLimit;
use super::plan::{PartitionPlan, TopicPlan, span};

impl SpaceLimit {
    /// Refuses a run that is going to add more. It is an estimate: the share of the logs that is new, at the ratio at which
    /// the partition was stored before.
    pub(super) async fn refuse_too_large(
        &self,
        client: &Client,
        topics: &[TopicPlan],
        warnings: &mut Vec<Refusal>,
    ) -> Result<(), EngineError> {
        let partitions = || {
            let topics = topics.iter();
            topics.flat_map(|topic| topic.partitions.iter().map(move |plan| (topic, plan)))
        };
        let leaders: Vec<_> = partitions()
            .filter(|(_, plan)| plan.resume < plan.end)
            .map(|(topic, plan)| (topic.key(plan.partition), plan.leader))
            .collect();
        let sizes = match client.log_sizes(&leaders).await {
            Ok(sizes) => sizes,
            Err(error @ (KafkaError::Unsupported { .. } | KafkaError::Authorization { .. })) => {
                warnings.push(
                    format!("how much there is to copy is not known beforehand: {error}").into(),
                );
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let estimated = partitions()
            .map(|(topic, plan)| estimate(topic, plan, &sizes))
            .sum();
        self.refuse(estimated, "it would add about")
    }
}

fn estimate(topic: &TopicPlan, plan: &PartitionPlan, sizes: &BTreeMap<TopicPartition, u64>) -> u64 {
    let Some(size) = sizes.get(&topic.key(plan.partition)) else {
        return 0;
    };
    let new = span(plan.resume, plan.end);
    let all = span(plan.start, plan.end).max(new).max(1);
    let stored = topic
        .chain
        .as_ref()
        .and_then(|chain| chain.partitions.get(&plan.partition));
    let ratio = stored.and_then(ratio).unwrap_or(1.0);
    (*size as f64 * new as f64 / all as f64 * ratio) as u64
}

/// Bytes in packs for each byte in Kafka.
fn ratio(entry: &PartitionEntry) -> Option<f64> {
    (entry.bytes > 0).then(|| entry.stored_bytes as f64 / entry.bytes as f64)
}
