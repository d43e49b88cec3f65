//! A session: what was planned is read and written until all is there, or until something fails. The next one begins where the last
//! transaction ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::engine::backup::GroupSelection;
use crate::engine::rate::RateLimiter;
use crate::engine::watchdog::Watchdog;
use crate::engine::{EngineError, Stop, settings};
use crate::kafka::{Client, NewTopic, TopicPartition};
use crate::memory::RunMemory;
use crate::record::ProducerId;

use super::MirrorOptions;
use super::groups::{self, Following, Positions};
use super::plan::{Bounds, MirrorPlan, plan_within};
use super::progress;
use super::read::{Cursor, Part, Source, read_all};
use super::scan::Scanning;
use super::state::{MirrorState, PartitionState};
use super::transform::Route;
use super::write::{Writer, Written};

/// A cluster aborts a transaction that is open for longer: then the mirror is gone.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Topics and settings are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What all sessions of a mirror share.
pub(super) struct Means<'a> {
    pub source: &'a Client,
    pub target: &'a Client,
    pub options: &'a MirrorOptions,
    /// Memory for what is read.
    pub memory: &'a RunMemory,
    pub watchdog: &'a Watchdog,
}

/// How a session ended that did not fail.
pub(super) enum Ended {
    /// All is there, or it was told to stop; with what should be looked at.
    Finished(Vec<String>),
    /// There are other topics, or partitions, than it knew.
    TopicsChanged,
}

/// Runs one session.
pub(super) async fn session(
    means: &Means<'_>,
    bounds: &mut Bounds,
    state: &MirrorState,
) -> Result<Ended, EngineError> {
    let Means {
        source,
        target,
        options,
        ..
    } = *means;
    // First: whoever bore the name before can commit no more progress then.
    let producer = target
        .transactional_producer(&options.id(), TRANSACTION_TIMEOUT)
        .await?;
    let mut plan = plan_within(source, target, options, bounds).await?;
    keep_bounds(bounds, &mut plan);
    confirm(bounds, &plan, state);
    make_ready(target, &plan).await?;
    remember_settings(bounds, &plan);
    let returning = progress::returning(source, &plan.target_cluster_id).await?;
    let mut warnings = plan.warnings.clone();
    if returning.is_none() {
        warnings.push("what another mirror brought from the target cannot be told apart: grant DESCRIBE on the source's groups".to_owned());
    }
    state.begin(plan.statuses());
    let (events, incoming) = mpsc::channel(16);
    let limiter = RateLimiter::new(options.rate_limit);
    let returning = returning.unwrap_or_default();
    let partitions = plan.topics.iter();
    let partitions = partitions.map(|topic| (topic.topic.clone(), topic.target_partitions));
    let route = options.transform().map(|transform| Route {
        transform: transform.clone(),
        source_id: plan.source_cluster_id.clone(),
        target_id: plan.target_cluster_id.clone(),
        partitions: partitions.collect(),
    });
    let memory = means.memory.clone();
    let reading = Source::new(limiter, events, returning.clone(), route, memory);
    let cursors = cursors(&plan, options, bounds);
    let positions = Positions::default();
    let mut writer = Writer::new(
        target,
        producer,
        options,
        &plan,
        state,
        &positions,
        bounds.left,
    )
    .await?;
    // Ends the reading alone: what was read is still written.
    let enough = options.stop.child_token();
    // Nobody writes what is read.
    let written_all = Stop::new();
    let read = async {
        let read = read_all(source, &reading, means.watchdog.clone(), cursors);
        let read = enough.run_until_cancelled(read);
        let read = written_all.run_until_cancelled(read).await;
        drop(reading);
        read.flatten().unwrap_or(Ok(()))
    };
    let write = async {
        let written = writer.run(incoming, means.watchdog).await;
        written_all.cancel();
        written
    };
    let mut changes = Changes {
        source,
        target,
        options,
        bounds: bounds.clone(),
        enough: &enough,
        state,
        positions: &positions,
        returning: &returning,
    };
    let (read, written) = tokio::select! {
        ended = async { tokio::join!(read, write) } => ended,
        never = changes.follow(&plan) => match never {},
    };
    if written.is_ok() {
        changes.follow_groups(&plan).await?;
    }
    match written.and_then(|written| read.map(|()| written)) {
        Ok(Written::All) if enough.is_cancelled() && !options.stop.is_cancelled() => {
            Ok(Ended::TopicsChanged)
        }
        Ok(Written::All) => Ok(Ended::Finished(warnings)),
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
fn keep_bounds(bounds: &mut Bounds, plan: &mut MirrorPlan) {
    for topic in &mut plan.topics {
        for partition in &mut topic.partitions {
            let key = TopicPartition {
                topic: topic.topic.clone(),
                partition: partition.partition,
            };
            if let Some(why) = bounds.refused.get(&key) {
                partition.state = PartitionState::Refused;
                partition.problem = Some(why.clone());
            }
            bounds.ends.entry(key).or_insert(partition.end_offset);
        }
    }
}

/// Counts what the transaction held with which the session before broke off, when the target has it.
fn confirm(bounds: &mut Bounds, plan: &MirrorPlan, state: &MirrorState) {
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

/// Creates and changes what the plan wants of the target's topics.
async fn make_ready(target: &Client, plan: &MirrorPlan) -> Result<(), EngineError> {
    let new: Vec<NewTopic> = plan.new_topics();
    if !new.is_empty() {
        for (topic, answer) in target.create_topics(&new, false).await? {
            if let Err(error) = answer {
                return Err(EngineError::Refused(format!(
                    "topic {topic} cannot be created in the target: {error}"
                )));
            }
        }
    }
    let grow = plan
        .topics
        .iter()
        .filter(|topic| topic.add_partitions > 0 && !topic.create);
    let grow: BTreeMap<String, u32> = grow
        .map(|topic| {
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            (topic.target_topic.clone(), count)
        })
        .collect();
    if !grow.is_empty() {
        target.create_partitions(&grow).await?;
    }
    follow_settings(target, plan).await
}

async fn follow_settings(target: &Client, plan: &MirrorPlan) -> Result<(), EngineError> {
    let changes = plan
        .topics
        .iter()
        .filter(|topic| !topic.settings.is_empty());
    let changes = changes.map(|topic| (topic.target_topic.clone(), topic.settings.clone()));
    for refused in settings::change(target, &changes.collect()).await? {
        tracing::warn!("{refused}; the topic is mirrored without it");
    }
    Ok(())
}

fn cursors(plan: &MirrorPlan, options: &MirrorOptions, bounds: &Bounds) -> Vec<Cursor> {
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
        Cursor {
            topic_id: topic.topic_id,
            leader: partition.leader,
            leader_epoch: Some(partition.leader_epoch),
            last_epoch: partition.last_epoch,
            ..Cursor::new(key, partition.start_offset, Part { slot, end })
        }
    });
    cursors.collect()
}

/// What changes in the source while a session goes on.
struct Changes<'a> {
    source: &'a Client,
    target: &'a Client,
    options: &'a MirrorOptions,
    bounds: Bounds,
    enough: &'a Stop,
    state: &'a MirrorState,
    positions: &'a Positions,
    returning: &'a BTreeSet<ProducerId>,
}

