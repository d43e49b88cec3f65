//! When a policy last succeeded, told right also when the clock is set meanwhile.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// By less, a clock is steered, and not put back.
const CLOCK_STEERED: TimeDelta = TimeDelta::minutes(1);

/// A run's success, by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Success {
    at: DateTime<Utc>,
    /// When it was learned of.
    known_since: Instant,
}

impl Success {
    pub fn new(at: DateTime<Utc>) -> Self {
        Self {
            at,
            known_since: Instant::now(),
        }
    }

    /// When it was, by the wall clock as it is now: a clock that was put back makes it no younger than the time that has really
    /// passed.
    pub fn at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.known_since.elapsed()).unwrap_or(TimeDelta::MAX);
        let latest = now.checked_sub_signed(passed).unwrap_or(now);
        // Clocks are steered a little all the time.
        if self.at > latest + CLOCK_STEERED {
            latest
        } else {
            self.at
        }
    }
}

/// The later of two moments that are known; one in the future is of a clock that was wrong, and counts only alone.
pub(super) fn later(
    a: Option<DateTime<Utc>>,
    b: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let past = |moment: &DateTime<Utc>| *moment <= now;
    a.filter(past).max(b.filter(past)).or(a.max(b))
}
