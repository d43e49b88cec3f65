//! What the topics of the benchmark are filled with: JSON, about a third of it random.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::testbed::{Broker, Client};

/// A topic of the benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub topic: &'static str,
    pub what: &'static str,
    pub codec: &'static str,
    /// Bytes of a record's value.
    pub record: usize,
    /// How much of the size asked for it gets.
    pub share: f64,
}

pub const SHAPES: [Shape; 3] = [
    Shape {
        topic: "large",
        what: "1 KiB, uncompressed",
        codec: "none",
        record: 1024,
        share: 1.0,
    },
    Shape {
        topic: "compressed",
        what: "1 KiB, lz4 by the producer",
        codec: "lz4",
        record: 1024,
        share: 2.0,
    },
    Shape {
        topic: "small",
        what: "100 B, uncompressed",
        codec: "none",
        record: 100,
        share: 0.5,
    },
];

pub const PARTITIONS: i32 = 4;

/// Creates the topic and fills it with `bytes` of values.
pub fn fill(broker: &Broker, shape: &Shape, bytes: u64, batch_bytes: usize) {
    let servers = broker.address();
    Client::new(&servers).create_topic(shape.topic, PARTITIONS, &[("retention.ms", "-1")]);
    let partitions = PARTITIONS as usize;
    produce(&servers, shape.topic, partitions, shape, bytes, batch_bytes);
}

/// Fills a topic with `bytes` of values of this shape, in turn over its partitions.
pub fn produce(
    servers: &str,
    topic: &str,
    partitions: usize,
    shape: &Shape,
    bytes: u64,
    batch_bytes: usize,
) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("compression.type", shape.codec)
        .set("batch.size", batch_bytes.to_string())
        .set("batch.num.messages", "100000")
        .set("linger.ms", "100")
        .set("queue.buffering.max.kbytes", "262144")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    let mut random = SmallRng::seed_from_u64(1);
    let values: Vec<Vec<u8>> = (0..997).map(|_| value(&mut random, shape.record)).collect();
    let count = bytes / shape.record as u64;
    for n in 0..count {
        let key = n.to_be_bytes();
        let mut record = BaseRecord::to(topic)
            .partition((n % partitions as u64) as i32)
            .key(&key)
            .payload(&values[(n % 997) as usize]);
        while let Err((error, refused)) = producer.send(record) {
            assert!(
                matches!(
                    error,
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
                ),
                "{error}"
            );
            record = refused;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(Duration::from_secs(120)).unwrap();
}

/// JSON text of `length` bytes of which a third is random hexadecimal digits.
fn value(random: &mut SmallRng, length: usize) -> Vec<u8> {
    let mut text = String::from("{");
    while text.len() < length {
        let n: u32 = random.random();
        text += &format!(r#""account-{}":{{"id":"{n:08x}","state":"open"}},"#, n % 10);
    }
    text.truncate(length - 1);
    text.push('}');
    text.into_bytes()
}
