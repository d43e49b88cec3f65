//! The daemon's port: health, metrics and status, read from its snapshots.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::daemon::{RepositoryStatus, Status, View};

mod health;
mod page;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long a client may take for its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// What a request's headers may take.
const HEADER_BYTES: usize = 16 << 10;
/// A connection is not kept for longer, be it that its client takes nothing of its answer.
const CONNECTION_FOR: Duration = Duration::from_secs(300);

/// The port, open.
pub struct Server {
    listener: TcpListener,
    view: View,
}

impl Server {
    /// Opens the port.
    pub async fn bind(address: SocketAddr, view: View) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, view })
    }

    /// Where it listens; another port than asked for when that was 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for ever; elsewhere when the configuration says so.
    pub async fn serve(mut self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut configuration = self.view.configuration.clone();
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
                    let view = self.view.clone();
                    tokio::spawn(async move {
                        converse(stream, view).await;
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

async fn converse(stream: TcpStream, view: View) {
    let service = service_fn(|request| {
        let response = answer(&request, &view);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_FOR, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a connection ended: {error}"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}

fn answer(request: &Request<Incoming>, view: &View) -> Response<Full<Bytes>> {
    let response = match request.uri().path() {
        "/" | "/livez" | "/health" | "/readyz" | "/metrics" | "/status"
            if ![Method::GET, Method::HEAD].contains(request.method()) =>
        {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" | "/health" => {
            let verbose = request.uri().query() == Some("verbose");
            health::readiness(&view.status.borrow(), &view.repositories.borrow(), verbose)
        }
        "/metrics" => typed(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            view.metrics.render(&view.status.borrow()),
        ),
        "/status" => status(view),
        "/" => typed(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page::page(&view.status.borrow(), &view.repositories.borrow()).into_bytes(),
        ),
        _ => text(StatusCode::NOT_FOUND, "nothing is here\n"),
    };
    tracing::debug!(
        method = %request.method(), path = request.uri().path(), code = response.status().as_u16(), "answered",
    );
    response
}

/// What `/status` shows.
#[derive(Serialize)]
struct StatusReport<'a> {
    #[serde(flatten)]
    status: &'a Status,
    repositories: &'a [RepositoryStatus],
}

fn status(view: &View) -> Response<Full<Bytes>> {
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

fn text(code: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    typed(code, "text/plain; charset=utf-8", text.into().into_bytes())
}

fn typed(code: StatusCode, of: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(of));
    response
}
