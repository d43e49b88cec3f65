//! How far a run is: written by its threads, read whenever somebody looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::engine::Progress;

/// The counts of one run, of its backup and then of its verification.
#[derive(Debug, Default)]
pub struct RunProgress {
    verifying: AtomicBool,
    planned: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
}

impl RunProgress {
    /// The backup is there, and its verification begins to count.
    pub(super) fn verifies(&self) {
        self.verifying.store(true, Relaxed);
        for count in [&self.planned, &self.done, &self.bytes] {
            count.store(0, Relaxed);
        }
    }

    /// Another value than before: the run moved meanwhile.
    pub(super) fn mark(&self) -> (bool, u64, u64) {
        let verifying = self.verifying.load(Relaxed);
        (verifying, self.done.load(Relaxed), self.bytes.load(Relaxed))
    }
}

impl Progress for RunProgress {
    fn planned(&self, offsets: u64) {
        self.planned.store(offsets, Relaxed);
    }

    fn advanced(&self, offsets: u64, bytes: u64) {
        self.done.fetch_add(offsets, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

/// `{ phase, planned_offsets, done_offsets, bytes }`
impl Serialize for RunProgress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (verifying, done, bytes) = self.mark();
        let phase = if verifying { "verify" } else { "backup" };
        let mut progress = serializer.serialize_struct("RunProgress", 4)?;
        progress.serialize_field("phase", phase)?;
        progress.serialize_field("planned_offsets", &self.planned.load(Relaxed))?;
        progress.serialize_field("done_offsets", &done)?;
        progress.serialize_field("bytes", &bytes)?;
        progress.end()
    }
}
