//! Why what the operator wrote cannot be used.

use std::path::PathBuf;

use super::Diagnostics;

/// A problem with the configuration: always for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Something is wrong in the files.
    #[error("the configuration is wrong\n{0}")]
    Wrong(#[from] Diagnostics),
    /// A name that is not in the configuration.
    #[error("no {kind} `{name}` in {}; it has: {known}", path.display())]
    Unknown {
        /// `cluster` or `repository`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
        /// Which file.
        path: PathBuf,
    },
}
