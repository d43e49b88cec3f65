//! What a manifest cannot say, whoever sealed it: its sum proves that it is whole, not that it is sane.

use super::manifest::{Manifest, PartitionEntry, TopicEntry};
use crate::record::{Offset, is_topic_name};

impl Manifest {
    /// Why it cannot be; asked of manifests that are read, and of those that are to be published. Names lead nowhere and
    /// texts are harmless on a terminal, lists are sorted and without doubles, bounds are in order, and sums over
    /// partitions do not overflow.
    pub(super) fn check(&self) -> Result<(), String> {
        check_text("cluster id", &self.cluster_id)?;
        check_text(
            "cluster name",
            self.cluster_name.as_deref().unwrap_or_default(),
        )?;
        check_text("version", &self.kafkeep_version)?;
        let mut sums = [0_u64; 6];
        let mut previous = None;
        for topic in &self.topics {
            check_topic(topic)?;
            if previous.is_some_and(|previous| previous >= &topic.topic) {
                return Err("its topics are not in order".to_owned());
            }
            previous = Some(&topic.topic);
            for partition in &topic.partitions {
                let counts = [
                    partition.records,
                    partition.control_records,
                    partition.bytes,
                    partition.stored_bytes,
                    partition.new_records,
                    partition.new_bytes,
                ];
                for (sum, count) in sums.iter_mut().zip(counts) {
                    let more = sum.checked_add(count);
                    *sum = more.ok_or("it counts more than there can be")?;
                }
            }
        }
        Ok(())
    }
}

fn check_topic(topic: &TopicEntry) -> Result<(), String> {
    if !is_topic_name(&topic.topic) {
        return Err(format!(
            "{:?} is not a name that Kafka gives a topic",
            topic.topic
        ));
    }
    if let Some(reason) = &topic.chain_restarted {
        check_text("reason", reason)?;
    }
    let mut previous = -1;
    for partition in &topic.partitions {
        let number = partition.partition.0;
        if number <= previous {
            return Err(format!(
                "the partitions of topic {} are not in order",
                topic.topic
            ));
        }
        previous = number;
        check_bounds(partition).map_err(|(start, end)| {
            format!(
                "topic {}, partition {number}: offsets {start} to {end} cannot be",
                topic.topic
            )
        })?;
        let evidence = [&partition.first_batch, &partition.last_batch];
        if let Some(batch) = evidence
            .into_iter()
            .flatten()
            .find(|batch| !batch.is_possible())
        {
            return Err(format!(
                "topic {}, partition {number}: no batch has offsets {} to {}",
                topic.topic, batch.base_offset, batch.last_offset
            ));
        }
        for gap in &partition.gaps {
            check_text("reason", &gap.reason)?;
        }
    }
    Ok(())
}

/// The bounds that are not in order.
fn check_bounds(partition: &PartitionEntry) -> Result<(), (Offset, Offset)> {
    let own = (partition.start_offset, partition.end_offset);
    let gaps = partition.gaps.iter();
    let all = std::iter::once(own).chain(gaps.map(|gap| (gap.start_offset, gap.end_offset)));
    for (start, end) in all {
        if start.0 < 0 || start > end {
            return Err((start, end));
        }
    }
    Ok(())
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err(format!("its {what} has control characters: {text:?}"));
    }
    Ok(())
}
