//! `mirror`: copies topics from one cluster to another, every record once.
//!
//! ```text
//! plan      topics, their targets, and how far they are            -> MirrorPlan
//! read      a worker a leader: raw batches, what was committed     -> Piece
//! prepare   as they are, or opened where they must be              -> Ready
//! write     a transaction: batches, and the offsets behind them
//! ```
//!
//! Progress lies in the target alone, as offsets of a group that are committed in the same transaction as the records. So a mirror
//! that fails in any way is begun anew from there, and nothing else has to be known.

mod backfill;
mod changes;
mod committed;
mod compare;
mod configuration;
mod expression;
mod fingerprint;
mod groups;
mod movement;
mod offset_map;
mod offsets;
mod options;
mod plan;
mod planner;
mod planning;
mod prepare;
mod progress;
mod range;
mod read;
mod ready;
mod scan;
mod session;
mod state;
mod target_ends;
mod target_logs;
mod target_topics;
mod targets;
mod told;
mod transform;
mod write;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;

use crate::engine::blocking::Threads;
use crate::kafka::{Client, ErrorCode, KafkaError};
use crate::repository::Completion;

use super::EngineError;
use super::watchdog::Watchdog;

use movement::Movement;
use session::{Ended, Means};

pub use compare::{Compared, Comparison, Likeness, RecordDifference, compare};
pub use expression::{Expression, InvalidExpression};
pub use options::{IfExists, MirrorOptions};
pub use plan::{MirrorPlan, PartitionPlan, TopicPlan};
pub use range::{From, Until};
pub use state::{GroupStatus, MirrorState, PartitionState, PartitionStatus, RecordOutcome};
pub use transform::{OnError, Transform};

/// What a mirror came to.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorReport {
    /// `completed`, or `incomplete` when partitions stand still for good, or the target has deleted already of what was written.
    pub status: Completion,
    /// The source.
    pub source_cluster_id: String,
    /// The target.
    pub target_cluster_id: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration_ms: u64,
    /// Records that came into the target.
    pub records: u64,
    /// Bytes of record batches that came into the target.
    pub bytes: u64,
    /// The partitions.
    pub partitions: Vec<PartitionStatus>,
    /// Consumer groups that follow.
    pub groups: Vec<GroupStatus>,
    /// What should be looked at.
    pub warnings: Vec<String>,
}

/// Plans; nothing is changed in either cluster.
pub async fn plan(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
) -> Result<MirrorPlan, EngineError> {
    planning::plan(source, target, options).await
}

/// Mirrors until all is there, or until it is told to stop. What fails in passing is begun anew from what is committed: by a
/// bounded mirror until nothing has moved for the clients' deadline, else for ever.
pub async fn mirror(
    source: &Client,
    target: &Client,
    options: &MirrorOptions,
    state: &Arc<MirrorState>,
) -> Result<MirrorReport, EngineError> {
    let started_at = Utc::now();
    let clock = Instant::now();
    let (memory, watchdog) = (options.memory.run(), Watchdog::new());
    let threads = Threads::default();
    let means = Means {
        source,
        target,
        options,
        memory: &memory,
        watchdog: &watchdog,
        threads: &threads,
    };
    let ran = run_sessions(&means, state).await;
    // Whoever counts mirrors counts their threads.
    threads.ended().await;
    let (mut warnings, deleted) = ran?;
    let partitions = state.partitions();
    let stands = partitions
        .iter()
        .any(|partition| partition.state.is_stopped());
    warnings.extend(deleted.iter().cloned());
    let sum = |of: fn(&PartitionStatus) -> u64| partitions.iter().map(of).sum();
    Ok(MirrorReport {
        status: Completion::unless(stands || !deleted.is_empty()),
        source_cluster_id: source.cluster_id().to_owned(),
        target_cluster_id: target.cluster_id().to_owned(),
        started_at,
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        records: sum(|partition| partition.records),
        bytes: sum(|partition| partition.bytes),
        partitions,
        groups: state.groups(),
        warnings,
    })
}

/// Runs sessions until one finishes: its warnings, and what the target has deleted already of what was written.
async fn run_sessions(
    means: &Means<'_>,
    state: &MirrorState,
) -> Result<(Vec<String>, Vec<String>), EngineError> {
    let options = means.options;
    let mut bounds = plan::MirrorBounds::default();
    let mut movement = Movement::new(state);
    let retry = means.target.retry();
    let copied_before = state.copied();
    loop {
        let copied = state.copied() - copied_before;
        bounds.left = options.max_messages.map(|most| most.saturating_sub(copied));
        let session = session::session(means, &mut bounds, state);
        // All sessions together, as long as nothing moves.
        let left = match options.until.is_bounded() {
            true => movement.left(retry.deadline),
            false => retry.deadline,
        };
        let ended = means.watchdog.over(left, means.memory, session).await;
        movement.session_ended();
        let error = match ended {
            Ok(Ended::Finished { warnings, deleted }) => return Ok((warnings, deleted)),
            Ok(Ended::TopicsChanged) => continue,
            Err(error) => error,
        };
        if is_fenced(&error) {
            return Err(EngineError::refused(format!(
                "another mirror named {} has taken over: two of one name fence each other, so stop one",
                options.name
            )));
        }
        if !may_succeed_again(&error) || options.stop.is_cancelled() {
            return Err(error);
        }
        let pause = movement.pause(retry);
        if options.until.is_bounded() && movement.left(retry.deadline) < pause {
            return Err(error);
        }
        state.interrupted(&error.to_string());
        tracing::warn!(
            "mirror {}: begun anew in {} ms: {error}",
            options.name,
            pause.as_millis()
        );
        let pausing = tokio::time::sleep(pause);
        if options.stop.run_until_cancelled(pausing).await.is_none() {
            return Err(error);
        }
    }
}

/// Whether another session, which takes the name again, plans again and writes under a new epoch, may succeed where one failed.
fn may_succeed_again(error: &EngineError) -> bool {
    // What a cluster that was made new, or a log that was created again, says to the producer of before.
    let forgotten = [
        ErrorCode::InvalidProducerIdMapping,
        ErrorCode::InvalidTxnState,
        ErrorCode::OutOfOrderSequenceNumber,
        ErrorCode::UnknownProducerId,
    ];
    let is_forgotten = matches!(error, EngineError::Kafka(KafkaError::Broker { code, .. }) if forgotten.contains(code));
    error.is_transient() || is_forgotten
}

fn is_fenced(error: &EngineError) -> bool {
    matches!(error, EngineError::Kafka(error) if KafkaError::is_fenced(error))
}
