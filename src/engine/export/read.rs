//! Reads one partition of a backup: its batches in order, with every sum on the way checked.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::engine::extents::holes;
use crate::engine::transactions::UncommittedRanges;
use crate::engine::{EngineError, Progress};
use crate::memory::RunMemory;
use crate::record::{BatchRef, Offset, RecordError, batches};
use crate::repository::{
    Block, Extent, FooterTopic, PackId, PackReader, PackRef, Repository, RepositoryError, Stretch,
    TopicIndex, TransactionEvent,
};

use super::plan::{PartitionExport, TopicExport};
use super::report::Damage;

/// Takes the batches of one partition, in order: each that has an offset within the backup's bounds.
pub(super) trait Sink {
    /// Takes one, whose CRC32C holds.
    fn take(&mut self, batch: &BatchRef<'_>) -> Result<(), SinkError>;
}

/// Why a batch was not taken.
pub(super) enum SinkError {
    /// Its bytes are not what Kafka writes.
    Record(RecordError),
    /// What it became could not be written.
    Output(EngineError),
}

impl From<RecordError> for SinkError {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl From<EngineError> for SinkError {
    fn from(error: EngineError) -> Self {
        Self::Output(error)
    }
}

/// Why a partition was not read to its end.
pub(super) enum Stopped {
    /// It is damaged; others may be sound.
    Damaged(Box<Damage>),
    /// The export cannot go on.
    Failed(EngineError),
}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

/// A partition, and where it lies.
pub(super) struct PartitionSource<'a> {
    pub repository: &'a Repository,
    pub topic: &'a TopicExport,
    pub partition: &'a PartitionExport,
    pub index: &'a TopicIndex,
    pub memory: &'a RunMemory,
}

/// Bytes that are read at once, at most, unless a single block is larger.
const READ_BYTES: u64 = 4 << 20;
/// How many partitions at most read at once, with what is read ahead for each.
const READS_AT_ONCE: u64 = 16;

impl<'a> PartitionSource<'a> {
    /// Hands every batch to `sink`.
    pub fn read(&self, sink: &mut impl Sink, progress: &dyn Progress) -> Result<(), Stopped> {
        self.check_coverage()?;
        let mut next = Offset(0);
        for extent in self.extents() {
            let reader = self.open_pack(extent)?;
            let range = self.wanted(&reader, extent)?;
            let failed = |error| self.locate(&reader, extent, &range, error);
            let blocks = reader.blocks_in(&range).map_err(failed)?;
            let most = self.memory.part_for(READS_AT_ONCE).min(READ_BYTES);
            let mut stretches = Stretch::split(blocks, most).peekable();
            while let Some(stretch) = stretches.next() {
                let _memory = self.memory.reserve_whole_blocking(stretch.in_memory());
                if let Some(next) = stretches.peek() {
                    reader.prefetch(next.place());
                }
                for block in reader.read_blocks(stretch.place()).map_err(failed)? {
                    block.verify().map_err(failed)?;
                    self.pass_on(&reader, &block, &mut next, sink)?;
                    let header = &block.header;
                    progress.advanced(u64::from(header.records), u64::from(header.raw_len));
                }
            }
        }
        Ok(())
    }

    /// Which transactions were not committed, from the footers of the packs.
    pub fn uncommitted(&self) -> Result<UncommittedRanges, Stopped> {
        let transactional = self.extents().filter(|extent| extent.transactional);
        let by_pack: BTreeMap<u32, &Extent> =
            transactional.map(|extent| (extent.pack, extent)).collect();
        let mut events: Vec<TransactionEvent> = Vec::new();
        for extent in by_pack.into_values() {
            let reader = self.open_pack(extent)?;
            events.extend(reader.footer().transactions_of(
                &self.topic.topic,
                self.topic.topic_id,
                self.partition.partition,
            ));
        }
        events.sort_by_key(|event| event.offset);
        events.dedup();
        let end = self.partition.end_offset;
        Ok(UncommittedRanges::below(end, &events))
    }

    fn is_of(&self, topic: &FooterTopic) -> bool {
        topic.is(&self.topic.topic, self.topic.topic_id)
    }

    fn extents(&self) -> impl Iterator<Item = &'a Extent> + use<'a> {
        let (start, end) = (self.partition.start_offset, self.partition.end_offset);
        let extents = self.index.partitions.get(&self.partition.partition);
        extents
            .into_iter()
            .flatten()
            .filter(move |extent| extent.last_offset >= start && extent.base_offset < end)
    }

    /// Every offset of the backup lies in an extent, or in a gap that the backup knows of.
    fn check_coverage(&self) -> Result<(), Stopped> {
        let partition = self.partition;
        let extents = self.index.partitions.get(&partition.partition);
        let extents = extents.map(Vec::as_slice).unwrap_or_default();
        let bounds = (partition.start_offset, partition.end_offset);
        match holes(extents, bounds, &partition.gaps).first() {
            None => Ok(()),
            Some(hole) => {
                let problem = "these offsets are in no extent of the index".to_owned();
                Err(self.damaged(problem, None, hole.start, Offset(hole.end.0 - 1)))
            }
        }
    }

