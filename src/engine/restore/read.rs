//! Reads what a plan wants out of the packs, on one thread, and hands prepared batches to the lanes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::refusal::Refusal;
use crate::engine::transactions::UncommittedRanges;
use crate::engine::watchdog::{Wait, Waiting, Watchdog};
use crate::engine::{EngineError, Progress};
use crate::memory::RunMemory;
use crate::record::{Offset, PartitionId, RecordError, TopicId, batches};
use crate::repository::{
    Block, Extent, PackId, PackReader, PackRef, Repository, TopicIndex, TransactionEvent,
};

use super::offset_map::{Landmark, OffsetMap};
use super::plan::{PartitionRestore, RestorePlan, TopicRestore};
use super::prepare::{Outgoing, Preparer, Routing, SourcePartition};
use super::report::DamagedPartition;

/// One read of a pack asks for about this much.
const READ_BYTES: u64 = 4 << 20;
/// Memory is divided among this many reads: one is prepared while the lanes send others.
const READS_AT_ONCE: u64 = 8;

/// One source partition, and what is still to be read of it.
pub(super) struct Reading {
    topic: Arc<str>,
    topic_id: TopicId,
    /// Bounds, routing, and what was left out.
    pub source: SourcePartition,
    extents: VecDeque<(PackId, Extent)>,
    /// Why nothing more of it is read.
    damage: Option<Damage>,
}

/// From where on a partition could not be read, and why.
struct Damage {
    offset: Offset,
    why: Refusal,
}

impl Reading {
    /// Nothing more of it is read: a record never comes before one that is missing.
    fn break_off(&mut self, offset: Offset, why: Refusal) {
        self.extents.clear();
        self.damage.get_or_insert(Damage { offset, why });
    }

    /// For the report, if it is damaged.
    pub fn damaged(&self) -> Option<DamagedPartition> {
        let Damage { offset, why } = self.damage.as_ref()?;
        Some(DamagedPartition {
            topic: self.topic.to_string(),
            partition: self.source.partition,
            from_offset: *offset,
            problem: why.clone(),
        })
    }
}

/// Passes damage to what is stored on, as a text; any other error ends the restore. Who may not read has met no damage.
fn damage_in(error: EngineError) -> Result<Refusal, EngineError> {
    match error {
        EngineError::Repository(error) if error.is_lost_content() => {
            Ok(Refusal::by(&error, str::to_owned))
        }
        EngineError::Batch { source, .. } => Ok(format!("a batch is damaged: {source}").into()),
        error => Err(error),
    }
}

/// What is due in one pack, by topic's name and partition: which reading, and its first and last offset there.
type Due = BTreeMap<(Arc<str>, PartitionId), (usize, Offset, Offset)>;

/// All that is to be read.
pub(super) struct Reader {
    repository: Arc<Repository>,
    packs: BTreeMap<PackId, PackRef>,
    /// In the plan's order.
    pub readings: Vec<Reading>,
}

impl Reader {
    /// Looks up where everything lies, and which transactions were not committed. `first_target` gives for
    /// each topic of the plan the place of its target partition 0 in the restore's table.
    pub fn open(
        repository: &Arc<Repository>,
        plan: &RestorePlan,
        first_target: &[usize],
    ) -> Result<Self, EngineError> {
        let mut reader = Self {
            repository: Arc::clone(repository),
            packs: BTreeMap::new(),
            readings: Vec::new(),
        };
        let mut offset_map = plan.offset_map();
        for (topic, first) in plan.topics.iter().zip(first_target) {
            reader.add(topic, *first, &mut offset_map)?;
        }
        reader.find_uncommitted()?;
        Ok(reader)
    }

