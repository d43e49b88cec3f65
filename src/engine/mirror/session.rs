//! A session: what was planned is read and written until all is there, or until something fails. The next one begins where the last
//! transaction ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::engine::blocking::Threads;
use crate::engine::claims::Claims;
use crate::engine::rate::RateLimiter;
use crate::engine::watchdog::{Wait, Watchdog};
use crate::engine::{EngineError, Stop};
use crate::kafka::{Client, TopicPartition, TransactionalProducer};
use crate::memory::RunMemory;
use crate::quote::quote;
use crate::record::{Offset, ProducerId, TopicId};

use super::MirrorOptions;
use super::changes::{Changes, remember_settings};
use super::groups::GroupPositions;
use super::plan::{MirrorBounds, MirrorPlan, TopicPlan, TopicShape};
use super::planning::plan_within;
use super::progress;
use super::read::{Cursor, Event, Part, SourceReader, read_all};
use super::state::{MirrorState, PartitionState};
use super::target_topics::{TargetTopics, stop_refused};
use super::told::Told;
use super::transform::Route;
use super::write::{Writer, Written};

/// A cluster aborts a transaction that is open for longer: then the mirror is gone.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

const GROUPS: Wait = Wait::Target("to take groups' offsets");

/// What all sessions of a mirror share.
pub(super) struct Means<'a> {
    pub source: &'a Client,
    pub target: &'a Client,
    pub options: &'a MirrorOptions,
    /// Memory for what is read.
    pub memory: &'a RunMemory,
    pub watchdog: &'a Watchdog,
    /// Its threads, which may go on a little behind a session.
    pub threads: &'a Threads,
}

/// How a session ended that did not fail.
pub(super) enum Ended {
    /// All is there, or it was told to stop.
    Finished {
        /// What should be looked at.
        warnings: Vec<String>,
        /// What the target has deleted already of what was written to it.
        deleted: Vec<String>,
    },
    /// There are other topics, or partitions, than it knew.
    TopicsChanged,
}

/// What a session has found and prepared before it copies.
struct Ready {
    plan: MirrorPlan,
    /// Of the plan when it was made: with another one the session ends.
    shape: Vec<TopicShape>,
    /// Topics of the target that it did not take, or not as they are to be.
    refused: BTreeSet<String>,
    /// Under which ids others have written into the source what came from the target.
    returning: BTreeSet<ProducerId>,
    /// What should be looked at.
    warnings: Vec<String>,
}

/// Runs one session.
pub(super) async fn session(
    means: &Means<'_>,
    bounds: &mut MirrorBounds,
    state: &MirrorState,
) -> Result<Ended, EngineError> {
    let options = means.options;
    // First: whoever bore the name before can commit no more progress then.
    let producer = take_name(means).await?;
    let mut ready = make_ready(means, bounds, state).await?;
    state.begin(ready.plan.statuses());
    let claims = claim(means, &ready.plan).await;
    let copying = Copying::new(means, bounds, &ready);
    let positions = GroupPositions::default();
    let mut writer = Writer::new(
        means.target,
        producer,
        options,
        &ready.plan,
        state,
        &positions,
        bounds.left,
    )
    .await?;
    remember_targets(bounds, &mut ready.plan, writer.topic_ids());
    remember_beginnings(bounds, writer.beginnings());
    // Ends the reading alone: what was read is still written.
    let enough = options.stop.child_token();
    let mut changes = Changes {
        source: means.source,
        target: means.target,
        options,
        bounds: bounds.clone(),
        enough: &enough,
        state,
        positions: &positions,
        returning: &ready.returning,
        refused: &ready.refused,
    };
    let copied = async {
        tokio::select! {
            copied = copying.run(means, &mut writer, &enough) => copied.map(Some),
            () = changes.follow(&ready.plan, &ready.shape) => Ok(None),
        }
    };
    let written = match under(claims, options, copied).await {
        Ok(Some(written)) => written,
        ended => {
            bounds.unconfirmed = writer.unconfirmed();
            writer.abort().await;
            return ended.map(|_| Ended::TopicsChanged);
        }
    };
    let following = changes.follow_groups(&ready.plan);
    means.watchdog.step(GROUPS, following).await?;
    let is_begun_again = enough.is_cancelled() && !options.stop.is_cancelled();
    if is_begun_again && matches!(written, Ok(Written::All)) {
        return Ok(Ended::TopicsChanged);
    }
    conclude(means, bounds, &mut writer, written, ready.warnings).await
}

/// Takes the mirror's name away from whoever bore it before.
async fn take_name(means: &Means<'_>) -> Result<TransactionalProducer, EngineError> {
    let id = means.options.id();
    let target = means.target;
    let naming = target.transactional_producer(&id, TRANSACTION_TIMEOUT);
    let wait = Wait::Target("to end what bore this mirror's name");
    Ok(means.watchdog.step(wait, naming).await?)
}

