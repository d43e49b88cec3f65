//! A topic's configuration, as a backup holds it.

use serde::{Deserialize, Serialize};

use crate::kafka::ConfigEntry;

/// A topic's configuration as a repository's state: every entry with the place that set it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfiguration {
    /// Sorted by name.
    pub entries: Vec<ConfigEntry>,
}

impl TopicConfiguration {
    /// Whether the log cleaner works on a topic of this configuration: yes where that is not known.
    pub fn may_clean(&self) -> bool {
        let policy = self
            .entries
            .iter()
            .find(|entry| entry.name == "cleanup.policy");
        policy
            .and_then(|entry| entry.value.as_ref())
            .is_none_or(|policy| policy.contains("compact"))
    }
}
