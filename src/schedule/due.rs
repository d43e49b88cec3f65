//! When something is due.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use super::cron::Cron;
use super::error::ScheduleError;

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
const NANOSECONDS: i128 = 1_000_000_000;

/// When something is due: an endless, strictly increasing row of instants, at least a second apart, which depends on nothing but
/// what was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    rule: Rule,
    /// By how much each instant of the rule is put off: not negative.
    shift: TimeDelta,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    /// Shared by clones: the pattern is large, and every policy has two.
    Cron(Arc<Cron>),
    Every(Duration),
}

/// The due moments of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missed {
    /// How many there were; not counted beyond [`Missed::COUNTED`].
    pub count: u32,
    /// The last of them.
    pub last: Option<DateTime<Utc>>,
}

impl Missed {
    /// Counting stops here: a schedule of every second that was away for a year is not walked through.
    pub const COUNTED: u32 = 10_000;
}

impl Schedule {
    /// A cron expression of 5 or 6 fields (seconds first), or `@daily` and its like, in the local time of an IANA time zone.
    ///
    /// Names of months and days, lists, ranges, steps, and in the fields of days `?`, `L`, `W` and `#`. Where both day fields
    /// are given, a day that matches either is meant (POSIX crontab).
    ///
    /// # Errors
    ///
    /// Names the field that is wrong and what may stand there; a date that no year has; a time zone that there is not.
    pub fn cron(expression: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        Cron::parse(expression, time_zone).map(|cron| Self::of(Rule::Cron(Arc::new(cron))))
    }

    /// Every multiple of `period` since 1970-01-01T00:00Z: `1h` is due on the hour, also after a restart.
    ///
    /// # Errors
    ///
    /// A period below a second or above a year.
    pub fn every(period: Duration) -> Result<Self, ScheduleError> {
        let problem = if period < Duration::from_secs(1) {
            "too short"
        } else if period > YEAR {
            "too long"
        } else {
            return Ok(Self::of(Rule::Every(period)));
        };
        Err(ScheduleError::Period { period, problem })
    }

    fn of(rule: Rule) -> Self {
        Self {
            rule,
            shift: TimeDelta::zero(),
        }
    }

    /// Each due moment put off by the same part of `jitter`, from nothing to just below all of it, which `name` decides.
    ///
    /// So many policies with one schedule spread out, and each keeps its place over restarts (systemd's `FixedRandomDelay=`).
    pub fn jittered(self, jitter: Duration, name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let drawn = digest
            .iter()
            .take(8)
            .fold(0, |drawn: u64, byte| drawn << 8 | u64::from(*byte));
        let range = jitter.min(YEAR).as_millis().max(1);
        // Below the milliseconds of a year.
        let shift = TimeDelta::milliseconds((u128::from(drawn) % range) as i64);
        Self { shift, ..self }
    }

    /// Whether it is a period: then it is the distance of its moments that counts, not the time of day.
    pub fn is_period(&self) -> bool {
        matches!(self.rule, Rule::Every(_))
    }

    /// The first due moment strictly after `instant`; none only where the calendar ends (before the year 1, after 4900).
    pub fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let instant = instant.checked_sub_signed(self.shift)?;
        let due = match &self.rule {
            Rule::Cron(cron) => cron.next_after(instant),
            Rule::Every(period) => next_multiple(*period, instant),
        };
        due?.checked_add_signed(self.shift)
    }

    /// The longest time between two due moments in the two months after `since`, of a thousand of them at most. None where the
    /// calendar ends.
    pub fn longest_gap(&self, since: DateTime<Utc>) -> Option<Duration> {
        if let Rule::Every(period) = self.rule {
            return Some(period);
        }
        let end = since.checked_add_signed(TimeDelta::days(62))?;
        let mut before = self.next_after(since)?;
        let mut longest = TimeDelta::zero();
        for _ in 0..1000 {
            let next = self.next_after(before)?;
            longest = longest.max(next - before);
            before = next;
            if next > end {
                break;
            }
        }
        longest.to_std().ok()
    }

    /// The due moments after `since` and not after `now`.
    pub fn missed(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> Missed {
        let is_missed = |due: &DateTime<Utc>| *due <= now;
        let mut missed = Missed {
            count: 0,
            last: None,
        };
        let mut at = since;
        while let Some(due) = self.next_after(at).filter(is_missed) {
            if missed.count == Missed::COUNTED {
                missed.last = Some(self.last_between(due, now));
                break;
            }
            missed.count += 1;
            missed.last = Some(due);
            at = due;
        }
        missed
    }

    /// The last due moment that is not after `now`, found by halving; `due` is one.
    fn last_between(&self, due: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let (mut last, mut none_after) = (due, now);
        // Due moments lie at least a second apart.
        while none_after - last >= TimeDelta::seconds(1) {
            let middle = last + (none_after - last) / 2;
            match self.next_after(middle) {
                Some(due) if due <= now => last = due,
                _ => none_after = middle,
            }
        }
        last
    }
}

/// The first multiple of `period` since the epoch that is after `instant`.
fn next_multiple(period: Duration, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let since_epoch = i128::from(instant.timestamp()) * NANOSECONDS
        + i128::from(instant.timestamp_subsec_nanos());
    // At most a year.
    let period = period.as_nanos() as i128;
    let due = (since_epoch.div_euclid(period) + 1) * period;
    let seconds = i64::try_from(due.div_euclid(NANOSECONDS)).ok()?;
    DateTime::from_timestamp(seconds, due.rem_euclid(NANOSECONDS) as u32)
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Cron(cron) => cron.fmt(f),
            Rule::Every(period) => write!(f, "every {}", humantime::format_duration(*period)),
        }
    }
}
