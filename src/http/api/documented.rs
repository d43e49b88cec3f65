//! What calls have in common in the document.

use utoipa::{IntoParams, IntoResponses};

use crate::api::Problem;

/// How calls fail that have nothing special about them.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum Failures {
    /// What was asked makes no sense; details name the field.
    #[response(status = 400)]
    InvalidRequest(Problem),
    /// It is not known who asks.
    #[response(status = 401, headers(("WWW-Authenticate" = String)))]
    Unauthorized(Problem),
    /// Who asks may not.
    #[response(status = 403)]
    Forbidden(Problem),
    /// Something that was named is not there.
    #[response(status = 404)]
    NotFound(Problem),
    /// What is there already stands in the way.
    #[response(status = 409)]
    Conflict(Problem),
    /// The body is larger than a MiB.
    #[response(status = 413)]
    PayloadTooLarge(Problem),
    /// The body is not JSON.
    #[response(status = 415)]
    UnsupportedMediaType(Problem),
    /// Too much at once, or too often.
    #[response(status = 429, headers(("Retry-After" = u64), ("RateLimit-Limit" = u64), ("RateLimit-Remaining" = u64), ("RateLimit-Reset" = u64)))]
    TooManyRequests(Problem),
    /// It could not be done.
    #[response(status = 500)]
    InternalError(Problem),
    /// It is not built.
    #[response(status = 501)]
    NotImplemented(Problem),
    /// It cannot be done now; later it may.
    #[response(status = 503, headers(("Retry-After" = u64)))]
    ServiceUnavailable(Problem),
}

/// What a call that makes a job may say of itself.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) struct JobHeaders {
    /// respond-async: be answered at once, with a job
    #[param(rename = "Prefer")]
    prefer: Option<String>,
    /// a repeated call with the same key is answered by the first one's job
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$"
    )]
    idempotency_key: Option<String>,
}
