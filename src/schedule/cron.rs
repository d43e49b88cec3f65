//! Cron expressions in a time zone.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use chrono_tz::Tz;

use super::error::ScheduleError;
use super::{fields, time_zone};

/// The expressions that have a name.
const NAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A cron expression in a time zone. croner is its grammar and its calendar; what clock changes do to it is decided here.
///
/// - Due in *every* hour of the day (`0 * * * *`, `*/15 * * * *`): it follows real time. An hour that comes twice has its runs
///   twice, one that is skipped has none.
/// - Otherwise (`30 2 * * *`, `0 */6 * * *`) it names local times, and each comes once a day: a time that comes twice is due the
///   first time; times that are skipped are due once, together, at the moment at which they are skipped.
///
/// So no nightly run is lost or doubled. That is Vixie cron's rule, but for its reading of `*`; systemd and Kubernetes leave a run in a
/// skipped hour out, which for a backup is the wrong side to err on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cron {
    /// The expression as the operator wrote it.
    expression: String,
    pattern: croner::Cron,
    zone: Tz,
    /// Due in every hour of a day on which it is due at all.
    every_hour: bool,
}

impl Cron {
    pub(super) fn parse(expression: &str, time_zone: &str) -> Result<Self, ScheduleError> {
        let expression = expression.trim();
        let numbers = fields::numbers(named(expression)?)?;
        let pattern =
            croner::Cron::from_str(&numbers).map_err(|source| ScheduleError::Grammar {
                expression: expression.to_owned(),
                source,
            })?;
        let zone = time_zone::named(time_zone)?;
        // The calendar repeats itself every 400 years; croner looks further than that.
        let some_day = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap_or_default();
        let first = pattern.find_next_occurrence(&some_day.and_time(Default::default()), true);
        if first.is_err() {
            return Err(ScheduleError::Never {
                expression: expression.to_owned(),
            });
        }
        Ok(Self {
            expression: expression.to_owned(),
            every_hour: pattern.pattern.hours.values().len() == 24,
            pattern,
            zone,
        })
    }

    /// The first due moment after `instant`.
    pub(super) fn next_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Outside of it lie the ends of chrono's calendar and of croner's.
        if !(1..4900).contains(&instant.year()) {
            return None;
        }
        let here = instant.with_timezone(&self.zone);
        if self.every_hour {
            let due = self.pattern.find_next_occurrence(&here, false).ok()?;
            return Some(due.to_utc());
        }
        let mut local = here.naive_local();
        loop {
            local = self.pattern.find_next_occurrence(&local, false).ok()?;
            // Earlier only within an hour that comes a second time.
            let due = time_zone::first_instant(self.zone, local);
            if due > instant {
                return Some(due);
            }
        }
    }
}

/// The fields that a name stands for; an expression without a name is its own.
fn named(expression: &str) -> Result<&str, ScheduleError> {
    if !expression.starts_with('@') {
        return Ok(expression);
    }
    let found = NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(expression));
    found
        .map(|(_, fields)| *fields)
        .ok_or_else(|| ScheduleError::Name {
            name: expression.to_owned(),
            known: NAMES.map(|(name, _)| name).join(", "),
        })
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.zone.name())
    }
}
