//! What brokers refuse, and what happens on the way to them.

use std::io;

use crate::record::PartitionId;

use super::BrokerId;

/// Kafka's error codes by name.
pub type ErrorCode = kafka_protocol::ResponseError;

/// Why a broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No connection, or it broke.
    #[error(
        "broker {address}: {source}; is it running, and is this the address that it advertises?"
    )]
    Unreachable {
        /// host:port
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// No answer in time.
    #[error("broker {address} did not answer within {seconds} s")]
    Timeout {
        /// host:port
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Nobody answered before the run's own deadline.
    #[error(
        "the cluster did not answer within {seconds} s: are these its brokers, and can they be reached from here?"
    )]
    Unanswered {
        /// How long was waited.
        seconds: u64,
    },
    /// The user is not let in.
    #[error("broker {address} refused the credentials: {detail}")]
    Authentication {
        /// host:port
        address: String,
        /// What the broker said.
        detail: String,
    },
    /// The user may not do this.
    #[error("not allowed: grant ACL {operation} on {resource}")]
    Authorization {
        /// The operation that the ACL must allow.
        operation: &'static str,
        /// What on.
        resource: String,
    },
    /// A broker's error code.
    #[error("{context}: {code}")]
    Broker {
        /// The code.
        code: ErrorCode,
        /// What was asked, and what the broker said.
        context: String,
    },
    /// The broker does not know the API, or no version of it that is known here.
    #[error("broker {address} has no {api} that this kafkeep knows")]
    Unsupported {
        /// Kafka's name of the API.
        api: String,
        /// host:port
        address: String,
    },
    /// Bytes that are no answer.
    #[error("broker {address} sent what is no {api} answer: {detail}")]
    Malformed {
        /// Kafka's name of the API.
        api: &'static str,
        /// host:port
        address: String,
        /// What is wrong.
        detail: String,
    },
    /// The way in cannot be taken.
    #[error("cluster configuration: {0}")]
    Configuration(String),
}

impl KafkaError {
    /// Whether trying again may succeed without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Unanswered { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// What a code means that came for a topic; `operation` is the right that was needed on it.
    pub fn for_topic(code: ErrorCode, operation: &'static str, topic: &str) -> Self {
        match code {
            ErrorCode::TopicAuthorizationFailed => Self::Authorization {
                operation,
                resource: format!("topic {topic}"),
            },
            ErrorCode::ClusterAuthorizationFailed => Self::Authorization {
                operation: "IDEMPOTENT_WRITE",
                resource: "the cluster".to_owned(),
            },
            code => Self::Broker {
                code,
                context: format!("topic {topic}"),
            },
        }
    }

    /// A partition that nobody leads at the moment.
    pub fn leaderless(topic: &str, partition: PartitionId) -> Self {
        Self::Broker {
            code: ErrorCode::LeaderNotAvailable,
            context: format!("{topic}-{partition}"),
        }
    }

    /// A broker that answers, but without giving anything.
    pub fn silent(broker: BrokerId) -> Self {
        Self::Broker {
            code: ErrorCode::RequestTimedOut,
            context: format!("broker {broker} answers without records"),
        }
    }
}
