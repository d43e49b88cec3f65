//! What was said already of topics and settings that the target does not take.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// What was said already: once is enough. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<BTreeSet<String>>>);

impl Told {
    /// Whether this is said for the first time.
    pub fn is_new(&self, text: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(text.to_owned())
    }
}
