//! What Prometheus scrapes. Timestamps, not ages; a policy's series go when the policy goes.

mod requests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::api::{Answer, OrderKind};
use crate::engine::drain::DrainState;
use crate::engine::mirror::PartitionStatus;
use crate::policy::BackupPolicy;

use requests::Requests;

use super::jobs::JobState;
use super::status::{EndedRun, Expired, PolicyStatus, RunResult, Status, Work};

/// From a second to a day.
const DURATIONS: [f64; 10] = [
    1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0,
];

/// What becomes of the records that a mirror reads.
const MIRROR_RESULTS: [&str; 6] = [
    "copied",
    "aborted",
    "returning",
    "filtered",
    "error",
    "dead_letter",
];
/// What the partitions of a mirror do.
const MIRROR_STATES: [&str; 2] = ["mirroring", "stopped"];
/// How applying a retention ends.
const EXPIRE_RESULTS: [&str; 2] = ["success", "failed"];

/// Bytes as they are read from Kafka, and as they lie in packs.
const DIRECTIONS: [&str; 2] = ["read", "stored"];

/// The registry, and every series in it.
pub struct Metrics {
    registry: Registry,
    reload_success: IntGauge,
    reload_success_at: Gauge,
    policy_info: IntGaugeVec,
    last_run: GaugeVec,
    last_success: GaugeVec,
    last_status: IntGaugeVec,
    next_run: GaugeVec,
    duration: HistogramVec,
    runs: IntCounterVec,
    missed: IntCounterVec,
    max_age: GaugeVec,
    running: IntGaugeVec,
    backup_records: IntCounterVec,
    backup_bytes: IntCounterVec,
    backup_gaps: IntCounterVec,
    backup_partitions: IntGaugeVec,
    verify_findings: IntGaugeVec,
    mirror_lag_records: IntGaugeVec,
    mirror_lag_seconds: GaugeVec,
    mirror_records: IntCounterVec,
    mirror_partitions: IntGaugeVec,
    drain_state: IntGaugeVec,
    drain_lag: IntGaugeVec,
    drain_eta: IntGaugeVec,
    expire_runs: IntCounterVec,
    expired_backups: IntCounterVec,
    repository_size: IntGaugeVec,
    repository_backups: IntGaugeVec,
    repository_free: IntGaugeVec,
    repository_lost_backups: IntGaugeVec,
    repository_lost_packs: IntGaugeVec,
    requests: Requests,
}

/// Registers metrics one by one, and keeps the first error.
struct Registering {
    registry: Registry,
    failed: Option<prometheus::Error>,
}

