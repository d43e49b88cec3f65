//! Reads the planned partitions, and passes what it reads to the sealing threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::engine::EngineError;
use crate::engine::blocking::blocking;
use crate::engine::chain::Generation;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{
    self, Cursor, Expects, Flow, PARTITION_BYTES, Reading, Sink, Step, Wish,
};
use crate::engine::watchdog::Wait;
use crate::kafka::{ErrorCode, FetchedPartition, IsolationLevel, KafkaError};
use crate::record::{Offset, RecordError, batches};
use crate::repository::{BackupId, Gap};

use super::BackupOptions;
use super::failures::Failures;
use super::means::Means;
use super::plan::{BackupPlan, PartitionPlan, TopicPlan};
use super::seal::{Chunk, Sealing, seal_all};
use super::store::{Store, Stored};
use super::walk::walk;

/// How copying ended.
pub(super) enum Copied {
    /// All that was planned is in packs.
    Whole(Box<Copy>),
    /// These logs are not what the chain continues: plan again without their chains.
    Forked(BTreeSet<Generation>),
    /// The run was told to stop; what it copied is sealed and written down.
    Stopped,
}

/// All that a run copied, with the plan it followed.
pub(super) struct Copy {
    /// The plan; gaps found on the way are added to it and bounds lowered by a limit of messages.
    pub plan: BackupPlan,
    /// What lies in packs, by the partition's place in the plan.
    pub stored: Stored,
    /// Topics that failed, and why: they are not in the backup.
    pub failed: BTreeMap<Arc<str>, EngineError>,
}

/// What a backup keeps of a partition while it reads it.
struct Part {
    slot: usize,
    topic: Arc<str>,
    end: Offset,
    /// One past what is held: a log in which a batch begins before is another one.
    held: Option<Offset>,
    messages_left: Option<u64>,
    gaps: Vec<Gap>,
}

fn cursor(slot: usize, topic: &TopicPlan, partition: &PartitionPlan) -> Cursor<Part> {
    let is_empty = partition.max_messages == Some(0);
    let part = Part {
        slot,
        topic: topic.topic.as_str().into(),
        end: match is_empty {
            true => partition.resume,
            false => partition.end,
        },
        held: topic.held(partition),
        messages_left: partition.max_messages,
        gaps: Vec::new(),
    };
    Cursor {
        topic_id: topic.topic_id,
        leader: Some(partition.leader),
        leader_epoch: Some(partition.leader_epoch),
        last_epoch: partition.resume_epoch,
        ..Cursor::new(topic.key(partition.partition), partition.resume, part)
    }
}

/// What came of one answer.
#[derive(Default)]
struct Taken {
    chunks: Vec<Chunk>,
    bytes: u64,
    records: u64,
}

/// A backup, as the reader sees it.
struct Copying {
    limiter: RateLimiter,
    chunks: mpsc::Sender<Chunk>,
    /// Slots of logs that are not what the chain continues: the first one ends the reading.
    forked: Mutex<BTreeSet<usize>>,
    failures: Failures,
}

impl Copying {
    /// Reads until every cursor is at its end: the cursors, or none when the run was told to stop, and the slots that are forked.
    async fn read_all(
        self,
        means: &Means<'_>,
        cursors: Vec<Cursor<Part>>,
    ) -> Result<(Option<Vec<Cursor<Part>>>, BTreeSet<usize>), EngineError> {
        let read = {
            let reading = Reading {
                leaders: means.client,
                sink: &self,
                memory: means.memory.clone(),
                watchdog: means.watchdog.clone(),
            };
            let read = reader::read(&reading, cursors);
            let stop = &means.options.stop;
            stop.run_until_cancelled(read).await.transpose()
        };
        let forked = std::mem::take(&mut *self.forked());
        // The sealing threads end when nothing more can come.
        drop(self);
        Ok((read?, forked))
    }

