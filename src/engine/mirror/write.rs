//! Transactions, one after the other, each with batches and with the offsets of the source behind them. Whatever goes wrong ends the
//! session.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::EngineError;
use crate::engine::producer::{Acknowledged, Batch, Mode, PartitionIndex, ProduceError, Producer};
use crate::engine::watchdog::{Wait, Watchdog};
use crate::kafka::{Client, TopicPartition, TransactionalProducer};
use crate::quote::quote;
use crate::record::{
    BatchRef, HEADER_LEN, Offset, ProducerStamp, RecordError, TopicId, restamp_in_transaction,
};

use super::MirrorOptions;
use super::groups::GroupPositions;
use super::offset_map::OffsetMap;
use super::plan::MirrorPlan;
use super::progress::{Note as ProgressNote, Progress};
use super::read::{Event, Piece};
use super::ready::{Destination, Ready};
use super::state::{Advance, MirrorState, PartitionState, PartitionStatus};
use super::target_ends::{TargetEnds, other_log};
use super::targets::Targets;

/// A transaction ends when it holds so much, or is so old.
const TRANSACTION_BYTES: u64 = 128 << 20;
const TRANSACTION_AGE: Duration = Duration::from_millis(500);
/// A group forgets what it was not told for days (`offsets.retention.minutes`).
const RECOMMIT_EVERY: Duration = Duration::from_secs(12 * 3600);
/// How long a session that ends may take to abort what it had begun.
const ABORT_WITHIN: Duration = Duration::from_secs(5);
/// One commit names so many partitions: they become one batch of the coordinator's.
const OFFSETS_AT_ONCE: usize = 500;

/// How writing ended.
pub(super) enum Written {
    /// All that was read is committed.
    All,
    /// The target does not take a batch of this partition of the source.
    Refused(TopicPartition, String),
}

/// Where the records of a batch are from.
struct Note {
    /// The place of the partition of the source.
    slot: usize,
    destination: Destination,
    /// The offsets of the source.
    stretches: Vec<(Offset, u32)>,
}

/// Writes what is read.
pub(super) struct Writer<'a> {
    transaction: TransactionalProducer,
    producer: Producer<Client, Note>,
    group: String,
    state: &'a MirrorState,
    positions: &'a GroupPositions,
    targets: Targets,
    ends: TargetEnds,
    /// Partitions of the target that belong to the transaction, and those that are to be added to it.
    added: HashSet<PartitionIndex>,
    to_add: Vec<PartitionIndex>,
    /// When the transaction got its first piece.
    began_at: Option<Instant>,
    bytes: u64,
    is_open: bool,
    /// Whether it is not known if the transaction was committed.
    is_ending: bool,
    /// How many records may still come into the target; none when there is no limit.
    left: Option<u64>,
    recommit_at: Instant,
}

impl<'a> Writer<'a> {
    pub async fn new(
        client: &'a Client,
        transaction: TransactionalProducer,
        options: &MirrorOptions,
        plan: &MirrorPlan,
        state: &'a MirrorState,
        positions: &'a GroupPositions,
        left: Option<u64>,
    ) -> Result<Self, EngineError> {
        let identity = transaction.identity();
        let find = || Targets::find(client, plan, identity.producer_id);
        let targets = client.retry().run(find).await?;
        if !targets.are_planned(plan) {
            return Err(other_log("a topic of the target"));
        }
        let id = transaction.transactional_id().to_owned();
        let mut producer = Producer::new(client.clone(), Mode::Transactional { id }, None);
        for leader in &targets.leaders {
            producer.add_partition(leader.clone(), identity, 0);
        }
        let ends = TargetEnds::read(client, &targets).await?;
        let writer = Self {
            targets,
            ends,
            transaction,
            producer,
            group: options.id(),
            state,
            positions,
            added: HashSet::new(),
            to_add: Vec::new(),
            began_at: None,
            bytes: 0,
            is_open: false,
            is_ending: false,
            left,
            recommit_at: Instant::now(),
        };
        writer.begin(plan)?;
        Ok(writer)
    }

    /// What comes lies behind what the target's partitions hold now.
    fn begin(&self, plan: &MirrorPlan) -> Result<(), EngineError> {
        for origin in self.targets.origins.iter().flatten() {
            let end = self.ends.of(&self.targets, origin);
            if end < origin.note.target_end {
                return Err(other_log(&origin.key));
            }
            // With new keys a partition's records go everywhere: no offset stands for another one.
            if let (Some(end), Some(advance), false) = (end, &origin.advance, plan.changes_keys) {
                let offset_map = OffsetMap::begin(advance.next, end);
                self.positions.begin(origin.source.clone(), offset_map);
            }
        }
        Ok(())
    }

    /// The ids of the topics that are written to.
    pub fn topic_ids(&self) -> &BTreeMap<String, TopicId> {
        &self.targets.topic_ids
    }

    /// Asks the target whether it still has what was written; says what it has deleted of it.
    pub async fn prove(
        &mut self,
        client: &Client,
        began: &BTreeMap<TopicPartition, (TopicId, Offset)>,
    ) -> Result<Vec<String>, EngineError> {
        self.ends.prove(client, &self.targets, began).await
    }

