//! What a run does.

use serde::Serialize;

/// The kinds of work that runs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// It backs up, and verifies what it made.
    Backup,
    /// It takes away what its policy does not keep.
    Expire,
    /// It restores.
    Restore,
    /// It verifies a backup.
    Validate,
    /// It copies a topic from cluster to cluster, and ends.
    Migrate,
    /// It is a mirror.
    Mirror,
    /// It watches a group until that has consumed what there is.
    Drain,
}

impl Work {
    /// As the logs call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Expire => "expire",
            Self::Restore => "restore",
            Self::Validate => "validate",
            Self::Migrate => "migrate",
            Self::Mirror => "mirror",
            Self::Drain => "drain",
        }
    }
}
