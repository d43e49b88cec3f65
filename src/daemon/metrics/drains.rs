//! Where the groups of drain policies stand.

use crate::engine::drain::DrainState;

use super::metric::{Metric, gauge};
use super::sample::one_if;

pub(super) const METRICS: &[Metric] = &[
    gauge(
        "drain_state",
        "Where the group of the drain policy stands: 1 for its state, 0 for the others.",
        |observed| {
            observed.policies_by("state", |policy| {
                let drain = policy.drain.as_ref();
                // A group that cannot be looked at is in the state `unknown`.
                let now = drain.map(|_| {
                    let group = policy.group.as_ref();
                    group.map_or(DrainState::Unknown, |group| group.state)
                });
                now.into_iter().flat_map(|now| {
                    DrainState::ALL.map(|state| (state.name(), one_if(state == now)))
                })
            })
        },
    ),
    gauge(
        "drain_lag_records",
        "Records that the group of the drain policy has left.",
        |observed| observed.policies(|policy| Some(policy.group.as_ref()?.total_lag as f64)),
    ),
    gauge(
        "drain_eta_seconds",
        "How long the group of the drain policy takes until it is drained, when it goes on like this; absent when it does not get less.",
        |observed| observed.policies(|policy| Some(policy.group.as_ref()?.eta_seconds? as f64)),
    ),
];
