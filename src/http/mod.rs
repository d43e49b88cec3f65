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
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::daemon::View;

mod health;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// How long a client may take for its headers.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// What a request's headers may take.
const HEADER_BYTES: usize = 16 << 10;

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

    /// Serves for ever.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let view = self.view.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let response = answer(&request, &view);
                    async move { Ok::<_, Infallible>(response) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS_WITHIN)
                    .max_buf_size(HEADER_BYTES)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(place);
            });
        }
    }
}

fn answer(request: &Request<Incoming>, view: &View) -> Response<Full<Bytes>> {
    let response = match request.uri().path() {
        "/livez" | "/health" | "/readyz" | "/metrics" | "/status"
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
            health::readiness(&view.status.borrow(), verbose)
        }
        "/metrics" => typed(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            view.metrics.render(),
        ),
        "/status" => status(view),
        "/" => text(
            StatusCode::OK,
            "kafkeep: /livez /readyz?verbose /health /metrics /status\n",
        ),
        _ => text(StatusCode::NOT_FOUND, "nothing is here\n"),
    };
    tracing::debug!(method = %request.method(), path = request.uri().path(), code = response.status().as_u16(), "answered");
    response
}

fn status(view: &View) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(&**view.status.borrow()) {
        Ok(json) => typed(StatusCode::OK, "application/json", json),
        Err(error) => {
            tracing::error!(%error, "the status cannot be written");
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
