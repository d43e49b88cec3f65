//! One connection: TLS where that is configured, requests, and an end that loses no answer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::engine::{EngineError, blocking};

use super::admission::Place;
use super::answering::answer;
use super::shared::Shared;

/// What a request's headers may take.
const HEADER_BYTES: usize = 16 << 10;
/// After the last answer, what a client still sends is read for so long, and no more than so much of it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 1 << 20;

/// How long a client may take.
struct Patience {
    /// For shaking hands.
    handshake: Duration,
    /// For the headers of a request, and until the next request comes.
    headers: Duration,
    /// For all of a connection on which nothing is being answered, be it that its client takes nothing of its answer.
    connection: Duration,
}

const ORDINARY: Patience = Patience {
    handshake: Duration::from_secs(10),
    headers: Duration::from_secs(10),
    connection: Duration::from_secs(300),
};

const IN_THE_RESERVE: Patience = Patience {
    handshake: Duration::from_secs(1),
    headers: Duration::from_secs(1),
    connection: Duration::from_secs(5),
};

/// Speaks with a client until it ends.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>, place: Place) {
    let tls = shared.view.configuration.borrow().http.tls.clone();
    let Some(tls) = tls else {
        return converse(stream, shared, &place).await;
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
    match timeout(patience(&place).handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, shared, &place).await,
        Ok(Err(error)) => tracing::debug!("a client did not shake hands: {error}"),
        Err(_) => tracing::debug!("a client took too long to shake hands"),
    }
}

fn patience(place: &Place) -> &'static Patience {
    match place.is_reserve() {
        true => &IN_THE_RESERVE,
        false => &ORDINARY,
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>, place: &Place) {
    let (patience, only_health) = (patience(place), place.is_reserve());
    let answering = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request| {
        let (shared, answering) = (Arc::clone(&shared), Answering::begin(&answering));
        Box::pin(async move {
            let response = answer(request, &shared, only_health).await;
            drop(answering);
            Ok::<_, Infallible>(response)
        })
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.headers)
        .keep_alive(!only_health)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    loop {
        let ending = poll_fn(|context| serving.poll_without_shutdown(context));
        match timeout(patience.connection, ending).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) => {
                tracing::debug!("a connection ended: {error}");
                // What cannot be understood was answered.
                if error.is_parse() {
                    break;
                }
                return;
            }
            // Who waits for a job may wait for as long as that takes.
            Err(_) if answering.load(Ordering::Relaxed) > 0 => {}
            Err(_) => return tracing::debug!("a connection took too long"),
        }
    }
    close(serving.into_parts().io.into_inner()).await;
}

/// Ends our side, then reads what the client still sends: to close with bytes unread is to reset the connection, and the client
/// may lose the answer with it (RFC 9112, section 9.6).
async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let closing = async {
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // What goes wrong now is the client's own.
    timeout(LINGER, closing).await.ok();
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
