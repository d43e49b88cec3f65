//! The API: `/api/…`. Every call has a request id, a caller, and a share of what that one may call in a minute.
//!
//! ```text
//! who asks (401) ─ how often (429) ─ what (404, 405) ─ may that one (403) ─ the resource ─> JSON
//! ```
//!
//! A file a resource. What is asked for runs as a job of the daemon, whether somebody waits for it or not.

mod backups;
mod body;
mod calls;
mod figures;
mod jobs;
mod openapi;
mod orders;
mod places;
mod query;
mod route;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::api::{Problem, ProblemKind};
use crate::auth::{AuthError, Caller, Scope};
use crate::daemon::{RunId, View};
use crate::policy::{Api as Configured, DaemonConfiguration};

pub(super) use calls::Calls;
pub use openapi::openapi;
use route::Resource;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What a call came to.
struct Answered {
    code: StatusCode,
    body: Vec<u8>,
    headers: Vec<(HeaderName, String)>,
    /// The job that it was about.
    job_id: Option<RunId>,
}

impl Answered {
    fn json(code: StatusCode, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| {
            tracing::error!("an answer cannot be written; this is a bug in kafkeep: {error}");
            Problem::internal()
        })?;
        Ok(Self {
            code,
            body,
            headers: Vec::new(),
            job_id: None,
        })
    }

    fn ok(body: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, body)
    }

    fn of_job(mut self, job_id: RunId) -> Self {
        self.job_id = Some(job_id);
        self
    }

    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A call whose caller is known.
struct Call<'a> {
    view: &'a View,
    configuration: Arc<DaemonConfiguration>,
    api: &'a Configured,
    caller: Caller,
    request: Request<Incoming>,
}

impl Call<'_> {
    /// The scope must be held at all: more is asked where it is known what the call is about.
    fn needs(&self, scope: Scope) -> Result<(), Problem> {
        match self.caller.has(scope) {
            true => Ok(()),
            false => Err(forbidden(&format!(
                "the token lacks the scope {}",
                scope.name()
            ))),
        }
    }

    /// The scope must be held for this topic.
    fn needs_topic(&self, scope: Scope, cluster: &str, topic: &str) -> Result<(), Problem> {
        match self.caller.may(scope, Some(cluster), topic) {
            true => Ok(()),
            false => Err(forbidden(
                "the token does not allow this with this topic of this cluster",
            )),
        }
    }
}

fn forbidden(why: &str) -> Problem {
    Problem::new(ProblemKind::Forbidden, why)
}

