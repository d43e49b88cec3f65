//! Clusters, repositories and backups as callers name them.

use std::sync::Arc;

use crate::api::{BackupSummary, Problem, ProblemKind};
use crate::auth::{Caller, Scope};
use crate::engine::backup_filter::{Configured, Origin};
use crate::repository::BackupId;

use super::{Call, forbidden};

impl Call<'_> {
    /// The name in the configuration of a cluster that is given by that, or by Kafka's own id.
    ///
    /// # Errors
    ///
    /// 403 where the caller may not use it with this scope, whether it is there or not; 404 where it is not.
    pub async fn cluster(&self, field: &str, given: &str, scope: Scope) -> Result<String, Problem> {
        self.needs(scope)?;
        let denied = || forbidden("the token does not allow this with this cluster");
        let clusters = &self.configuration.clusters;
        let name = if clusters.contains_key(given) {
            Some(given.to_owned())
        } else {
            let ids = &self.view.cluster_ids;
            if !ids.names(clusters).contains_key(given) {
                ids.ask(clusters).await;
            }
            ids.names(clusters).get(given).cloned()
        };
        match name {
            Some(name) if self.caller.may_in(scope, Some(&name)) => Ok(name),
            None if self.caller.is_everywhere() => {
                let message = "no cluster of this name or id is configured, or it does not answer";
                Err(Problem::not_found(field, given, message))
            }
            _ => Err(denied()),
        }
    }

    /// The repository that is named, or the one that there is, or the one that is configured for those who name none.
    pub fn repository(&self, named: Option<&str>) -> Result<String, Problem> {
        let repositories = &self.configuration.repositories;
        match (named, &self.api.repository) {
            (Some(name), _) if repositories.contains_key(name) => Ok(name.to_owned()),
            (Some(name), _) => Err(Problem::not_found(
                "repository",
                name,
                "no repository of this name is configured",
            )),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => match repositories.keys().collect::<Vec<_>>().as_slice() {
                [only] => Ok((*only).clone()),
                _ => {
                    let message =
                        "there are several repositories: name one, or configure [api] repository";
                    Err(Problem::invalid("repository", "", message))
                }
            },
        }
    }

    /// The backups that the caller may use with this scope, oldest first, with their clusters' names; with `repository`,
    /// only those in it.
    ///
    /// # Errors
    ///
    /// 503 while a repository is being loaded, or does not answer.
    pub async fn backups(
        &self,
        scope: Scope,
        repository: Option<&str>,
    ) -> Result<(Vec<Named>, Vec<BackupId>), Problem> {
        let clusters = &self.configuration.clusters;
        let found = self.view.backups(repository).await;
        if let Some(loading) = found.loading.first() {
            let message = format!(
                "the backups of repository {loading} are still being read, or its storage does not answer: ask again"
            );
            let problem = Problem::new(ProblemKind::ServiceUnavailable, message);
            return Err(problem.again_after(10));
        }
        let mut names = self.view.cluster_ids.names(clusters);
        let is_unknown =
            |backup: &Arc<BackupSummary>| !names.contains_key(&backup.kafka_cluster_id);
        if found.backups.iter().any(is_unknown) && !self.caller.is_everywhere() {
            self.view.cluster_ids.ask(clusters).await;
            names = self.view.cluster_ids.names(clusters);
        }
        let backups = found.backups.into_iter().map(|summary| Named {
            cluster: names.get(&summary.kafka_cluster_id).cloned(),
            summary,
        });
        let backups = backups
            .filter(|backup| backup.is_for(&self.caller, scope))
            .collect();
        // Of what cannot be read it is not known what it is of.
        let damaged = match self.caller.is_everywhere() {
            true => found.damaged.into_iter().map(|(_, id)| id).collect(),
            false => Vec::new(),
        };
        Ok((backups, damaged))
    }

    /// A backup of this id that the caller may use with this scope.
    ///
    /// # Errors
    ///
    /// 404 where there is none, or it is nothing for the caller; 503 while a repository is being loaded.
    pub async fn backup(&self, id: &str, scope: Scope) -> Result<Named, Problem> {
        self.needs(scope)?;
        let (backups, _) = self.backups(scope, None).await?;
        let found = backups
            .into_iter()
            .find(|backup| backup.summary.backup_id.to_string() == id);
        found.ok_or_else(|| Problem::not_found("backup_id", id, "there is no such backup"))
    }
}

impl Call<'_> {
    /// The newest backup that holds this topic, of those that the caller may use with this scope.
    pub async fn newest_with(
        &self,
        topic: &str,
        scope: Scope,
    ) -> Result<Option<BackupId>, Problem> {
        let (backups, _) = self.backups(scope, None).await?;
        let found = backups.iter().rev();
        let mut found = found.filter(|backup| Origin::topics(*backup).any(|held| held == topic));
        Ok(found.next().map(Origin::backup_id))
    }

    /// What a filter may name though there is no backup of it: what is configured, as far as the caller may use it with this scope.
    pub fn configured(&self, scope: Scope) -> Configured {
        let may = |cluster: &str| self.caller.may_in(scope, Some(cluster));
        let clusters = &self.configuration.clusters;
        let ids = self.view.cluster_ids.names(clusters);
        let names = clusters.keys().filter(|name| may(name));
        let ids = ids.iter().filter(|(_, name)| may(name)).map(|(id, _)| id);
        let policies = self.configuration.backups.iter();
        let policies = policies.filter(|policy| may(&policy.cluster));
        Configured {
            policies: policies.map(|policy| policy.name.clone()).collect(),
            clusters: names.chain(ids).cloned().collect(),
        }
    }
}

/// A backup, and its cluster's name in the configuration, where one is known to be it.
pub(super) struct Named {
    pub cluster: Option<String>,
    pub summary: Arc<BackupSummary>,
}

impl Named {
    /// A caller that is limited to some topics sees what holds none but these.
    fn is_for(&self, caller: &Caller, scope: Scope) -> bool {
        let cluster = self.cluster.as_deref();
        let topics = &self.summary.topics;
        caller.may_in(scope, cluster)
            && topics.iter().all(|topic| caller.may(scope, cluster, topic))
    }

    /// What is shown of it, with no more than so many topics.
    pub fn shown(&self, most_topics: usize) -> BackupSummary {
        self.summary.shown(self.cluster_name(), most_topics)
    }
}

impl Origin for Named {
    fn backup_id(&self) -> BackupId {
        self.summary.backup_id
    }

    fn policy(&self) -> Option<&str> {
        self.summary.policy.as_deref()
    }

    fn cluster_id(&self) -> &str {
        &self.summary.kafka_cluster_id
    }

    /// The name in the configuration, which says what a caller may do, else the one that was noted when the backup was made.
    fn cluster_name(&self) -> Option<&str> {
        let noted = self.summary.cluster_id.as_deref();
        self.cluster.as_deref().or(noted)
    }

    fn topics(&self) -> impl Iterator<Item = &str> + Clone {
        self.summary.topics.iter().map(String::as_str)
    }
}