/// Claims the topics of the target that this session begins: whoever else writes to them ends. Where progress of this mirror is
/// known, its name protects it.
async fn claim(means: &Means<'_>, plan: &MirrorPlan) -> Claims {
    let begun = plan.topics.iter().filter(|topic| topic.begins());
    let begun: Vec<&str> = begun.map(|topic| topic.target_topic.as_str()).collect();
    let taking = Claims::take(means.target, &begun);
    let wait = Wait::Target("to let its topics be claimed");
    means.watchdog.step(wait, taking).await
}

/// Copies under the claims. A mirror without an end holds none of them: what it writes first is where it begins, and from then on
/// its progress is known.
async fn under<T>(
    claims: Claims,
    options: &MirrorOptions,
    copying: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match options.until.is_bounded() {
        true => claims.hold(copying).await,
        false => copying.await,
    }
}

/// Plans, and gives the target the topics and settings of the plan.
async fn make_ready(
    means: &Means<'_>,
    bounds: &mut MirrorBounds,
    state: &MirrorState,
) -> Result<Ready, EngineError> {
    let Means {
        source,
        target,
        options,
        watchdog,
        ..
    } = *means;
    let planning = plan_within(source, target, options, bounds);
    let mut plan = watchdog.step(Wait::Step("the plan"), planning).await?;
    let shape = plan.shape();
    keep_bounds(bounds, &mut plan);
    confirm(bounds, &plan, state);
    for notice in plan.topics.iter().filter_map(TopicPlan::notice) {
        tracing::warn!("mirror {}: {notice}", options.name);
        bounds.notices.push(notice);
    }
    let topics = TargetTopics::new(target, options, &bounds.told);
    let making = topics.make_ready(&plan);
    let wait = Wait::Target("to have its topics and settings");
    let refused = watchdog.step(wait, making).await?;
    stop_refused(&mut plan, &refused)?;
    report_stopped(&plan, &bounds.told, &options.name);
    remember_settings(bounds, &plan);
    let returning = progress::returning(source, &plan.target_cluster_id).await?;
    let mut warnings = bounds.notices.clone();
    let is_new = |warning: &&String| !bounds.notices.contains(warning);
    warnings.extend(plan.warnings.iter().filter(is_new).cloned());
    if returning.is_none() {
        warnings.push("what another mirror brought from the target cannot be told apart: grant DESCRIBE on the source's groups".to_owned());
    }
    Ok(Ready {
        plan,
        shape,
        refused: refused.into_keys().collect(),
        returning: returning.unwrap_or_default(),
        warnings,
    })
}

/// Logs partitions that stop for good, once each.
fn report_stopped(plan: &MirrorPlan, told: &Told, name: &str) {
    for (topic, partition) in plan.partitions() {
        let Some(problem) = &partition.problem else {
            continue;
        };
        let stopped = format!(
            "{}-{} has permanently stopped: {problem}",
            topic.topic, partition.partition
        );
        if told.is_new(&stopped) {
            tracing::error!("mirror {name}: {}", quote(&stopped));
        }
    }
}

/// What is to be read, and the channel on which it comes to the writer.
struct Copying {
    source: SourceReader,
    cursors: Vec<Cursor>,
    incoming: mpsc::Receiver<Event>,
}

impl Copying {
    fn new(means: &Means<'_>, bounds: &MirrorBounds, ready: &Ready) -> Self {
        let (options, plan) = (means.options, &ready.plan);
        let (events, incoming) = mpsc::channel(16);
        let source = SourceReader::new(
            RateLimiter::new(options.rate_limit),
            events,
            ready.returning.clone(),
            route(plan, options),
            means.memory.clone(),
            means.threads.clone(),
        );
        Self {
            source,
            cursors: cursors(plan, options, bounds),
            incoming,
        }
    }

    /// Reads and writes until all is there, or one of the two fails. `enough` ends the reading alone.
    ///
    /// # Errors
    ///
    /// Those of writing; within, those of reading, of which all that was read before is written.
    async fn run(
        self,
        means: &Means<'_>,
        writer: &mut Writer<'_>,
        enough: &Stop,
    ) -> Result<Result<Written, EngineError>, EngineError> {
        let Self {
            source,
            cursors,
            incoming,
        } = self;
        // Nobody writes what is read.
        let written_all = Stop::new();
        let read = async {
            let read = read_all(means.source, &source, means.watchdog.clone(), cursors);
            let read = enough.run_until_cancelled(read);
            let read = written_all.run_until_cancelled(read).await;
            // The writer ends when nothing more can come.
            drop(source);
            read.flatten().unwrap_or(Ok(()))
        };
        let write = async {
            let written = writer.run(incoming, means.watchdog).await;
            written_all.cancel();
            written
        };
        let (read, written) = tokio::join!(read, write);
        written.map(|written| read.map(|()| written))
    }
}