    fn open_pack(&self, extent: &Extent) -> Result<PackReader, Stopped> {
        let pack: Option<&PackRef> = self.index.packs.get(extent.pack as usize);
        let Some(pack) = pack else {
            let problem = "the index names a pack that it does not list".to_owned();
            return Err(self.damaged(problem, None, extent.base_offset, extent.last_offset));
        };
        self.repository.open_pack(pack).map_err(|error| {
            let (first, last) = (extent.base_offset, extent.last_offset);
            self.stopped(error, pack.pack_id, first, last)
        })
    }

    /// The bytes of the extent's blocks that have an offset within the bounds. All blocks must be of this partition.
    fn wanted(&self, reader: &PackReader, extent: &Extent) -> Result<Range<u64>, Stopped> {
        let (first, last) = (extent.base_offset, extent.last_offset);
        let blocks = reader
            .blocks_in(&(extent.offset..extent.end()))
            .map_err(|error| self.stopped(error, reader.pack_id(), first, last))?;
        let topics = &reader.footer().topics;
        let foreign = blocks.iter().find(|block| {
            let topic = topics.get(block.topic as usize);
            !topic.is_some_and(|topic| self.is_of(topic))
                || block.header.partition != self.partition.partition
        });
        if foreign.is_some() {
            let problem = "the pack does not hold there what the index says".to_owned();
            return Err(self.damaged(problem, Some(reader.pack_id()), first, last));
        }
        let (start, end) = (self.partition.start_offset, self.partition.end_offset);
        let mut within = blocks
            .iter()
            .filter(|block| block.header.last_offset >= start && block.header.base_offset < end);
        let first = within.next();
        let last = within.next_back().or(first);
        Ok(match (first, last) {
            (Some(first), Some(last)) => first.place.offset..last.place.end(),
            _ => extent.offset..extent.offset,
        })
    }

    fn pass_on(
        &self,
        reader: &PackReader,
        block: &Block,
        next: &mut Offset,
        sink: &mut impl Sink,
    ) -> Result<(), Stopped> {
        let (start, end) = (self.partition.start_offset, self.partition.end_offset);
        let header = &block.header;
        let damaged = |problem: String, first, last| {
            self.damaged(problem, Some(reader.pack_id()), first, last)
        };
        for batch in batches(&block.raw) {
            let batch = batch.map_err(|error| {
                damaged(error.to_string(), header.base_offset, header.last_offset)
            })?;
            let (first, last) = (batch.base_offset(), batch.last_offset());
            if last < start || first >= end {
                continue;
            }
            if first < *next {
                let problem = format!("offset {first} comes after offset {}", next.0 - 1);
                return Err(damaged(problem, first, last));
            }
            *next = batch.next_offset();
            sink.take(&batch).map_err(|error| match error {
                SinkError::Record(error) => damaged(error.to_string(), first, last),
                SinkError::Output(error) => Stopped::Failed(error),
            })?;
        }
        Ok(())
    }

    /// Several blocks are read at once: looks at one after the other for that which `error` is about.
    fn locate(
        &self,
        reader: &PackReader,
        extent: &Extent,
        range: &Range<u64>,
        error: RepositoryError,
    ) -> Stopped {
        let blocks = reader.blocks_in(range).unwrap_or_default();
        let culprit = blocks.iter().find_map(|block| {
            let read = reader.read_blocks(block.place.offset..block.place.end());
            let verified = read.and_then(|blocks| blocks.iter().try_for_each(Block::verify));
            let header = &block.header;
            verified
                .err()
                .map(|error| (error, header.base_offset, header.last_offset))
        });
        let (error, first, last) =
            culprit.unwrap_or((error, extent.base_offset, extent.last_offset));
        self.stopped(error, reader.pack_id(), first, last)
    }

    fn stopped(
        &self,
        error: RepositoryError,
        pack: PackId,
        first: Offset,
        last: Offset,
    ) -> Stopped {
        match problem_of(error) {
            Ok(problem) => self.damaged(problem, Some(pack), first, last),
            Err(error) => Stopped::Failed(error),
        }
    }

    fn damaged(
        &self,
        problem: String,
        pack: Option<PackId>,
        first_offset: Offset,
        last_offset: Offset,
    ) -> Stopped {
        Stopped::Damaged(Box::new(Damage {
            problem,
            pack,
            topic: self.topic.topic.clone(),
            partition: self.partition.partition,
            first_offset,
            last_offset,
        }))
    }
}

/// What is wrong with the repository's content; other errors stop the export.
pub(super) fn problem_of(error: RepositoryError) -> Result<String, EngineError> {
    if !error.is_damage() {
        return Err(error.into());
    }
    Ok(error.to_string())
}
