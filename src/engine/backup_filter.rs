//! Which backups of a repository a command or a call speaks of: by policy, by cluster and by topic.
//!
//! One filter serves every verb and the API. A cluster is named by Kafka's own id, or by the name that it had in the
//! configuration when one of its backups was made. What a filter asks for and nothing has is an error that says what there is.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::repository::{BackupId, Manifest};

use super::EngineError;
use super::refusal::{Part, Refusal};
use super::topics::{Candidate, TopicPattern, TopicPatterns, nearest};

/// What `--policy` takes for backups that no policy made. No policy has this name.
pub const NO_POLICY: &str = "-";
/// The word for the newest backup.
pub const LATEST: &str = "latest";
/// What exists is listed up to this many.
const LISTED: usize = 10;

/// By what backups are chosen; the default chooses all.
#[derive(Debug, Clone, Default)]
pub struct BackupFilter {
    /// Only those of this policy, or with [`NO_POLICY`] those of none.
    pub policy: Option<String>,
    /// Only those of this cluster: Kafka's id, or its name in the configuration.
    pub cluster: Option<String>,
    /// Only those that hold a topic of these.
    pub topics: TopicPatterns,
}

/// Where a backup comes from and what it holds, as far as filters look.
pub trait Origin {
    /// Its id, which tells its place among the others.
    fn backup_id(&self) -> BackupId;
    /// The policy that made it.
    fn policy(&self) -> Option<&str>;
    /// Kafka's id of its cluster.
    fn cluster_id(&self) -> &str;
    /// The name of its cluster, where one is known.
    fn cluster_name(&self) -> Option<&str>;
    /// Its topics.
    fn topics(&self) -> impl Iterator<Item = &str> + Clone;
}

impl Origin for Manifest {
    fn backup_id(&self) -> BackupId {
        self.backup_id
    }

    fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn cluster_name(&self) -> Option<&str> {
        self.cluster_name.as_deref()
    }

    fn topics(&self) -> impl Iterator<Item = &str> + Clone {
        self.topics.iter().map(|topic| topic.topic.as_str())
    }
}

/// What a filter needs of a manifest: all of a repository's fit into memory.
#[derive(Debug, Clone)]
pub struct BackupHead {
    pub(super) backup_id: BackupId,
    policy: Option<String>,
    cluster_id: String,
    cluster_name: Option<String>,
    pub(super) topics: Vec<String>,
}

impl From<&Manifest> for BackupHead {
    fn from(manifest: &Manifest) -> Self {
        Self {
            backup_id: manifest.backup_id,
            policy: manifest.policy.clone(),
            cluster_id: manifest.cluster_id.clone(),
            cluster_name: manifest.cluster_name.clone(),
            topics: Origin::topics(manifest).map(str::to_owned).collect(),
        }
    }
}

impl Origin for BackupHead {
    fn backup_id(&self) -> BackupId {
        self.backup_id
    }

    fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn cluster_name(&self) -> Option<&str> {
        self.cluster_name.as_deref()
    }

    fn topics(&self) -> impl Iterator<Item = &str> + Clone {
        self.topics.iter().map(String::as_str)
    }
}

/// Policies and clusters that are known beside those of backups: to ask for their backups is no slip, though there are none yet.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    /// Names of policies.
    pub policies: BTreeSet<String>,
    /// Names of clusters, and their ids as far as they are known.
    pub clusters: BTreeSet<String>,
}

/// A part of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterPart {
    /// The policy.
    Policy,
    /// The cluster.
    Cluster,
    /// A topic.
    Topic,
}

/// A filter asks for what no backup has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NoSuchBackup {
    /// Which part of the filter.
    pub part: FilterPart,
    /// What it asks for.
    pub value: String,
    /// What is not there, and what is.
    pub why: String,
}

impl From<NoSuchBackup> for EngineError {
    fn from(none: NoSuchBackup) -> Self {
        let refusal = Refusal::new(none.why);
        Self::not_found(match none.part {
            FilterPart::Topic => refusal.of(Part::Topic, none.value),
            FilterPart::Policy | FilterPart::Cluster => refusal,
        })
    }
}

impl BackupFilter {
    /// Whether it chooses all backups.
    pub fn is_all(&self) -> bool {
        self.policy.is_none() && self.cluster.is_none() && self.topics.is_empty()
    }

