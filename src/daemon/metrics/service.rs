//! The daemon itself.

use super::metric::{Metric, gauge};
use super::sample::{Sample, one_if, seconds};

pub(super) const METRICS: &[Metric] = &[
    gauge("build_info", "The version that runs.", |observed| {
        vec![Sample::new(&[("version", observed.status.version)], 1.0)]
    }),
    gauge(
        "config_last_reload_success",
        "Whether the configuration that was read last is in force.",
        |observed| {
            let success = observed.status.configuration.last_reload_success;
            vec![Sample::new(&[], one_if(success))]
        },
    ),
    gauge(
        "config_last_reload_success_timestamp_seconds",
        "When the configuration that is in force was read.",
        |observed| {
            let loaded_at = observed.status.configuration.loaded_at;
            vec![Sample::new(&[], seconds(loaded_at))]
        },
    ),
    gauge(
        "memory_budget_bytes",
        "The memory for record batches that all runs share ([limits] memory).",
        |observed| vec![Sample::new(&[], observed.status.memory.bytes() as f64)],
    ),
    gauge(
        "memory_budget_used_bytes",
        "How much of that memory runs hold.",
        |observed| vec![Sample::new(&[], observed.status.memory.held() as f64)],
    ),
];
