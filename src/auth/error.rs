//! Why somebody is not let in, and why a key is of no use.

use std::io;
use std::path::PathBuf;

/// Why it is not known who asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no token.
    #[error("a bearer token is needed: give Authorization: Bearer TOKEN")]
    Missing,
    /// There is one, and it is refused. The reason says nothing of what stands in it.
    #[error("the token is refused: {0}")]
    Refused(&'static str),
}

impl AuthError {
    /// The value of `WWW-Authenticate` (RFC 6750, section 3).
    pub fn challenge(&self) -> String {
        match self {
            Self::Missing => r#"Bearer realm="kafkeep""#.to_owned(),
            Self::Refused(why) => {
                format!(
                    r#"Bearer realm="kafkeep", error="invalid_token", error_description="{why}""#
                )
            }
        }
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// What is in it is no such key.
    #[error("{0}")]
    Unusable(String),
}
