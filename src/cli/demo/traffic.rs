//! Traffic of several shapes, by an ordinary producer.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::DemoError;

/// A topic of the demonstration.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Its name.
    pub topic: &'static str,
    /// How many partitions.
    pub partitions: i32,
    /// How its producer compresses.
    pub codec: &'static str,
    /// What it stands for.
    pub what: &'static str,
    records: u64,
    record: fn(u64) -> Record,
}

struct Record {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
}

/// The topics of the demonstration.
pub const SHAPES: [Shape; 5] = [
    Shape {
        topic: "orders",
        partitions: 4,
        codec: "none",
        what: "JSON with keys, uncompressed",
        records: 40_000,
        record: order,
    },
    Shape {
        topic: "clicks",
        partitions: 3,
        codec: "lz4",
        what: "small, without keys, lz4",
        records: 120_000,
        record: click,
    },
    Shape {
        topic: "payments",
        partitions: 2,
        codec: "zstd",
        what: "repeated and null headers, zstd",
        records: 20_000,
        record: payment,
    },
    Shape {
        topic: "profiles",
        partitions: 2,
        codec: "gzip",
        what: "tombstones and empty values, gzip",
        records: 20_000,
        record: profile,
    },
    Shape {
        topic: "sensors",
        partitions: 1,
        codec: "snappy",
        what: "bytes that are no text, snappy",
        records: 30_000,
        record: sensor,
    },
];

fn order(n: u64) -> Record {
    let value = format!(
        r#"{{"order":{n},"customer":"c-{}","amount_cents":{},"currency":"EUR","items":[{{"sku":"s-{}","quantity":{}}}],"note":"{:032x}"}}"#,
        n % 5000,
        n.wrapping_mul(7919) % 100_000,
        n % 977,
        n % 9 + 1,
        u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    );
    Record {
        key: Some(format!("c-{}", n % 5000).into_bytes()),
        value: Some(value.into_bytes()),
        headers: Vec::new(),
    }
}

fn click(n: u64) -> Record {
    Record {
        key: None,
        value: Some(
            format!(
                "/page/{}?session={:08x}",
                n % 311,
                n.wrapping_mul(2_654_435_761) as u32
            )
            .into_bytes(),
        ),
        headers: Vec::new(),
    }
}

fn payment(n: u64) -> Record {
    let headers = vec![
        ("trace", Some(format!("{n:016x}").into_bytes())),
        ("hop", Some(b"gateway".to_vec())),
        ("hop", Some(b"ledger".to_vec())),
        ("reviewed-by", None),
    ];
    Record {
        key: Some(n.to_be_bytes().to_vec()),
        value: Some(format!("paid {n}").into_bytes()),
        headers,
    }
}

fn profile(n: u64) -> Record {
    let value = match n % 7 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(format!("profile of user {} at version {n}", n % 400).into_bytes()),
    };
    Record {
        key: Some(format!("user-{}", n % 400).into_bytes()),
        value,
        headers: Vec::new(),
    }
}

fn sensor(n: u64) -> Record {
    let bytes = (0..24)
        .map(|i| (n.wrapping_mul(31).wrapping_add(i) >> (i % 5)) as u8)
        .collect();
    Record {
        key: Some(vec![0xff, (n % 64) as u8]),
        value: Some(bytes),
        headers: Vec::new(),
    }
}

/// Produces a share of every shape's records: from `first` to `last` hundredths. Returns how many.
pub fn produce(bootstrap_servers: &str, first: u64, last: u64) -> Result<u64, DemoError> {
    let mut produced = 0;
    for shape in SHAPES {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("compression.codec", shape.codec)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()?;
        for n in shape.records * first / 100..shape.records * last / 100 {
            send(&producer, shape.topic, &(shape.record)(n))?;
            produced += 1;
        }
        producer.flush(Duration::from_secs(20))?;
    }
    Ok(produced)
}

fn send(producer: &BaseProducer, topic: &str, record: &Record) -> Result<(), DemoError> {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_deref(),
        });
    }
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
    if let Some(key) = &record.key {
        message = message.key(key);
    }
    if let Some(value) = &record.value {
        message = message.payload(value);
    }
    loop {
        match producer.send(message) {
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(10));
                message = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}
