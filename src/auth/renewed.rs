//! What is read from files, and read again when one of them changes.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The files are looked at so often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A value that follows its files. New ones that cannot be used leave it as it was.
#[derive(Debug)]
pub struct Renewed<T> {
    files: Vec<PathBuf>,
    seen: Mutex<SeenVersion<T>>,
}

#[derive(Debug)]
struct SeenVersion<T> {
    looked_at: Instant,
    marks: Vec<Option<Mark>>,
    value: T,
}

/// Another one, and the file is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    length: u64,
    changed_at: (i64, i64),
}

fn mark(path: &PathBuf) -> Option<Mark> {
    let found = std::fs::metadata(path).ok()?;
    Some(Mark {
        inode: found.ino(),
        length: found.len(),
        changed_at: (found.ctime(), found.ctime_nsec()),
    })
}

impl<T: Clone> Renewed<T> {
    /// What `read` makes of the files.
    pub fn open<E>(files: &[&Path], read: impl FnOnce() -> Result<T, E>) -> Result<Self, E> {
        let files: Vec<PathBuf> = files.iter().map(|path| path.to_path_buf()).collect();
        // Before they are read: what changes meanwhile is read again.
        let marks = files.iter().map(mark).collect();
        let seen = SeenVersion {
            looked_at: Instant::now(),
            marks,
            value: read()?,
        };
        Ok(Self {
            files,
            seen: Mutex::new(seen),
        })
    }

    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The value as it is now. What `read` cannot make of files that changed is logged, with `what` it would have been.
    pub fn now<E: Display>(&self, what: &str, read: impl FnOnce() -> Result<T, E>) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked_at.elapsed() >= LOOK_EVERY {
            seen.looked_at = Instant::now();
            let marks: Vec<Option<Mark>> = self.files.iter().map(mark).collect();
            if marks != seen.marks {
                seen.marks = marks;
                match read() {
                    Ok(value) => seen.value = value,
                    Err(error) => tracing::error!("{what} stays what it was: {error}"),
                }
            }
        }
        seen.value.clone()
    }
}
