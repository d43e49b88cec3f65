//! What is asked over HTTP, and what came of it.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec};

use crate::api::{Answer, OrderKind};
use crate::daemon::jobs::JobState;

use super::Registering;

/// From a millisecond to a minute.
const DURATIONS: [f64; 8] = [0.001, 0.005, 0.02, 0.05, 0.25, 1.0, 10.0, 60.0];

/// Requests and jobs.
pub(super) struct Requests {
    jobs: IntCounterVec,
    restore_records: IntCounterVec,
    requests: IntCounterVec,
    duration: HistogramVec,
}

impl Requests {
    pub fn register(all: &mut Registering) -> Option<Self> {
        let duration = HistogramOpts::new(
            "kafkeep_http_request_duration_seconds",
            "How long requests took to be answered; those that wait for a job take as long as that.",
        );
        Some(Self {
            jobs: all.counters(
                "jobs_total",
                "Jobs that were asked for over HTTP, by how they ended.",
                &["kind", "result"],
            )?,
            restore_records: all.counters(
                "restore_records_total",
                "Records that were restored over HTTP, by target cluster.",
                &["cluster"],
            )?,
            requests: all.counters(
                "http_requests_total",
                "Requests that were answered.",
                &["route", "code"],
            )?,
            duration: all.add(HistogramVec::new(
                duration.buckets(DURATIONS.to_vec()),
                &["route"],
            ))?,
        })
    }

    pub fn job_ended(&self, kind: OrderKind, state: JobState, answer: Option<&Answer>) {
        let labels = [kind.name(), state.name()];
        self.jobs.with_label_values(&labels).inc();
        if let Some(Answer::Restore(restored)) = answer {
            let records = self
                .restore_records
                .with_label_values(&[restored.cluster_id.as_str()]);
            records.inc_by(restored.messages_restored);
        }
    }

    pub fn answered(&self, route: &str, code: u16, took: Duration) {
        let labels = [route, &code.to_string()];
        self.requests.with_label_values(&labels).inc();
        let took = took.as_secs_f64();
        self.duration.with_label_values(&[route]).observe(took);
    }
}
