//! How responses are put together.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};

/// A text.
pub(super) fn text(code: StatusCode, text: impl Into<String>) -> Response<Full<Bytes>> {
    typed(code, "text/plain; charset=utf-8", text.into().into_bytes())
}

/// A body of this content type.
pub(super) fn typed(code: StatusCode, of: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(of));
    response
}

/// Sets a header. A value that no header can have is left out.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
