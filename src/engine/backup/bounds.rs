//! Where logs start and end when a backup is planned.

use std::collections::BTreeMap;

use crate::engine::{EngineError, open_transactions};
use crate::kafka::{Client, OffsetSpec, TopicPartition};
use crate::record::Offset;

/// Where the logs start and end, as the leaders say.
pub(super) struct LogBounds {
    log_start: BTreeMap<TopicPartition, Offset>,
    high_watermark: BTreeMap<TopicPartition, Offset>,
    last_stable: BTreeMap<TopicPartition, Offset>,
}

impl LogBounds {
    /// The last stable offsets are read after the high watermarks: where one is lower, a transaction was open.
    pub async fn read(client: &Client, partitions: &[TopicPartition]) -> Result<Self, EngineError> {
        Ok(Self {
            high_watermark: client.offsets_of(partitions, OffsetSpec::Latest).await?,
            last_stable: client
                .offsets_of(partitions, OffsetSpec::LastStable)
                .await?,
            log_start: client.offsets_of(partitions, OffsetSpec::Earliest).await?,
        })
    }

    /// Whether the partition was asked about.
    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.log_start.contains_key(partition)
    }

    /// Says of each transaction that may hang whose it is.
    pub async fn tell_hanging(&self, client: &Client) -> Vec<String> {
        let ends = self.high_watermark.iter();
        let open = ends.filter(|(key, end)| self.last_stable.get(*key) < Some(*end));
        let open: Vec<TopicPartition> = open.map(|(key, _)| key.clone()).collect();
        open_transactions::tell_hanging(client, &open).await
    }

    /// Log start and high watermark of a partition.
    pub fn of(&self, partition: &TopicPartition) -> Result<(Offset, Offset), EngineError> {
        let find = |bounds: &BTreeMap<TopicPartition, Offset>| bounds.get(partition).copied();
        match (find(&self.log_start), find(&self.high_watermark)) {
            // The log may start beyond the watermark just read: everything was deleted in between.
            (Some(start), Some(end)) => Ok((start, end.max(start))),
            _ => Err(EngineError::refused(format!(
                "the brokers gave no offsets for {partition}"
            ))),
        }
    }
}
