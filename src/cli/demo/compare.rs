//! The proof: every record of two topics compared by an ordinary consumer, which knows nothing of kafkeep.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::DemoError;

/// A record as a consumer sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct SeenRecord {
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads a topic from its start to its end, each partition in order.
pub fn read(
    bootstrap_servers: &str,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Vec<SeenRecord>>, DemoError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("group.id", "demo-that-commits-nothing")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()?;
    let mut ends = Vec::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        ends.push(
            consumer
                .fetch_watermarks(topic, partition, Duration::from_secs(5))?
                .1,
        );
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let wanted: i64 = ends.iter().sum();
    let mut seen: Vec<Vec<SeenRecord>> = ends.iter().map(|_| Vec::new()).collect();
    let mut count = 0;
    let mut last = Instant::now();
    while count < wanted {
        match consumer.poll(Duration::from_millis(200)) {
            Some(message) => {
                let message = message?;
                if let Some(partition) = usize::try_from(message.partition())
                    .ok()
                    .and_then(|n| seen.get_mut(n))
                {
                    partition.push(record(&message));
                }
                count += 1;
                last = Instant::now();
            }
            None if last.elapsed() > Duration::from_secs(10) => {
                return Err(DemoError::Wrong(format!(
                    "topic {topic} gave {count} of {wanted} records, and no more"
                )));
            }
            None => {}
        }
    }
    Ok(seen)
}

fn record(message: &impl Message) -> SeenRecord {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    SeenRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// Compares two topics record by record; returns how many were equal.
pub fn compare(
    bootstrap_servers: &str,
    left: &str,
    right: &str,
    partitions: i32,
) -> Result<u64, DemoError> {
    let (expected, found) = (
        read(bootstrap_servers, left, partitions)?,
        read(bootstrap_servers, right, partitions)?,
    );
    let mut equal = 0;
    for (expected, found) in expected.iter().zip(&found) {
        if expected.len() != found.len() {
            return Err(DemoError::Wrong(format!(
                "{right} has {} records where {left} has {}",
                found.len(),
                expected.len()
            )));
        }
        for (expected, found) in expected.iter().zip(found) {
            if expected != found {
                return Err(DemoError::Wrong(format!(
                    "{right} differs from {left}: {found:?} is not {expected:?}"
                )));
            }
            equal += 1;
        }
    }
    Ok(equal)
}