    /// Where the logs of the target end that are written to, and in which topic.
    pub fn beginnings(&self) -> impl Iterator<Item = (TopicPartition, TopicId, Offset)> {
        self.ends.all(&self.targets)
    }

    /// Writes until nothing more is read, and all of it is committed.
    pub async fn run(
        &mut self,
        mut incoming: mpsc::Receiver<Event>,
        watchdog: &Watchdog,
    ) -> Result<Written, EngineError> {
        // Where each partition begins is committed before anything else: it is known then, whatever happens.
        let wait = Wait::Target("to commit where it begins");
        watchdog.step(wait, self.commit()).await?;
        let mut open = true;
        loop {
            // Nothing more may come into the target: what was read beyond is left.
            open &= self.left != Some(0);
            self.add_partitions().await?;
            let sent = {
                let _waiting = watchdog.waits(Wait::Target("to be reached"));
                self.producer.send().await
            };
            if let Err(error) = sent {
                return self.ended(error);
            }
            let is_due = self.is_due() || !open;
            if is_due && self.producer.is_idle() {
                let _waiting = watchdog.waits(Wait::Target("to commit what was written"));
                self.commit().await?;
                if !open {
                    return Ok(Written::All);
                }
                continue;
            }
            let due_at = self
                .began_at
                .map_or(self.recommit_at, |began| began + TRANSACTION_AGE);
            let is_sent = !self.producer.is_idle();
            let _waiting = is_sent.then(|| watchdog.waits(Wait::Target("to acknowledge batches")));
            tokio::select! {
                biased;
                Some(outcome) = self.producer.next(), if is_sent => match outcome {
                    Ok(acknowledged) => {
                        watchdog.moved();
                        self.acknowledged(acknowledged)?;
                    }
                    Err(error) => return self.ended(error),
                },
                event = incoming.recv(), if open && !is_due => match event {
                    Some(event) => self.hear(event)?,
                    None => open = false,
                },
                () = tokio::time::sleep_until(due_at), if !is_due => {
                    if self.began_at.is_none() {
                        self.recommit();
                    }
                }
            }
        }
    }

    /// Whether the transaction is large or old enough to end.
    fn is_due(&self) -> bool {
        let is_old = self
            .began_at
            .is_some_and(|began| began.elapsed() >= TRANSACTION_AGE);
        is_old || self.bytes >= TRANSACTION_BYTES
    }

    /// Everything is committed again as it is.
    fn recommit(&mut self) {
        for origin in self.targets.origins.iter_mut().flatten() {
            let next = self.state.next_offset(&origin.source);
            origin.advance.get_or_insert(Advance {
                next,
                ..Advance::default()
            });
        }
        self.began_at = Some(Instant::now());
    }

    fn hear(&mut self, event: Event) -> Result<(), EngineError> {
        match event {
            Event::Piece(piece) => self.enqueue(*piece)?,
            Event::End(slot, stable, end) => self.change(slot, |status| {
                status.end_offset = stable;
                status.held_back = u64::try_from(end.0 - stable.0).unwrap_or(0);
            }),
            Event::Lost(slot, lost) => self.change(slot, |status| status.lost_offsets += lost),
            Event::Finished(slot) => self.change(slot, |status| {
                if !status.state.is_stopped() {
                    status.state = PartitionState::Finished;
                }
            }),
            Event::Stopped(slot, state, why) => {
                if let Some(origin) = self.targets.origin(slot) {
                    tracing::error!("{} has permanently stopped: {}", origin.source, quote(&why));
                }
                self.change(slot, |status| {
                    status.state = state;
                    status.problem = Some(why.into());
                });
            }
        }
        Ok(())
    }

    fn change(&self, slot: usize, change: impl FnOnce(&mut PartitionStatus)) {
        if let Some(origin) = self.targets.origin(slot) {
            self.state.change(&origin.source, change);
        }
    }

    fn enqueue(&mut self, mut piece: Piece) -> Result<(), EngineError> {
        let Some(origin) = self.targets.origin_mut(piece.slot) else {
            return Ok(());
        };
        if let Some(left) = &mut self.left {
            if piece.prepared.records() > *left {
                let cut = piece.prepared.cut(*left);
                piece.next = cut.map_err(|source| origin.wrong_batch(source))?;
            }
            *left -= piece.prepared.records();
        }
        self.began_at.get_or_insert_with(Instant::now);
        let advance = origin.advance.get_or_insert_default();
        advance.next = piece.next;
        advance.records += piece.prepared.records();
        advance.bytes += piece.prepared.bytes();
        advance.skipped += piece.prepared.skipped;
        advance.timestamp = advance.timestamp.max(piece.prepared.timestamp);
        origin.leader_epoch = piece.leader_epoch;
        for ready in piece.prepared.ready {
            self.bytes += ready.bytes.len() as u64;
            self.enqueue_batch(piece.slot, ready)?;
        }
        Ok(())
    }

