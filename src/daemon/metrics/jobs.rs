//! What was asked for over HTTP, and what came of it.

use crate::api::OrderKind;
use crate::daemon::jobs::JobState;

use super::metric::{Metric, counter};
use super::sample::Sample;

pub(super) const METRICS: &[Metric] = &[
    counter(
        "jobs_total",
        "Jobs that were asked for over HTTP, by how they ended.",
        |observed| {
            let ended = &observed.status.jobs.ended;
            let results = JobState::ALL.into_iter().filter(|state| state.is_ended());
            let samples = results.flat_map(|state| {
                OrderKind::ALL.map(|kind| {
                    let count = ended.get(&(kind, state)).copied().unwrap_or_default();
                    let labels = [("kind", kind.name()), ("result", state.name())];
                    Sample::new(&labels, count as f64)
                })
            });
            samples.collect()
        },
    ),
    counter(
        "restore_records_total",
        "Records that were restored over HTTP, by target cluster.",
        |observed| {
            let records = observed.status.jobs.restored_records.iter();
            let samples =
                records.map(|(cluster, count)| Sample::new(&[("cluster", cluster)], *count as f64));
            samples.collect()
        },
    ),
];
