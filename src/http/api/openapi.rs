//! `/api/openapi.json`: the API in words that machines read, made from the types that it is made of.

use std::sync::LazyLock;

use hyper::StatusCode;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi};

use crate::api::Problem;

use super::{Answered, backups, figures, jobs, orders};

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

#[derive(OpenApi)]
#[openapi(
    info(
        title = "kafkeep",
        description = "Backups, restores, migrations and drains of Apache Kafka. A POST waits and answers with what it came to; \
            with `Prefer: respond-async` it answers at once with a job. A client that hangs up stops nothing.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(
        orders::backup, orders::restore, orders::migrate, orders::drain, orders::validate,
        backups::list, backups::show, backups::delete,
        jobs::list, jobs::show, jobs::cancel,
        figures::answer,
    ),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
struct Documented;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.bearer_format = Some("JWT".to_owned());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document (OpenAPI 3.1), as it stands in `docs/openapi.json`.
pub fn openapi() -> String {
    let document = Documented::openapi().to_pretty_json();
    document.map(|text| text + "\n").unwrap_or_default()
}

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| openapi().into_bytes());

pub(super) fn answer() -> Answered {
    Answered::written(StatusCode::OK, TEXT.clone())
}
