//! The drain policies: each looks at its group again and again, and remembers what it saw last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::engine::EngineError;
use crate::engine::drain::{DrainReport, DrainState, Watch};
use crate::kafka::{Client, Cluster, Retry};
use crate::memory::MemoryBudget;
use crate::policy::{DaemonConfiguration, Difference, DrainPolicy, PolicyId, PolicyKind};
use crate::quote::quote;

use super::drain_watch::DrainWatch;
use super::status::PolicyStatus;

/// A check that takes longer than this is given up, and begun anew at the next one's time.
const PATIENCE: Duration = Duration::from_secs(30);

/// All of them.
pub(super) struct Drains {
    by_name: BTreeMap<String, Drain>,
    memory: MemoryBudget,
}

struct Drain {
    watch: Arc<DrainWatch>,
    task: AbortHandle,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drains {
    /// None yet; what is read of logs takes memory of this budget.
    pub fn new(memory: MemoryBudget) -> Self {
        Self {
            by_name: BTreeMap::new(),
            memory,
        }
    }

    /// Applies what differs; what changed begins to watch anew.
    pub fn take(&mut self, difference: &Difference, new: &DaemonConfiguration) {
        let of_drains = |id: &&PolicyId| id.kind == PolicyKind::Drain;
        let ends = difference.removed.iter().chain(&difference.changed);
        for id in ends.filter(of_drains) {
            self.by_name.remove(&id.name);
        }
        for policy in &new.drains {
            let Some(cluster) = new.clusters.get(&policy.cluster) else {
                // The configuration was checked.
                continue;
            };
            let begins = || Drain::new(policy.clone(), cluster.clone(), self.memory.clone());
            self.by_name
                .entry(policy.name.clone())
                .or_insert_with(begins);
        }
    }

    pub fn statuses(&self) -> impl Iterator<Item = PolicyStatus> {
        self.by_name.iter().map(|(name, drain)| PolicyStatus {
            runs: true,
            drain: Some(Arc::clone(&drain.watch)),
            ..PolicyStatus::new(name, PolicyKind::Drain)
        })
    }
}

impl Drain {
    fn new(policy: DrainPolicy, cluster: Cluster, memory: MemoryBudget) -> Self {
        let watch = Arc::new(DrainWatch::default());
        let task = tokio::spawn(look(policy, cluster, memory, Arc::clone(&watch)));
        Self {
            watch,
            task: task.abort_handle(),
        }
    }
}

/// Looks for ever. What the group did before a check that failed still counts after it.
async fn look(policy: DrainPolicy, cluster: Cluster, memory: MemoryBudget, seen: Arc<DrainWatch>) {
    let name = &policy.name;
    let mut watch = Watch::new(policy.options(), memory);
    let mut client = None;
    let mut times = tokio::time::interval(policy.every);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let before = seen.group().map(|group| group.status);
        let failed_before = seen.error().is_some();
        let checked = check(&cluster, &mut client, &mut watch).await;
        match &checked {
            Ok(report) => {
                if let Some(group) = report
                    .groups
                    .first()
                    .filter(|group| Some(group.status) != before)
                {
                    let (id, reason) = (&group.group_id, &group.reason);
                    match group.state {
                        DrainState::Stalled | DrainState::Stopped => {
                            tracing::warn!(policy = %name, "policy {name}: group {id}: {reason}");
                        }
                        _ => tracing::info!(policy = %name, "policy {name}: group {id}: {reason}"),
                    }
                }
            }
            // Once, until it succeeds again.
            Err(error) if !failed_before => {
                tracing::warn!(policy = %name, "policy {name}: the group cannot be looked at: {}", quote(error));
            }
            Err(_) => {}
        }
        seen.saw(checked);
    }
}

async fn check(
    cluster: &Cluster,
    client: &mut Option<Client>,
    watch: &mut Watch,
) -> Result<DrainReport, EngineError> {
    let retry = Retry {
        deadline: PATIENCE,
        ..Retry::default()
    };
    let connected = match client.take() {
        Some(client) => client,
        None => Client::connect(cluster.clone(), retry).await?,
    };
    let report = watch.check(&connected).await?;
    *client = Some(connected);
    Ok(report)
}
