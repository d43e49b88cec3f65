//! Why a call failed, in the documented body.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::EngineError;
use crate::engine::refusal::{Part, Reader, Refusal};
use crate::kafka::KafkaError;
use crate::quote::{quote, quote_within};
use crate::repository::RepositoryError;

use super::OrderKind;

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

impl Details {
    fn new(field: &str, value: impl ToString) -> Self {
        Self {
            field: Some(quote_within(field, SHOWN)),
            value: Some(quote_within(value.to_string(), SHOWN)),
        }
    }
}

/// The field of a request that says this part of an order.
fn field_of(kind: OrderKind, part: Part) -> &'static str {
    match (part, kind) {
        (Part::Topic, OrderKind::Migrate) => "source_topic",
        (Part::Topic, OrderKind::Drain) => "topics",
        (Part::Topic, _) => "topic",
        (Part::Partitions, _) => "partitions",
        (Part::Backup, _) => "backup_id",
        (Part::TargetTopic, _) => "target_topic",
        (Part::TargetPartitions, _) => "target_partitions",
        (Part::ReplicationFactor, _) => "replication_factor",
        (Part::PreserveOffsets, _) => "preserve_offsets",
        (Part::Group, _) => "group_id",
    }
}

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
            details: Details::new(field, value),
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

    /// Why an order of this kind failed: with the field that the engine's refusal is about.
    pub fn of_order(kind: OrderKind, error: &EngineError) -> Self {
        let mut problem = Self::from(error);
        let refusal = match error {
            EngineError::Refused(why) | EngineError::NotFound(why) | EngineError::Conflict(why) => {
                why
            }
            EngineError::Unfinished { source, .. } => {
                problem.details = Self::of_order(kind, source).details;
                return problem;
            }
            _ => return problem,
        };
        if let Some((part, value)) = refusal.part() {
            problem.details = Details::new(field_of(kind, part), value);
        }
        problem
    }

    /// Why something could not be done with a backup.
    pub fn of_backup(error: &EngineError) -> Self {
        Self::of_order(OrderKind::Validate, error)
    }

    fn refused(kind: ProblemKind, refusal: &Refusal) -> Self {
        Self::new(kind, refusal.text_for(Reader::Caller))
    }

    /// 409: the backup is damaged, told without the repository's path.
    fn damaged(error: &RepositoryError) -> Self {
        let message = format!(
            "the backup is damaged: {}; choose another one, or validate this one to learn all that is damaged",
            error.without_path()
        );
        Self::new(ProblemKind::Conflict, message)
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
        match error {
            // The error itself tells of others.
            RepositoryError::UnknownBackup { id, .. }
            | RepositoryError::AmbiguousBackup { id, .. } => {
                Self::not_found("backup_id", id, "there is no such backup")
            }
            RepositoryError::Locked { .. } => {
                let message =
                    "the repository is in use by somebody else: try again when that is over";
                Self::new(ProblemKind::ServiceUnavailable, message).again_after(AGAIN_AFTER)
            }
            // What was to be written, and not what is stored.
            RepositoryError::UnfitBatches { .. }
            | RepositoryError::UnfitIndex { .. }
            | RepositoryError::Batch(_) => Self::internal(),
            error if error.is_lost_content() => Self::damaged(error),
            // Anything else tells paths.
            _ => Self::internal(),
        }
    }
}

impl From<&EngineError> for Problem {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Refused(why) => Self::refused(ProblemKind::InvalidRequest, why),
            EngineError::NotFound(why) => Self::refused(ProblemKind::NotFound, why),
            EngineError::Conflict(why) => Self::refused(ProblemKind::Conflict, why),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_a_conflict_that_tells_what_is_damaged_and_no_path() {
        let missing = RepositoryError::ObjectMissing {
            name: "states/1".to_owned(),
            location: "/srv/secret".to_owned(),
        };
        let damaged = RepositoryError::ObjectDamaged {
            name: "indexes/1".to_owned(),
            detail: "its digest differs".to_owned(),
        };
        for (error, what) in [(missing, "states/1"), (damaged, "indexes/1 is damaged")] {
            let problem = Problem::of_order(OrderKind::Restore, &error.into());
            assert_eq!(problem.kind.status(), 409, "{problem:?}");
            assert!(problem.message.contains(what), "{problem:?}");
            assert!(!problem.message.contains("/srv"), "{problem:?}");
        }
    }

    #[test]
    fn a_backup_that_stays_is_told_by_its_field() {
        let stays = Refusal::new("backup b stays").of(Part::Backup, "b");
        let problem = Problem::of_backup(&EngineError::conflict(stays));
        assert_eq!(problem.kind, ProblemKind::Conflict);
        assert_eq!(problem.details, Details::new("backup_id", "b"));
    }

    #[test]
    fn a_refusal_is_told_by_the_field_of_its_verb() {
        let refusal = |part| EngineError::refused(Refusal::new("no").of(part, "x"));
        for (part, kind, field) in [
            (Part::Topic, OrderKind::Backup, "topic"),
            (Part::Topic, OrderKind::Migrate, "source_topic"),
            (Part::Topic, OrderKind::Drain, "topics"),
            (Part::TargetTopic, OrderKind::Restore, "target_topic"),
            (Part::Group, OrderKind::Drain, "group_id"),
        ] {
            let details = Problem::of_order(kind, &refusal(part)).details;
            assert_eq!(details, Details::new(field, "x"));
            let unfinished = EngineError::Unfinished {
                source: Box::new(refusal(part)),
                remains: "a part".to_owned(),
            };
            assert_eq!(Problem::of_order(kind, &unfinished).details, details);
        }
    }
}
