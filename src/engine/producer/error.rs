//! Why a producer ended.

use crate::engine::EngineError;
use crate::kafka::TopicPartition;
use crate::record::Offset;

/// Why a producer ended before all was written.
#[derive(Debug)]
pub(in crate::engine) enum ProduceError<N> {
    /// The target never accepts this batch; others it may.
    Refused {
        /// What the caller noted for the batch.
        note: N,
        /// The partition, the broker's reason, and what to do.
        why: String,
    },
    /// A batch got another offset than the one expected.
    Diverged {
        /// The partition.
        key: TopicPartition,
        /// The offset that its first record had to get.
        expected: Offset,
        /// The offset that it got.
        found: Offset,
    },
    /// Anything else.
    Failed(EngineError),
}

impl<N> From<EngineError> for ProduceError<N> {
    fn from(error: EngineError) -> Self {
        Self::Failed(error)
    }
}

impl<N> From<ProduceError<N>> for EngineError {
    fn from(error: ProduceError<N>) -> Self {
        match error {
            ProduceError::Refused { why, .. } => Self::refused(why),
            ProduceError::Diverged {
                key,
                expected,
                found,
            } => Self::refused(format!(
                "another producer is writing to the target: a batch for {key} got offset {found}, not {expected}"
            )),
            ProduceError::Failed(error) => error,
        }
    }
}
