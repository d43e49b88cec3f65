//! Names of clusters and repositories, as policies give them.

use serde_json::Value;

use super::key::{Kind, Node};
use super::kinds::Text;
use super::reader::Reader;

/// The name of a cluster that `kafkeep.toml` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterName(pub String);

/// The name of a repository that `kafkeep.toml` has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepositoryName(pub String);

impl Kind for ClusterName {
    const WANTS: &'static str = "the name of a cluster";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Text(name) = Text::read(node, reader)?;
        reader.known("cluster", node, &name, |known| &known.clusters);
        Some(Self(name))
    }
}

impl Kind for RepositoryName {
    const WANTS: &'static str = "the name of a repository";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Text(name) = Text::read(node, reader)?;
        reader.known("repository", node, &name, |known| &known.repositories);
        Some(Self(name))
    }
}
