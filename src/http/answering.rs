//! What a request is answered: health, metrics and status here, the API in its own folder.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::api::{Problem, ProblemKind};
use crate::daemon::{DaemonHandle, JudgedPolicy, RepositoryStatus, Status, judged};

use super::response::{text, typed};
use super::shared::Shared;
use super::{api, framing, health, page, response};

/// Answers a request; where `only_health` is answered, anything else is put off.
pub(super) async fn answer(
    mut request: Request<Incoming>,
    shared: &Arc<Shared>,
    only_health: bool,
) -> Response<Full<Bytes>> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_api = path == "/api" || path.starts_with("/api/");
    let (route, mut response) = if only_health && !HEALTH.contains(&path.as_str()) {
        put_off(is_api)
    } else if is_api {
        shared.renew_keys().await;
        api::answer(&mut request, &shared.view, &shared.desk).await
    } else {
        page_answer(&request, shared).await
    };
    framing::finish(&mut request, &mut response).await;
    response::guard(&mut response);
    let code = response.status().as_u16();
    shared
        .view
        .metrics
        .http_answered(route, code, began.elapsed());
    tracing::debug!(%method, %path, code, "answered");
    response
}

/// What is answered whoever holds the connections.
const HEALTH: [&str; 4] = ["/livez", "/health", "/readyz", "/metrics"];

fn put_off(is_api: bool) -> (&'static str, Response<Full<Bytes>>) {
    let why = "too many connections are open: try again later";
    let problem = Problem::new(ProblemKind::ServiceUnavailable, why).again_after(1);
    match is_api {
        true => ("api", api::failed(&problem)),
        false => {
            let code = StatusCode::SERVICE_UNAVAILABLE;
            ("none", text(code, format!("{why}\n")))
        }
    }
}

/// What is there without asking who asks.
const PAGES: [&str; 6] = ["/", "/livez", "/health", "/readyz", "/metrics", "/status"];

async fn page_answer(
    request: &Request<Incoming>,
    shared: &Arc<Shared>,
) -> (&'static str, Response<Full<Bytes>>) {
    let (path, view) = (request.uri().path(), &shared.view);
    let Some(route) = PAGES.into_iter().find(|page| *page == path) else {
        return ("none", text(StatusCode::NOT_FOUND, "nothing is here\n"));
    };
    if let Some((_, why)) = framing::ambiguous(request) {
        return (route, text(StatusCode::BAD_REQUEST, format!("{why}\n")));
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return (route, response);
    }
    let response = match route {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/health" => {
            let verbose = request.uri().query() == Some("verbose");
            let credentials = shared.credentials().await;
            let (status, repositories) = (view.status.borrow(), view.repositories.borrow());
            health::readiness(&status, &repositories, &credentials, verbose)
        }
        "/metrics" => {
            let credentials = shared.credentials().await;
            // Not borrowed while it renders: nothing new could be published meanwhile.
            let (status, repositories) = (
                view.status.borrow().clone(),
                view.repositories.borrow().clone(),
            );
            let text = view.metrics.render(&status, &repositories, &credentials);
            typed(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            )
        }
        "/status" => status(view),
        _ => typed(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page::page(&view.status.borrow(), &view.repositories.borrow()).into_bytes(),
        ),
    };
    (route, response)
}

/// What `/status` shows.
#[derive(Serialize)]
struct StatusReport<'a> {
    #[serde(flatten)]
    status: &'a Status,
    policies: Vec<JudgedPolicy<'a>>,
    repositories: &'a [RepositoryStatus],
}

fn status(view: &DaemonHandle) -> Response<Full<Bytes>> {
    let (status, repositories) = (view.status.borrow(), view.repositories.borrow());
    let report = StatusReport {
        status: &status,
        policies: judged(&status, &repositories),
        repositories: &repositories,
    };
    match serde_json::to_vec_pretty(&report) {
        Ok(json) => typed(StatusCode::OK, "application/json", json),
        Err(error) => {
            tracing::error!("the status cannot be written: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        }
    }
}
