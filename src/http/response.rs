//! How responses are put together.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
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

/// What a browser may make of any answer: no script, no frame, nothing from elsewhere, and no other type than we say. The page has its
/// style in itself.
pub(super) fn guard(response: &mut Response<Full<Bytes>>) {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    const NO_STYLE: &str = "default-src 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    let of = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let policy = match of.is_some_and(|of| of.starts_with(b"text/html")) {
        true => POLICY,
        false => NO_STYLE,
    };
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Sets a header. A value that no header can have is left out.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
