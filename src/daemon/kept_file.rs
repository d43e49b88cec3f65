//! Files that the daemon keeps for its next start: JSON, replaced whole, and read within a bound.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

/// Thousands of policies, or a result of 100,000 partitions, take less.
const SIZE_LIMIT: u64 = 64 << 20;

/// What a file holds.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let size = std::fs::metadata(path)?.len();
    if size > SIZE_LIMIT {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Puts `json` in the place of what a file holds: whoever reads it meanwhile sees the one or the other.
pub(super) fn replace(path: &Path, json: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, json)?;
    std::fs::rename(&new, path)
}
