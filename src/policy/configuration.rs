//! `kafkeep.toml` for commands: they need the clusters and repositories that they name, and nothing else to be right.

use std::path::{Path, PathBuf};

use crate::kafka::Cluster;

use super::PolicyError;
use super::daemon_configuration::{KAFKEEP_TOML, RepositoryLocation};
use super::kafkeep_file::KafkeepFile;
use super::reader::Reader;

/// The clusters and repositories of a configuration directory.
#[derive(Debug)]
pub struct Configuration {
    path: PathBuf,
    reader: Reader,
    file: KafkeepFile,
}

impl Configuration {
    /// Reads `kafkeep.toml` in `directory`.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        let path = directory.join(KAFKEEP_TOML);
        let mut reader = Reader::default();
        let file = reader.read(&path);
        let file = reader.result(file)?;
        Ok(Self { path, reader, file })
    }

    /// The cluster of this name, with its secrets fetched.
    pub fn cluster(&mut self, name: &str) -> Result<Cluster, PolicyError> {
        match self.file.clusters.get(name) {
            Some(entry) => {
                let cluster = entry.value.as_ref();
                let cluster = cluster.and_then(|cluster| cluster.cluster(&mut self.reader));
                self.reader.result(cluster)
            }
            None => Err(self.unknown("cluster", name, self.file.clusters.names())),
        }
    }

    /// The repository of this name.
    pub fn repository(&self, name: &str) -> Result<RepositoryLocation, PolicyError> {
        let found = self.file.repositories.get(name);
        match found.and_then(|entry| entry.value.as_ref()) {
            Some(repository) => Ok(repository.location()),
            None => Err(self.unknown("repository", name, self.file.repositories.names())),
        }
    }

    fn unknown<'a>(
        &self,
        kind: &'static str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> PolicyError {
        let known: Vec<&str> = known.collect();
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