impl Registering {
    fn add<C: Collector + Clone + 'static>(&mut self, made: prometheus::Result<C>) -> Option<C> {
        let registered = made.and_then(|collector| {
            self.registry.register(Box::new(collector.clone()))?;
            Ok(collector)
        });
        registered.map_err(|error| self.failed = Some(error)).ok()
    }

    fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Option<GaugeVec> {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    fn whole(&mut self, name: &str, help: &str, labels: &[&str]) -> Option<IntGaugeVec> {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> Option<IntCounterVec> {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("kafkeep_{name}"), help)
}

impl Metrics {
    /// All metrics, none of them with a value yet. None when a name is taken twice, which a test would have found.
    pub fn new() -> Option<Self> {
        let mut all = Registering {
            registry: Registry::new(),
            failed: None,
        };
        let policy: &[&str] = &["policy"];
        let build_info = all.whole("build_info", "The version that runs.", &["version"])?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        all.registry.register(Box::new(process)).ok()?;
        let duration = HistogramOpts::new(
            "kafkeep_policy_run_duration_seconds",
            "How long runs took, from being accepted to their end.",
        )
        .buckets(DURATIONS.to_vec());
        let metrics = Self {
            registry: all.registry.clone(),
            reload_success: all.add(IntGauge::with_opts(opts(
                "config_last_reload_success",
                "Whether the configuration that was read last is in force.",
            )))?,
            reload_success_at: all.add(Gauge::with_opts(opts(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration that is in force was read.",
            )))?,
            policy_info: all.whole(
                "policy_info",
                "The policies there are.",
                &["policy", "kind"],
            )?,
            last_run: all.gauges(
                "policy_last_run_timestamp_seconds",
                "When a run of the policy last ended.",
                policy,
            )?,
            last_success: all.gauges(
                "policy_last_success_timestamp_seconds",
                "When a run of the policy last succeeded.",
                policy,
            )?,
            last_status: all.whole(
                "policy_last_run_status",
                "How the last run of the policy ended: 1 for its status, 0 for the others.",
                &["policy", "status"],
            )?,
            next_run: all.gauges(
                "policy_next_run_timestamp_seconds",
                "When the policy is due next.",
                policy,
            )?,
            duration: all.add(HistogramVec::new(duration, policy))?,
            runs: all.counters(
                "policy_runs_total",
                "Runs of the policy that ended, by how.",
                &["policy", "result"],
            )?,
            missed: all.counters(
                "policy_missed_runs_total",
                "Due moments of the policy that got no run.",
                policy,
            )?,
            max_age: all.gauges(
                "policy_max_age_seconds",
                "How old the last success of the policy may be.",
                policy,
            )?,
            running: all.whole(
                "policy_running",
                "Runs of the policy that have not ended.",
                policy,
            )?,
            backup_records: all.counters(
                "backup_records_total",
                "Records that backups of the policy copied.",
                policy,
            )?,
            backup_bytes: all.counters(
                "backup_bytes_total",
                "Bytes that backups of the policy read from Kafka, and stored.",
                &["policy", "direction"],
            )?,
            backup_gaps: all.counters(
                "backup_gap_offsets_total",
                "Offsets that were gone before backups of the policy came to them.",
                policy,
            )?,
            backup_partitions: all.whole(
                "backup_partitions",
                "Partitions in the last backup of the policy.",
                policy,
            )?,
            verify_findings: all.whole(
                "verify_findings",
                "What the last verification of a backup of the policy found.",
                policy,
            )?,
            mirror_lag_records: all.whole(
                "mirror_lag_records",
                "Offsets of the source that the mirror has not copied: an upper bound of the records.",
                policy,
            )?,
            mirror_lag_seconds: all.gauges(
                "mirror_lag_seconds",
                "How old the last record copied is of the partition that is furthest behind; 0 when nothing is to be copied.",
                policy,
            )?,
            mirror_records: all.counters(
                "mirror_records_total",
                "Records that the mirror read, by what became of them.",
                &["policy", "result"],
            )?,
            mirror_partitions: all.whole(
                "mirror_partitions",
                "Partitions of the mirror, by whether they are copied or stand still for good.",
                &["policy", "state"],
            )?,
            drain_state: all.whole(
                "drain_state",
                "Where the group of the drain policy stands: 1 for its state, 0 for the others.",
                &["policy", "state"],
            )?,
            drain_lag: all.whole(
                "drain_lag_records",
                "Records that the group of the drain policy has left.",
                policy,
            )?,
            drain_eta: all.whole(
                "drain_eta_seconds",
                "How long the group of the drain policy takes until it is drained, when it goes on like this; absent when it does not get less.",
                policy,
            )?,
            expire_runs: all.counters(
                "expire_runs_total",
                "How often the policy's retention was applied, by how that ended.",
                &["policy", "result"],
            )?,
            expired_backups: all.counters(
                "expire_backups_total",
                "Backups that the policy's retention took away.",
                policy,
            )?,
            repository_size: all.whole(
                "repository_size_bytes",
                "Bytes that all objects of the repository take.",
                &["repository"],
            )?,
            repository_backups: all.whole(
                "repository_backups",
                "Backups in the repository.",
                &["repository"],
            )?,
            repository_free: all.whole(
                "repository_free_bytes",
                "Bytes that are free where the repository lies.",
                &["repository"],
            )?,
            repository_lost_backups: all.whole(
                "repository_lost_backups",
                "Backups that are gone from the repository though nothing expired them.",
                &["repository"],
            )?,
            repository_lost_packs: all.whole(
                "repository_lost_packs",
                "Packs that backups in the repository need and that are gone or cut short.",
                &["repository"],
            )?,
            requests: Requests::register(&mut all)?,
        };
        Some(metrics)
    }

    /// In Prometheus' text format; mirrors and drains as they are at this moment.
    pub fn render(&self, status: &Status) -> Vec<u8> {
        self.mirrors_stand(&status.policies);
        self.drains_stand(&status.policies);
        let mut text = Vec::new();
        // Writing into memory does not fail, and the families are well-formed.
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .ok();
        text
    }

    /// A configuration was read.
    pub fn reloaded(&self, success: bool, at: DateTime<Utc>) {
        self.reload_success.set(i64::from(success));
        if success {
            self.reload_success_at.set(seconds(at));
        }
    }

    /// A policy is there, perhaps with another text than before.
    pub fn policy_is_there(&self, name: &str, kind: &str, max_age: Option<f64>) {
        self.policy_info.with_label_values(&[name, kind]).set(1);
        match max_age {
            Some(max_age) => self.max_age.with_label_values(&[name]).set(max_age),
            None => drop_series(self.max_age.remove_label_values(&[name])),
        }
        for result in RunResult::ALL {
            // A counter that is not there cannot be seen to rise.
            self.runs.with_label_values(&[name, result.name()]);
        }
        for result in EXPIRE_RESULTS {
            self.expire_runs.with_label_values(&[name, result]);
        }
        self.expired_backups.with_label_values(&[name]);
        self.missed.with_label_values(&[name]);
        self.running.with_label_values(&[name]);
        if kind == "backup" {
            self.backup_records.with_label_values(&[name]);
            self.backup_gaps.with_label_values(&[name]);
            for direction in DIRECTIONS {
                self.backup_bytes.with_label_values(&[name, direction]);
            }
        }
    }

    /// A policy is gone.
    pub fn policy_is_gone(&self, name: &str, kind: &str) {
        drop_series(self.policy_info.remove_label_values(&[name, kind]));
        for series in [
            &self.last_run,
            &self.last_success,
            &self.next_run,
            &self.max_age,
        ] {
            drop_series(series.remove_label_values(&[name]));
        }
        for series in [
            &self.running,
            &self.backup_partitions,
            &self.verify_findings,
        ] {
            drop_series(series.remove_label_values(&[name]));
        }
        for result in EXPIRE_RESULTS {
            drop_series(self.expire_runs.remove_label_values(&[name, result]));
        }
        for series in [
            &self.missed,
            &self.backup_records,
            &self.backup_gaps,
            &self.expired_backups,
        ] {
            drop_series(series.remove_label_values(&[name]));
        }
        for direction in DIRECTIONS {
            drop_series(self.backup_bytes.remove_label_values(&[name, direction]));
        }
        for result in RunResult::ALL {
            drop_series(self.runs.remove_label_values(&[name, result.name()]));
            drop_series(self.last_status.remove_label_values(&[name, result.name()]));
        }
        drop_series(self.duration.remove_label_values(&[name]));
        drop_series(self.mirror_lag_records.remove_label_values(&[name]));
        drop_series(self.mirror_lag_seconds.remove_label_values(&[name]));
        for result in MIRROR_RESULTS {
            drop_series(self.mirror_records.remove_label_values(&[name, result]));
        }
        for state in DrainState::ALL {
            drop_series(self.drain_state.remove_label_values(&[name, state.name()]));
        }
        drop_series(self.drain_lag.remove_label_values(&[name]));
        drop_series(self.drain_eta.remove_label_values(&[name]));
        for state in MIRROR_STATES {
            drop_series(self.mirror_partitions.remove_label_values(&[name, state]));
        }
    }

    /// Due moments got no run.
    pub fn missed(&self, name: &str, count: u64) {
        self.missed.with_label_values(&[name]).inc_by(count);
    }

    /// Where a policy stands now.
    pub fn policy_stands(&self, status: &PolicyStatus) {
        let name = status.policy.as_str();
        let runs = status.running.iter().filter(|run| run.work != Work::Expire);
        let running = whole(runs.count() as u64);
        self.running.with_label_values(&[name]).set(running);
        match status.next_run_at {
            Some(next) => self.next_run.with_label_values(&[name]).set(seconds(next)),
            None => drop_series(self.next_run.remove_label_values(&[name])),
        }
        if let Some(success) = status.last_success_at {
            self.last_success
                .with_label_values(&[name])
                .set(seconds(success));
        }
        if let Some(run) = &status.last_run {
            self.last_run
                .with_label_values(&[name])
                .set(seconds(run.finished_at));
            for result in RunResult::ALL {
                let is = i64::from(result == run.outcome.result);
                self.last_status
                    .with_label_values(&[name, result.name()])
                    .set(is);
            }
        }
    }

    /// A run of a mirror ended.
    pub fn mirror_ended(&self, name: &str, run: &EndedRun) {
        self.runs
            .with_label_values(&[name, run.outcome.result.name()])
            .inc();
    }

    /// How far the mirrors are now.
    fn mirrors_stand(&self, policies: &[PolicyStatus]) {
        for policy in policies {
            let Some(mirror) = policy.mirror.as_ref() else {
                continue;
            };
            let (name, partitions) = (policy.policy.as_str(), mirror.partitions());
            let sum = |of: fn(&PartitionStatus) -> u64| partitions.iter().map(of).sum::<u64>();
            let lag_seconds = partitions.iter().map(|partition| partition.lag_seconds);
            self.mirror_lag_seconds
                .with_label_values(&[name])
                .set(lag_seconds.fold(0.0, f64::max));
            self.mirror_lag_records
                .with_label_values(&[name])
                .set(whole(sum(|partition| partition.lag_records)));
            let stopped = sum(|partition| u64::from(partition.state.is_stopped()));
            let all = partitions.len() as u64;
            for (state, count) in MIRROR_STATES.iter().zip([all - stopped, stopped]) {
                self.mirror_partitions
                    .with_label_values(&[name, state])
                    .set(whole(count));
            }
            let counts = [
                sum(|partition| partition.records),
                sum(|partition| partition.aborted_records),
                sum(|partition| partition.returning_records),
                sum(|partition| partition.filtered_records),
                sum(|partition| partition.error_records),
                sum(|partition| partition.dead_letter_records),
            ];
            for (result, count) in MIRROR_RESULTS.iter().zip(counts) {
                let counter = self.mirror_records.with_label_values(&[name, result]);
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
    }

    /// Where the groups of drain policies stand. One that cannot be looked at is in the state `unknown`.
    fn drains_stand(&self, policies: &[PolicyStatus]) {
        for policy in policies {
            let Some(drain) = policy.drain.as_ref() else {
                continue;
            };
            let (name, group) = (policy.policy.as_str(), drain.group());
            let now = group
                .as_ref()
                .map_or(DrainState::Unknown, |group| group.state);
            for state in DrainState::ALL {
                self.drain_state
                    .with_label_values(&[name, state.name()])
                    .set(i64::from(state == now));
            }
            let lag = group.as_ref().map(|group| group.total_lag);
            let eta = group.and_then(|group| group.eta_seconds);
            for (gauge, value) in [(&self.drain_lag, lag), (&self.drain_eta, eta)] {
                match value {
                    Some(value) => gauge.with_label_values(&[name]).set(whole(value)),
                    None => drop_series(gauge.remove_label_values(&[name])),
                }
            }
        }
    }

    /// A policy's retention was applied.
    pub fn expire_ended(&self, name: &str, expired: &Expired) {
        let [success, failed] = EXPIRE_RESULTS;
        let result = if expired.error.is_none() {
            success
        } else {
            failed
        };
        self.expire_runs.with_label_values(&[name, result]).inc();
        self.expired_backups
            .with_label_values(&[name])
            .inc_by(expired.removed_backups);
    }

    /// A run of a policy ended.
    pub fn run_ended(&self, policy: &BackupPolicy, run: &EndedRun) {
        let name = policy.name.as_str();
        let took = (run.finished_at - run.started_at).as_seconds_f64();
        self.duration
            .with_label_values(&[name])
            .observe(took.max(0.0));
        self.runs
            .with_label_values(&[name, run.outcome.result.name()])
            .inc();
        if run.outcome.backup_id.is_none() {
            return;
        }
        let figures = run.outcome.figures;
        self.backup_records
            .with_label_values(&[name])
            .inc_by(figures.new_messages);
        let bytes = [figures.new_bytes, figures.new_stored_bytes];
        for (direction, bytes) in DIRECTIONS.into_iter().zip(bytes) {
            self.backup_bytes
                .with_label_values(&[name, direction])
                .inc_by(bytes);
        }
        self.backup_gaps
            .with_label_values(&[name])
            .inc_by(figures.gap_offsets);
        self.backup_partitions
            .with_label_values(&[name])
            .set(whole(figures.partitions));
        if let Some(findings) = figures.verify_findings {
            self.verify_findings
                .with_label_values(&[name])
                .set(whole(findings));
        }
    }

    /// A job that somebody asked for ended.
    pub fn job_ended(&self, kind: OrderKind, state: JobState, answer: Option<&Answer>) {
        self.requests.job_ended(kind, state, answer);
    }

    /// A request was answered.
    pub fn http_answered(&self, route: &str, code: u16, took: Duration) {
        self.requests.answered(route, code, took);
    }

    /// What a repository holds now.
    pub fn repository_holds(&self, name: &str, size: u64, backups: u64, free: Option<u64>) {
        self.repository_size
            .with_label_values(&[name])
            .set(whole(size));
        self.repository_backups
            .with_label_values(&[name])
            .set(whole(backups));
        match free {
            Some(free) => self
                .repository_free
                .with_label_values(&[name])
                .set(whole(free)),
            None => drop_series(self.repository_free.remove_label_values(&[name])),
        }
    }

    /// What is gone from a repository though nothing expired it.
    pub fn repository_lost(&self, name: &str, backups: usize, packs: usize) {
        let counts = [
            (&self.repository_lost_backups, backups),
            (&self.repository_lost_packs, packs),
        ];
        for (series, count) in counts {
            series.with_label_values(&[name]).set(whole(count as u64));
        }
    }

    /// A repository is no longer configured.
    pub fn repository_is_gone(&self, name: &str) {
        for series in [
            &self.repository_size,
            &self.repository_backups,
            &self.repository_free,
            &self.repository_lost_backups,
            &self.repository_lost_packs,
        ] {
            drop_series(series.remove_label_values(&[name]));
        }
    }
}

/// A series that was never there is as gone as one that is removed.
fn drop_series(removed: prometheus::Result<()>) {
    removed.ok();
}

fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