    fn add(
        &mut self,
        topic: &TopicRestore,
        first: usize,
        offset_map: &mut BTreeMap<(String, PartitionId), BTreeSet<Offset>>,
    ) -> Result<(), EngineError> {
        let index = topic
            .index
            .as_ref()
            .map(|index| self.repository.index(index));
        let (index, damage) = match index.transpose() {
            Ok(index) => (index, None),
            Err(error) => (None, Some(damage_in(error.into())?)),
        };
        for partition in &topic.partitions {
            let (start, end) = (partition.start_offset, partition.end_offset);
            let extents = index.as_ref().map(|index| extents(index, partition));
            let routing = if topic.partitioned_by_key {
                Routing::ByKey {
                    first,
                    partitions: topic.target_partitions,
                }
            } else {
                Routing::Same(first + usize::try_from(partition.partition.0).unwrap_or(0))
            };
            self.readings.push(Reading {
                topic: topic.topic.as_str().into(),
                topic_id: topic.topic_id,
                source: SourcePartition {
                    partition: partition.partition,
                    start,
                    end,
                    uncommitted: UncommittedRanges::default(),
                    routing,
                    offset_map: OffsetMap::at(
                        &offset_map
                            .remove(&(topic.topic.clone(), partition.partition))
                            .unwrap_or_default(),
                    ),
                    skipped: Default::default(),
                },
                extents: extents.unwrap_or_default(),
                damage: damage.clone().map(|why| Damage { offset: start, why }),
            });
        }
        for pack in index.iter().flat_map(|index| &index.packs) {
            self.packs.insert(pack.pack_id, pack.clone());
        }
        Ok(())
    }

    /// Gathers the transaction events of every partition that has any, from the packs' footers.
    fn find_uncommitted(&mut self) -> Result<(), EngineError> {
        let mut wanted: BTreeMap<PackId, BTreeSet<usize>> = BTreeMap::new();
        for (number, reading) in self.readings.iter().enumerate() {
            for (pack, _) in reading
                .extents
                .iter()
                .filter(|(_, extent)| extent.transactional)
            {
                wanted.entry(*pack).or_default().insert(number);
            }
        }
        let mut events: BTreeMap<usize, Vec<TransactionEvent>> = BTreeMap::new();
        for (pack, numbers) in wanted {
            // What was committed in a damaged one is not known.
            let from_the_start = numbers.iter().map(|number| (*number, None));
            let Some(reader) = self.open_pack(pack, from_the_start)? else {
                continue;
            };
            for number in numbers {
                let Some(reading) = self.readings.get(number) else {
                    continue;
                };
                let found = reader.footer().transactions_of(
                    &reading.topic,
                    reading.topic_id,
                    reading.source.partition,
                );
                events.entry(number).or_default().extend(found);
            }
        }
        for (number, mut events) in events {
            events.sort_by_key(|event| event.offset);
            events.dedup();
            if let Some(reading) = self.readings.get_mut(number) {
                reading.source.uncommitted = UncommittedRanges::below(reading.source.end, &events);
            }
        }
        Ok(())
    }

    /// Opens a pack. Of a damaged one there is no reader, and the partitions that need it break off: each at an offset, or at its
    /// start.
    fn open_pack(
        &mut self,
        pack: PackId,
        needed_by: impl Iterator<Item = (usize, Option<Offset>)>,
    ) -> Result<Option<PackReader>, EngineError> {
        let pack = self
            .packs
            .get(&pack)
            .ok_or(EngineError::Lost("the table of packs"))?;
        let why = match self.repository.open_pack(pack) {
            Ok(reader) => return Ok(Some(reader)),
            Err(error) => damage_in(error.into())?,
        };
        for (number, offset) in needed_by {
            if let Some(reading) = self.readings.get_mut(number) {
                let offset = offset.unwrap_or(reading.source.start);
                reading.break_off(offset, why.clone());
            }
        }
        Ok(None)
    }

