//! The API: `/api/…`. Every call has a request id, a caller, and a share of what that one may call in a minute.
//!
//! ```text
//! who asks (401) ─ how often (429) ─ what (404, 405) ─ may that one (403) ─ the resource ─> JSON
//! ```
//!
//! A file a resource. What is asked for runs as a job of the daemon, whether somebody waits for it or not.

mod audit;
mod backups;
mod body;
mod call;
mod calls;
mod documented;
mod figures;
mod jobs;
mod openapi;
mod orders;
mod places;
mod query;
mod route;
mod waiting;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use uuid::Uuid;

use crate::api::{Problem, ProblemKind};
use crate::auth::{Caller, Identity};
use crate::daemon::DaemonHandle;
use crate::policy::Api as Configured;

use audit::Audit;
use call::{ApiResponse, Call, forbidden};
use calls::Calls;
pub use openapi::openapi;
use route::Resource;
use waiting::Waiting;

use super::framing;
use super::response::{set, typed};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What calls have in common: how often each user called, what was written of it, and who waits.
#[derive(Default)]
pub(super) struct ApiState {
    calls: Calls,
    audit: Audit,
    waiting: Waiting,
}

/// What comes to be known of a call on its way, whatever it is answered.
struct Known {
    /// For the metrics.
    route: &'static str,
    who: Option<Identity>,
    headers: HeaderMap,
}

/// Answers a call, and names its route for the metrics.
pub(super) async fn answer(
    request: &mut Request<Incoming>,
    view: &DaemonHandle,
    desk: &ApiState,
) -> (&'static str, Response<Full<Bytes>>) {
    let request_id = Uuid::now_v7();
    let span = tracing::info_span!("request", %request_id);
    let mut known = Known {
        route: "api",
        who: None,
        headers: HeaderMap::new(),
    };
    // Digits and hyphens.
    set(&mut known.headers, REQUEST_ID, &request_id.to_string());
    set(&mut known.headers, CACHE_CONTROL, "no-store");
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answered = async {
        let answered = judged(request, view, desk, &mut known).await;
        let who = known.who.as_ref();
        desk.audit.write(who, &method, &path, &answered);
        answered
    };
    let answered = tracing::Instrument::instrument(answered, span).await;
    let mut response = match answered {
        Ok(answered) => succeeded(answered),
        Err(problem) => failed(&problem),
    };
    response.headers_mut().extend(known.headers);
    (known.route, response)
}

async fn judged(
    request: &mut Request<Incoming>,
    view: &DaemonHandle,
    desk: &ApiState,
    known: &mut Known,
) -> Result<ApiResponse, Problem> {
    let configuration = Arc::clone(&view.configuration.borrow());
    let Some(api) = &configuration.api else {
        let off = "the API is off: no key is configured under [api.keys]";
        return Err(Problem::new(ProblemKind::NotFound, off));
    };
    if let Some((field, why)) = framing::ambiguous(request) {
        return Err(Problem::invalid(field, "", why));
    }
    let found = route::find(request.uri().path());
    known.route = found.as_ref().map_or("api", Resource::name);
    if found == Some(Resource::Document) {
        refuse_method(request.method(), &Resource::Document, known)?;
        return Ok(openapi::answer());
    }
    let caller = known_caller(request.headers(), api, known)?;
    let per_minute = configuration.limits.calls_per_minute;
    take_share(&desk.calls, &caller.identity, per_minute, known)?;
    let nothing = || Problem::new(ProblemKind::NotFound, "nothing is here");
    let resource = found.ok_or_else(nothing)?;
    refuse_method(request.method(), &resource, known)?;
    let call = Call {
        view,
        configuration: Arc::clone(&configuration),
        api,
        caller,
        waiting: &desk.waiting,
        request,
    };
    resource_answer(call, resource).await
}

fn known_caller(
    headers: &HeaderMap,
    api: &Configured,
    known: &mut Known,
) -> Result<Caller, Problem> {
    let authorization = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match api.authority.verify(authorization) {
        Ok(caller) => {
            known.who = Some(caller.identity.clone());
            Ok(caller)
        }
        Err(error) => {
            set(&mut known.headers, WWW_AUTHENTICATE, &error.challenge());
            Err(Problem::new(ProblemKind::Unauthorized, error.to_string()))
        }
    }
}

fn take_share(
    calls: &Calls,
    identity: &Identity,
    per_minute: u32,
    known: &mut Known,
) -> Result<(), Problem> {
    match calls.take(identity, per_minute) {
        Ok(share) => {
            share.tell(&mut known.headers);
            Ok(())
        }
        Err(share) => {
            share.tell(&mut known.headers);
            let message = format!("{per_minute} calls a minute are allowed: try again later");
            let problem = Problem::new(ProblemKind::TooManyRequests, message);
            Err(problem.again_after(share.again_after))
        }
    }
}

fn refuse_method(method: &Method, resource: &Resource, known: &mut Known) -> Result<(), Problem> {
    let methods = resource.methods();
    let meant = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    if methods.contains(meant) {
        return Ok(());
    }
    let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    set(&mut known.headers, ALLOW, &allowed);
    let message = format!("this resource knows {allowed}");
    Err(Problem::new(ProblemKind::MethodNotAllowed, message))
}

async fn resource_answer(call: Call<'_>, resource: Resource) -> Result<ApiResponse, Problem> {
    match resource {
        Resource::Document => Ok(openapi::answer()),
        Resource::Backup(cluster) => orders::backup(call, &cluster).await,
        Resource::Restore(cluster) => orders::restore(call, &cluster).await,
        Resource::Drain(cluster) => orders::drain(call, &cluster).await,
        Resource::Migrate => orders::migrate(call).await,
        Resource::Validate(id) => orders::validate(call, &id).await,
        Resource::Backups => backups::list(call).await,
        Resource::OneBackup(id) if call.request.method() == Method::DELETE => {
            backups::delete(call, &id).await
        }
        Resource::OneBackup(id) => backups::show(call, &id).await,
        Resource::Jobs => jobs::list(&call),
        Resource::OneJob(id) if call.request.method() == Method::DELETE => {
            jobs::cancel(call, &id).await
        }
        Resource::OneJob(id) => jobs::show(&call, &id),
        Resource::Metrics => figures::answer(call).await,
    }
}

fn succeeded(answered: ApiResponse) -> Response<Full<Bytes>> {
    let mut response = typed(answered.code, "application/json", answered.body);
    for (name, value) in answered.headers {
        set(response.headers_mut(), name, &value);
    }
    response
}

/// The answer that tells what is wrong.
pub(super) fn failed(problem: &Problem) -> Response<Full<Bytes>> {
    let code =
        StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Texts alone: they can be written.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = typed(code, "application/json", body);
    if let Some(seconds) = problem.retry_after {
        set(response.headers_mut(), RETRY_AFTER, &seconds.to_string());
    }
    response
}
