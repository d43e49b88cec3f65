//! A little space in reserve. Who frees space on a full disk needs some for a lock, and expiring without one would be unsafe.

use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::root::Root;
use super::temporary::write_all_at;
use crate::repository::RepositoryError;

const NAME: &str = ".reserve";
/// Room for a lock and its refreshes, for the records of what is removed, and for the directories that they need.
const BYTES: usize = 256 << 10;

/// Makes the reserve, unless it is there.
pub(super) fn keep(root: &Arc<Root>) -> Result<(), RepositoryError> {
    let file = match root.make_file(&root.directory, NAME) {
        Ok(file) => file,
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(root.error("create", NAME, errno)),
    };
    let written = write_all_at(&file, &incompressible(), 0)
        .and_then(|()| rustix::fs::fsync(&file))
        .and_then(|()| rustix::fs::fsync(&root.directory));
    written.map_err(|errno| {
        // A part of it is no reserve, and takes what others need.
        rustix::fs::unlinkat(&root.directory, NAME, AtFlags::empty()).ok();
        root.error("write", NAME, errno)
    })
}

/// Gives the reserve up; false when there is none.
pub(super) fn give_up(root: &Root) -> Result<bool, RepositoryError> {
    match rustix::fs::unlinkat(&root.directory, NAME, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(root.error("remove", NAME, errno)),
    }
}

/// Bytes that a file system which compresses or finds repetitions stores as they are (xorshift).
fn incompressible() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(BYTES / 8).flatten().collect()
}
