//! The restored log has the producers' batches, byte for byte: as they lie in the brokers' segment files.

use std::path::Path;
use std::process::Output;

use crate::fixture::{Fixture, awkward};
use crate::testbed::{Broker, Compression};

/// A batch behind its header of 61 bytes, and what the header says of content: codec, record count, timestamps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sealed {
    codec: u8,
    last_offset_delta: [u8; 4],
    timestamps: [u8; 16],
    payload: Vec<u8>,
}

/// The batches of a log that has one segment.
fn batches(log: &Path) -> Vec<Sealed> {
    let bytes = std::fs::read(log.join("00000000000000000000.log")).unwrap();
    let mut rest = &bytes[..];
    let mut batches = Vec::new();
    while rest.len() >= 61 {
        let length = 12 + u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        let (batch, next) = rest.split_at(length);
        batches.push(Sealed {
            codec: batch[22] & 0x07,
            last_offset_delta: batch[23..27].try_into().unwrap(),
            timestamps: batch[27..43].try_into().unwrap(),
            payload: batch[61..].to_vec(),
        });
        rest = next;
    }
    batches
}

#[track_caller]
fn same_batches(broker: &Broker, source: &str, restored: &str, codec: Compression) {
    let written = batches(&broker.log_directory(source, 0));
    assert!(written.len() > 3, "{source} has {} batches", written.len());
    let number = Compression::ALL.iter().position(|known| *known == codec);
    assert!(
        written
            .iter()
            .any(|batch| usize::from(batch.codec) == number.unwrap()),
        "{source} is not compressed with {codec:?}"
    );
    let back = batches(&broker.log_directory(restored, 0));
    assert!(written == back, "{source} came back with other bytes");
}

fn succeeded(output: Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn batches_of_librdkafka_come_back_with_the_same_bytes_and_boundaries() {
    let scene = Fixture::shared();
    for codec in Compression::ALL {
        let topic = format!("bytes.{}", codec.name());
        scene
            .client
            .create_topic(&topic, 1, &[("retention.ms", "-1")]);
        for _ in 0..5 {
            scene.client.produce(&topic, 0, codec, awkward(200));
        }
    }
    for compression in ["none", "zstd"] {
        scene.backup(&format!("--topic bytes.* --compression {compression}"));
    }
    scene.restore("latest --rename *=same.{topic}");
    for codec in Compression::ALL {
        let topic = format!("bytes.{}", codec.name());
        same_batches(scene.broker, &topic, &format!("same.{topic}"), codec);
    }
}

#[test]
fn batches_of_the_java_producer_come_back_with_the_same_bytes_and_boundaries() {
    let scene = Fixture::shared();
    let address = scene.broker.address();
    for codec in Compression::ALL {
        let topic = format!("java.{}", codec.name());
        scene.client.create_topic(&topic, 1, &[]);
        let server = format!("bootstrap.servers={address}");
        let compression = format!("compression.type={}", codec.name());
        succeeded(scene.broker.tool(
            "org.apache.kafka.tools.ProducerPerformance",
            &[
                "--topic",
                &topic,
                "--num-records",
                "2000",
                "--record-size",
                "200",
                "--throughput",
                "-1",
                "--producer-props",
                &server,
                &compression,
            ],
        ));
    }
    let report = scene.backup("--topic java.*");
    assert_eq!(report["total_messages"], 5 * 2000);
    scene.restore("latest --rename *=same.{topic}");
    for codec in Compression::ALL {
        let topic = format!("java.{}", codec.name());
        same_batches(scene.broker, &topic, &format!("same.{topic}"), codec);
        let restored = format!("same.{topic}");
        assert_eq!(scene.client.read(&topic), scene.client.read(&restored));
    }
}
