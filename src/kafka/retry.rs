//! Trying again: with growing pauses, until a deadline.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::KafkaError;

/// How long to try again what failed in passing.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first pause.
    pub initial: Duration,
    /// The longest pause.
    pub max: Duration,
    /// When to give up, counted from the last success.
    pub deadline: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(5),
            deadline: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// The pause before the next try, after `attempts` that failed: doubling, with a fifth of jitter.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = self
            .initial
            .saturating_mul(1 << attempts.min(16))
            .min(self.max);
        doubled.mul_f64(rand::rng().random_range(0.8..1.2))
    }

    /// Runs `work` until it succeeds, fails for good, or the deadline has passed.
    pub async fn run<T, F: Future<Output = Result<T, KafkaError>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, KafkaError> {
        let started = Instant::now();
        let mut attempts = 0;
        let mut last = None;
        loop {
            let left = self.deadline.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, work()).await {
                Ok(Err(error)) if error.is_transient() => {
                    let pause = self.backoff(attempts);
                    if started.elapsed() + pause > self.deadline {
                        return Err(error);
                    }
                    tracing::debug!(%error, "trying again");
                    tokio::time::sleep(pause).await;
                    attempts += 1;
                    last = Some(error);
                }
                Ok(outcome) => return outcome,
                Err(_) => {
                    return Err(last.unwrap_or(KafkaError::Unanswered {
                        seconds: self.deadline.as_secs(),
                    }));
                }
            }
        }
    }
}
