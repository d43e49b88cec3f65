//! Which configured cluster has which of Kafka's own ids: learned whenever one is connected to.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::kafka::{Client, Cluster, Retry};

/// Who asks for a cluster by Kafka's id waits so long for those that are not known.
const ASK_FOR: Duration = Duration::from_secs(5);
/// Clusters that did not answer are not asked again before.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What is known, by the clusters' names.
#[derive(Debug, Default)]
pub struct ClusterIds {
    known: Mutex<KnownId>,
}

#[derive(Debug, Default)]
struct KnownId {
    /// Name, what it was configured as, and its id.
    ids: BTreeMap<String, (Cluster, String)>,
    asked_at: Option<Instant>,
}

impl ClusterIds {
    /// A client was connected.
    pub(super) fn learn(&self, name: &str, cluster: &Cluster, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .ids
            .insert(name.to_owned(), (cluster.clone(), id.to_owned()));
    }

    /// The names of configured clusters by their ids, as far as they are known.
    pub fn names(&self, clusters: &BTreeMap<String, Cluster>) -> BTreeMap<String, String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let current = known
            .ids
            .iter()
            .filter(|(name, (was, _))| clusters.get(*name) == Some(was));
        current
            .map(|(name, (_, id))| (id.clone(), name.clone()))
            .collect()
    }

    /// Asks the clusters whose ids are not known.
    pub async fn ask(&self, clusters: &BTreeMap<String, Cluster>) {
        let unknown: Vec<(String, Cluster)> = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let unknown = clusters.iter().filter(|(name, cluster)| {
                known.ids.get(*name).is_none_or(|(was, _)| was != *cluster)
            });
            let unknown: Vec<_> = unknown
                .map(|(name, cluster)| (name.clone(), cluster.clone()))
                .collect();
            if unknown.is_empty()
                || known
                    .asked_at
                    .is_some_and(|at| at.elapsed() < ASK_AGAIN_AFTER)
            {
                return;
            }
            known.asked_at = Some(Instant::now());
            unknown
        };
        let mut asking = JoinSet::new();
        for (name, cluster) in unknown {
            asking.spawn(async move {
                let retry = Retry {
                    deadline: ASK_FOR,
                    ..Retry::default()
                };
                let client = Client::connect(cluster.clone(), retry).await;
                client.map(|client| (name, cluster, client.cluster_id().to_owned()))
            });
        }
        let until = Instant::now() + ASK_FOR;
        while let Ok(Some(asked)) = tokio::time::timeout_at(until, asking.join_next()).await {
            if let Ok(Ok((name, cluster, id))) = asked {
                self.learn(&name, &cluster, &id);
            }
        }
    }
}
