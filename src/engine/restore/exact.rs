//! Whether a restore would give every record the offset that it had.
//!
//! Nobody asks a producer for offsets: the broker numbers what it appends, without holes, from 0 in a new partition. So they come back where
//! the source's had no holes either, began at 0, and nothing is left out.

use crate::engine::refusal::{Part, Refusal};

use super::RestoreOptions;
use super::plan::{PartitionRestore, TopicAction, TopicRestore};

/// Why offsets would not be kept; empty when they would.
pub(super) fn obstacles(topics: &[TopicRestore], options: &RestoreOptions) -> Vec<Refusal> {
    let mut obstacles: Vec<String> = Vec::new();
    if options.from.is_some() || options.until.is_some() {
        obstacles.push("offsets cannot be kept where records are chosen by time".to_owned());
    }
    for topic in topics {
        let name = &topic.topic;
        if topic.action == TopicAction::Append {
            let target = &topic.target_topic;
            obstacles.push(format!(
                "offsets of {name} cannot be kept: topic {target} is there already"
            ));
        }
        if topic.partitioned_by_key {
            obstacles.push(format!(
                "offsets of {name} cannot be kept with another number of partitions"
            ));
        }
        let inexact = topic.partitions.iter().find_map(|partition| {
            obstacle(partition).map(|why| {
                format!(
                    "offsets of {name}-{} cannot be kept: {why}",
                    partition.partition
                )
            })
        });
        obstacles.extend(inexact);
    }
    let obstacles = obstacles.into_iter();
    obstacles
        .map(|why| Refusal::new(why).of(Part::PreserveOffsets, true))
        .collect()
}

fn obstacle(partition: &PartitionRestore) -> Option<String> {
    let (start, end) = (partition.start_offset.0, partition.end_offset.0);
    if partition.records + partition.control_records == 0 {
        return None;
    }
    if start > 0 {
        return Some(format!(
            "the backup begins at offset {start}, and a new partition at 0"
        ));
    }
    if partition.control_records > 0 {
        let markers = partition.control_records;
        return Some(format!(
            "{markers} of them are transaction markers, which no producer can write"
        ));
    }
    if partition.open_transactions > 0 {
        return Some("records of transactions that were open are left out".to_owned());
    }
    let holes = end.abs_diff(start).saturating_sub(partition.records);
    (holes > 0).then(|| format!("{holes} of them have no record"))
}

#[cfg(test)]
mod tests {
    use crate::record::{Offset, PartitionId};

    use super::*;

    fn partition(start: i64, end: i64, records: u64) -> PartitionRestore {
        PartitionRestore {
            partition: PartitionId(0),
            start_offset: Offset(start),
            end_offset: Offset(end),
            records,
            bytes: 0,
            control_records: 0,
            open_transactions: 0,
        }
    }

    #[test]
    fn offsets_are_kept_where_the_log_begins_at_0_and_has_a_record_at_each() {
        assert_eq!(obstacle(&partition(0, 10, 10)), None);
        assert_eq!(obstacle(&partition(7, 7, 0)), None);
        for inexact in [
            partition(1, 10, 9),
            partition(0, 10, 9),
            PartitionRestore {
                control_records: 1,
                ..partition(0, 10, 9)
            },
            PartitionRestore {
                open_transactions: 1,
                ..partition(0, 10, 10)
            },
        ] {
            assert!(obstacle(&inexact).is_some(), "{inexact:?}");
        }
    }
}
