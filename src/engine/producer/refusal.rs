//! What it means when a broker refuses a batch, and what to do about it.

use crate::engine::EngineError;
use crate::kafka::{ErrorCode, KafkaError, TopicPartition};

/// Why a broker refused a batch.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The same batch may be accepted later.
    InPassing(KafkaError),
    /// A batch in front of it, which is not acknowledged, failed: both are to be sent again.
    Behind(KafkaError),
    /// This batch is never accepted, others may be.
    Batch(String),
    /// The producer cannot go on.
    Other(EngineError),
}

impl Refusal {
    /// What `code` means for a batch of `bytes` bytes; `said` is the broker's own message. `is_behind_another` says whether a
    /// batch in front of it is not acknowledged. The answers of the two may be handled in any order.
    pub fn from_code(
        code: ErrorCode,
        said: Option<&str>,
        key: &TopicPartition,
        bytes: u64,
        is_behind_another: bool,
    ) -> Self {
        let error = KafkaError::for_topic(code, "WRITE", &key.topic);
        if error.is_transient() {
            return Self::InPassing(error);
        }
        if code == ErrorCode::OutOfOrderSequenceNumber && is_behind_another {
            return Self::Behind(error);
        }
        if error.is_fenced() || matches!(error, KafkaError::Authorization { .. }) {
            return Self::Other(error.into());
        }
        let said = said.map(|said| format!(" ({said})")).unwrap_or_default();
        let refused = format!("{key} refused a batch: {error}{said}");
        match code {
            ErrorCode::MessageTooLarge => Self::Batch(format!(
                "{refused}: it has {bytes} bytes; raise max.message.bytes of the topic in the target"
            )),
            ErrorCode::InvalidTimestamp => Self::Batch(format!(
                "{refused}: raise message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic in the target"
            )),
            ErrorCode::InvalidRecord => Self::Batch(format!(
                "{refused}: a compacted topic accepts no record without a key; write to a topic that is not compacted"
            )),
            ErrorCode::OutOfOrderSequenceNumber => Self::other(
                code,
                format!(
                    "{key} of the target lost a batch that it had acknowledged; delete the topic and start again"
                ),
            ),
            ErrorCode::InvalidProducerIdMapping
            | ErrorCode::InvalidTxnState
            | ErrorCode::UnknownProducerId => {
                Self::other(code, format!("{key} refused a batch{said}"))
            }
            _ => Self::Other(EngineError::refused(refused)),
        }
    }
}

impl Refusal {
    /// The producer cannot go on; whoever begins again with a new one goes by the code.
    fn other(code: ErrorCode, context: String) -> Self {
        Self::Other(KafkaError::Broker { code, context }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PartitionId;

    fn refusal(code: ErrorCode, is_behind_another: bool) -> Refusal {
        let key = TopicPartition {
            topic: "orders".into(),
            partition: PartitionId(3),
        };
        Refusal::from_code(code, Some("why"), &key, 2_000_000, is_behind_another)
    }

    #[test]
    fn a_refused_batch_is_named_with_the_brokers_reason_and_an_advice() {
        let advice = [
            (ErrorCode::MessageTooLarge, "raise max.message.bytes"),
            (
                ErrorCode::InvalidTimestamp,
                "raise message.timestamp.before.max.ms",
            ),
            (ErrorCode::InvalidRecord, "a topic that is not compacted"),
        ];
        for (code, advice) in advice {
            let Refusal::Batch(text) = refusal(code, false) else {
                panic!("{code} is about the batch");
            };
            for part in ["orders-3 refused a batch", "(why)", advice] {
                assert!(text.contains(part), "{text}");
            }
        }
    }

    #[test]
    fn a_batch_behind_one_that_is_not_acknowledged_may_be_out_of_order() {
        let code = ErrorCode::OutOfOrderSequenceNumber;
        assert!(matches!(refusal(code, true), Refusal::Behind(_)));
        assert!(matches!(refusal(code, false), Refusal::Other(_)));
    }

    #[test]
    fn a_producer_that_is_fenced_or_has_no_right_learns_that() {
        for code in [
            ErrorCode::InvalidProducerEpoch,
            ErrorCode::TopicAuthorizationFailed,
        ] {
            let refusal = refusal(code, false);
            assert!(matches!(refusal, Refusal::Other(EngineError::Kafka(_))));
        }
        let passing = refusal(ErrorCode::NotEnoughReplicas, false);
        assert!(matches!(passing, Refusal::InPassing(_)));
    }
}
