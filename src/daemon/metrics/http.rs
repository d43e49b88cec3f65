//! Requests to the daemon's port.

use super::metric::{Metric, counter, histogram};
use super::sample::{Sample, buckets};

pub(super) const METRICS: &[Metric] = &[
    counter(
        "http_requests_total",
        "Requests that were answered.",
        |observed| {
            let answered = observed.requests.answered.iter();
            let samples = answered.map(|((route, code), count)| {
                let labels = [("route", *route), ("code", &code.to_string())];
                Sample::new(&labels, *count as f64)
            });
            samples.collect()
        },
    ),
    histogram(
        "http_request_duration_seconds",
        "How long requests took to be answered; those that wait for a job take as long as that.",
        |observed| {
            let durations = observed.requests.durations.iter();
            let samples =
                durations.map(|(route, took)| Sample::new(&[("route", route)], buckets(took)));
            samples.collect()
        },
    ),
];
