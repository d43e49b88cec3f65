//! The small text files that a broker keeps beside its segments (Kafka's `CheckpointFile`, `PartitionMetadataFile`).
//!
//! A checkpoint is its version, the number of its lines, and the lines.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::EngineError;
use crate::record::{BatchRef, LeaderEpoch, Offset, PartitionId, TopicId};

/// Where logs start, for all partitions below one of a broker's `log.dirs`.
pub(super) const LOG_START: &str = "log-start-offset-checkpoint";
/// Where each leader's epoch starts, in a partition's directory.
pub(super) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// The topic's id, in a partition's directory.
pub(super) const PARTITION_METADATA: &str = "partition.metadata";

/// Where each leader's epoch starts in a log.
#[derive(Debug, Clone, Default)]
pub(super) struct LeaderEpochs(Vec<(LeaderEpoch, Offset)>);

impl LeaderEpochs {
    /// Takes in the next batch of the log (`LogSegment.recover`): an epoch begins with the first batch that has it.
    pub fn follow(&mut self, batch: &BatchRef<'_>) {
        let epoch = batch.leader_epoch();
        let is_new = self.0.last().is_none_or(|(latest, _)| epoch > *latest);
        if epoch.0 >= 0 && is_new {
            self.0.push((epoch, batch.base_offset()));
        }
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let lines = self
            .0
            .iter()
            .map(|(epoch, start)| format!("{epoch} {start}"));
        checkpoint(lines)
    }
}

/// Where logs start, as far as their segments' names do not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogStarts(BTreeMap<(String, i32), i64>);

impl LogStarts {
    /// Reads the file of an earlier export, or of a broker; nothing stands for none.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        let malformed = || {
            EngineError::refused(format!(
                "there is a {LOG_START} that is none of Kafka's: remove it, or export into another directory"
            ))
        };
        let mut starts = BTreeMap::new();
        let mut lines = text.lines().skip(1);
        let Some(count) = lines.next() else {
            return if text.is_empty() {
                Ok(Self::default())
            } else {
                Err(malformed())
            };
        };
        for line in lines {
            let mut words = line.split(' ');
            let (Some(topic), Some(partition), Some(offset), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(malformed());
            };
            let partition = partition.parse().map_err(|_| malformed())?;
            let offset = offset.parse().map_err(|_| malformed())?;
            starts.insert((topic.to_owned(), partition), offset);
        }
        let complete = text.starts_with("0\n") && count.parse() == Ok(starts.len());
        complete.then_some(Self(starts)).ok_or_else(malformed)
    }

    /// Adds a partition.
    pub fn insert(&mut self, topic: &str, partition: PartitionId, start: Offset) {
        self.0.insert((topic.to_owned(), partition.0), start.0);
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let lines = self
            .0
            .iter()
            .map(|((topic, partition), start)| format!("{topic} {partition} {start}"));
        checkpoint(lines)
    }
}

fn checkpoint(lines: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        // Writing to a string does not fail.
        writeln!(text, "{line}").ok();
    }
    text
}

/// `partition.metadata`, without which a broker of today takes a log for a stray.
pub(super) fn partition_metadata(topic_id: TopicId) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_starts_are_added_to_those_that_are_there() {
        let mut starts = LogStarts::parse("0\n2\na 0 5\nb 11 7\n").unwrap();
        starts.insert("a", PartitionId(0), Offset(6));
        starts.insert("c.d", PartitionId(3), Offset(1 << 40));
        let text = "0\n3\na 0 6\nb 11 7\nc.d 3 1099511627776\n";
        assert_eq!(starts.to_text(), text);
        assert_eq!(LogStarts::parse(text).unwrap(), starts);
        assert_eq!(LogStarts::parse("").unwrap(), LogStarts::default());
        assert_eq!(LogStarts::default().to_text(), "0\n0\n");
    }

    #[test]
    fn what_is_no_checkpoint_is_not_overwritten() {
        for text in [
            "\n",
            "0\n",
            "1\n1\na 0 5\n",
            "0\n2\na 0 5\n",
            "0\n1\na 0\n",
            "0\n1\na 0 x\n",
            "hello",
        ] {
            assert!(LogStarts::parse(text).is_err(), "{text:?}");
        }
    }
}
