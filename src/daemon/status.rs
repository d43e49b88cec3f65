//! What the daemon does, as one immutable value that everybody may read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize, Serializer};

use crate::engine::mirror::MirrorState;
use crate::memory::MemoryBudget;
use crate::policy::{Diagnostic, PolicyKind};
use crate::words::words;

use super::drain_watch::DrainWatch;
pub use super::ended_run::{EndedRun, Expired, Figures, Outcome, RunId, RunResult};
use super::history::RunHistory;
use super::progress::RunProgress;
use super::totals::{JobTotals, PolicyTotals};
pub use super::work::Work;

/// A snapshot of the daemon.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The version that runs.
    pub version: &'static str,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Whether it is stopping: nothing new begins.
    pub stopping: bool,
    /// When the supervisor last looked at its timers.
    pub looked_at: DateTime<Utc>,
    /// The same by the monotonic clock, which nobody sets.
    #[serde(skip)]
    pub looked: Instant,
    /// The configuration.
    pub configuration: ConfigurationStatus,
    /// Policies, by name; shown together with their states, see [`judged`](super::judged()).
    #[serde(skip)]
    pub policies: Vec<PolicyStatus>,
    /// Backups that failed on the last day on which any did.
    pub failed_backups: FailedBackups,
    /// What was counted of jobs.
    #[serde(skip)]
    pub(super) jobs: JobTotals,
    /// Runs of policies that ended, by repository and how.
    #[serde(skip)]
    pub(super) repository_runs: BTreeMap<(String, RunResult), u64>,
    /// The memory for record batches that all runs share; as fresh as the moment of asking.
    #[serde(skip)]
    pub(super) memory: MemoryBudget,
}

/// Backups that failed on one day (UTC), of policies and of those who asked for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedBackups {
    /// The day.
    pub date: NaiveDate,
    /// How many.
    pub count: u64,
}

impl FailedBackups {
    /// How many there are of the day of `now`.
    pub fn today(self, now: DateTime<Utc>) -> u64 {
        if self.date == now.date_naive() {
            self.count
        } else {
            0
        }
    }

    /// One more.
    pub(super) fn add(&mut self, now: DateTime<Utc>) {
        *self = Self {
            date: now.date_naive(),
            count: self.today(now) + 1,
        };
    }
}

impl Status {
    /// The moment that it shows: by the wall clock when the supervisor last looked, and on from there in real time.
    pub fn as_of(&self) -> DateTime<Utc> {
        self.looked_at + Duration::from_secs(self.looked.elapsed().as_secs())
    }

    /// Before anything is known.
    pub(super) fn starting(now: DateTime<Utc>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            started_at: now,
            stopping: false,
            looked_at: now,
            looked: Instant::now(),
            configuration: ConfigurationStatus {
                loaded_at: now,
                reloaded_at: now,
                last_reload_success: false,
                errors: Vec::new(),
            },
            policies: Vec::new(),
            failed_backups: FailedBackups::default(),
            jobs: JobTotals::default(),
            repository_runs: BTreeMap::new(),
            memory: MemoryBudget::default(),
        }
    }
}

/// Which configuration is in force, and what became of the last one that was read.
#[derive(Debug, Clone, Serialize)]
pub struct ConfigurationStatus {
    /// When the one in force was read.
    pub loaded_at: DateTime<Utc>,
    /// When one was last read, in force or not.
    pub reloaded_at: DateTime<Utc>,
    /// Whether the one read last is in force.
    pub last_reload_success: bool,
    /// What is wrong with the one read last.
    pub errors: Vec<Diagnostic>,
}

