//! Reads, prepares and produces all that a plan wants. Each worker owns its target partitions for the whole restore.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;

use crate::engine::blocking::blocking;
use crate::engine::rate::RateLimiter;
use crate::engine::refusal::{Advice, Part, Refusal};
use crate::engine::watchdog::Wait;
use crate::engine::{EngineError, Progress};
use crate::kafka::ProducerIdentity;
use crate::record::{ProducerStamp, Timestamp};
use crate::repository::Repository;

use super::RestoreOptions;
use super::means::Means;
use super::offset_map::Landmark;
use super::outcome::{Outcome, Written};
use super::partition_state::PartitionState;
use super::plan::RestorePlan;
use super::prepare::{Preparer, Window};
use super::producer_worker::ProducerWorker;
use super::read::{Lanes, Reader, Reading};
use super::read_back::{Found, Span, read_back};
use super::report::{DamagedPartition, Skipped};
use super::target::{self, TargetPartition};

/// More connections to a broker gain nothing (measured: 1 to 4 reach the same, bound by the broker).
const WORKERS: usize = 4;

/// Reads, prepares and produces everything that the plan wants.
pub(super) async fn produce_all(
    means: &Means<'_>,
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    options: &RestoreOptions,
    producer: ProducerIdentity,
    progress: &Arc<dyn Progress>,
) -> Result<Outcome, EngineError> {
    let client = means.client;
    let becoming = target::ready(client, plan, producer);
    let wait = Wait::Target("to have a leader for every partition");
    let targets = means.watchdog.step(wait, becoming).await?;
    let mut found = find_what_is_there(means, &targets).await?;
    let preparer = preparer(&targets, options);
    let count = WORKERS.min(targets.len()).max(1);
    let limiter = Arc::new(RateLimiter::new(options.rate_limit));
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let lanes = Lanes {
        of_target: (0..targets.len()).map(|target| target % count).collect(),
        senders,
        memory: means.memory.clone(),
        watchdog: means.watchdog.clone(),
    };
    let reading = {
        let (repository, plan, progress) =
            (Arc::clone(repository), plan.clone(), Arc::clone(progress));
        blocking("the reading thread", move || {
            read(&repository, &plan, preparer, lanes, &*progress)
        })
    };
    let running = receivers.into_iter().enumerate().map(|(number, incoming)| {
        let mut worker = ProducerWorker::new(client, incoming, Arc::clone(&limiter));
        let targets = targets.iter().enumerate();
        for (target, partition) in targets.filter(|(target, _)| target % count == number) {
            let found = found.remove(&target);
            worker.add(
                target,
                PartitionState::new(partition.clone(), found, options.check),
            );
        }
        worker.run(means.watchdog)
    });
    let (written, left_out) = tokio::join!(try_join_all(running), reading);
    // A worker's error comes first: the reader only notices that the worker is gone.
    let written = written?.into_iter().flatten().collect();
    Ok(outcome(targets.len(), written, left_out?))
}

/// Gives batches the headers that their target partitions' producers need, within the bounds of time that were asked for.
fn preparer(targets: &[TargetPartition], options: &RestoreOptions) -> Preparer {
    let stamps = targets.iter().map(|target| ProducerStamp {
        producer_id: target.producer.producer_id,
        producer_epoch: target.producer.producer_epoch,
        base_sequence: 0,
    });
    let window = Window {
        from: options.from.map(timestamp),
        until: options.until.map(timestamp),
    };
    Preparer::new(stamps.collect(), window)
}

/// What was written to each of the `targets`, in their order, with the groups' offsets that no restored record stands for.
fn outcome(targets: usize, mut written: BTreeMap<usize, Written>, left_out: LeftOut) -> Outcome {
    for (target, landmark) in left_out.offset_map {
        if let Some(written) = written.get_mut(&target) {
            written.positions.ended(landmark, written.end());
        }
    }
    let written = (0..targets).filter_map(|target| written.remove(&target));
    Outcome {
        written: written.collect(),
        skipped: left_out.skipped,
        damaged: left_out.damaged,
    }
}

fn timestamp(time: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp(time.timestamp_millis())
}

/// What an interrupted restore wrote, by the target partition's place in the table. Nobody else may have written since.
async fn find_what_is_there(
    means: &Means<'_>,
    targets: &[TargetPartition],
) -> Result<BTreeMap<usize, Found>, EngineError> {
    let begun = |target: &&TargetPartition| target.end != target.start;
    let spans = targets.iter().filter(begun);
    let spans = spans.map(|target| Span::of(target, target.start..target.end));
    let mut all = read_back(means, spans.collect()).await?.into_iter();
    let mut by_target = BTreeMap::new();
    for (number, target) in targets
        .iter()
        .enumerate()
        .filter(|(_, target)| begun(target))
    {
        let found = all.next().ok_or(EngineError::Lost("reading back"))?;
        let foreign = found
            .foreign
            .or((target.end < target.start).then_some(target.end));
        if let Some(offset) = foreign {
            let why = format!(
                "somebody else changed {} at offset {offset} since the interrupted restore wrote to it",
                target.key
            );
            let refusal = Refusal::new(why).of(Part::TargetTopic, &target.key.topic);
            let advice = Advice::Forget { created: true };
            return Err(EngineError::conflict(refusal.advise(advice)));
        }
        by_target.insert(number, found);
    }
    Ok(by_target)
}

/// The place of each topic's target partition 0 in the table of all.
fn first_targets(plan: &RestorePlan) -> Vec<usize> {
    let mut next = 0;
    plan.topics
        .iter()
        .map(|topic| {
            let first = next;
            next += topic.target_partitions as usize;
            first
        })
        .collect()
}

/// What came to nothing in the target.
struct LeftOut {
    /// Records, by topic of the plan.
    skipped: Vec<Skipped>,
    /// What could not be read.
    damaged: Vec<DamagedPartition>,
    /// Groups' offsets that no restored record stands for, each with its target partition.
    offset_map: Vec<(usize, Landmark)>,
}

fn read(
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    mut preparer: Preparer,
    lanes: Lanes,
    progress: &dyn Progress,
) -> Result<LeftOut, EngineError> {
    let mut reader = {
        let _waiting = lanes.waits_for_packs();
        Reader::open(repository, plan, &first_targets(plan))?
    };
    reader.read_all(&mut preparer, &lanes, progress)?;
    let offset_map = reader.landmarks_left();
    let damaged = reader.readings.iter().filter_map(Reading::damaged);
    let damaged = damaged.collect();
    let mut readings = reader.readings.iter();
    let by_topic = plan.topics.iter().map(|topic| {
        readings
            .by_ref()
            .take(topic.partitions.len())
            .fold(Skipped::default(), |sum, reading| {
                let skipped = reading.source.skipped;
                Skipped {
                    aborted: sum.aborted + skipped.aborted,
                    open: sum.open + skipped.open,
                    control: sum.control + skipped.control,
                    cut: sum.cut + skipped.cut,
                }
            })
    });
    Ok(LeftOut {
        skipped: by_topic.collect(),
        damaged,
        offset_map,
    })
}
