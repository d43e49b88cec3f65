//! How far mirrors are.

use crate::engine::mirror::PartitionStatus;

use super::metric::{Metric, counter, gauge};

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "mirror_lag_records",
        "Offsets of the source that the mirror has not copied: an upper bound of the records.",
        |observed| {
            observed.policies(|policy| {
                let partitions = policy.partitions.as_ref()?;
                let lag = partitions.iter().map(|partition| partition.lag_records);
                Some(lag.sum::<u64>() as f64)
            })
        },
    ),
    gauge(
        "mirror_lag_seconds",
        "How old the last record copied is of the partition that is furthest behind; 0 when nothing is to be copied.",
        |observed| {
            observed.policies(|policy| {
                let partitions = policy.partitions.as_ref()?;
                let lag = partitions.iter().map(|partition| partition.lag_seconds);
                Some(lag.fold(0.0, f64::max))
            })
        },
    ),
    counter(
        "mirror_records_total",
        "Records that the mirror read, by what became of them.",
        |observed| {
            observed.policies_by("result", |policy| {
                let records = policy.mirror.as_ref().map(|mirror| mirror.records());
                let records = records.into_iter().flatten();
                records.map(|(outcome, count)| (outcome.name(), count as f64))
            })
        },
    ),
    gauge(
        "mirror_partitions",
        "Partitions of the mirror, by whether they are copied or stand still for good.",
        |observed| {
            observed.policies_by("state", |policy| {
                let counts = policy.partitions.as_deref().map(by_state);
                counts.into_iter().flatten()
            })
        },
    ),
];

fn by_state(partitions: &[PartitionStatus]) -> [(&'static str, f64); 2] {
    let stopped = partitions
        .iter()
        .filter(|partition| partition.state.is_stopped());
    let stopped = stopped.count();
    let mirroring = partitions.len() - stopped;
    [("mirroring", mirroring as f64), ("stopped", stopped as f64)]
}