/// Ends a session in which nothing more is to be read: proves what was written, or aborts what is open.
async fn conclude(
    means: &Means<'_>,
    bounds: &mut MirrorBounds,
    writer: &mut Writer<'_>,
    written: Result<Written, EngineError>,
    warnings: Vec<String>,
) -> Result<Ended, EngineError> {
    match written {
        Ok(Written::All) => {
            let wait = Wait::Target("to show what was written");
            let proving = writer.prove(means.target, &bounds.began);
            let mut deleted = means.watchdog.step(wait, proving).await?;
            // What a mirror that goes on wrote long ago may be deleted.
            deleted.retain(|_| means.options.until.is_bounded());
            Ok(Ended::Finished { warnings, deleted })
        }
        Ok(Written::Refused(partition, why)) => {
            writer.abort().await;
            bounds.refused.insert(partition, why);
            Ok(Ended::TopicsChanged)
        }
        Err(error) => {
            bounds.unconfirmed = writer.unconfirmed();
            writer.abort().await;
            Err(error)
        }
    }
}

/// A bounded mirror ends where it first saw partitions end, and those that are refused stay so.
fn keep_bounds(bounds: &mut MirrorBounds, plan: &mut MirrorPlan) {
    for topic in &mut plan.topics {
        for partition in &mut topic.partitions {
            let key = TopicPartition {
                topic: topic.topic.clone(),
                partition: partition.partition,
            };
            if let Some(why) = bounds.refused.get(&key) {
                partition.state = PartitionState::Refused;
                partition.problem = Some(why.as_str().into());
            }
            if let Some(first) = partition.note.first {
                bounds
                    .first
                    .insert(key.clone(), (partition.note.topic_id, first));
            }
            bounds.ends.entry(key).or_insert(partition.end_offset);
        }
    }
}

/// The topics that were created have an id now. What is written from now on is written to these.
fn remember_targets(
    bounds: &mut MirrorBounds,
    plan: &mut MirrorPlan,
    topic_ids: &BTreeMap<String, TopicId>,
) {
    for topic in &mut plan.topics {
        if let Some(id) = topic_ids.get(&topic.target_topic) {
            topic.target_topic_id = Some(*id);
            bounds
                .target_topic_ids
                .insert(topic.target_topic.clone(), *id);
        }
    }
}

/// Where this run began to write. A topic that was created again begins anew.
fn remember_beginnings(
    bounds: &mut MirrorBounds,
    beginnings: impl Iterator<Item = (TopicPartition, TopicId, Offset)>,
) {
    for (key, topic_id, end) in beginnings {
        let began = bounds.began.entry(key).or_insert((topic_id, end));
        if began.0 != topic_id {
            *began = (topic_id, end);
        }
    }
}

/// Counts what the transaction held with which the session before broke off, when the target has it.
fn confirm(bounds: &mut MirrorBounds, plan: &MirrorPlan, state: &MirrorState) {
    let unconfirmed = std::mem::take(&mut bounds.unconfirmed);
    let is_there = plan.partitions().any(|(topic, partition)| {
        let held = unconfirmed.get(&TopicPartition {
            topic: topic.topic.clone(),
            partition: partition.partition,
        });
        held.is_some_and(|advance| {
            advance.records > 0 && partition.committed_offset == Some(advance.next)
        })
    });
    if is_there {
        for (partition, advance) in &unconfirmed {
            state.committed(partition, advance);
            bounds.left = bounds.left.map(|left| left.saturating_sub(advance.records));
        }
    }
}

/// How records change on their way, if they do.
fn route(plan: &MirrorPlan, options: &MirrorOptions) -> Option<Route> {
    let transform = options.transform()?;
    let partitions = plan.topics.iter();
    let partitions = partitions.map(|topic| (topic.topic.clone(), topic.target_partitions));
    Some(Route {
        transform: transform.clone(),
        source_id: plan.source_cluster_id.clone(),
        target_id: plan.target_cluster_id.clone(),
        partitions: partitions.collect(),
    })
}

fn cursors(plan: &MirrorPlan, options: &MirrorOptions, bounds: &MirrorBounds) -> Vec<Cursor> {
    let partitions = plan.partitions().enumerate();
    let goes_on =
        partitions.filter(|(_, (_, partition))| partition.state == PartitionState::Mirroring);
    let cursors = goes_on.map(|(slot, (topic, partition))| {
        let key = TopicPartition {
            topic: topic.topic.clone(),
            partition: partition.partition,
        };
        let end = bounds.ends.get(&key).copied();
        let end = end.filter(|_| options.until.is_bounded());
        let part = Part {
            slot,
            end,
            unproved: partition.last_epoch.is_some(),
        };
        Cursor {
            topic_id: topic.topic_id,
            leader: partition.leader,
            leader_epoch: Some(partition.leader_epoch),
            last_epoch: partition.last_epoch,
            ..Cursor::new(key, partition.start_offset, part)
        }
    });
    cursors.collect()
}
