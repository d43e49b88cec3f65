//! What brokers refuse, and what happens on the way to them.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::record::PartitionId;

use super::BrokerId;

/// Kafka's error codes by name.
pub type ErrorCode = kafka_protocol::ResponseError;

/// Why a broker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No connection can be made.
    #[error(
        "broker {address}: {source}; is it running, and is this the address that it advertises?"
    )]
    Unreachable {
        /// The broker's `host:port`.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// A connection ended while an answer was awaited.
    #[error("broker {address}: the connection ended during {what} ({source}){hint}")]
    Disconnected {
        /// The broker's `host:port`.
        address: String,
        /// What was being done: Kafka's name of an API, or the TLS handshake.
        what: &'static str,
        /// What to look at, if anything is known.
        hint: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// No answer in time.
    #[error("broker {address} did not answer within {seconds} s")]
    Timeout {
        /// The broker's `host:port`.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There is no trust between the two sides, or no TLS.
    #[error("broker {address}: TLS: {problem}")]
    Tls {
        /// The broker's `host:port`.
        address: String,
        /// What is wrong, and what to do.
        problem: String,
        /// TLS's own error.
        source: io::Error,
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
    #[error("broker {address} refused the credentials: {detail}; {advice}")]
    Authentication {
        /// The broker's `host:port`.
        address: String,
        /// What the broker said.
        detail: String,
        /// Which settings to look at.
        advice: &'static str,
    },
    /// The two sides find no way to authenticate.
    #[error("broker {address}: SASL: {problem}")]
    Sasl {
        /// The broker's `host:port`.
        address: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A broker that has let us in before does not any more: credentials may be being renewed.
    #[error(transparent)]
    Lapsed(Box<KafkaError>),
    /// No bearer token can be had from a token endpoint.
    #[error("token endpoint {endpoint}: {problem}")]
    Token {
        /// The endpoint's URL.
        endpoint: String,
        /// What it answered, or what happened on the way.
        problem: String,
        /// Whether it may be better soon.
        transient: bool,
        /// The error of the connection, if that is the reason.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// A file of certificates, keys or tokens cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file of certificates, keys or tokens.
        path: PathBuf,
        /// What is wrong with it, and what it should hold.
        problem: String,
        /// The system's error.
        source: Option<io::Error>,
    },
    /// The user may not do this.
    #[error("not allowed: grant ACL {operation} on {resource}")]
    Authorization {
        /// The operation that the ACL must allow.
        operation: &'static str,
        /// The resource of the ACL, as in `topic orders`.
        resource: String,
    },
    /// A broker's error code.
    #[error("{context}: {code}")]
    Broker {
        /// Kafka's error code.
        code: ErrorCode,
        /// What was asked, and what the broker said.
        context: String,
    },
    /// The broker does not know the API, or no version of it that is known here.
    #[error("broker {address} has no {api} that this kafkeep knows")]
    Unsupported {
        /// Kafka's name of the API.
        api: String,
        /// The broker's `host:port`.
        address: String,
    },
    /// Bytes that are no answer.
    #[error("broker {address} sent what is no {api} answer: {detail}")]
    Malformed {
        /// Kafka's name of the API.
        api: &'static str,
        /// The broker's `host:port`.
        address: String,
        /// What does not fit, and where in the answer.
        detail: String,
    },
    /// The way in cannot be taken.
    #[error("cluster configuration: {0}")]
    Configuration(String),
}

impl KafkaError {
    /// Whether a topic that was to be created is there already (`TopicExistsException`).
    pub fn is_topic_there(&self) -> bool {
        matches!(self, Self::Broker { code, .. } if *code == ErrorCode::TopicAlreadyExists)
    }

    /// Whether trying again may succeed without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            // No descriptor becomes free by waiting for it.
            Self::Unreachable { source, .. } => Errno::from_io_error(source) != Some(Errno::MFILE),
            Self::Disconnected { .. }
            | Self::Timeout { .. }
            | Self::Unanswered { .. }
            | Self::Lapsed(_) => true,
            Self::Broker { code, .. } => is_transient(*code),
            Self::Token { transient, .. } => *transient,
            Self::Tls { .. }
            | Self::Authentication { .. }
            | Self::Sasl { .. }
            | Self::File { .. }
            | Self::Authorization { .. }
            | Self::Unsupported { .. }
            | Self::Malformed { .. }
            | Self::Configuration(_) => false,
        }
    }

    /// Whether one of the two sides does not trust the other for good, or has nothing to be trusted for.
    pub(super) fn is_about_trust(&self) -> bool {
        let about_trust = matches!(
            self,
            Self::Tls { .. }
                | Self::Authentication { .. }
                | Self::Sasl { .. }
                | Self::Token { .. }
                | Self::File { .. }
                | Self::Configuration(_)
        );
        about_trust && !self.is_transient()
    }

    /// What a code means that came for a topic; `operation` is what the ACL on it must allow, which may imply the right
    /// that was missing.
    pub fn for_topic(code: ErrorCode, operation: &'static str, topic: &str) -> Self {
        match code {
            // The cluster's refusal is one of idempotent producers, who need no more than to write to a topic (KIP-679).
            ErrorCode::TopicAuthorizationFailed | ErrorCode::ClusterAuthorizationFailed => {
                Self::Authorization {
                    operation,
                    resource: format!("topic {topic}"),
                }
            }
            code => Self::Broker {
                code,
                context: format!("topic {topic}"),
            },
        }
    }

    /// What a code means that came for a group; `operation` is what the ACL on it must allow.
    pub(super) fn for_group(code: ErrorCode, operation: &'static str, group: &str) -> Self {
        let resource = format!("group {group}");
        match code {
            ErrorCode::GroupAuthorizationFailed => Self::Authorization {
                operation,
                resource,
            },
            code => Self::Broker {
                code,
                context: resource,
            },
        }
    }

    /// The same for a caller who needs `operation` on the same resource too, which implies what is missing: an operator is
    /// to learn of one ACL, not of two, one after the other.
    pub fn implied_by(self, operation: &'static str, resource: &str) -> Self {
        match self {
            Self::Authorization {
                resource: missing, ..
            } if missing == resource => Self::Authorization {
                operation,
                resource: missing,
            },
            other => other,
        }
    }

    /// The error for those who may not know where the cluster is: without hosts, and what only they who run it can do.
    pub fn without_address(&self) -> String {
        let what = match self {
            Self::Lapsed(error) => return error.without_address(),
            Self::Unreachable { .. } | Self::Disconnected { .. } | Self::Timeout { .. } => {
                "a broker of the cluster does not answer"
            }
            Self::Tls { .. } => "a broker of the cluster is not trusted, or does not trust kafkeep",
            Self::Authentication { .. } | Self::Sasl { .. } | Self::Token { .. } => {
                "a broker of the cluster does not let kafkeep in"
            }
            Self::Unsupported { api, .. } => {
                return format!("the cluster has no {api} that this kafkeep knows");
            }
            Self::Malformed { api, .. } => {
                return format!("a broker of the cluster sent what is no {api} answer");
            }
            Self::File { .. } | Self::Configuration(_) => {
                "the cluster's configuration cannot be used"
            }
            Self::Unanswered { .. } | Self::Authorization { .. } | Self::Broker { .. } => {
                return self.to_string();
            }
        };
        format!("{what}; the daemon's log tells more")
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

    pub(super) fn disconnected(address: &str, what: &'static str, source: io::Error) -> Self {
        Self::Disconnected {
            address: address.to_owned(),
            what,
            hint: "",
            source,
        }
    }

    pub(super) fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: problem.into(),
            source: None,
        }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            problem: source.to_string(),
            source: Some(source),
        }
    }
}

