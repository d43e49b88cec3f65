//! Transactions that are open in the logs of a cluster, in words: whose they are, and whether they may hang.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::kafka::{ActiveTransaction, ActiveTransactions, Client, TopicPartition};

/// A coordinator ends the transaction of a producer that is gone after its timeout, which is no longer than the broker's
/// `transaction.max.timeout.ms`: 15 minutes by default. One whose last record is older may hang. Only its coordinator knows, which
/// `kafka-transactions.sh find-hanging` asks: records may bear any time, as those that a mirror brings.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// What only makes a report richer is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Partitions that are asked about at once, at most.
const MOST_PARTITIONS: usize = 1_000;

/// What the brokers know of open transactions in these partitions. What they do not tell only makes a report poorer.
pub(super) async fn ask(client: &Client, partitions: &[TopicPartition]) -> ActiveTransactions {
    let some = partitions.get(..MOST_PARTITIONS).unwrap_or(partitions);
    match tokio::time::timeout(PATIENCE, client.active_transactions(some)).await {
        Ok(Ok(active)) => active,
        Ok(Err(error)) => {
            tracing::debug!("open transactions cannot be named: {error}");
            ActiveTransactions::new()
        }
        Err(_) => ActiveTransactions::new(),
    }
}

/// Whether a transaction may hang: its last record is older than any coordinator would let it be, had it the time of writing.
fn may_hang(transaction: &ActiveTransaction, now: DateTime<Utc>) -> bool {
    let limit = TimeDelta::from_std(LONGEST_TIMEOUT).unwrap_or(TimeDelta::MAX);
    DateTime::from_timestamp_millis(transaction.last_record.0).is_some_and(|at| now - at > limit)
}

/// Asks whose transactions are open in these partitions, and names those that may hang, a text for each partition.
pub(super) async fn tell_hanging(client: &Client, partitions: &[TopicPartition]) -> Vec<String> {
    hanging(&ask(client, partitions).await, Utc::now())
}

fn hanging(active: &ActiveTransactions, now: DateTime<Utc>) -> Vec<String> {
    let mut told = Vec::new();
    for (key, transactions) in active {
        let hanging = transactions
            .iter()
            .filter(|transaction| may_hang(transaction, now));
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
    if let Some(at) = DateTime::from_timestamp_millis(first.last_record.0) {
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        told += &match may_hang(first, now) {
            false => format!(", its last record is of {at}"),
            true => format!(
                ", its last record is of {at}: `kafka-transactions.sh find-hanging --topic {} --partition {}` tells whether it \
                 hangs",
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

    fn told(last_record: i64, now: i64, count: usize) -> Option<String> {
        let transaction = ActiveTransaction {
            producer_id: ProducerId(4002),
            first_offset: Offset(5),
            last_record: Timestamp(last_record),
        };
        let key = TopicPartition {
            topic: "orders".to_owned(),
            partition: PartitionId(3),
        };
        let now = DateTime::from_timestamp_millis(now).unwrap();
        tell(&key, &vec![transaction; count], now)
    }

    #[test]
    fn an_open_transaction_may_hang_once_its_coordinator_would_have_ended_it() {
        let minutes = |count: i64| count * 60_000;
        assert_eq!(told(0, 0, 0), None);
        assert_eq!(
            told(0, minutes(15), 1).unwrap(),
            "a transaction of producer 4002 is open from offset 5 on, its last record is of 1970-01-01T00:00:00Z"
        );
        let hangs = told(0, minutes(15) + 1, 1).unwrap();
        assert!(
            hangs.ends_with(
                "`kafka-transactions.sh find-hanging --topic orders --partition 3` tells whether it hangs"
            ),
            "{hangs}"
        );
        assert!(
            told(0, 0, 3)
                .unwrap()
                .ends_with("; 2 more are open behind it")
        );
    }
}
