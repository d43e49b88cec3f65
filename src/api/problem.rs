//! Why a call failed, in the documented body.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::EngineError;
use crate::kafka::KafkaError;
use crate::quote::{quote, quote_within};
use crate::repository::RepositoryError;

/// What kind of failure. Each has its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum ProblemKind {
    /// 400: what was asked makes no sense.
    InvalidRequest,
    /// 401: it is not known who asks.
    Unauthorized,
    /// 403: who asks may not.
    Forbidden,
    /// 404: something that was named is not there.
    NotFound,
    /// 405: the resource knows other methods.
    MethodNotAllowed,
    /// 409: what is there already stands in the way.
    Conflict,
    /// 413: the body is too large.
    PayloadTooLarge,
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 429: too much at once, or too often.
    TooManyRequests,
    /// 500: it could not be done.
    InternalError,
    /// 501: it is documented somewhere, but not built.
    NotImplemented,
    /// 503: it cannot be done now; later it may.
    ServiceUnavailable,
}

impl ProblemKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
pub struct Problem {
    /// What kind of failure.
    #[serde(rename = "error")]
    pub kind: ProblemKind,
    /// What is wrong, and what to do.
    pub message: String,
    /// Which field of the request is at fault, where one is.
    pub details: Details,
    /// After how many seconds trying again may help; a header of the answer.
    #[serde(skip)]
    pub retry_after: Option<u64>,
}

/// A field of a request, and what stood there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ErrorDetails)]
pub struct Details {
    /// The field; none where no single one is at fault.
    pub field: Option<String>,
    /// What stood there, cut to 200 characters.
    pub value: Option<String>,
}

/// What is shown of a value.
const SHOWN: usize = 200;
/// When a cluster or a repository that did not answer may be asked again.
const AGAIN_AFTER: u64 = 10;

impl Problem {
    /// No single field is at fault.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: quote(message.into()),
            details: Details::default(),
            retry_after: None,
        }
    }

    /// A field is at fault.
    pub fn of_field(
        kind: ProblemKind,
        field: &str,
        value: impl ToString,
        message: impl Into<String>,
    ) -> Self {
        Self {
            details: Details {
                field: Some(quote_within(field, SHOWN)),
                value: Some(quote_within(value.to_string(), SHOWN)),
            },
            ..Self::new(kind, message)
        }
    }

    /// 400, for a field.
    pub fn invalid(field: &str, value: impl ToString, message: impl Into<String>) -> Self {
        Self::of_field(ProblemKind::InvalidRequest, field, value, message)
    }

    /// 404, for a field.
    pub fn not_found(field: &str, value: impl ToString, message: impl Into<String>) -> Self {
        Self::of_field(ProblemKind::NotFound, field, value, message)
    }

    /// The same, with the field that is missing.
    #[must_use]
    pub fn with_field(mut self, field: &str) -> Self {
        self.details.field = Some(quote_within(field, SHOWN));
        self
    }

    /// It may be tried again after so many seconds.
    #[must_use]
    pub fn again_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// What went wrong within, of which the caller learns nothing but that.
    pub fn internal() -> Self {
        Self::new(
            ProblemKind::InternalError,
            "internal error: the daemon's log tells more under this answer's request id",
        )
    }
}

impl From<&RepositoryError> for Problem {
    fn from(error: &RepositoryError) -> Self {
        let kind = match error {
            RepositoryError::UnknownBackup { .. } | RepositoryError::AmbiguousBackup { .. } => {
                ProblemKind::NotFound
            }
            RepositoryError::Locked { .. } => {
                let message =
                    "the repository is in use by somebody else: try again when that is over";
                return Self::new(ProblemKind::ServiceUnavailable, message)
                    .again_after(AGAIN_AFTER);
            }
            // Anything else tells paths.
            _ => return Self::internal(),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<&EngineError> for Problem {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Refused(why) => Self::new(ProblemKind::InvalidRequest, why),
            EngineError::NotFound(why) => Self::new(ProblemKind::NotFound, why),
            EngineError::Conflict(why) => Self::new(ProblemKind::Conflict, why),
            EngineError::Repository(error) => error.into(),
            EngineError::Kafka(error) => error.into(),
            EngineError::Unfinished { source, remains } => {
                let mut problem = Self::from(source.as_ref());
                problem.message = format!("{}; {remains}", problem.message);
                problem
            }
            EngineError::NoRoom { .. } => Self::new(ProblemKind::Conflict, error.to_string()),
            // The last error tells addresses.
            EngineError::Stalled { what, seconds, .. } => {
                let message =
                    format!("{what}: no progress for {seconds} s; the daemon's log tells more");
                Self::new(ProblemKind::ServiceUnavailable, message).again_after(AGAIN_AFTER)
            }
            EngineError::Changed(_) => {
                Self::new(ProblemKind::ServiceUnavailable, error.to_string())
                    .again_after(AGAIN_AFTER)
            }
            EngineError::Batch { .. } => Self::new(ProblemKind::InternalError, error.to_string()),
            EngineError::Stopped => Self::new(ProblemKind::Conflict, "it was cancelled"),
            EngineError::Output { .. } | EngineError::Lost(_) => Self::internal(),
        }
    }
}

impl From<&KafkaError> for Problem {
    fn from(error: &KafkaError) -> Self {
        match error {
            // They tell files, or of how kafkeep gets in.
            KafkaError::File { .. }
            | KafkaError::Token { .. }
            | KafkaError::Configuration(_)
            | KafkaError::Sasl { .. } => Self::internal(),
            error if error.is_transient() => {
                Self::new(ProblemKind::ServiceUnavailable, error.without_address())
                    .again_after(AGAIN_AFTER)
            }
            error => Self::new(ProblemKind::InternalError, error.without_address()),
        }
    }
}
