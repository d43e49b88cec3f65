//! What a run does.

use crate::api::OrderKind;
use crate::words::words;

words! {
    /// The kinds of work that runs do.
    pub enum Work {
        /// It backs up, and verifies what it made.
        Backup = "backup",
        /// It takes away what its policy does not keep.
        Expire = "expire",
        /// It restores.
        Restore = "restore",
        /// It verifies a backup.
        Validate = "validate",
        /// It copies a topic from cluster to cluster, and ends.
        Migrate = "migrate",
        /// It is a mirror.
        Mirror = "mirror",
        /// It watches a group until that has consumed what there is.
        Drain = "drain",
    }
}

/// What is done for a policy that backs up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolicyWork {
    /// It is backed up, and verified.
    Backup,
    /// Its retention is applied.
    Expire,
}

impl From<PolicyWork> for Work {
    fn from(work: PolicyWork) -> Self {
        match work {
            PolicyWork::Backup => Self::Backup,
            PolicyWork::Expire => Self::Expire,
        }
    }
}

impl From<OrderKind> for Work {
    fn from(kind: OrderKind) -> Self {
        match kind {
            OrderKind::Backup => Self::Backup,
            OrderKind::Restore => Self::Restore,
            OrderKind::Migrate => Self::Migrate,
            OrderKind::Drain => Self::Drain,
            OrderKind::Validate => Self::Validate,
        }
    }
}
