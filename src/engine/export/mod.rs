//! `export`: takes topics out of a backup into files, without Kafka.
//!
//! ```text
//! plan     which partitions, under which names, what is refused     -> ExportPlan
//! read     the batches of a partition in order, every sum checked
//! write    as Kafka's own segments, or as JSON lines of what was committed
//! publish  each partition appears when it is whole and durable      -> ExportReport
//! ```
//!
//! A damaged partition is left out and reported; what is sound is written.

mod checkpoint;
mod directory;
mod jsonl;
mod plan;
mod read;
mod report;
mod run;
mod segment;
mod segments;
mod transactions;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::record::PartitionId;
use crate::words::words;

use super::topics::TopicPatterns;

pub use plan::{ExportPlan, PartitionExport, TopicExport, plan};
pub use report::{
    Damage, ExportReport, ExportedPartition, ExportedTopic, Omitted, Written, WrittenLog,
};
pub use run::apply;

words! {
    /// What is written for each partition.
    pub enum ExportFormat {
        /// Kafka's segments.
        Log = "log",
        /// JSON, one record a line.
        Jsonl = "jsonl",
    }
    default Log
}

/// The size at which brokers begin a new segment unless told otherwise (`log.segment.bytes`).
pub const SEGMENT_BYTES: u32 = 1 << 30;

/// What to export, and how.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// Which of the backup's topics.
    pub topics: TopicPatterns,
    /// Only these partitions; all when empty.
    pub partitions: Vec<PartitionId>,
    /// What is written.
    pub format: ExportFormat,
    /// Where to; made if it is not there.
    pub out: PathBuf,
    /// A segment is at most so long, but for a single batch that is longer.
    pub segment_bytes: u32,
}
