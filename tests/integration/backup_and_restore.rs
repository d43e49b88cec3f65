//! Topics go into a repository and come back, byte for byte.

use tempfile::TempDir;

use crate::kafkeep;
use crate::testbed::{Broker, Client, Compression, Message, Record, Release};

/// Records with everything that must not get lost, `count` of them.
fn awkward(count: i64) -> impl Iterator<Item = Message> {
    (0..count).map(|n| Message {
        key: match n % 4 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(format!("key-{}", n % 97).into_bytes()),
        },
        value: match n % 5 {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(
                format!("{n} {:040x} {}", n * 7919, "abc ".repeat((n % 60) as usize)).into_bytes(),
            ),
        },
        headers: match n % 3 {
            0 => Vec::new(),
            1 => vec![
                ("trace".into(), Some(n.to_be_bytes().to_vec())),
                ("trace".into(), None),
            ],
            _ => vec![("".into(), Some(Vec::new()))],
        },
        timestamp: Some(1_700_000_000_000 + n * 1000),
    })
}

fn without_offsets(partitions: Vec<Vec<Record>>) -> Vec<Vec<Record>> {
    let strip = |records: Vec<Record>| records.into_iter().map(Record::without_offset).collect();
    partitions.into_iter().map(strip).collect()
}

fn backs_up_and_restores(broker: &Broker, prefix: &str) {
    let client = Client::new(&broker.address());
    let directory = TempDir::new().unwrap();
    let repository = directory.path().join("repository");
    let place = ["--repository", repository.to_str().unwrap()];
    let cluster = ["--bootstrap-servers", &broker.address()];
    for codec in Compression::ALL {
        let topic = format!("{prefix}.{}", codec.name());
        client.create_topic(&topic, 3, &[("retention.ms", "-1")]);
        for partition in 0..2 {
            client.produce(
                &topic,
                partition,
                codec,
                awkward(500 + 300 * i64::from(partition)),
            );
        }
    }
    let pattern = format!("{prefix}.*");
    let report =
        kafkeep([["backup", "--json"], place, cluster, ["--topic", &pattern]].concat()).done();
    assert_eq!(report["total_messages"], 5 * (500 + 800));
    kafkeep([["verify", "--json"], place].concat()).done();
    let rename = "*=restored.{topic}";
    let restore = [
        &["restore", "--json", "latest", "--rename", rename],
        &place[..],
        &cluster,
    ]
    .concat();
    kafkeep(restore).done();
    for codec in Compression::ALL {
        let topic = format!("{prefix}.{}", codec.name());
        let restored = format!("restored.{topic}");
        assert_eq!(client.read(&topic), client.read(&restored), "{topic}");
        assert_eq!(without_offsets(client.read(&topic))[0].len(), 500);
    }
}

#[test]
fn every_codec_comes_back_on_the_shared_broker() {
    backs_up_and_restores(Broker::shared(), "codecs");
}

#[test]
fn the_oldest_supported_kafka_is_backed_up_and_restored() {
    backs_up_and_restores(&Broker::start(Release::V2_8, Default::default()), "oldest");
}

#[test]
fn the_newest_supported_kafka_is_backed_up_and_restored() {
    backs_up_and_restores(&Broker::start(Release::V4_4, Default::default()), "newest");
}
