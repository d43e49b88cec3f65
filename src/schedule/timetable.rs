//! What shall happen at the due moments.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::words::words;

use super::due::Schedule;

words! {
    /// What happens when a run is due while the last one still runs; Kubernetes' words.
    pub enum Concurrency {
        /// The due run is left out.
        Forbid = "forbid",
        /// Both run.
        Allow = "allow",
        /// The running one is cancelled, the due one runs.
        Replace = "replace",
    }
    default Forbid
}

/// A schedule, and what is done when its moments cannot be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    /// When it is due.
    pub schedule: Schedule,
    /// What happens when the last run still runs. Left to whoever runs: a [`Timer`](super::Timer) knows nothing of runs.
    pub concurrency: Concurrency,
    /// Whether moments that were missed (the daemon was down, the machine asleep, the clock put forward) are made up for, by one
    /// run for all of them.
    pub catch_up: bool,
    /// How long after its moment a run may still start; none: however late.
    pub start_deadline: Option<Duration>,
    /// Nothing is due until this is taken away; what would have been is not made up for.
    pub suspend: bool,
}

impl Timetable {
    /// `schedule` with what holds when nothing else is written: no overlap, one run for what was missed, no deadline.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            concurrency: Concurrency::Forbid,
            catch_up: true,
            start_deadline: None,
            suspend: false,
        }
    }

    /// From when on a success at `success` is too old, if there was no other since: when the second run after it is due, and a
    /// quarter of an hour later at the earliest, as a run that fails is tried again for so long. None while suspended.
    pub fn overdue_at(&self, success: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.suspend {
            return None;
        }
        let first = self.schedule.next_after(success)?;
        let second = self.schedule.next_after(first)?;
        Some(second.max(success.checked_add_signed(TimeDelta::minutes(15))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_is_too_old_when_two_runs_have_been_due_since() {
        let at = |time: &str| time.parse::<DateTime<Utc>>().unwrap();
        let success = at("2026-03-01T02:20:00Z");
        let daily = Timetable::new(Schedule::cron("15 2 * * *", "UTC").unwrap());
        assert_eq!(daily.overdue_at(success), Some(at("2026-03-03T02:15:00Z")));
        let often = Timetable::new(Schedule::every(Duration::from_secs(1)).unwrap());
        assert_eq!(often.overdue_at(success), Some(at("2026-03-01T02:35:00Z")));
        let suspended = Timetable {
            suspend: true,
            ..daily
        };
        assert_eq!(suspended.overdue_at(success), None);
    }
}
