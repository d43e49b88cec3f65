//! How far a run is: written by its threads, read whenever somebody looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::engine::Progress;

use super::work::Work;

/// The counts of one run: of its work, and of the verification that goes before a restore or follows a backup.
#[derive(Debug)]
pub struct RunProgress {
    work: Work,
    verifying: AtomicBool,
    planned: AtomicU64,
    done: AtomicU64,
    bytes: AtomicU64,
}

impl RunProgress {
    pub(super) fn of(work: Work) -> Self {
        Self {
            work,
            verifying: AtomicBool::default(),
            planned: AtomicU64::default(),
            done: AtomicU64::default(),
            bytes: AtomicU64::default(),
        }
    }

    /// A verification begins to count, or ends.
    pub(super) fn verifies(&self, verifying: bool) {
        self.verifying.store(verifying, Relaxed);
        for count in [&self.planned, &self.done, &self.bytes] {
            count.store(0, Relaxed);
        }
    }

    /// Replaces all counts, where they are kept elsewhere.
    pub(super) fn stands_at(&self, planned: u64, done: u64, bytes: u64) {
        self.planned.store(planned, Relaxed);
        self.done.store(done, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    /// Another value than before: the run moved meanwhile.
    pub(super) fn mark(&self) -> (bool, u64, u64) {
        let verifying = self.verifying.load(Relaxed);
        (verifying, self.done.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// What it counts: the work's name, or `verify`.
    pub fn phase(&self) -> &'static str {
        match self.verifying.load(Relaxed) {
            true => "verify",
            false => self.work.name(),
        }
    }

    /// Offsets that are ahead and done in this phase, and the bytes of what is done.
    pub fn counts(&self) -> (u64, u64, u64) {
        let (_, done, bytes) = self.mark();
        (self.planned.load(Relaxed), done, bytes)
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
        let (planned, done, bytes) = self.counts();
        let mut progress = serializer.serialize_struct("RunProgress", 4)?;
        progress.serialize_field("phase", self.phase())?;
        progress.serialize_field("planned_offsets", &planned)?;
        progress.serialize_field("done_offsets", &done)?;
        progress.serialize_field("bytes", &bytes)?;
        progress.end()
    }
}
