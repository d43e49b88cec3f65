//! What Prometheus scrapes: a rendering of what can be seen of the daemon. Timestamps, not ages.
//!
//! Nothing is kept here but the counts of HTTP requests. So a series is there for as long as what it is of, and a new metric
//! is one entry in one of the lists.

mod backups;
mod credentials;
mod drains;
mod http;
mod jobs;
mod metric;
mod mirrors;
mod observed;
mod policies;
mod repositories;
mod requests;
mod sample;
mod service;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, TextEncoder};

use metric::Metric;
use observed::Observed;
use requests::Requests;

use super::credentials::Credentials;
use super::repositories::RepositoryStatus;
use super::status::Status;

/// All metrics but those of the process.
const METRICS: [&[Metric]; 9] = [
    service::METRICS,
    policies::METRICS,
    backups::METRICS,
    mirrors::METRICS,
    drains::METRICS,
    repositories::METRICS,
    jobs::METRICS,
    http::METRICS,
    credentials::METRICS,
];

/// Renders what can be seen, and counts HTTP requests.
pub struct Metrics {
    requests: Requests,
    process: ProcessCollector,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Requests::default(),
            process: ProcessCollector::for_self(),
        }
    }
}

impl Metrics {
    /// Counts a request that was answered. `route` is one of few, without what varies in a path.
    pub fn http_answered(&self, route: &'static str, code: u16, took: Duration) {
        self.requests.answered(route, code, took);
    }

    /// All metrics in Prometheus' text format; mirrors and drains as they are at this moment.
    pub fn render(
        &self,
        status: &Status,
        repositories: &[RepositoryStatus],
        credentials: &Credentials,
    ) -> Vec<u8> {
        let requests = self.requests.counted();
        let observed = Observed::new(status, repositories, credentials, requests);
        let metrics = METRICS.into_iter().flatten();
        let mut families: Vec<_> = metrics.map(|metric| metric.family(&observed)).collect();
        families.extend(self.process.collect());
        // The encoder refuses a family without samples.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        let mut text = Vec::new();
        // Writing into memory does not fail, and the families are well-formed.
        TextEncoder::new().encode(&families, &mut text).ok();
        text
    }
}
