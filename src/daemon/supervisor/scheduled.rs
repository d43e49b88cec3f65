//! A policy that is scheduled: when it is due, and how it went so far.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::success::{Success, later};
use crate::daemon::remembered::RememberedPolicy;
use crate::daemon::status::{EndedRun, Expired};
use crate::daemon::totals::PolicyTotals;
use crate::policy::BackupPolicy;
use crate::schedule::Timer;

/// A policy that is scheduled, and how it went so far.
pub(super) struct Scheduled {
    pub policy: Arc<BackupPolicy>,
    pub backups: Due,
    pub expiries: Due,
    pub last_run: Option<EndedRun>,
    pub last_success: Option<Success>,
    /// From when on that is too old by the schedule, where there is no `max_age`. Kept, as it takes a while to find.
    pub overdue_at: Option<DateTime<Utc>>,
    pub last_expire: Option<Expired>,
    pub last_full_verification_at: Option<DateTime<Utc>>,
    pub missed: u64,
    pub totals: PolicyTotals,
    pub loading: Option<Loading>,
}

/// What is known of a policy's past while its repository is being loaded: nothing is due for it until then.
#[derive(Clone, Copy)]
pub(super) struct Loading {
    /// Due moments up to this were decided upon, as far as is known.
    pub settled_at: Option<DateTime<Utc>>,
    /// Without any backup, what is due from this moment on counts.
    pub since: DateTime<Utc>,
}

impl Scheduled {
    /// Where its timer goes on, and since when it has one.
    pub fn stands(&self, now: DateTime<Utc>) -> Loading {
        self.loading.unwrap_or(Loading {
            settled_at: Some(self.backups.timer.settled()),
            since: now,
        })
    }

    /// Its repository was loaded, and tells this.
    pub fn loaded(&mut self, past: &RememberedPolicy, now: DateTime<Utc>) {
        let Some(Loading { settled_at, since }) = self.loading.take() else {
            return;
        };
        let settled = later(settled_at, past.settled_at, now);
        // What it had settled lies behind now, not behind the moment at which loading began.
        let wall = if settled.is_some() { now } else { since };
        let timer = Timer::new(self.policy.timetable.clone(), settled, wall);
        self.backups = Due::new(timer);
        let known = self.last_success.map(|success| success.at(now));
        if let Some(at) = later(known, past.last_success_at, now).filter(|at| Some(*at) != known) {
            self.succeeded(at);
        }
    }

    /// It last succeeded at this moment.
    pub fn succeeded(&mut self, at: DateTime<Utc>) {
        self.last_success = Some(Success::new(at));
        self.overdue_at = self.policy.timetable.overdue_at(at);
    }

    /// From when on its last success, at this moment, is too old.
    pub fn overdue_at(&self, success: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.policy.max_age {
            Some(max_age) => success.checked_add_signed(TimeDelta::from_std(max_age).ok()?),
            None => self.overdue_at,
        }
    }
}

/// When something is due, and next.
pub(super) struct Due {
    pub timer: Timer,
    pub next: Option<DateTime<Utc>>,
    /// Nothing is due before; at most [`LONGEST_WAIT`](crate::schedule::LONGEST_WAIT) ahead.
    pub look_again_at: Instant,
}

impl Due {
    /// Not looked at yet.
    pub fn new(timer: Timer) -> Self {
        Self {
            timer,
            next: None,
            look_again_at: Instant::now(),
        }
    }
}
