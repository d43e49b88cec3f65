//! The last runs of each policy: when they were, how they ended, and what they moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::quote::quote_within;
use crate::repository::BackupId;

use super::ended_run::{EndedRun, RunId, RunResult};

/// So many runs of a policy are remembered: older ones go.
pub(super) const REMEMBERED_RUNS: usize = 30;
/// Of a reason, in characters: the whole of it is in the log.
const LONGEST_REASON: usize = 300;

/// A run that ended, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRun {
    /// Which run.
    pub run_id: RunId,
    /// When it was accepted.
    pub started_at: DateTime<Utc>,
    /// From then to its end, in milliseconds; 0 where the clock was put back meanwhile.
    pub duration_ms: u64,
    /// How it ended.
    pub result: RunResult,
    /// The backup that it made; none where it made none, and of a mirror.
    pub backup_id: Option<BackupId>,
    /// Bytes of record batches that it copied.
    pub new_bytes: u64,
    /// What a backup added to its repository, in bytes; 0 of a mirror.
    pub new_stored_bytes: u64,
    /// What the whole backup takes as it is stored, in bytes.
    pub stored_bytes: u64,
    /// Why it was no success, or what is to be looked at; at most 300 characters.
    pub reason: Option<String>,
}

impl From<&EndedRun> for PastRun {
    fn from(run: &EndedRun) -> Self {
        let took = (run.finished_at - run.started_at).num_milliseconds();
        let outcome = &run.outcome;
        let reason = outcome.error.as_ref();
        Self {
            run_id: run.run_id,
            started_at: run.started_at,
            duration_ms: u64::try_from(took).unwrap_or(0),
            result: outcome.result,
            backup_id: outcome.backup_id,
            new_bytes: outcome.figures.new_bytes,
            new_stored_bytes: outcome.figures.new_stored_bytes,
            stored_bytes: outcome.figures.stored_bytes,
            reason: reason.map(|reason| quote_within(reason, LONGEST_REASON)),
        }
    }
}

/// The last runs of a policy, oldest first, at most thirty. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RunHistory(Arc<[PastRun]>);

impl RunHistory {
    /// Those that are in a file, of which only the newest are taken.
    pub(super) fn of(runs: Vec<PastRun>) -> Self {
        let before = runs.len().saturating_sub(REMEMBERED_RUNS);
        Self(runs.into_iter().skip(before).collect())
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> &[PastRun] {
        &self.0
    }

    /// The last run that made a backup, if it is remembered.
    pub fn last_backup(&self) -> Option<&PastRun> {
        self.0.iter().rev().find(|run| run.backup_id.is_some())
    }

    /// Whether it is the same as another, for whoever asks often.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn add(&mut self, run: PastRun) {
        let before = (self.0.len() + 1).saturating_sub(REMEMBERED_RUNS);
        self.0 = self.0.iter().skip(before).cloned().chain([run]).collect();
    }
}

/// The histories of all policies, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunHistories(BTreeMap<String, RunHistory>);

impl RunHistories {
    pub fn new(histories: BTreeMap<String, RunHistory>) -> Self {
        Self(histories)
    }

    pub fn of(&self, policy: &str) -> RunHistory {
        self.0.get(policy).cloned().unwrap_or_default()
    }

    pub fn add(&mut self, policy: &str, run: &EndedRun) {
        let history = self.0.entry(policy.to_owned()).or_default();
        history.add(run.into());
    }

    /// A policy is gone, and its past with it.
    pub fn remove(&mut self, policy: &str) {
        self.0.remove(policy);
    }

    /// Forgets policies that are not there.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|policy, _| is_there(policy));
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::ended_run::{Figures, Outcome};
    use super::*;

    fn ended(number: i64, result: RunResult) -> EndedRun {
        let started_at = DateTime::UNIX_EPOCH + TimeDelta::hours(number);
        EndedRun {
            run_id: RunId::now(),
            scheduled_at: None,
            started_at,
            finished_at: started_at + TimeDelta::seconds(number),
            outcome: Outcome {
                result,
                backup_id: (result == RunResult::Success).then(|| BackupId::new(started_at)),
                error: Some("x".repeat(1000)),
                figures: Figures {
                    new_bytes: 7,
                    ..Figures::default()
                },
            },
        }
    }

    #[test]
    fn the_last_thirty_runs_are_remembered_and_what_they_say_is_bounded() {
        let mut histories = RunHistories::default();
        for number in 0..40 {
            let result = match number {
                35 => RunResult::Success,
                _ => RunResult::Failed,
            };
            histories.add("orders", &ended(number, result));
        }
        let history = histories.of("orders");
        assert_eq!(history.runs().len(), REMEMBERED_RUNS);
        let (first, last) = (&history.runs()[0], &history.runs()[29]);
        assert_eq!((first.duration_ms, last.duration_ms), (10_000, 39_000));
        assert_eq!(last.new_bytes, 7);
        assert!(last.reason.as_ref().unwrap().chars().count() <= LONGEST_REASON + 1);
        assert_eq!(history.last_backup().unwrap().duration_ms, 35_000);
        assert_eq!(histories.of("other").runs(), []);
    }

    #[test]
    fn a_clock_that_was_put_back_makes_no_duration_negative() {
        let mut run = ended(5, RunResult::Success);
        run.finished_at = DateTime::UNIX_EPOCH;
        assert_eq!(PastRun::from(&run).duration_ms, 0);
    }
}