    /// Reads everything: always the oldest pack that some partition needs next, and of it all that is due.
    /// A pack is visited again only where partitions changed workers while it was written.
    pub fn read_all(
        &mut self,
        preparer: &mut Preparer,
        lanes: &Lanes,
        progress: &dyn Progress,
    ) -> Result<(), EngineError> {
        while let Some(pack) = self
            .readings
            .iter()
            .filter_map(|reading| Some(reading.extents.front()?.0))
            .min()
        {
            let due = self.take_due(pack);
            let from_here = due
                .values()
                .map(|(number, first, _)| (*number, Some(*first)));
            let opened = {
                let _waiting = lanes.waits_for_packs();
                self.open_pack(pack, from_here)?
            };
            let Some(reader) = opened else { continue };
            let most = lanes.memory.part_for(READS_AT_ONCE).min(READ_BYTES);
            let stretches = stretches(&reader, &due, &self.readings, most);
            let mut stretches = stretches.into_iter().peekable();
            while let Some(stretch) = stretches.next() {
                // Taken before the bytes are read: the lanes give it back as the target acknowledges them.
                let memory = lanes.memory.reserve_whole_blocking(stretch.raw_bytes);
                let memory = Arc::new(memory);
                if let Some(next) = stretches.peek() {
                    reader.prefetch(next.place.clone());
                }
                let blocks = {
                    let _waiting = lanes.waits_for_packs();
                    self.read_blocks(&reader, stretch.place, &due)?
                };
                for mut block in blocks {
                    block.raw = memory.share(block.raw);
                    if !self.pass_on(&block, &due, preparer, lanes, progress)? {
                        return Ok(());
                    }
                }
            }
        }
        let rest = preparer
            .finish()
            .map_err(|source| EngineError::Repository(source.into()))?;
        for batch in rest {
            lanes.send(batch);
        }
        Ok(())
    }

    /// Blocks that lie together. Where they cannot be read, each is tried alone: damage is a matter of its partition.
    fn read_blocks(
        &mut self,
        reader: &PackReader,
        place: Range<u64>,
        due: &Due,
    ) -> Result<Vec<Block>, EngineError> {
        let error = match reader.read_blocks(place.clone()) {
            Ok(blocks) => return Ok(blocks),
            Err(error) => error,
        };
        damage_in(error.into())?;
        let mut whole = Vec::new();
        for block in reader.blocks_in(&place)? {
            match reader.read_blocks(block.place.offset..block.place.end()) {
                Ok(blocks) => whole.extend(blocks),
                Err(error) => {
                    let why = damage_in(error.into())?;
                    let topic = reader.footer().topics.get(block.topic as usize);
                    let topic = topic.map_or("", |topic| topic.topic.as_str());
                    let key = (Arc::from(topic), block.header.partition);
                    let reading = due
                        .get(&key)
                        .and_then(|(number, _, _)| self.readings.get_mut(*number));
                    if let Some(reading) = reading {
                        reading.break_off(block.header.base_offset, why);
                    }
                }
            }
        }
        Ok(whole)
    }

    /// Groups' offsets that no restored record stands for, each with its target partition's place in the table.
    pub fn landmarks_left(&self) -> Vec<(usize, Landmark)> {
        let of = |reading: &Reading| match reading.source.routing {
            Routing::Same(target) => {
                let left = reading.source.offset_map.left();
                left.map(|landmark| (target, landmark)).collect()
            }
            Routing::ByKey { .. } => Vec::new(),
        };
        self.readings.iter().flat_map(of).collect()
    }

    /// Takes the extents that are due in `pack` off their partitions: offsets by partition.
    fn take_due(&mut self, pack: PackId) -> Due {
        let mut due = Due::new();
        for (number, reading) in self.readings.iter_mut().enumerate() {
            while let Some((_, extent)) = reading.extents.pop_front_if(|(next, _)| *next == pack) {
                let key = (Arc::clone(&reading.topic), reading.source.partition);
                let entry =
                    due.entry(key)
                        .or_insert((number, extent.base_offset, extent.last_offset));
                entry.2 = extent.last_offset;
            }
        }
        due
    }

    /// Prepares the batches of a block and sends them; false when the lanes are gone.
    fn pass_on(
        &mut self,
        block: &Block,
        due: &Due,
        preparer: &mut Preparer,
        lanes: &Lanes,
        progress: &dyn Progress,
    ) -> Result<bool, EngineError> {
        let key = (Arc::clone(&block.topic), block.header.partition);
        let Some((number, _, _)) = due.get(&key) else {
            return Ok(true);
        };
        let Some(reading) = self.readings.get_mut(*number) else {
            return Ok(true);
        };
        let is_behind = |damage: &Damage| damage.offset <= block.header.base_offset;
        if reading.damage.as_ref().is_some_and(is_behind) {
            return Ok(true);
        }
        let (mut at, mut reached) = (0, block.header.base_offset);
        for batch in batches(&block.raw) {
            let prepare = |at: usize| -> Result<(Vec<Outgoing>, usize, Offset), RecordError> {
                let batch = batch?;
                let bytes = block.raw.slice(at..at + batch.len());
                let prepared = preparer.prepare(&mut reading.source, &batch, bytes)?;
                Ok((prepared, at + batch.len(), batch.next_offset()))
            };
            let prepared = prepare(at).map_err(|source| EngineError::Batch {
                topic: reading.topic.to_string(),
                partition: reading.source.partition,
                offset: reached,
                source,
            });
            let (prepared, next, next_offset) = match prepared {
                Ok(prepared) => prepared,
                Err(error) => {
                    reading.break_off(reached, damage_in(error)?);
                    return Ok(true);
                }
            };
            (at, reached) = (next, next_offset);
            for batch in prepared {
                if !lanes.send(batch) {
                    return Ok(false);
                }
            }
        }
        progress.advanced(
            u64::from(block.header.records),
            u64::from(block.header.raw_len),
        );
        Ok(true)
    }
}

