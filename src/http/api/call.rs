//! A call, and what it came to.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{Request, StatusCode};
use serde::Serialize;

use crate::api::{Problem, ProblemKind};
use crate::auth::{Caller, Scope};
use crate::daemon::{DaemonHandle, RunId};
use crate::policy::{Api as Configured, DaemonConfiguration};

use super::waiting::Waiting;

/// What a call came to.
pub(super) struct ApiResponse {
    pub code: StatusCode,
    pub body: Vec<u8>,
    pub headers: Vec<(HeaderName, String)>,
    /// The job that it was about.
    pub job_id: Option<RunId>,
}

impl ApiResponse {
    pub fn json(code: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            tracing::error!("an answer cannot be written; this is a bug in kafkeep: {error}");
            Problem::internal()
        })?;
        Ok(Self::written(code, body))
    }

    pub fn written(code: StatusCode, body: Vec<u8>) -> Self {
        Self {
            code,
            body,
            headers: Vec::new(),
            job_id: None,
        }
    }

    pub fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, body)
    }

    pub fn of_job(mut self, job_id: RunId) -> Self {
        self.job_id = Some(job_id);
        self
    }

    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A call whose caller is known.
pub(super) struct Call<'a> {
    pub view: &'a DaemonHandle,
    pub configuration: Arc<DaemonConfiguration>,
    pub api: &'a Configured,
    pub caller: Caller,
    pub waiting: &'a Waiting,
    pub request: &'a mut Request<Incoming>,
}

impl Call<'_> {
    /// The scope must be held at all: more is asked where it is known what the call is about.
    pub fn needs(&self, scope: Scope) -> Result<(), Problem> {
        match self.caller.has(scope) {
            true => Ok(()),
            false => Err(forbidden(&format!(
                "the token lacks the scope {}",
                scope.name()
            ))),
        }
    }

    /// The scope must be held for this topic.
    pub fn needs_topic(&self, scope: Scope, cluster: &str, topic: &str) -> Result<(), Problem> {
        match self.caller.may(scope, Some(cluster), topic) {
            true => Ok(()),
            false => Err(forbidden(
                "the token does not allow this with this topic of this cluster",
            )),
        }
    }
}

/// The caller may not do that.
pub(super) fn forbidden(why: &str) -> Problem {
    Problem::new(ProblemKind::Forbidden, why)
}