    /// Those of `backups` that it chooses, in their order. In a repository without backups nothing is a slip.
    ///
    /// # Errors
    ///
    /// Where a part of it matches neither a backup nor what is configured.
    pub fn choose<'a, B: Origin>(
        &self,
        backups: &'a [B],
        configured: &Configured,
    ) -> Result<Vec<&'a B>, NoSuchBackup> {
        let made = self.by_maker(backups, configured)?;
        if !made.is_empty()
            && let Some(pattern) = self.topics.unmatched(topics(made.iter().copied()))
        {
            return Err(no_topic(pattern, backups));
        }
        Ok(made
            .into_iter()
            .filter(|backup| self.holds(*backup))
            .collect())
    }

    /// The newest that it chooses. Its topics choose among policies and clusters, never an older backup than their newest.
    ///
    /// # Errors
    ///
    /// Where none is chosen, and where the chosen ones are of several policies or clusters.
    pub(super) fn latest<B: Origin>(&self, backups: &[B]) -> Result<Option<BackupId>, EngineError> {
        let made = self.by_maker(backups, &Configured::default())?;
        if !made.is_empty()
            && let Some(pattern) = self.topics.unmatched(topics(made.iter().copied()))
        {
            return Err(no_topic(pattern, backups).into());
        }
        let makers: BTreeSet<Maker<'_>> = made
            .iter()
            .filter(|backup| self.holds(**backup))
            .map(|backup| Maker::of(*backup))
            .collect();
        if makers.len() > 1 {
            return Err(self.ambiguous(&makers, backups));
        }
        let of_maker = made
            .iter()
            .filter(|backup| makers.contains(&Maker::of(**backup)));
        Ok(of_maker.map(|backup| backup.backup_id()).max())
    }

    /// The backups of the policy and the cluster.
    fn by_maker<'a, B: Origin>(
        &self,
        backups: &'a [B],
        configured: &Configured,
    ) -> Result<Vec<&'a B>, NoSuchBackup> {
        let ids = self.cluster_ids(backups);
        let of_policy = |backup: &&B| {
            let policy = backup.policy().unwrap_or(NO_POLICY);
            self.policy.as_ref().is_none_or(|wanted| wanted == policy)
        };
        let of_cluster = |backup: &&B| self.cluster.is_none() || ids.contains(backup.cluster_id());
        let has_policy = backups.iter().any(|backup| of_policy(&backup));
        let has_cluster = backups.iter().any(|backup| of_cluster(&backup));
        let made = backups
            .iter()
            .filter(|backup| of_policy(backup) && of_cluster(backup));
        let made: Vec<&B> = made.collect();
        if !made.is_empty() || backups.is_empty() {
            return Ok(made);
        }
        match (&self.policy, &self.cluster) {
            (Some(policy), _) if !has_policy && !configured.policies.contains(policy) => {
                Err(no_policy(policy, backups))
            }
            (_, Some(cluster)) if !has_cluster && !configured.clusters.contains(cluster) => {
                Err(no_cluster(cluster, backups))
            }
            (Some(policy), Some(cluster)) if has_policy && has_cluster => {
                Err(not_both(policy, cluster, backups.iter().filter(of_policy)))
            }
            _ => Ok(made),
        }
    }

    /// Kafka's ids of the clusters that its cluster may mean: a name stands for all that had it.
    fn cluster_ids<'a, B: Origin>(&self, backups: &'a [B]) -> BTreeSet<&'a str> {
        let wanted = self.cluster.as_deref();
        backups
            .iter()
            .filter(|backup| {
                wanted == Some(backup.cluster_id())
                    || (wanted.is_some() && wanted == backup.cluster_name())
            })
            .map(Origin::cluster_id)
            .collect()
    }

    fn holds(&self, backup: &impl Origin) -> bool {
        self.topics.is_empty() || chooses_any(&self.topics, backup)
    }

    fn ambiguous<B: Origin>(&self, makers: &BTreeSet<Maker<'_>>, backups: &[B]) -> EngineError {
        let policies: BTreeSet<_> = makers.iter().map(|maker| maker.policy).collect();
        let clusters: BTreeSet<_> = makers.iter().map(|maker| maker.cluster_id).collect();
        let add = match (policies.len() > 1, clusters.len() > 1) {
            (true, true) => "--policy and --cluster",
            (true, false) => "--policy",
            (false, _) if self.cluster.is_some() => "--cluster with Kafka's id",
            (false, _) => "--cluster",
        };
        let names = cluster_names(backups);
        let all = makers.iter().map(|maker| maker.describe(&names));
        EngineError::refused(format!(
            "`{LATEST}` is ambiguous: there are backups of {}; add {add}, or give the backup's id",
            listed(all)
        ))
    }
}

/// Who made a backup, and of what cluster: `latest` is the newest of one maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Maker<'a> {
    policy: Option<&'a str>,
    cluster_id: &'a str,
}

impl<'a> Maker<'a> {
    pub(super) fn of(backup: &'a impl Origin) -> Self {
        Self {
            policy: backup.policy(),
            cluster_id: backup.cluster_id(),
        }
    }

