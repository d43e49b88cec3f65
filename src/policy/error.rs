//! Why a file that the operator wrote cannot be used.

use std::io;
use std::path::PathBuf;

/// A problem with the configuration: always for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}:{line}:{column}: {}", path.display(), source.message())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// Where, in characters, counted from 1.
        column: usize,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// The file reads well, but makes no sense.
    #[error("{}: {problem}", path.display())]
    Senseless {
        /// Which file.
        path: PathBuf,
        /// What makes no sense, and what would.
        problem: String,
    },
    /// A secret that cannot be had.
    #[error("secret for {what}: {problem}")]
    Secret {
        /// What needs it.
        what: String,
        /// Why it cannot be had.
        problem: String,
    },
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
