//! Batches that the target takes when they are stamped, and what was left out of them.

use bytes::Bytes;

use crate::engine::extents::OPEN_LIMIT;
use crate::record::{BatchRef, Numbering, Offset, PartitionId, Rebuild, RecordError, rebuild};

/// A batch that the target takes when it is stamped.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// Dense, from offset 0 on.
    pub bytes: Bytes,
    /// How many.
    pub records: u32,
    /// Offsets of the source that its records had, one behind the other: the first, and how many.
    pub stretches: Vec<(Offset, u32)>,
    /// Where it goes.
    pub destination: Destination,
}

/// Where a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    /// To the partition of the same number.
    Same,
    /// To this partition of the topic.
    Partition(PartitionId),
    /// To the topic for dead letters.
    DeadLetter,
}

/// What was not copied of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Records of aborted transactions.
    pub aborted: u64,
    /// Records that came from the target.
    pub returning: u64,
    /// Records that the filter leaves out.
    pub filtered: u64,
    /// Records over which an expression fails, and which are left out.
    pub errors: u64,
    /// Records over which an expression fails, and which become dead letters.
    pub dead_letters: u64,
}

impl std::ops::AddAssign for Skipped {
    fn add_assign(&mut self, more: Self) {
        self.aborted += more.aborted;
        self.returning += more.returning;
        self.filtered += more.filtered;
        self.errors += more.errors;
        self.dead_letters += more.dead_letters;
    }
}

impl Ready {
    /// The records that had offsets below `end`; none when none had.
    pub fn before(self, end: Offset) -> Result<Option<Self>, RecordError> {
        let mut stretches = Vec::with_capacity(self.stretches.len());
        let mut records = 0;
        for &(first, count) in &self.stretches {
            let below = u32::try_from(end.0.saturating_sub(first.0)).unwrap_or(0);
            let count = count.min(below);
            if count > 0 {
                stretches.push((first, count));
                records += count;
            }
        }
        if records == self.records {
            return Ok(Some(self));
        }
        let (batch, _) = BatchRef::parse(&self.bytes)?;
        let base = batch.base_offset();
        let options = Rebuild {
            offsets: Some(base..Offset(base.0 + i64::from(records))),
            numbering: Numbering::Renumber,
            ..Rebuild::default()
        };
        let bytes = rebuild(&batch, &options, OPEN_LIMIT)?;
        Ok(bytes.map(|bytes| Self {
            bytes,
            records,
            stretches,
            destination: self.destination,
        }))
    }
}
