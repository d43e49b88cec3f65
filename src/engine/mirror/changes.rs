//! What changes in both clusters while a session goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::groups::GroupSelection;
use crate::engine::watchdog::Watchdog;
use crate::engine::{EngineError, Stop};
use crate::kafka::Client;
use crate::record::ProducerId;

use super::MirrorOptions;
use super::groups::{self, Following, GroupPositions};
use super::plan::{MirrorBounds, MirrorPlan, TopicShape};
use super::planning::plan_within;
use super::scan::Scanning;
use super::state::MirrorState;
use super::target_topics::{Refused, TargetTopics};

/// Topics, progress and settings are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After a look that failed, the next one comes sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Follows what changes.
pub(super) struct Changes<'a> {
    pub source: &'a Client,
    pub target: &'a Client,
    pub options: &'a MirrorOptions,
    pub bounds: MirrorBounds,
    /// Ends the session's reading; what was read is still written.
    pub enough: &'a Stop,
    pub state: &'a MirrorState,
    pub positions: &'a GroupPositions,
    pub returning: &'a BTreeSet<ProducerId>,
    /// Topics of the target that it did not take, or not as they are to be, when the session began.
    pub refused: &'a BTreeSet<String>,
}

/// What a look found.
enum Found {
    Same,
    /// There are other topics or partitions: the session is to end with what it has read.
    OtherTopics,
    /// The session writes to logs of the target that are gone or cut off: it is to end at once.
    OtherTargets,
}

impl Changes<'_> {
    /// Follows settings and groups of a mirror that goes on. Ends the reading when there are other topics or partitions, and
    /// returns when nothing more is to be written; else it does not return.
    pub async fn follow(&mut self, plan: &MirrorPlan, shape: &[TopicShape]) {
        let name = &self.options.name;
        let mut pause = LOOK_EVERY;
        while !self.options.until.is_bounded() {
            tokio::time::sleep(pause).await;
            pause = LOOK_EVERY;
            match self.look(plan, shape).await {
                Ok(Found::Same) => {}
                Ok(Found::OtherTopics) => {
                    tracing::info!("mirror {name}: the clusters have other topics or partitions");
                    self.enough.cancel();
                    break;
                }
                Ok(Found::OtherTargets) => {
                    tracing::warn!(
                        "mirror {name}: the target has other topics than were written to"
                    );
                    return;
                }
                Err(error) => {
                    pause = LOOK_AGAIN;
                    tracing::warn!(
                        "mirror {name}: topics and settings are not followed at present: {error}"
                    );
                }
            }
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

    /// Moves the chosen groups in the target.
    pub async fn follow_groups(&self, plan: &MirrorPlan) -> Result<(), EngineError> {
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

    async fn look(
        &mut self,
        plan: &MirrorPlan,
        shape: &[TopicShape],
    ) -> Result<Found, EngineError> {
        let now = plan_within(self.source, self.target, self.options, &self.bounds).await?;
        // Before groups are moved in topics that may not hold what they have read.
        if plan.is_refuted_by(&now) {
            return Ok(Found::OtherTargets);
        }
        let is_same = now.shape() == shape;
        // What the target did not take when the session began it may take now, and the other way round.
        let topics = TargetTopics::new(self.target, self.options, &self.bounds.told);
        let refused = match is_same {
            true => topics.make_ready(&now).await?,
            false => Refused::new(),
        };
        self.follow_groups(plan).await?;
        remember_settings(&mut self.bounds, &now);
        Ok(match is_same && refused.keys().eq(self.refused) {
            true => Found::Same,
            false => Found::OtherTopics,
        })
    }
}

/// Notes the source's settings, so that only what changes is changed in the target.
pub(super) fn remember_settings(bounds: &mut MirrorBounds, plan: &MirrorPlan) {
    let settings = plan.topics.iter();
    let settings = settings.map(|topic| (topic.topic.clone(), topic.source_settings.clone()));
    bounds.settings = settings.collect();
}
