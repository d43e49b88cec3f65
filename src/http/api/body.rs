//! Bodies: JSON, of at most a MiB, within half a minute.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;

use crate::api::{Problem, ProblemKind};

/// A body must have come within this.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Longer ones are not read.
const BODY_LIMIT: usize = 1 << 20;

/// The whole body. An empty one has no type.
pub(super) async fn whole(request: &mut Request<Incoming>) -> Result<Vec<u8>, Problem> {
    let too_large = || {
        let message = format!("the body is larger than {BODY_LIMIT} bytes");
        Problem::new(ProblemKind::PayloadTooLarge, message)
    };
    let body = request.body_mut();
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(too_large());
    }
    let reading = Limited::new(body, BODY_LIMIT).collect();
    let collected = match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => {
            return Err(Problem::new(
                ProblemKind::InvalidRequest,
                "the body broke off",
            ));
        }
        Err(_) => {
            let message = format!(
                "the body did not come within {} seconds",
                BODY_WITHIN.as_secs()
            );
            return Err(Problem::new(ProblemKind::InvalidRequest, message));
        }
    };
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if !collected.is_empty() && !media_type.eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON: give Content-Type: application/json";
        return Err(Problem::of_field(
            ProblemKind::UnsupportedMediaType,
            "Content-Type",
            media_type,
            message,
        ));
    }
    Ok(collected.to_vec())
}