impl Changes<'_> {
    /// Follows settings; ends the session when there are other topics or partitions.
    async fn follow(&mut self, plan: &MirrorPlan) -> std::convert::Infallible {
        if !self.options.until.is_bounded() {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                match self.look(plan).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        let name = &self.options.name;
                        tracing::warn!(
                            "mirror {name}: topics and settings are not followed at present: {error}"
                        );
                    }
                }
            }
            tracing::info!(
                "mirror {}: the source has other topics or partitions",
                self.options.name
            );
            self.enough.cancel();
        }
        std::future::pending().await
    }

    /// Groups are followed beside the mirror, so what is read for that takes memory of its own.
    fn scanning(&self) -> Scanning {
        Scanning {
            memory: self.options.memory.run(),
            watchdog: Watchdog::new(),
        }
    }

    async fn follow_groups(&self, plan: &MirrorPlan) -> Result<(), EngineError> {
        if self.options.groups == GroupSelection::None {
            return Ok(());
        }
        let following = Following {
            source: self.source,
            target: self.target,
            plan,
            chosen: &self.options.groups,
            positions: self.positions,
            returning: self.returning,
            scanning: self.scanning(),
            is_transformed: self.options.transform().is_some(),
        };
        let followed = groups::follow(&following).await?;
        self.state.groups_followed(followed);
        Ok(())
    }

    async fn look(&mut self, plan: &MirrorPlan) -> Result<bool, EngineError> {
        let now = plan_within(self.source, self.target, self.options, &self.bounds).await?;
        follow_settings(self.target, &now).await?;
        self.follow_groups(plan).await?;
        remember_settings(&mut self.bounds, &now);
        Ok(now.shape() != plan.shape())
    }
}

fn remember_settings(bounds: &mut Bounds, plan: &MirrorPlan) {
    let settings = plan.topics.iter();
    let settings = settings.map(|topic| (topic.topic.clone(), topic.source_settings.clone()));
    bounds.settings = settings.collect();
}
