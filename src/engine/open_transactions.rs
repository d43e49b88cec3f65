//! Transactions that are open in the logs of a cluster, in words: whose they are, and whether they hang.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::kafka::{ActiveTransaction, ActiveTransactions, Client, TopicPartition};

/// A coordinator ends the transaction of a producer that is gone after its timeout, which is no longer than the broker's
/// `transaction.max.timeout.ms`: 15 minutes by default. One that nobody wrote to for longer hangs, as `kafka-transactions.sh
/// find-hanging` has it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Partitions that are asked about at once, at most.
const MOST_PARTITIONS: usize = 1_000;

/// What the brokers know of open transactions in these partitions. What they do not tell only makes a report poorer.
pub(super) async fn ask(client: &Client, partitions: &[TopicPartition]) -> ActiveTransactions {
    let some = partitions.get(..MOST_PARTITIONS).unwrap_or(partitions);
    match client.active_transactions(some).await {
        Ok(active) => active,
        Err(error) => {
            tracing::debug!("open transactions cannot be named: {error}");
            ActiveTransactions::new()
        }
    }
}

/// Whether a transaction was not written to for longer than any coordinator would let it.
fn hangs(transaction: &ActiveTransaction, now: DateTime<Utc>) -> bool {
    let limit = TimeDelta::from_std(LONGEST_TIMEOUT).unwrap_or(TimeDelta::MAX);
    DateTime::from_timestamp_millis(transaction.last_write.0).is_some_and(|at| now - at > limit)
}

/// Names those that hang, a text for each partition.
pub(super) fn hanging(active: &ActiveTransactions, now: DateTime<Utc>) -> Vec<String> {
    let mut told = Vec::new();
    for (key, transactions) in active {
        let hanging = transactions
            .iter()
            .filter(|transaction| hangs(transaction, now));
        let hanging: Vec<ActiveTransaction> = hanging.copied().collect();
        told.extend(tell(key, &hanging, now).map(|told| format!("{key}: {told}")));
    }
    told
}

/// Names the open transactions of a partition, the oldest first; none where there is none.
pub(super) fn tell(
    key: &TopicPartition,
    active: &[ActiveTransaction],
    now: DateTime<Utc>,
) -> Option<String> {
    let (first, others) = active.split_first()?;
    let ActiveTransaction {
        producer_id,
        first_offset,
        ..
    } = first;
    let mut told =
        format!("a transaction of producer {producer_id} is open from offset {first_offset} on");
    if let Some(at) = DateTime::from_timestamp_millis(first.last_write.0) {
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        told += &match hangs(first, now) {
            false => format!(", last written to at {at}"),
            true => format!(
                "; it hangs, nobody has written to it since {at}: end it with `kafka-transactions.sh abort --topic {} \
                 --partition {} --start-offset {first_offset}`",
                key.topic, key.partition
            ),
        };
    }
    if !others.is_empty() {
        told += &format!("; {} more are open behind it", others.len());
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Offset, PartitionId, ProducerId, Timestamp};

    fn told(last_write: i64, now: i64, count: usize) -> Option<String> {
        let transaction = ActiveTransaction {
            producer_id: ProducerId(4002),
            first_offset: Offset(5),
            last_write: Timestamp(last_write),
        };
        let key = TopicPartition {
            topic: "orders".to_owned(),
            partition: PartitionId(3),
        };
        let now = DateTime::from_timestamp_millis(now).unwrap();
        tell(&key, &vec![transaction; count], now)
    }

    #[test]
    fn an_open_transaction_hangs_once_its_coordinator_would_have_ended_it() {
        let minutes = |count: i64| count * 60_000;
        assert_eq!(told(0, 0, 0), None);
        assert_eq!(
            told(0, minutes(15), 1).unwrap(),
            "a transaction of producer 4002 is open from offset 5 on, last written to at 1970-01-01T00:00:00Z"
        );
        let hangs = told(0, minutes(15) + 1, 1).unwrap();
        assert!(hangs.contains("it hangs"), "{hangs}");
        assert!(
            hangs.ends_with("--topic orders --partition 3 --start-offset 5`"),
            "{hangs}"
        );
        assert!(
            told(0, 0, 3)
                .unwrap()
                .ends_with("; 2 more are open behind it")
        );
    }
}
