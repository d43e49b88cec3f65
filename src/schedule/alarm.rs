//! What wakes whoever drives the timers.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// One wake-up, set anew after each: for the `select!` of a task that drives [`Timer`](super::Timer)s.
///
/// It goes by the monotonic clock. A timer never asks it for more than [`LONGEST_WAIT`](super::LONGEST_WAIT), so no jump of the wall
/// clock is slept through. (A one-shot job of tokio-cron-scheduler goes by the wall clock in whole seconds: it rings up to a second
/// early, and after the clock was put back only when that has caught up.)
#[derive(Debug, Default)]
pub struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rings once, `after` from now, instead of when it was set to before.
    pub fn set(&mut self, after: Duration) {
        let at = Instant::now() + after;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
    }

    /// Waits until it rings; for ever when it is not set. Dropped before that, it stays set.
    pub async fn rung(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
        self.sleep = None;
    }
}