/// The codes that Kafka's `RetriableException` stands for; one that an old cluster gives while it starts; and the request to
/// start over at a bootstrap server (KIP-1102).
fn is_transient(code: ErrorCode) -> bool {
    code.is_retriable()
        || matches!(
            code,
            ErrorCode::BrokerNotAvailable
                | ErrorCode::ConcurrentTransactions
                | ErrorCode::RebootstrapRequired
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `org.apache.kafka.common.protocol.Errors` of Kafka 4: those whose exception is retriable; and 8 and 129.
    const TRANSIENT: [i16; 34] = [
        2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 70, 71, 72, 74, 75, 78, 80, 83,
        84, 88, 89, 100, 103, 106, 122, 123, 129, 133,
    ];

    #[test]
    fn a_code_is_transient_where_kafkas_own_client_would_try_again() {
        for code in -1..=200 {
            let Some(named) = ErrorCode::try_from_code(code) else {
                continue;
            };
            let error = KafkaError::Broker {
                code: named,
                context: String::new(),
            };
            assert_eq!(
                error.is_transient(),
                TRANSIENT.contains(&code),
                "{code} {named}"
            );
        }
    }

    #[test]
    fn callers_learn_what_failed_and_not_where_the_cluster_is() {
        let address = "kafka1.internal:9092".to_owned();
        let source = || io::Error::from(io::ErrorKind::TimedOut);
        for error in [
            KafkaError::disconnected(&address, "Fetch", source()),
            KafkaError::Lapsed(Box::new(KafkaError::Timeout {
                address: address.clone(),
                seconds: 5,
            })),
            KafkaError::Tls {
                address: address.clone(),
                problem: "no".to_owned(),
                source: source(),
            },
            KafkaError::Malformed {
                api: "Fetch",
                address: address.clone(),
                detail: "7".to_owned(),
            },
        ] {
            assert!(error.to_string().contains("internal"), "{error}");
            let told = error.without_address();
            assert!(
                told.contains("cluster") && !told.contains("internal"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_broken_connection_is_transient_and_bad_credentials_are_not() {
        let broken = KafkaError::disconnected("k:9092", "Fetch", io::ErrorKind::BrokenPipe.into());
        assert!(broken.is_transient());
        let refused = KafkaError::Authentication {
            address: "k:9092".into(),
            detail: "no".into(),
            advice: "mend it",
        };
        assert!(!refused.is_transient());
    }
}
