//! The daemon's port: health, metrics and status, read from its snapshots; and the API, which sends it requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::api::{Problem, ProblemKind};
use crate::auth::CertificateError;
use crate::daemon::{DaemonHandle, RepositoryStatus, Status};

mod admission;
mod api;
mod client;
mod connection;
mod credentials;
mod framing;
mod health;
mod page;
mod response;
#[cfg(test)]
mod tests;
mod tls;

use admission::{Admission, Capacity};
use api::ApiState;
pub use api::openapi;
pub use client::{AskError, Trust, ask};
use response::{text, typed};
use tls::Certificates;

/// The port, open.
pub struct Server {
    listener: TcpListener,
    capacity: Capacity,
    shared: Arc<Shared>,
}

/// What connections share.
struct Shared {
    view: DaemonHandle,
    certificates: Certificates,
    desk: ApiState,
}

impl Server {
    /// Opens the port.
    pub async fn bind(address: SocketAddr, view: DaemonHandle) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Shared {
            view,
            certificates: Certificates::default(),
            desk: ApiState::default(),
        };
        Ok(Self {
            listener,
            capacity: Capacity::default(),
            shared: Arc::new(shared),
        })
    }

    /// Whether it could prove who it is, where it is to.
    ///
    /// # Errors
    ///
    /// When the certificate or its key cannot be used.
    pub fn check_certificate(&self) -> Result<(), CertificateError> {
        let tls = self.shared.view.configuration.borrow().http.tls.clone();
        match tls {
            Some(tls) => self.shared.certificates.acceptor(&tls).map(drop),
            None => Ok(()),
        }
    }

    /// Where it listens; another port than asked for when that was 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever; elsewhere when the configuration says so.
    pub async fn serve(mut self) {
        let admission = Admission::new(self.capacity);
        let mut configuration = self.shared.view.configuration.clone();
        let mut listen = configuration.borrow().http.listen;
        loop {
            let accepted = async {
                let spare = admission.spare().await;
                (spare, self.listener.accept().await)
            };
            let (spare, accepted) = tokio::select! {
                accepted = accepted => accepted,
                // It outlives the daemon's configuration by moments.
                Ok(()) = configuration.changed() => {
                    let wanted = configuration.borrow_and_update().http.listen;
                    if wanted != listen {
                        listen = wanted;
                        self.listen_at(wanted).await;
                    }
                    continue;
                }
            };
            match (spare, accepted) {
                (Some(spare), Ok((stream, peer))) => {
                    let place = admission.place(peer.ip(), spare);
                    tokio::spawn(connection::serve(stream, Arc::clone(&self.shared), place));
                }
                (_, Err(error)) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (None, _) => return,
            }
        }
    }

    /// Moves to another address; where that is not to be had, it stays where it is.
    async fn listen_at(&mut self, address: SocketAddr) {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                self.listener = listener;
                tracing::info!("serving on {address}");
            }
            Err(error) => {
                tracing::error!(
                    "cannot listen on {address}, and stays where it was: {error}; set another address with [http] listen"
                );
            }
        }
    }
}

/// Answers a request; where `only_health` is answered, anything else is put off.
async fn answer(
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
    repositories: &'a [RepositoryStatus],
}

fn status(view: &DaemonHandle) -> Response<Full<Bytes>> {
    let (status, repositories) = (view.status.borrow(), view.repositories.borrow());
    let report = StatusReport {
        status: &status,
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
