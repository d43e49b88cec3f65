//! Where one request ends and the next begins: heads that two readers could understand differently, and bodies that nobody read.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, EXPECT, HOST, HeaderValue};
use hyper::{Request, Response, Version};

/// A body that was not needed is read to its end, when that is near.
const REST_WITHIN: Duration = Duration::from_millis(500);
const REST_BYTES: usize = 64 << 10;

/// What makes the head of a request ambiguous, and the field that does.
pub(super) fn ambiguous<B>(request: &Request<B>) -> Option<(&'static str, &'static str)> {
    let count = |name| request.headers().get_all(name).iter().count();
    let (hosts, tokens) = (count(HOST), count(AUTHORIZATION));
    // RFC 9112, section 3.2. HTTP/1.0 knows no Host.
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Some(("Host", "give exactly one Host header"));
    }
    (tokens > 1).then_some(("Authorization", "give at most one Authorization header"))
}

/// Has the connection go on behind the request's body, or announces that it ends: a body that is in the way would be
/// taken for the next request, or that one would be lost with the connection (RFC 9112, section 9.6).
pub(super) async fn finish(request: &mut Request<Incoming>, response: &mut Response<Full<Bytes>>) {
    // Who expects 100 has sent nothing yet, and would be told to send all of it.
    let is_held_back = request.headers().contains_key(EXPECT);
    let body = request.body_mut();
    if body.is_end_stream() || (!is_held_back && is_soon_over(body).await) {
        return;
    }
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}

async fn is_soon_over(body: &mut Incoming) -> bool {
    if body.size_hint().lower() > REST_BYTES as u64 {
        return false;
    }
    let rest = Limited::new(body, REST_BYTES).collect();
    matches!(tokio::time::timeout(REST_WITHIN, rest).await, Ok(Ok(_)))
}
