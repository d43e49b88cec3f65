//! The daemon's port: health, metrics and status, read from its snapshots; and the API, which sends it requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::auth::CertificateError;
use crate::daemon::{DaemonHandle, RepositoryStatus, Status};
use crate::engine::{EngineError, blocking};

mod api;
mod client;
mod health;
mod page;
mod response;
mod tls;

use api::ApiState;
pub use api::openapi;
pub use client::{AskError, Trust, ask};
use response::{text, typed};
use tls::Certificates;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// How long a client may take for its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// What a request's headers may take.
const HEADER_BYTES: usize = 16 << 10;
/// A client must have shaken hands within this.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A connection on which nothing is being answered is not kept for longer, be it that its client takes nothing of its answer.
const CONNECTION_FOR: Duration = Duration::from_secs(300);

/// The port, open.
pub struct Server {
    listener: TcpListener,
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
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut configuration = self.shared.view.configuration.clone();
        let mut listen = configuration.borrow().http.listen;
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
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
            match (place, accepted) {
                (Ok(place), Ok((stream, _))) => {
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        welcome(stream, shared).await;
                        drop(place);
                    });
                }
                (_, Err(error)) => {
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                (Err(_), _) => return,
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

/// Speaks TLS where that is configured, and plain HTTP elsewhere.
async fn welcome(stream: TcpStream, shared: Arc<Shared>) {
    let tls = shared.view.configuration.borrow().http.tls.clone();
    let Some(tls) = tls else {
        return converse(stream, shared).await;
    };
    let certificates = Arc::clone(&shared);
    let reading = blocking("the thread that reads the certificate", move || {
        Ok::<_, EngineError>(certificates.certificates.acceptor(&tls))
    });
    let acceptor = match reading.await {
        Ok(Ok(acceptor)) => acceptor,
        Ok(Err(error)) => return tracing::error!("{error}"),
        Err(error) => return tracing::error!("{error}"),
    };
    match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, shared).await,
        Ok(Err(error)) => tracing::debug!("a client did not shake hands: {error}"),
        Err(_) => tracing::debug!("a client took too long to shake hands"),
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let answering = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request| {
        let (shared, answering) = (Arc::clone(&shared), Answering::begin(&answering));
        async move {
            let response = answer(request, &shared).await;
            drop(answering);
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    loop {
        match tokio::time::timeout(CONNECTION_FOR, &mut serving).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return tracing::debug!("a connection ended: {error}"),
            // Who waits for a job may wait for as long as that takes.
            Err(_) if answering.load(Ordering::Relaxed) > 0 => {}
            Err(_) => return tracing::debug!("a connection took too long"),
        }
    }
}

/// Counts a request while it is being answered, however that ends.
struct Answering(Arc<AtomicUsize>);

impl Answering {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (route, response) = if path == "/api" || path.starts_with("/api/") {
        api::answer(request, &shared.view, &shared.desk).await
    } else {
        page_answer(&request, &shared.view)
    };
    let code = response.status().as_u16();
    shared
        .view
        .metrics
        .http_answered(route, code, began.elapsed());
    tracing::debug!(%method, %path, code, "answered");
    response
}

/// What is there without asking who asks.
const PAGES: [&str; 6] = ["/", "/livez", "/health", "/readyz", "/metrics", "/status"];

fn page_answer(
    request: &Request<Incoming>,
    view: &DaemonHandle,
) -> (&'static str, Response<Full<Bytes>>) {
    let path = request.uri().path();
    let Some(route) = PAGES.into_iter().find(|page| *page == path) else {
        return ("none", text(StatusCode::NOT_FOUND, "nothing is here\n"));
    };
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
            health::readiness(&view.status.borrow(), &view.repositories.borrow(), verbose)
        }
        "/metrics" => {
            // Not borrowed while it renders: nothing new could be published meanwhile.
            let (status, repositories) = (
                view.status.borrow().clone(),
                view.repositories.borrow().clone(),
            );
            let text = view.metrics.render(&status, &repositories);
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
