//! A partition as a log: segments, one behind the other, and what a broker keeps beside them.

use crate::engine::EngineError;
use crate::engine::extents::OPEN_LIMIT;
use crate::record::{BatchRef, Offset, Rebuild, TopicId, rebuild};

use super::checkpoint::{LEADER_EPOCHS, LeaderEpochs, PARTITION_METADATA, partition_metadata};
use super::directory::Unfinished;
use super::read::{Sink, SinkError};
use super::report::{Written, WrittenLog};
use super::segment::{Segment, file_name};
use super::transactions::LogTransactions;

/// Writes the log of one partition.
///
/// Batches stay as they are, also the first where the log starts within it: `log-start-offset-checkpoint` hides what comes
/// before. Nothing hides what comes behind the backup's end, so there a batch is cut.
pub(super) struct LogWriter<'a> {
    directory: &'a Unfinished<'a>,
    segment_bytes: u32,
    start: Offset,
    end: Offset,
    segment: Option<Segment<'a>>,
    next: Offset,
    epochs: LeaderEpochs,
    transactions: LogTransactions,
    written: Written,
    log: WrittenLog,
}

impl<'a> LogWriter<'a> {
    /// Of a backup of the offsets from `start` to before `end`.
    pub fn new(
        directory: &'a Unfinished<'a>,
        segment_bytes: u32,
        start: Offset,
        end: Offset,
    ) -> Self {
        Self {
            directory,
            segment_bytes,
            start,
            end,
            segment: None,
            next: start,
            epochs: LeaderEpochs::default(),
            transactions: LogTransactions::default(),
            written: Written::default(),
            log: WrittenLog {
                segments: 0,
                first_segment: start,
                log_end_offset: end,
                aborted_transactions: 0,
                open_transactions: 0,
            },
        }
    }

    fn append(&mut self, batch: &BatchRef<'_>) -> Result<(), SinkError> {
        let segment_bytes = self.segment_bytes;
        if self.segment.is_none() {
            self.log.first_segment = self.start.min(batch.base_offset());
            self.roll(self.log.first_segment)?;
        }
        let has_room = |segment: &Segment<'_>| segment.has_room(batch, segment_bytes);
        if !self.segment.as_ref().is_some_and(has_room) {
            self.roll(batch.base_offset())?;
        }
        let segment = self.segment.as_mut();
        let segment = segment.ok_or(EngineError::Lost("the segment"))?;
        segment.append(batch)?;
        if let Some(entry) = self.transactions.follow(batch)? {
            segment.list_aborted(&entry)?;
        }
        self.epochs.follow(batch);
        self.next = batch.next_offset();
        let count = u64::from(batch.record_count());
        if batch.attributes().is_control {
            self.written.control_records += count;
        } else {
            self.written.records += count;
        }
        Ok(())
    }

    /// Closes the segment, if there is one, and begins the next at `base`.
    fn roll(&mut self, base: Offset) -> Result<(), EngineError> {
        self.close()?;
        self.segment = Some(Segment::create(self.directory, base)?);
        self.log.segments += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), EngineError> {
        if let Some(segment) = self.segment.take() {
            self.written.bytes += segment.finish()?;
        }
        Ok(())
    }

    /// Completes the log: it ends where the backup ends, be it that nothing lies before.
    pub fn finish(mut self, topic_id: TopicId) -> Result<Written, EngineError> {
        if self.segment.is_none() {
            self.roll(self.start)?;
        }
        if self.next < self.end {
            // An empty segment's name is what tells a broker where a log ends in a hole.
            self.roll(self.end)?;
            self.next = self.end;
        }
        self.close()?;
        self.put(LEADER_EPOCHS, self.epochs.to_text().as_bytes())?;
        if !topic_id.is_zero() {
            self.put(PARTITION_METADATA, partition_metadata(topic_id).as_bytes())?;
        }
        if self.transactions.open() > 0 {
            self.put(
                &file_name(self.next, "snapshot"),
                &self.transactions.snapshot(),
            )?;
        }
        Ok(Written {
            log: Some(WrittenLog {
                log_end_offset: self.next,
                aborted_transactions: self.transactions.aborted(),
                open_transactions: self.transactions.open(),
                ..self.log
            }),
            ..self.written
        })
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<(), EngineError> {
        let mut file = self.directory.create(name)?;
        file.append(content)?;
        file.finish().map(|_| ())
    }
}

impl Sink for LogWriter<'_> {
    fn take(&mut self, batch: &BatchRef<'_>) -> Result<(), SinkError> {
        if batch.next_offset() <= self.end || batch.attributes().is_control {
            return self.append(batch);
        }
        let inside = Rebuild {
            offsets: Some(batch.base_offset()..self.end),
            ..Rebuild::default()
        };
        let mut kept = 0;
        if let Some(cut) = rebuild(batch, &inside, OPEN_LIMIT)? {
            let (cut, _) = BatchRef::parse(&cut)?;
            kept = cut.record_count();
            self.append(&cut)?;
        }
        self.written.omitted.cut += u64::from(batch.record_count().saturating_sub(kept));
        Ok(())
    }
}
