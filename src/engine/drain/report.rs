//! What a check tells.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::engine::refusal::Refusal;
use crate::kafka::GroupType;
use crate::record::{Offset, PartitionId};
use crate::words::words;

use super::{DrainState, Verdict};

/// The answer to a check, or to the last of several.
#[derive(Debug, Clone, Serialize)]
pub struct DrainReport {
    /// The cluster.
    pub cluster_id: String,
    /// The group, where it is one.
    pub group_id: Option<String>,
    /// The verdict; of several groups the most worrying.
    pub status: Verdict,
    /// Whether the time to wait was over before all was drained.
    pub timed_out: bool,
    /// What is left in all partitions.
    pub total_lag: u64,
    /// Since the first check began.
    pub duration_ms: u64,
    /// How many checks there were.
    pub checks: u32,
    /// Partitions of all groups in the last check.
    pub partitions_checked: u64,
    /// When the last check began.
    pub last_check_time: DateTime<Utc>,
    /// The groups, by name.
    pub groups: Vec<GroupReport>,
    /// All partitions of all groups.
    pub partition_details: Vec<PartitionReport>,
    /// What else should be known.
    pub warnings: Vec<String>,
}

impl DrainReport {
    /// Without any group yet.
    pub(super) fn new(cluster_id: &str, at: DateTime<Utc>, warnings: Vec<String>) -> Self {
        Self {
            cluster_id: cluster_id.to_owned(),
            group_id: None,
            status: Verdict::Drained,
            timed_out: false,
            total_lag: 0,
            duration_ms: 0,
            checks: 0,
            partitions_checked: 0,
            last_check_time: at,
            groups: Vec::new(),
            partition_details: Vec::new(),
            warnings,
        }
    }

    pub(super) fn add(&mut self, group: GroupReport, partitions: Vec<PartitionReport>) {
        self.group_id = self.groups.is_empty().then(|| group.group_id.clone());
        self.status = self.status.max(group.status);
        self.total_lag = self.total_lag.saturating_add(group.total_lag);
        self.partitions_checked += group.partitions_checked;
        self.groups.push(group);
        self.partition_details.extend(partitions);
    }

    /// Whether all groups are drained.
    pub fn is_drained(&self) -> bool {
        self.status == Verdict::Drained
    }
}

/// One group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupReport {
    /// Its id.
    pub group_id: String,
    /// The verdict.
    pub status: Verdict,
    /// The verdict as metrics tell it.
    pub state: DrainState,
    /// The verdict in words, with what to do about it.
    pub reason: Refusal,
    /// Since when the verdict has been this one, as far as it was watched.
    pub since: DateTime<Utc>,
    /// Its type.
    #[serde(rename = "type")]
    pub group_type: Option<GroupType>,
    /// Its state, in Kafka's words.
    pub group_state: Option<String>,
    /// How many members it has.
    pub members: u64,
    /// What is left in its partitions.
    pub total_lag: u64,
    /// How many partitions were looked at.
    pub partitions_checked: u64,
    /// So many checks in a row found it within its bounds.
    pub stable_checks: u32,
    /// Offsets that it consumes a second; none before the second check.
    pub consumed_per_second: Option<f64>,
    /// Offsets that producers add a second.
    pub arriving_per_second: Option<f64>,
    /// Seconds until it is drained, when it goes on like this; none when it does not get less, or some partition is not consumed
    /// at all.
    pub eta_seconds: Option<u64>,
    /// Partitions with something left that will not be consumed when it goes on like this.
    pub stuck_partitions: u64,
    /// How long its partitions that are left have not moved, as far as it was watched.
    pub still_seconds: Option<u64>,
    /// The partitions that decided the verdict, those with most left first.
    pub deciding_partitions: Vec<DecidingPartition>,
}

/// A partition that decided a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecidingPartition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: PartitionId,
    /// What is left in it.
    pub lag: u64,
    /// What it is about it.
    pub why: String,
}

/// A group's place in a partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionReport {
    /// The group.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// What the group has committed: the first offset that it has not consumed. None when it has not.
    pub current_offset: Option<Offset>,
    /// The end of the log as the group reads it.
    pub latest_offset: Offset,
    /// What is left: offsets that hold no record, where that is proven, are not.
    pub lag: u64,
    /// In a word.
    pub state: PartitionState,
    /// Where the log begins.
    pub log_start_offset: Offset,
    /// Where the log ends.
    pub high_watermark: Offset,
    /// Where the first open transaction begins, or the log ends.
    pub last_stable_offset: Offset,
    /// Offsets from the commit on that hold no record: markers of transactions, what compaction left.
    pub offsets_without_records: u64,
    /// Offsets that were deleted before the group consumed them; they are part of the lag.
    pub unreachable_offsets: u64,
    /// Where time counts: of when the first record is that is not consumed.
    pub oldest_unconsumed: Option<DateTime<Utc>>,
    /// How long the group has not moved here, where something is left and it was watched.
    pub still_seconds: Option<u64>,
    /// The member that reads it, as its client calls itself, and where it is.
    pub member: Option<String>,
    /// What else there is to know.
    pub note: Option<String>,
}

words! {
    /// A group's place in a partition, in a word.
    pub enum PartitionState {
        /// Nothing is left.
        Consumed = "consumed",
        /// Something is.
        Lagging = "lagging",
        /// Something is, and the group has never committed here.
        NeverCommitted = "never_committed",
        /// Something is, and the commit went back.
        Rewound = "rewound",
        /// Some of it was deleted.
        Unreachable = "unreachable",
        /// The group committed on another log.
        Recreated = "recreated",
    }
}
