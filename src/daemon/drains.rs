//! The drain policies: each looks at its group again and again, and remembers what it saw last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use tokio::task::AbortHandle;

use crate::engine::EngineError;
use crate::engine::drain::{DrainReport, GroupReport, Watch};
use crate::kafka::{Client, Cluster, Retry};
use crate::memory::MemoryBudget;
use crate::policy::{DaemonConfiguration, Difference, DrainPolicy, PolicyId, PolicyKind};

use super::status::PolicyStatus;

/// A check that takes longer than this is given up, and begun anew at the next one's time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a drain policy saw last.
#[derive(Debug, Default)]
pub struct DrainWatch {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    report: Option<DrainReport>,
    error: Option<String>,
}

impl DrainWatch {
    /// The policy's group, when it was last looked at. None before, and while the cluster does not answer: an old answer is none.
    pub fn group(&self) -> Option<GroupReport> {
        self.lock().report.as_ref()?.groups.first().cloned()
    }

    /// Why it could not be looked at.
    pub fn error(&self) -> Option<String> {
        self.lock().error.clone()
    }

    pub(super) fn saw(&self, checked: Result<DrainReport, EngineError>) {
        let mut last = self.lock();
        *last = match checked {
            Ok(report) => Last {
                report: Some(report),
                error: None,
            },
            Err(error) => Last {
                report: None,
                error: Some(error.to_string()),
            },
        };
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `{ checked_at, group, error }`
impl Serialize for DrainWatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let last = self.lock();
        let mut watch = serializer.serialize_struct("DrainWatch", 3)?;
        let checked_at = last.report.as_ref().map(|report| report.last_check_time);
        watch.serialize_field("checked_at", &checked_at)?;
        let group = last
            .report
            .as_ref()
            .and_then(|report| report.groups.first());
        watch.serialize_field("group", &group)?;
        watch.serialize_field("error", &last.error)?;
        watch.end()
    }
}

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
            ..PolicyStatus::new(name, PolicyKind::Drain.name())
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
                    tracing::info!(policy = %name, "policy {name}: group {}: {}", group.group_id, group.reason);
                }
            }
            // Once, until it succeeds again.
            Err(error) if !failed_before => {
                tracing::warn!(policy = %name, "policy {name}: the group cannot be looked at: {error}");
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
