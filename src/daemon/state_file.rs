//! Files that the daemon keeps for its next start: JSON, replaced whole.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::files;

/// Thousands of policies, or a result of 100,000 partitions, take less.
const SIZE_LIMIT: u64 = 64 << 20;

/// What a file holds.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = files::read(path, SIZE_LIMIT)?;
    // Where, and not what stands there.
    serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let why = format!("it cannot be understood at line {line}, column {column}");
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

/// Makes a directory of such files, or mends one that others can read.
pub(super) fn close_to_others(directory: &Path) {
    if let Err(error) = files::private_directory(directory) {
        let directory = directory.display();
        tracing::warn!(
            "others may be able to read {directory}: {error}; give it to the user that kafkeep runs as, with mode 0700"
        );
    }
}
