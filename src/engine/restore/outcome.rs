//! What a restore has written, before it is settled.

use crate::record::Offset;

use super::content::Content;
use super::offset_map::PositionMap;
use super::report::{DamagedPartition, Skipped};
use super::target::TargetPartition;

/// What the workers wrote, and what the reader left out.
pub(super) struct Outcome {
    /// By target partition, topic by topic in the plan's order.
    pub written: Vec<Written>,
    /// By topic of the plan.
    pub skipped: Vec<Skipped>,
    /// What could not be read.
    pub damaged: Vec<DamagedPartition>,
}

/// What was written to one target partition.
pub(super) struct Written {
    /// The partition as it was before.
    pub target: TargetPartition,
    /// Records that are there now.
    pub records: u64,
    /// Of them, those that an interrupted restore had written.
    pub found_records: u64,
    /// Bytes of batches that are there now.
    pub bytes: u64,
    /// First offset, and the first beyond what was written.
    pub offsets: Option<(Offset, Offset)>,
    /// Of all of it, where it is to be compared.
    pub content: Option<Content>,
    /// Where groups' offsets lie in it.
    pub positions: PositionMap,
}

impl Written {
    /// The first offset beyond what was written.
    pub fn end(&self) -> Offset {
        self.offsets.map_or(self.target.start, |(_, end)| end)
    }
}