/// One policy.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyStatus {
    /// Its name.
    pub policy: String,
    /// `backup`, `mirror` or `drain`.
    pub kind: PolicyKind,
    /// The repository that a backup policy writes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Whether this version can run it.
    pub runs: bool,
    /// Whether it has a schedule: a drain and a mirror that goes on all the time have none.
    pub is_scheduled: bool,
    /// Whether its repository is still being loaded: nothing is due before.
    pub loading: bool,
    /// When it is due next; none while suspended.
    pub next_run_at: Option<DateTime<Utc>>,
    /// Due moments up to this have been decided upon: a run, or none.
    pub settled_at: Option<DateTime<Utc>>,
    /// Runs that wait for a place or work.
    pub running: Vec<RunStatus>,
    /// How the last run ended.
    pub last_run: Option<EndedRun>,
    /// When a run last succeeded, before a restart too.
    pub last_success_at: Option<DateTime<Utc>>,
    /// From when on that success is too old: by `max_age`, or else when two runs have been due since then. None without a success,
    /// and where nothing says so.
    pub overdue_at: Option<DateTime<Utc>>,
    /// Its last runs; a drain policy has none.
    #[serde(rename = "last_runs")]
    pub history: RunHistory,
    /// When the whole of its newest backup was last verified: every byte.
    pub last_full_verification_at: Option<DateTime<Utc>>,
    /// Due moments since the start that got no run.
    pub missed_runs: u64,
    /// How old the last success may be.
    #[serde(rename = "max_age_seconds", serialize_with = "whole_seconds")]
    pub max_age: Option<Duration>,
    /// When its retention is applied next, besides after each run that succeeds.
    pub next_expire_at: Option<DateTime<Utc>>,
    /// What came of it the last time.
    pub last_expire: Option<Expired>,
    /// How far a mirror is; as fresh as the moment of asking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Arc<MirrorState>>,
    /// What a drain policy saw last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Arc<DrainWatch>>,
    /// What was counted of it.
    #[serde(skip)]
    pub(super) totals: PolicyTotals,
}

impl PolicyStatus {
    /// A policy that nothing is known of.
    pub(super) fn new(policy: &str, kind: PolicyKind) -> Self {
        Self {
            policy: policy.to_owned(),
            kind,
            repository: None,
            runs: false,
            is_scheduled: false,
            loading: false,
            next_run_at: None,
            settled_at: None,
            running: Vec::new(),
            last_run: None,
            last_success_at: None,
            overdue_at: None,
            history: RunHistory::default(),
            last_full_verification_at: None,
            missed_runs: 0,
            max_age: None,
            next_expire_at: None,
            last_expire: None,
            mirror: None,
            drain: None,
            totals: PolicyTotals::default(),
        }
    }
}

fn whole_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let seconds = duration.map(|duration| duration.as_secs());
    seconds.serialize(serializer)
}

words! {
    /// Where a run stands.
    pub enum RunState {
        /// For a place among those that may run at once, or for its next try.
        Waiting = "waiting",
        /// It works.
        Running = "running",
        /// It was told to stop, and seals what it has.
        Stopping = "stopping",
    }
}

/// A run that has not ended.
#[derive(Debug, Clone, Serialize)]
pub struct RunStatus {
    /// Its name.
    pub run_id: RunId,
    /// What it does.
    pub work: Work,
    /// Where it stands.
    pub state: RunState,
    /// The moment that it is for; none when an operator asked for it.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// When it was accepted.
    pub started_at: DateTime<Utc>,
    /// How often it has been tried.
    pub tries: u32,
    /// Why the last try failed; there will be another.
    pub error: Option<String>,
    /// How far it is; as fresh as the moment of asking.
    pub progress: Arc<RunProgress>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_a_day_are_forgotten_at_midnight_utc() {
        let at = |time: &str| time.parse::<DateTime<Utc>>().unwrap();
        let mut failed = FailedBackups::default();
        failed.add(at("2026-11-24T12:00:00Z"));
        failed.add(at("2026-11-24T23:59:59.999Z"));
        assert_eq!(failed.today(at("2026-11-24T23:59:59.999Z")), 2);
        assert_eq!(failed.today(at("2026-11-25T00:00:00Z")), 0);
        failed.add(at("2026-11-25T00:00:00Z"));
        assert_eq!(failed.today(at("2026-11-25T12:00:00Z")), 1);
    }
}
