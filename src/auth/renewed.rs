//! What is read from files, and read again when one of them changes.

use std::fmt::Display;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The files are looked at so often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A value that follows its files. New ones that cannot be used leave it as it was.
#[derive(Debug)]
pub struct Renewed<T> {
    files: Vec<PathBuf>,
    seen: Mutex<SeenVersion<T>>,
    /// Whoever looks at the files holds it: others go on with what is known.
    looking: Mutex<()>,
}

#[derive(Debug)]
struct SeenVersion<T> {
    looked_at: Instant,
    marks: Vec<Option<Mark>>,
    value: T,
    /// Since when the files are not what the value is of.
    failing_since: Option<Instant>,
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
            failing_since: None,
        };
        Ok(Self {
            files,
            seen: Mutex::new(seen),
            looking: Mutex::new(()),
        })
    }

    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether it is time to look at the files again.
    pub fn is_due(&self) -> bool {
        self.seen().looked_at.elapsed() >= LOOK_EVERY
    }

    /// Looks at the files, which may take as long as their storage does, where that is due and nobody else does. What `read` cannot
    /// make of files that changed is logged, with `what` it would have been, and tried again.
    pub fn look<E: Display>(&self, what: &str, read: impl FnOnce() -> Result<T, E>) {
        let Ok(_turn) = self.looking.try_lock() else {
            return;
        };
        if !self.is_due() {
            return;
        }
        self.seen().looked_at = Instant::now();
        let marks: Vec<Option<Mark>> = self.files.iter().map(mark).collect();
        let (is_new, was_failing) = {
            let seen = self.seen();
            (marks != seen.marks, seen.failing_since.is_some())
        };
        if !is_new && !was_failing {
            return;
        }
        let read = read();
        let mut seen = self.seen();
        seen.marks = marks;
        match read {
            Ok(value) => (seen.value, seen.failing_since) = (value, None),
            Err(error) => {
                seen.failing_since.get_or_insert_with(Instant::now);
                drop(seen);
                if is_new || !was_failing {
                    tracing::error!("{what} stays what it was: {error}");
                }
            }
        }
    }

    /// The value as it is known.
    pub fn value(&self) -> T {
        self.seen().value.clone()
    }

    /// For how long the files have been such that the value is not of them.
    pub fn failing_for(&self) -> Option<Duration> {
        self.seen().failing_since.map(|since| since.elapsed())
    }

    fn seen(&self) -> MutexGuard<'_, SeenVersion<T>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
