//! How much a backup may add to its repository: it is held to that before it starts, and while it copies.

use crate::engine::EngineError;
use crate::engine::size::Size;

/// What a backup may add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceLimit {
    /// Bytes of packs.
    pub bytes: u64,
    /// What bounds it, as an operator would say it.
    pub bound: String,
}

impl SpaceLimit {
    /// Refuses to go on when more was added than there was room for.
    pub(super) fn refuse(&self, bytes: u64, adds: &str) -> Result<(), EngineError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(EngineError::NoRoom {
            detail: format!("{adds} {}, and {}", Size(bytes), self.bound),
        })
    }
}