    pub(super) fn describe(&self, names: &BTreeMap<&str, &str>) -> String {
        let cluster = cluster(self.cluster_id, names);
        match self.policy {
            Some(policy) => format!("policy {policy} of cluster {cluster}"),
            None => format!("no policy (`{NO_POLICY}`) of cluster {cluster}"),
        }
    }
}

/// The newest name of each cluster.
pub(super) fn cluster_names<B: Origin>(backups: &[B]) -> BTreeMap<&str, &str> {
    let named = backups
        .iter()
        .filter_map(|backup| Some((backup.cluster_id(), backup.cluster_name()?)));
    named.collect()
}

fn cluster(id: &str, names: &BTreeMap<&str, &str>) -> String {
    match names.get(id) {
        Some(name) => format!("{name} ({id})"),
        None => id.to_owned(),
    }
}

fn chooses_any(patterns: &TopicPatterns, backup: &impl Origin) -> bool {
    backup.topics().any(|name| {
        patterns.chooses(Candidate {
            name,
            is_internal: false,
        })
    })
}

fn topics<'a, B: Origin + 'a>(
    backups: impl Iterator<Item = &'a B> + Clone,
) -> impl Iterator<Item = &'a str> + Clone {
    backups.flat_map(|backup| backup.topics())
}

fn no_policy<B: Origin>(policy: &str, backups: &[B]) -> NoSuchBackup {
    let known: BTreeSet<&str> = backups.iter().filter_map(Origin::policy).collect();
    let what = match policy {
        NO_POLICY => "every backup was made by a policy".to_owned(),
        policy => format!("no backup is of policy `{policy}`"),
    };
    let there_are = match known.is_empty() {
        true => format!("no policy made any of them (`{NO_POLICY}`)"),
        false => format!("there are backups of policies {}", listed(known)),
    };
    NoSuchBackup {
        part: FilterPart::Policy,
        value: policy.to_owned(),
        why: format!("{what}; {there_are}"),
    }
}

fn no_cluster<B: Origin>(wanted: &str, backups: &[B]) -> NoSuchBackup {
    let names = cluster_names(backups);
    let known: BTreeSet<&str> = backups.iter().map(Origin::cluster_id).collect();
    let known = known.into_iter().map(|id| cluster(id, &names));
    NoSuchBackup {
        part: FilterPart::Cluster,
        value: wanted.to_owned(),
        why: format!(
            "no backup is of cluster `{wanted}`; there are backups of clusters {}",
            listed(known)
        ),
    }
}

/// No backup is of both; `of_policy` are those of the policy.
fn not_both<'a, B: Origin + 'a>(
    policy: &str,
    wanted: &str,
    of_policy: impl Iterator<Item = &'a B>,
) -> NoSuchBackup {
    let clusters: BTreeSet<&str> = of_policy
        .map(|backup| backup.cluster_name().unwrap_or(backup.cluster_id()))
        .collect();
    NoSuchBackup {
        part: FilterPart::Cluster,
        value: wanted.to_owned(),
        why: format!(
            "no backup of policy `{policy}` is of cluster `{wanted}`; there are backups of clusters {}",
            listed(clusters)
        ),
    }
}

/// Of the backups that a filter leaves, none has a topic of this pattern; `backups` are all that there are.
fn no_topic<B: Origin>(pattern: &TopicPattern, backups: &[B]) -> NoSuchBackup {
    let why = match newest_with(pattern, backups.iter()) {
        Some(other) => {
            let names = cluster_names(backups);
            format!(
                "no such backup holds a topic `{pattern}`; backup {} of {} does",
                other.backup_id(),
                Maker::of(other).describe(&names)
            )
        }
        None => {
            let all: BTreeSet<&str> = topics(backups.iter()).collect();
            let near = pattern
                .literal()
                .and_then(|name| nearest(name, all.iter().copied()));
            match near {
                Some(near) => {
                    format!("no backup holds a topic `{pattern}`; did you mean `{near}`?")
                }
                None => format!(
                    "no backup holds a topic `{pattern}`; there are backups of topics {}",
                    listed(all)
                ),
            }
        }
    };
    NoSuchBackup {
        part: FilterPart::Topic,
        value: pattern.to_string(),
        why,
    }
}

pub(super) fn newest_with<'a, B: Origin>(
    pattern: &TopicPattern,
    backups: impl Iterator<Item = &'a B>,
) -> Option<&'a B> {
    backups
        .filter(|backup| backup.topics().any(|topic| pattern.matches(topic)))
        .max_by_key(|backup| backup.backup_id())
}

/// The first few, and how many more there are.
pub fn listed(all: impl IntoIterator<Item = impl ToString>) -> String {
    let mut all = all.into_iter();
    let shown: Vec<String> = all
        .by_ref()
        .take(LISTED)
        .map(|each| each.to_string())
        .collect();
    let shown = match shown.is_empty() {
        true => "none".to_owned(),
        false => shown.join(", "),
    };
    match all.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
