//! `kafkeep.toml`: the clusters and repositories that commands may name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::kafka::Cluster;

use super::cluster_file::ClusterFile;
use super::{PolicyError, toml_file};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigurationFile {
    #[serde(default)]
    clusters: BTreeMap<String, ClusterFile>,
    #[serde(default)]
    repositories: BTreeMap<String, RepositoryFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryFile {
    path: PathBuf,
}

/// Where a repository lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryLocation(pub PathBuf);

/// The clusters and repositories of a configuration directory.
#[derive(Debug)]
pub struct Configuration {
    path: PathBuf,
    file: ConfigurationFile,
}

impl Configuration {
    /// Reads `kafkeep.toml` in `directory`.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        let path = directory.join("kafkeep.toml");
        let file = toml_file::read(&path)?;
        Ok(Self { path, file })
    }

    /// The cluster of this name, with its secrets fetched.
    pub fn cluster(&self, name: &str) -> Result<Cluster, PolicyError> {
        match self.file.clusters.get(name) {
            Some(cluster) => cluster.clone().into_cluster(&self.path),
            None => Err(self.unknown("cluster", name, self.file.clusters.keys())),
        }
    }

    /// The repository of this name.
    pub fn repository(&self, name: &str) -> Result<RepositoryLocation, PolicyError> {
        match self.file.repositories.get(name) {
            Some(repository) => Ok(RepositoryLocation(repository.path.clone())),
            None => Err(self.unknown("repository", name, self.file.repositories.keys())),
        }
    }

    fn unknown<'a>(
        &self,
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a String>,
    ) -> PolicyError {
        let known: Vec<&str> = known.map(String::as_str).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        PolicyError::Unknown {
            kind,
            name: name.to_owned(),
            known,
            path: self.path.clone(),
        }
    }
}
