//! `/api/openapi.json`: the API in words that machines read, made from the types that it is made of.

use std::sync::LazyLock;

use hyper::StatusCode;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{ApiResponse, backups, figures, jobs, orders};

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

pub(super) fn answer() -> ApiResponse {
    ApiResponse::written(StatusCode::OK, TEXT.clone())
}