/// Answers a call, and names its route for the metrics.
pub(super) async fn answer(
    request: Request<Incoming>,
    view: &View,
    calls: &Calls,
) -> (&'static str, Response<Full<Bytes>>) {
    let request_id = Uuid::now_v7();
    let span = tracing::info_span!("request", %request_id);
    let (route, mut response) =
        tracing::Instrument::instrument(judged(request, view, calls), span).await;
    let headers = response.headers_mut();
    // Digits and hyphens.
    if let Ok(value) = HeaderValue::from_str(&request_id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (route, response)
}

async fn judged(
    request: Request<Incoming>,
    view: &View,
    calls: &Calls,
) -> (&'static str, Response<Full<Bytes>>) {
    let configuration = Arc::clone(&view.configuration.borrow());
    let Some(api) = &configuration.api else {
        let off = "the API is off: no key is configured under [api.keys]";
        return ("api", failed(&Problem::new(ProblemKind::NotFound, off)));
    };
    let path = request.uri().path().to_owned();
    if path == openapi::PATH {
        return ("api/openapi", openapi::answer(request.method()));
    }
    let authorization = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let caller = match api.authority.verify(authorization) {
        Ok(caller) => caller,
        Err(error) => return ("api", unauthorized(&error)),
    };
    let share = match calls.take(&caller.subject, configuration.limits.calls_per_minute) {
        Ok(share) => share,
        Err(share) => {
            let problem = Problem::new(
                ProblemKind::TooManyRequests,
                format!(
                    "{} calls a minute are allowed: try again later",
                    share.limit
                ),
            );
            let mut response = failed(&problem.again_after(share.again_after));
            share.tell(response.headers_mut());
            return ("api", response);
        }
    };
    let method = request.method().clone();
    let found = route::find(&path);
    let route = found.as_ref().map_or("api", |resource| resource.name());
    let who = (caller.subject.clone(), caller.key.clone());
    let answered = match found {
        None => Err(Problem::new(ProblemKind::NotFound, "nothing is here")),
        Some(resource) if !resource.methods().contains(&method) => {
            let allowed: Vec<&str> = resource
                .methods()
                .iter()
                .map(|method| method.as_str())
                .collect();
            let allowed = allowed.join(", ");
            let message = format!("this resource knows {allowed}");
            let mut response = failed(&Problem::new(ProblemKind::MethodNotAllowed, message));
            set(response.headers_mut(), ALLOW, &allowed);
            share.tell(response.headers_mut());
            return (route, response);
        }
        Some(resource) => {
            let call = Call {
                view,
                configuration: Arc::clone(&configuration),
                api,
                caller,
                request,
            };
            resource_answer(call, resource).await
        }
    };
    audit(&who, &method, &path, &answered);
    let mut response = match answered {
        Ok(answered) => succeeded(answered),
        Err(problem) => failed(&problem),
    };
    share.tell(response.headers_mut());
    (route, response)
}

async fn resource_answer(call: Call<'_>, resource: Resource) -> Result<Answered, Problem> {
    match resource {
        Resource::Backup(cluster) => orders::backup(call, &cluster).await,
        Resource::Restore(cluster) => orders::restore(call, &cluster).await,
        Resource::Drain(cluster) => orders::drain(call, &cluster).await,
        Resource::Migrate => orders::migrate(call).await,
        Resource::Validate(id) => orders::validate(call, &id).await,
        Resource::Backups => backups::list(call).await,
        Resource::OneBackup(id) if call.request.method() == hyper::Method::DELETE => {
            backups::delete(call, &id).await
        }
        Resource::OneBackup(id) => backups::show(call, &id).await,
        Resource::Jobs => jobs::list(&call),
        Resource::OneJob(id) if call.request.method() == hyper::Method::DELETE => {
            jobs::cancel(call, &id).await
        }
        Resource::OneJob(id) => jobs::show(&call, &id),
        Resource::Metrics => figures::answer(call).await,
    }
}

/// Who (by which key) did what, for calls that change something, and what came of it. A job's end is logged by the supervisor.
fn audit(
    (subject, key): &(String, String),
    method: &hyper::Method,
    path: &str,
    answered: &Result<Answered, Problem>,
) {
    if method.is_safe() {
        return;
    }
    let (code, job_id, why) = match answered {
        Ok(answered) => (answered.code.as_u16(), answered.job_id, ""),
        Err(problem) => (problem.kind.status(), None, problem.message.as_str()),
    };
    let job_id = job_id.map(|id| id.to_string()).unwrap_or_default();
    // Debug: neither a subject nor a path breaks the line.
    tracing::info!(target: "kafkeep::audit", ?subject, %key, %method, ?path, code, job_id, why, "{subject:?} called {method} {path:?} by key {key}: {code}");
}

fn unauthorized(error: &AuthError) -> Response<Full<Bytes>> {
    let mut response = failed(&Problem::new(ProblemKind::Unauthorized, error.to_string()));
    set(response.headers_mut(), WWW_AUTHENTICATE, &error.challenge());
    response
}

fn succeeded(answered: Answered) -> Response<Full<Bytes>> {
    let mut response = super::typed(answered.code, "application/json", answered.body);
    for (name, value) in answered.headers {
        set(response.headers_mut(), name, &value);
    }
    response
}

fn failed(problem: &Problem) -> Response<Full<Bytes>> {
    let code =
        StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Texts alone: they can be written.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = super::typed(code, "application/json", body);
    if let Some(seconds) = problem.retry_after {
        set(response.headers_mut(), RETRY_AFTER, &seconds.to_string());
    }
    response
}

fn set(headers: &mut hyper::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A body must have come within this.
const BODY_WITHIN: Duration = Duration::from_secs(30);
