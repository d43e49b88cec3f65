//! One segment of a log: the batches and their indexes, as a broker writes them (Kafka's `LogSegment`).

use crate::engine::EngineError;
use crate::record::{BatchRef, Offset, Timestamp};

use super::directory::{OutputFile, Unfinished};
use super::transactions::AbortedTransaction;

/// An index has an entry about so often (`log.index.interval.bytes`).
const INDEX_INTERVAL: u64 = 4096;

/// A segment that is being written.
pub(super) struct Segment<'a> {
    directory: &'a Unfinished<'a>,
    base: Offset,
    log: OutputFile,
    /// Relative offset and position of a batch: two i32 (`OffsetIndex`).
    index: OutputFile,
    /// A timestamp and the relative offset of the batch that has it, ever larger: i64 and i32 (`TimeIndex`).
    time_index: OutputFile,
    /// Made with its first entry, as a broker does.
    transaction_index: Option<OutputFile>,
    since_entry: u64,
    newest: (Timestamp, Offset),
    newest_indexed: Timestamp,
}

/// The name of a file that belongs to an offset of a log.
pub(super) fn file_name(offset: Offset, extension: &str) -> String {
    format!("{offset:020}.{extension}")
}

impl<'a> Segment<'a> {
    /// Creates the files of a segment that begins at `base`.
    pub fn create(directory: &'a Unfinished<'a>, base: Offset) -> Result<Self, EngineError> {
        Ok(Self {
            directory,
            base,
            log: directory.create(&file_name(base, "log"))?,
            index: directory.create(&file_name(base, "index"))?,
            time_index: directory.create(&file_name(base, "timeindex"))?,
            transaction_index: None,
            since_entry: 0,
            newest: (Timestamp(-1), base),
            newest_indexed: Timestamp(-1),
        })
    }

    /// Whether `batch` may lie in this segment: its offset must fit an index, and its length the segment's.
    pub fn has_room(&self, batch: &BatchRef<'_>, segment_bytes: u32) -> bool {
        let is_near = i32::try_from(batch.last_offset().0 - self.base.0).is_ok();
        let length = self.log.len() + batch.len() as u64;
        is_near && (self.log.is_empty() || length <= u64::from(segment_bytes))
    }

    /// Appends a batch that the segment has room for.
    pub fn append(&mut self, batch: &BatchRef<'_>) -> Result<(), EngineError> {
        // A batch that compaction emptied keeps a timestamp, but no record that a look-up by time could find.
        if batch.record_count() > 0 && batch.max_timestamp() > self.newest.0 {
            self.newest = (batch.max_timestamp(), batch.last_offset());
        }
        if self.since_entry > INDEX_INTERVAL {
            let relative = self.relative(batch.last_offset());
            let position = i32::try_from(self.log.len()).unwrap_or(i32::MAX);
            self.index.append(&relative)?;
            self.index.append(&position.to_be_bytes())?;
            self.index_newest()?;
            self.since_entry = 0;
        }
        self.since_entry += batch.len() as u64;
        self.log.append(batch.as_bytes())
    }

    /// Lists a transaction whose abort marker lies in this segment.
    pub fn list_aborted(&mut self, entry: &AbortedTransaction) -> Result<(), EngineError> {
        let index = match &mut self.transaction_index {
            Some(index) => index,
            none => none.insert(self.directory.create(&file_name(self.base, "txnindex"))?),
        };
        index.append(entry)
    }

    fn index_newest(&mut self) -> Result<(), EngineError> {
        let (newest, offset) = self.newest;
        if newest <= self.newest_indexed {
            return Ok(());
        }
        self.newest_indexed = newest;
        let relative = self.relative(offset);
        self.time_index.append(&newest.0.to_be_bytes())?;
        self.time_index.append(&relative)
    }

    /// Fits: [`Segment::has_room`] was asked.
    fn relative(&self, offset: Offset) -> [u8; 4] {
        i32::try_from(offset.0 - self.base.0)
            .unwrap_or(i32::MAX)
            .to_be_bytes()
    }

    /// Makes it durable, with the largest timestamp as the last of its index; returns the length of the log.
    pub fn finish(mut self) -> Result<u64, EngineError> {
        self.index_newest()?;
        self.index.finish()?;
        self.time_index.finish()?;
        if let Some(index) = self.transaction_index {
            index.finish()?;
        }
        self.log.finish()
    }
}
