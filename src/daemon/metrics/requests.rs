//! The counts of HTTP requests: the only ones that no other part of the daemon keeps.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::daemon::durations::Durations;

/// From a millisecond to a minute.
const DURATIONS: Durations<8> = Durations::new([0.001, 0.005, 0.02, 0.05, 0.25, 1.0, 10.0, 60.0]);

/// Counts requests, whichever task answers them.
#[derive(Default)]
pub(super) struct Requests(Mutex<CountedRequests>);

/// Requests that were answered until one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct CountedRequests {
    /// By route and status code.
    pub answered: BTreeMap<(&'static str, u16), u64>,
    /// How long each took, by route.
    pub durations: BTreeMap<&'static str, Durations<8>>,
}

impl Requests {
    /// Counts one.
    pub fn answered(&self, route: &'static str, code: u16, took: Duration) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.answered.entry((route, code)).or_default() += 1;
        let durations = counted.durations.entry(route).or_insert(DURATIONS);
        durations.observe(took.as_secs_f64());
    }

    /// All until now.
    pub fn counted(&self) -> CountedRequests {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
