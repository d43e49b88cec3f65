//! What policies that back up copied.

use crate::daemon::history::PastRun;
use crate::daemon::status::PolicyStatus;
use crate::daemon::totals::BackupTotals;

use super::metric::{Metric, counter, gauge, histogram};
use super::observed::Observed;
use super::sample::{Sample, buckets, seconds};

pub(super) const METRICS: &[Metric] = &[
    histogram(
        "policy_run_duration_seconds",
        "How long runs took, from being accepted to their end.",
        |observed| {
            observed.policies(|policy| {
                let durations = policy.totals.backups.as_ref()?.durations;
                (durations.count() > 0).then(|| buckets(&durations))
            })
        },
    ),
    counter(
        "backup_records_total",
        "Records that backups of the policy copied.",
        |observed| of_backups(observed, |backups| Some(backups.records)),
    ),
    counter(
        "backup_bytes_total",
        "Bytes that backups of the policy read from Kafka, and stored.",
        |observed| {
            observed.policies_by("direction", |policy| {
                let backups = policy.totals.backups.into_iter();
                backups.flat_map(|backups| {
                    [
                        ("read", backups.bytes_read as f64),
                        ("stored", backups.bytes_stored as f64),
                    ]
                })
            })
        },
    ),
    counter(
        "backup_gap_offsets_total",
        "Offsets that were gone before backups of the policy came to them.",
        |observed| of_backups(observed, |backups| Some(backups.gap_offsets)),
    ),
    gauge(
        "backup_last_size_bytes",
        "What the last backup of the policy takes as it is stored, what it shares with backups before it included.",
        |observed| of_last_backup(observed, |run| run.stored_bytes as f64),
    ),
    gauge(
        "backup_last_duration_seconds",
        "How long the run took that made the last backup of the policy.",
        |observed| of_last_backup(observed, |run| run.duration_ms as f64 / 1000.0),
    ),
    gauge(
        "backup_last_full_verification_timestamp_seconds",
        "When the whole of the newest backup of the policy was last verified (verify = \"full\").",
        |observed| observed.policies(|policy| policy.last_full_verification_at.map(seconds)),
    ),
    gauge(
        "backup_partitions",
        "Partitions in the last backup of the policy.",
        |observed| of_backups(observed, |backups| backups.partitions),
    ),
    gauge(
        "verify_findings",
        "What the last verification of a backup of the policy found.",
        |observed| of_backups(observed, |backups| backups.verify_findings),
    ),
];

/// A sample for each policy whose last backup is remembered.
fn of_last_backup(observed: &Observed<'_>, value: fn(&PastRun) -> f64) -> Vec<Sample<f64>> {
    observed.policies(|policy| policy.history.last_backup().map(value))
}

fn of_backups(
    observed: &Observed<'_>,
    value: fn(&BackupTotals) -> Option<u64>,
) -> Vec<Sample<f64>> {
    let value = |policy: &PolicyStatus| value(policy.totals.backups.as_ref()?);
    observed.policies(|policy| value(policy).map(|value| value as f64))
}
