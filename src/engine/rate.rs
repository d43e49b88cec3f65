//! A limit on how fast a run reads or writes.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::EngineError;
use super::size::Size;

/// How fast a run may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// Bytes of record batches a second, as Kafka holds them.
    Bytes(u64),
    /// Records a second.
    Records(u64),
}

impl FromStr for RateLimit {
    type Err = EngineError;

    /// Reads `50MiB/s` or `10000 records/s`.
    fn from_str(text: &str) -> Result<Self, EngineError> {
        let refuse = || {
            EngineError::refused(format!(
                "rate limit `{text}`: write a rate such as 50MiB/s or '10000 records/s'"
            ))
        };
        let amount = text.trim().strip_suffix("/s").ok_or_else(refuse)?.trim();
        let limit = if let Some(records) = amount.strip_suffix("records") {
            Self::Records(records.trim().parse().map_err(|_| refuse())?)
        } else {
            Self::Bytes(amount.parse::<Size>().map_err(|_| refuse())?.0)
        };
        match limit {
            Self::Bytes(0) | Self::Records(0) => Err(refuse()),
            limit => Ok(limit),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes} B/s"),
            Self::Records(records) => write!(f, "{records} records/s"),
        }
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Keeps several tasks together below one limit: each says what it took, and sleeps until that is paid for.
#[derive(Debug)]
pub struct RateLimiter {
    limit: Option<RateLimit>,
    paid_until: Mutex<Option<Instant>>,
}

/// The longest stretch that one request may be worth, so that a limited run flows instead of leaping.
const STRETCH: Duration = Duration::from_millis(250);
const SMALLEST_REQUEST: u64 = 16 << 10;

impl RateLimiter {
    /// A limiter; `None` never waits.
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self {
            limit,
            paid_until: Mutex::new(None),
        }
    }

    /// How many bytes one request should ask for, at most `largest`.
    pub fn request_bytes(&self, largest: u64) -> u64 {
        match self.limit {
            Some(RateLimit::Bytes(rate)) => {
                (rate / 4).clamp(SMALLEST_REQUEST.min(largest), largest)
            }
            Some(RateLimit::Records(_)) => (256 << 10).min(largest),
            None => largest,
        }
    }

    /// How many records are worth one stretch.
    pub fn request_records(&self) -> u64 {
        match self.limit {
            Some(RateLimit::Records(rate)) => (rate / 4).max(1),
            Some(RateLimit::Bytes(_)) | None => u64::MAX,
        }
    }

    /// Accounts for what was moved, and sleeps until the rate is kept again.
    pub async fn moved(&self, bytes: u64, records: u64) {
        let Some(limit) = self.limit else { return };
        let (amount, rate) = match limit {
            RateLimit::Bytes(rate) => (bytes, rate),
            RateLimit::Records(rate) => (records, rate),
        };
        let cost = Duration::from_secs_f64(amount as f64 / rate as f64);
        let now = Instant::now();
        let due = {
            let mut paid_until = self
                .paid_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Idle time is not saved up beyond one stretch, else a pause would allow a burst.
            let earliest = now.checked_sub(STRETCH).unwrap_or(now);
            let due = paid_until.unwrap_or(now).max(earliest) + cost;
            *paid_until = Some(due);
            due
        };
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_bytes_and_in_records() {
        assert_eq!(
            "50MiB/s".parse::<RateLimit>().unwrap(),
            RateLimit::Bytes(50 << 20)
        );
        assert_eq!(
            "1MB/s".parse::<RateLimit>().unwrap(),
            RateLimit::Bytes(1_000_000)
        );
        assert_eq!(
            "10000 records/s".parse::<RateLimit>().unwrap(),
            RateLimit::Records(10_000)
        );
    }

    #[test]
    fn a_rate_of_nothing_or_without_a_unit_of_time_is_refused() {
        for text in [
            "0/s",
            "50MiB",
            "fast",
            "0 records/s",
            "-1/s",
            "99999999999999999999/s",
        ] {
            assert!(text.parse::<RateLimit>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn what_was_moved_is_paid_for_in_time() {
        tokio::time::pause();
        let limiter = RateLimiter::new(Some(RateLimit::Bytes(1000)));
        let start = Instant::now();
        limiter.moved(2000, 1).await;
        limiter.moved(1000, 1).await;
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(2990) && took < Duration::from_millis(3100),
            "{took:?}"
        );
    }
}