    fn enqueue_batch(&mut self, slot: usize, ready: Ready) -> Result<(), EngineError> {
        let place = self.targets.place(slot, ready.destination);
        let place = place.ok_or(EngineError::Lost("a partition of the target"))?;
        let header = stamped(&ready, &self.producer.stamp(place));
        let header = header.map_err(|source| match self.targets.origin(slot) {
            Some(origin) => origin.wrong_batch(source),
            None => EngineError::Lost("a partition of the source"),
        })?;
        if self.added.insert(place) {
            self.to_add.push(place);
        }
        let batch = Batch {
            header,
            payload: ready.bytes.slice(HEADER_LEN..),
            records: ready.records,
            expected_offset: None,
            note: Note {
                slot,
                destination: ready.destination,
                stretches: ready.stretches,
            },
        };
        self.producer.enqueue(place, batch)
    }

    /// Adds the partitions that something waits for to the transaction.
    async fn add_partitions(&mut self) -> Result<(), EngineError> {
        let leaders = &self.targets.leaders;
        let new = self.to_add.drain(..);
        let new = new.filter_map(|place| Some(leaders.get(place.0)?.key.clone()));
        let new: Vec<TopicPartition> = new.collect();
        if !new.is_empty() {
            self.is_open = true;
            self.transaction.add_partitions(&new).await?;
        }
        Ok(())
    }

    fn acknowledged(&mut self, batches: Vec<Acknowledged<Note>>) -> Result<(), EngineError> {
        for batch in batches {
            self.ends.rise(&self.targets, &batch)?;
            let Note {
                slot,
                destination: Destination::Same,
                stretches,
            } = batch.note
            else {
                continue;
            };
            let mut at = batch.base_offset;
            if let Some(origin) = self.targets.origin_mut(slot) {
                for (source, count) in stretches {
                    origin.acknowledged.push((source, at, count));
                    at.0 += i64::from(count);
                }
            }
        }
        Ok(())
    }

    /// The target refuses a batch for good: that is said of the batch's partition. Any other error ends the session.
    fn ended(&self, error: ProduceError<Note>) -> Result<Written, EngineError> {
        match error {
            ProduceError::Refused { note, why } => {
                let origin = self.targets.origin(note.slot);
                let origin = origin.ok_or(EngineError::Lost("a partition of the source"))?;
                Ok(Written::Refused(origin.source.clone(), why))
            }
            error => Err(error.into()),
        }
    }

    /// Ends the transaction with the offsets of all that it holds.
    async fn commit(&mut self) -> Result<(), EngineError> {
        let mut offsets = Vec::new();
        for origin in self.targets.origins.iter().flatten() {
            if let Some(advance) = &origin.advance {
                let progress = Progress {
                    next: advance.next,
                    leader_epoch: origin.leader_epoch,
                    note: ProgressNote {
                        target_end: self.ends.of(&self.targets, origin),
                        ..origin.note.clone()
                    },
                };
                offsets.push((origin.key.clone(), progress.committed()?));
            }
        }
        if !offsets.is_empty() {
            self.is_open = true;
            for offsets in offsets.chunks(OFFSETS_AT_ONCE) {
                let offsets = offsets.iter().cloned().collect();
                self.transaction
                    .commit_offsets(&self.group, &offsets)
                    .await?;
            }
            self.is_ending = true;
            self.transaction.end(true).await?;
            self.is_ending = false;
        }
        self.is_open = false;
        self.began_at = None;
        self.bytes = 0;
        self.recommit_at = Instant::now() + RECOMMIT_EVERY;
        self.added.clear();
        for origin in self.targets.origins.iter_mut().flatten() {
            let acknowledged = std::mem::take(&mut origin.acknowledged);
            self.positions.committed(&origin.source, |offset_map| {
                for (source, at, count) in acknowledged {
                    offset_map.add(source, at, count.into());
                }
                if let Some(advance) = &origin.advance {
                    offset_map.reached(advance.next);
                }
            });
            if let Some(advance) = origin.advance.take() {
                self.state.committed(&origin.source, &advance);
            }
        }
        Ok(())
    }

    /// What the transaction held, when it is not known whether it was committed.
    pub fn unconfirmed(&self) -> BTreeMap<TopicPartition, Advance> {
        let origins = self.targets.origins.iter().flatten();
        let origins = origins.filter(|_| self.is_ending);
        let advances = origins.filter_map(|origin| Some((origin.source.clone(), origin.advance?)));
        advances.collect()
    }

    /// Ends what was begun, so that readers of the target need not wait for a timeout.
    pub async fn abort(&mut self) {
        if std::mem::take(&mut self.is_open) {
            // When it fails the next session, or the cluster after a while, does the same.
            tokio::time::timeout(ABORT_WITHIN, self.transaction.end(false))
                .await
                .ok();
        }
    }
}

fn stamped(ready: &Ready, stamp: &ProducerStamp) -> Result<[u8; HEADER_LEN], RecordError> {
    let (view, _) = BatchRef::parse(&ready.bytes)?;
    restamp_in_transaction(&view, stamp)
}