/// Where the wanted offsets of a partition lie.
fn extents(index: &TopicIndex, partition: &PartitionRestore) -> VecDeque<(PackId, Extent)> {
    let extents = index.partitions.get(&partition.partition);
    let wanted = extents.into_iter().flatten().filter(|extent| {
        extent.last_offset >= partition.start_offset && extent.base_offset < partition.end_offset
    });
    let placed = wanted.filter_map(|extent| {
        let pack = index.packs.get(extent.pack as usize)?;
        Some((pack.pack_id, extent.clone()))
    });
    placed.collect()
}

/// A part of a pack that is read at once.
struct Stretch {
    place: Range<u64>,
    /// What its blocks take in memory.
    raw_bytes: u64,
}

/// The wanted blocks of a pack, neighbours together up to `most` bytes, in the pack as in memory.
fn stretches(reader: &PackReader, due: &Due, readings: &[Reading], most: u64) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let footer = reader.footer();
    let names: Vec<Arc<str>> = footer
        .topics
        .iter()
        .map(|topic| topic.topic.as_str().into())
        .collect();
    for block in &footer.blocks {
        let header = &block.header;
        let found = names
            .get(block.topic as usize)
            .and_then(|name| due.get(&(Arc::clone(name), header.partition)));
        let Some((number, first, last)) = found else {
            continue;
        };
        let inside = header.base_offset >= *first && header.last_offset <= *last;
        let wanted = readings.get(*number).is_some_and(|reading| {
            header.topic_id == reading.topic_id
                && header.last_offset >= reading.source.start
                && header.base_offset < reading.source.end
        });
        if !inside || !wanted {
            continue;
        }
        let (start, end) = (block.place.offset, block.place.offset + block.place.len);
        let raw_bytes = u64::from(header.raw_len);
        match stretches.last_mut() {
            Some(last)
                if last.place.end == start
                    && end - last.place.start <= most
                    && last.raw_bytes + raw_bytes <= most =>
            {
                last.place.end = end;
                last.raw_bytes += raw_bytes;
            }
            _ => stretches.push(Stretch {
                place: start..end,
                raw_bytes,
            }),
        }
    }
    stretches
}

/// The lanes that prepared batches are sent to, as the reading thread sees them.
pub(super) struct Lanes {
    /// A lane for each target partition.
    pub of_target: Vec<usize>,
    /// By lane.
    pub senders: Vec<mpsc::UnboundedSender<Outgoing>>,
    /// The run's memory.
    pub memory: RunMemory,
    /// The run's watchdog.
    pub watchdog: Watchdog,
}

impl Lanes {
    /// Says that the run waits for the repository.
    pub fn waits_for_packs(&self) -> Waiting<'_> {
        self.watchdog.waits(Wait::Repository("to be read"))
    }

    /// Sends a batch, after waiting for memory if it was rebuilt; false when the lane is gone, which says why itself.
    fn send(&self, mut batch: Outgoing) -> bool {
        if batch.is_made {
            let bytes = batch.payload.len() as u64;
            let memory = self.memory.reserve_made_blocking(bytes);
            batch.payload = memory.hold_bytes(batch.payload);
        }
        let lane = self
            .of_target
            .get(batch.target)
            .and_then(|lane| self.senders.get(*lane));
        lane.is_some_and(|lane| lane.send(batch).is_ok())
    }
}
