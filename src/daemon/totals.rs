//! What has been counted since the daemon started: it only rises, until what it is of is gone.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::api::{Answer, OrderKind};

use super::durations::Durations;
use super::ended_run::{EndedRun, Expired, RunResult};
use super::jobs::JobState;

/// From a second to a day.
const RUN_DURATIONS: [f64; 10] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0,
];

/// What was counted of one policy since it is configured. A policy that gets another text keeps it.
#[derive(Debug, Clone, Default)]
pub(super) struct PolicyTotals {
    /// Runs that ended, by how.
    pub runs: BTreeMap<RunResult, u64>,
    /// When and how the last of them ended. It outlives [`last_run`](super::PolicyStatus::last_run), which a mirror forgets
    /// with its text.
    pub last_run: Option<(DateTime<Utc>, RunResult)>,
    /// When one of them last succeeded. It outlives [`last_success_at`](super::PolicyStatus::last_success_at) in the same way.
    pub last_success_at: Option<DateTime<Utc>>,
    /// How often its retention was applied, by how that ended.
    pub expire_runs: BTreeMap<RunResult, u64>,
    /// Backups that its retention removed.
    pub expired_backups: u64,
    /// What its backups moved; only a backup policy has it.
    pub backups: Option<BackupTotals>,
}

/// What the backups of one policy moved, and what the last one holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackupTotals {
    /// How long the runs took, from being accepted to their end.
    pub durations: Durations<10>,
    /// Records copied.
    pub records: u64,
    /// Bytes of record batches read from Kafka.
    pub bytes_read: u64,
    /// The same as they were stored.
    pub bytes_stored: u64,
    /// Offsets that were gone before they were copied.
    pub gap_offsets: u64,
    /// Partitions in the last backup.
    pub partitions: Option<u64>,
    /// What the last verification found.
    pub verify_findings: Option<u64>,
}

impl PolicyTotals {
    /// Those of a backup policy that is new.
    pub fn of_backups() -> Self {
        Self {
            backups: Some(BackupTotals {
                durations: Durations::new(RUN_DURATIONS),
                records: 0,
                bytes_read: 0,
                bytes_stored: 0,
                gap_offsets: 0,
                partitions: None,
                verify_findings: None,
            }),
            ..Self::default()
        }
    }

    /// Counts a run that ended.
    pub fn run_ended(&mut self, run: &EndedRun) {
        let result = run.outcome.result;
        *self.runs.entry(result).or_default() += 1;
        self.last_run = Some((run.finished_at, result));
        if result == RunResult::Success {
            self.last_success_at = Some(run.finished_at);
        }
        if let Some(backups) = &mut self.backups {
            backups.run_ended(run);
        }
    }

    /// Counts that the retention was applied.
    pub fn expire_ended(&mut self, expired: &Expired) {
        *self.expire_runs.entry(expired.result()).or_default() += 1;
        self.expired_backups += expired.removed_backups;
    }
}

impl BackupTotals {
    fn run_ended(&mut self, run: &EndedRun) {
        let took = (run.finished_at - run.started_at).as_seconds_f64();
        // A clock that was put back makes no duration negative.
        self.durations.observe(took.max(0.0));
        if run.outcome.backup_id.is_none() {
            return;
        }
        let figures = run.outcome.figures;
        self.records += figures.new_messages;
        self.bytes_read += figures.new_bytes;
        self.bytes_stored += figures.new_stored_bytes;
        self.gap_offsets += figures.gap_offsets;
        self.partitions = Some(figures.partitions);
        self.verify_findings = figures.verify_findings.or(self.verify_findings);
    }
}

/// What was counted of jobs, those included that are forgotten.
#[derive(Debug, Clone, Default)]
pub(super) struct JobTotals {
    /// Jobs that ended, by what they did and how they ended.
    pub ended: BTreeMap<(OrderKind, JobState), u64>,
    /// Records restored, by the target cluster's name in the configuration.
    pub restored_records: BTreeMap<String, u64>,
}

impl JobTotals {
    /// Counts a job that ended, and what it came to if it was done.
    pub fn ended(&mut self, kind: OrderKind, state: JobState, answer: Option<&Answer>) {
        *self.ended.entry((kind, state)).or_default() += 1;
        if let Some(Answer::Restore(restored)) = answer {
            let cluster = restored.cluster_id.clone();
            *self.restored_records.entry(cluster).or_default() += restored.messages_restored;
        }
    }
}
