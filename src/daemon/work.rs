//! What a run does.

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
