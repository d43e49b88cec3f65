//! Where logs start and end when a backup is planned.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::kafka::{Client, OffsetSpec, TopicPartition};
use crate::record::Offset;

/// Where the logs start and end, as the leaders say.
pub(super) struct Bounds {
    log_start: BTreeMap<TopicPartition, Offset>,
    last_stable: BTreeMap<TopicPartition, Offset>,
    high_watermark: BTreeMap<TopicPartition, Offset>,
}

impl Bounds {
    /// The last stable offset is read before the high watermark, so that it never lies beyond it.
    pub async fn read(client: &Client, partitions: &[TopicPartition]) -> Result<Self, EngineError> {
        Ok(Self {
            last_stable: client
                .offsets_of(partitions, OffsetSpec::LastStable)
                .await?,
            high_watermark: client.offsets_of(partitions, OffsetSpec::Latest).await?,
            log_start: client.offsets_of(partitions, OffsetSpec::Earliest).await?,
        })
    }

    /// Whether the partition was asked about.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.log_start.contains_key(partition)
    }

    /// Log start, last stable offset and high watermark of a partition, in order.
    pub fn of(&self, partition: &TopicPartition) -> Result<(Offset, Offset, Offset), EngineError> {
        let find = |bounds: &BTreeMap<TopicPartition, Offset>| bounds.get(partition).copied();
        match (
            find(&self.log_start),
            find(&self.last_stable),
            find(&self.high_watermark),
        ) {
            // The log may start beyond the watermark just read: everything was deleted in between.
            (Some(start), Some(stable), Some(end)) => {
                Ok((start, stable.min(end.max(start)), end.max(start)))
            }
            _ => Err(EngineError::Refused(format!(
                "the brokers gave no offsets for {partition}"
            ))),
        }
    }
}
