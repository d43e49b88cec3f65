//! The audit trail: who called what that changes something, by which key, and what came of it. A job's end is logged by the
//! supervisor, under the id of the job.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::Method;

use crate::api::{Problem, ProblemKind};
use crate::auth::Identity;
use crate::quote::quote_within;

use super::ApiResponse;

/// Lines a minute about calls that cost nothing to make, because they are turned away at the door: no more, or whoever floods the
/// port floods the journal, which then drops what matters (`RateLimitBurst=` of journald.conf(5)).
const TURNED_AWAY: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// What is written of a path, in characters.
const LONGEST_PATH: usize = 512;

/// What is remembered of the lines that were written.
pub(in crate::http) struct Audit {
    turned_away: DefaultDirectRateLimiter,
    unwritten: AtomicU64,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            turned_away: RateLimiter::direct(Quota::per_minute(TURNED_AWAY)),
            unwritten: AtomicU64::new(0),
        }
    }
}

impl Audit {
    /// A line for a call that changes something, or was to.
    pub fn write(
        &self,
        who: Option<&Identity>,
        method: &Method,
        path: &str,
        answered: &Result<ApiResponse, Problem>,
    ) {
        if method.is_safe() {
            return;
        }
        let (code, job_id, why) = match answered {
            Ok(answered) => (answered.code.as_u16(), answered.job_id, ""),
            Err(problem) => (problem.kind.status(), None, problem.message.as_str()),
        };
        let is_turned_away = who.is_none() || code == ProblemKind::TooManyRequests.status();
        if is_turned_away && !self.has_room() {
            return;
        }
        let job_id = job_id.map(|id| id.to_string()).unwrap_or_default();
        let path = quote_within(path, LONGEST_PATH);
        // Debug: neither a subject nor a path breaks the line.
        match who {
            Some(Identity { subject, key }) => {
                tracing::info!(target: "kafkeep::audit", ?subject, %key, %method, ?path, code, job_id, why, "{subject:?} called {method} {path:?} by key {key}: {code}");
            }
            None => {
                tracing::info!(target: "kafkeep::audit", %method, ?path, code, why, "nobody known called {method} {path:?}: {code}, {why}");
            }
        }
    }

    fn has_room(&self) -> bool {
        if self.turned_away.check().is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let unwritten = self.unwritten.swap(0, Ordering::Relaxed);
        if unwritten > 0 {
            tracing::warn!(target: "kafkeep::audit", unwritten, "{unwritten} more calls were turned away since the line before, and not written here");
        }
        true
    }
}
