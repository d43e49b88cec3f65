//! Policies of all kinds, their runs and their retention.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::daemon::protection::PolicyState;
use crate::daemon::status::{PolicyStatus, RunResult, Work};

use super::metric::{Metric, counter, gauge};
use super::sample::{one_if, seconds};

pub(super) const METRICS: &[Metric] = &[
    gauge("policy_info", "The policies there are.", |observed| {
        observed.policies_by("kind", |policy| [(policy.kind.name(), 1.0)])
    }),
    gauge(
        "policy_state",
        "Whether the policy protects what it names: 1 for its state, 0 for the others.",
        |observed| {
            observed.policies_by("state", |policy| {
                let now = policy.protection.state;
                PolicyState::ALL.map(|state| (state.name(), one_if(state == now)))
            })
        },
    ),
    gauge(
        "policy_last_run_timestamp_seconds",
        "When a run of the policy last ended.",
        |observed| {
            observed.policies(|policy| last_run(policy).map(|(ended_at, _)| seconds(ended_at)))
        },
    ),
    gauge(
        "policy_last_success_timestamp_seconds",
        "When a run of the policy last succeeded.",
        |observed| {
            observed.policies(|policy| {
                let success = policy.last_success_at.or(policy.totals.last_success_at);
                success.map(seconds)
            })
        },
    ),
    gauge(
        "policy_last_run_status",
        "How the last run of the policy ended: 1 for its status, 0 for the others.",
        |observed| {
            observed.policies_by("status", |policy| {
                let last = last_run(policy).map(|(_, last)| last);
                last.into_iter().flat_map(|last| {
                    RunResult::ALL.map(|result| (result.name(), one_if(result == last)))
                })
            })
        },
    ),
    gauge(
        "policy_next_run_timestamp_seconds",
        "When the policy is due next.",
        |observed| observed.policies(|policy| policy.next_run_at.map(seconds)),
    ),
    counter(
        "policy_runs_total",
        "Runs of the policy that ended, by how.",
        |observed| {
            observed.policies_by("result", |policy| {
                RunResult::ALL.map(|result| count(&policy.totals.runs, result))
            })
        },
    ),
    counter(
        "policy_missed_runs_total",
        "Due moments of the policy that got no run.",
        |observed| {
            observed.policies(|policy| {
                // Those of mirrors are shown in the status alone.
                let counts = policy.totals.backups.is_some();
                Some(if counts {
                    policy.missed_runs as f64
                } else {
                    0.0
                })
            })
        },
    ),
    gauge(
        "policy_max_age_seconds",
        "How old the last success of the policy may be.",
        |observed| observed.policies(|policy| Some(policy.max_age?.as_secs_f64())),
    ),
    gauge(
        "policy_running",
        "Runs of the policy that have not ended.",
        |observed| {
            observed.policies(|policy| {
                let runs = policy.running.iter();
                Some(runs.filter(|run| run.work != Work::Expire).count() as f64)
            })
        },
    ),
    counter(
        "expire_runs_total",
        "How often the policy's retention was applied, by how that ended.",
        |observed| {
            observed.policies_by("result", |policy| {
                let results = [RunResult::Success, RunResult::Failed];
                results.map(|result| count(&policy.totals.expire_runs, result))
            })
        },
    ),
    counter(
        "expire_backups_total",
        "Backups that the policy's retention took away.",
        |observed| observed.policies(|policy| Some(policy.totals.expired_backups as f64)),
    ),
];

/// When and how the last run ended.
fn last_run(policy: &PolicyStatus) -> Option<(DateTime<Utc>, RunResult)> {
    let shown = policy.last_run.as_ref();
    let shown = shown.map(|run| (run.finished_at, run.outcome.result));
    shown.or(policy.totals.last_run)
}

fn count(counts: &BTreeMap<RunResult, u64>, result: RunResult) -> (&'static str, f64) {
    let count = counts.get(&result).copied().unwrap_or_default();
    (result.name(), count as f64)
}