    fn forked(&self) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
        self.forked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Copying {
    type Part = Part;
    type Taken = Taken;

    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadUncommitted
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn wish(&self, cursor: &mut Cursor<Part>) -> Option<Wish> {
        let is_wanted = cursor.next < cursor.part.end && !self.failures.has(&cursor.part.topic);
        is_wanted.then_some(Wish {
            max_bytes: PARTITION_BYTES,
            expects: Expects::Records,
        })
    }

    fn take(
        &self,
        cursor: &mut Cursor<Part>,
        fetched: FetchedPartition,
        taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        let failed = |cursor: &Cursor<Part>, source: RecordError| EngineError::Batch {
            topic: cursor.key.topic.clone(),
            partition: cursor.key.partition,
            offset: cursor.next,
            source,
        };
        let closed = close_gap(cursor, &fetched.records);
        let part = &cursor.part;
        let walked =
            closed.and_then(|()| walk(&fetched.records, cursor.next, part.end, part.messages_left));
        let walked = match walked {
            Ok(walked) => walked,
            Err(source) => {
                self.failures.note(&part.topic, failed(cursor, source));
                return Ok(Step::Settled);
            }
        };
        let part = &mut cursor.part;
        if walked.base.is_some_and(|base| part.held > Some(base)) {
            self.forked().insert(part.slot);
            return Ok(Step::Settled);
        }
        part.held = part.held.max(walked.base.map(|_| walked.next));
        let moved = walked.next > cursor.next || walked.end < part.end;
        cursor.next = walked.next;
        cursor.last_epoch = walked.last_epoch.or(cursor.last_epoch);
        part.end = walked.end;
        let left = part.messages_left;
        part.messages_left = left.map(|left| left.saturating_sub(walked.records));
        taken.records += walked.records;
        for piece in walked.pieces {
            taken.bytes += piece.raw.len() as u64;
            taken.chunks.push(Chunk {
                slot: part.slot,
                topic: Arc::clone(&part.topic),
                topic_id: cursor.topic_id,
                partition: cursor.key.partition,
                piece,
            });
        }
        Ok(match self.wish(cursor) {
            None => Step::Settled,
            Some(_) if moved => Step::Moved,
            Some(_) => Step::Nothing,
        })
    }

    fn diverged(
        &self,
        cursor: &mut Cursor<Part>,
        _end: Offset,
        _taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        self.forked().insert(cursor.part.slot);
        Ok(Step::Settled)
    }

    /// What was deleted meanwhile is a gap; a log that ends below was truncated.
    fn outside(
        &self,
        cursor: &mut Cursor<Part>,
        log: Range<Offset>,
        _taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        let part = &mut cursor.part;
        if log.start > cursor.next {
            let gap_end = log.start.min(part.end);
            if gap_end > cursor.next {
                part.gaps.push(Gap {
                    start_offset: cursor.next,
                    end_offset: gap_end,
                    reason:
                        "the source deleted them while the backup ran (retention or DeleteRecords)"
                            .to_owned(),
                });
                cursor.next = gap_end;
            }
            cursor.last_epoch = None;
            return Ok(match self.wish(cursor) {
                None => Step::Settled,
                Some(_) => Step::Moved,
            });
        }
        // A leader cannot tell where an epoch ended that is later than its own (`Partition.readRecords`).
        let is_of_later_epoch =
            cursor.leader_epoch.is_some() && cursor.last_epoch > cursor.leader_epoch;
        if log.end < cursor.next || is_of_later_epoch {
            self.forked().insert(part.slot);
            return Ok(Step::Settled);
        }
        let code = ErrorCode::OffsetOutOfRange;
        let error = KafkaError::for_topic(code, "READ", &cursor.key.topic);
        Ok(Step::Elsewhere(error))
    }

    fn recreated(
        &self,
        cursor: &mut Cursor<Part>,
        _taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        Err(EngineError::refused(format!(
            "topic {} was deleted and created again while it was being read; run the backup again",
            cursor.key.topic
        )))
    }

    /// Hands chunks to the sealing threads, until they are gone.
    async fn pass_on(&self, taken: Taken) -> Result<Flow, EngineError> {
        for chunk in taken.chunks {
            if self.chunks.send(chunk).await.is_err() {
                return Ok(Flow::End);
            }
        }
        if !self.forked().is_empty() {
            return Ok(Flow::End);
        }
        Ok(Flow::On {
            bytes: taken.bytes,
            records: taken.records,
        })
    }
}

/// The batch behind a gap may begin within it: what is held of it is not missing.
fn close_gap(cursor: &mut Cursor<Part>, records: &[u8]) -> Result<(), RecordError> {
    let gap = cursor.part.gaps.last_mut();
    let Some(gap) = gap.filter(|gap| gap.end_offset == cursor.next) else {
        return Ok(());
    };
    if let Some(batch) = batches(records).next().transpose()?
        && batch.next_offset() > cursor.next
        && batch.base_offset() < cursor.next
    {
        gap.end_offset = batch.base_offset().max(gap.start_offset);
        cursor.next = gap.end_offset;
    }
    if gap.start_offset == gap.end_offset {
        cursor.part.gaps.pop();
    }
    Ok(())
}

/// Copies everything that `plan` says into packs.
pub(super) async fn copy(
    means: &Means<'_>,
    run_id: BackupId,
    mut plan: BackupPlan,
) -> Result<Copied, EngineError> {
    let options = means.options;
    let cursors = plan.partitions().enumerate();
    let cursors = cursors
        .map(|(slot, (topic, partition))| cursor(slot, topic, partition))
        .collect();
    let failures = Failures::default();
    let (chunks, chunks_in) = mpsc::channel(8);
    let (sealed, sealed_in) = mpsc::channel(4);
    let storing = {
        let (repository, progress) = (Arc::clone(means.repository), Arc::clone(means.progress));
        let store = Store::new(&plan, run_id, options);
        blocking("the storing thread", move || {
            store.store_all(&repository, sealed_in, &progress)
        })
    };
    let copying = Copying {
        limiter: RateLimiter::new(options.rate_limit),
        chunks,
        forked: Mutex::default(),
        failures: failures.clone(),
    };
    let reading = copying.read_all(means, cursors);
    let sealing = seal_all(chunks_in, sealing_of(options), sealed, &failures);
    let storing = async {
        let _waiting = means.watchdog.waits(Wait::Repository("to store packs"));
        storing.await
    };
    let (read, sealing, stored) = tokio::join!(reading, sealing, storing);
    // The store's error comes first: the others may only have noticed that it is gone.
    let stored = stored?;
    sealing?;
    match read? {
        (_, forked) if !forked.is_empty() => Ok(Copied::Forked(generations(&plan, &forked))),
        (None, _) => Ok(Copied::Stopped),
        (Some(cursors), _) => {
            note_outcome(&mut plan, cursors);
            let mut failed = failures.take();
            // Nothing is left to make a backup of.
            if failed.len() == plan.topics.len()
                && let Some((_, error)) = failed.pop_first()
            {
                return Err(error);
            }
            Ok(Copied::Whole(Box::new(Copy {
                plan,
                stored,
                failed,
            })))
        }
    }
}

/// How blocks are sealed.
fn sealing_of(options: &BackupOptions) -> Sealing {
    let selection = options.selection.as_ref();
    Sealing {
        compression: options.compression,
        drop_keys: selection.is_some_and(|selection| selection.no_keys),
        drop_headers: selection.is_some_and(|selection| selection.no_headers),
    }
}

/// Writes what the readers found out into the plan: gaps, and ends lowered by a limit of messages.
fn note_outcome(plan: &mut BackupPlan, mut cursors: Vec<Cursor<Part>>) {
    cursors.sort_by_key(|cursor| cursor.part.slot);
    let partitions = plan
        .topics
        .iter_mut()
        .flat_map(|topic| &mut topic.partitions);
    for (partition, Cursor { part, .. }) in partitions.zip(cursors) {
        partition.end = part.end;
        partition.gaps.extend(part.gaps);
    }
}

fn generations(plan: &BackupPlan, slots: &BTreeSet<usize>) -> BTreeSet<Generation> {
    plan.partitions()
        .enumerate()
        .filter(|(slot, _)| slots.contains(slot))
        .map(|(_, (topic, _))| Generation {
            cluster_id: plan.cluster_id.clone(),
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
        })
        .collect()
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
