//! Topics that cannot be backed up for a reason of their own: they fail by name, and the others are backed up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::EngineError;

/// What was wrong first with each topic that failed. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<BTreeMap<Arc<str>, EngineError>>>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, EngineError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A topic failed.
    pub fn note(&self, topic: &Arc<str>, error: EngineError) {
        self.lock().entry(Arc::clone(topic)).or_insert(error);
    }

    /// Whether a topic failed: nothing more of it is worth reading.
    pub fn has(&self, topic: &str) -> bool {
        self.lock().contains_key(topic)
    }

    /// All of them, by topic.
    pub fn take(&self) -> BTreeMap<Arc<str>, EngineError> {
        std::mem::take(&mut self.lock())
    }
}
