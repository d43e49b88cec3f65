//! Batches as librdkafka writes them are opened as librdkafka reads them; messages from before Kafka 0.11 are refused by name.

use std::sync::Arc;

use kafkeep::record::{Compression as Codec, batches};
use kafkeep::repository::{DirectoryStorage, Repository};
use tempfile::TempDir;

use crate::kafkeep;
use crate::testbed::{Broker, Client, Compression, Message, Record, Release};

/// Every record of the only backup's only partition, opened by kafkeep; and the codecs of its batches.
fn opened(repository: &str) -> (Vec<Record>, Vec<Codec>) {
    let storage = Arc::new(DirectoryStorage::open(repository.as_ref()).unwrap());
    let repository = Repository::open(storage).unwrap();
    let manifest = repository
        .manifest(&repository.backup_ids().unwrap()[0])
        .unwrap();
    let index = repository
        .index(&manifest.topics[0].index.unwrap())
        .unwrap();
    let (mut records, mut codecs) = (Vec::new(), Vec::new());
    for extent in index.partitions.values().flatten() {
        let pack = repository
            .open_pack(&index.packs[extent.pack as usize])
            .unwrap();
        for block in pack.blocks(extent.offset..extent.end()) {
            for batch in batches(&block.unwrap().raw) {
                let batch = batch.unwrap();
                codecs.push(batch.attributes().compression);
                let opened = batch.open(1 << 20).unwrap();
                records.extend(opened.records().map(|record| shown(&record.unwrap())));
            }
        }
    }
    (records, codecs)
}

fn shown(record: &kafkeep::record::RecordRef<'_>) -> Record {
    let headers = record.headers.iter();
    Record {
        offset: record.offset.0,
        timestamp: rdkafka::Timestamp::CreateTime(record.timestamp.0),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: headers
            .map(|(key, value)| {
                (
                    String::from_utf8(key.to_vec()).unwrap(),
                    value.map(<[u8]>::to_vec),
                )
            })
            .collect(),
    }
}

/// More than one block of every codec, in text that compresses.
fn messages() -> impl Iterator<Item = Message> {
    (0..400_i64).map(|n| Message {
        key: (n % 3 > 0).then(|| format!("key {n}").into_bytes()),
        value: Some(format!("{n} {}", "some text ".repeat(60)).into_bytes()),
        headers: vec![
            ("n".into(), Some(n.to_be_bytes().to_vec())),
            ("n".into(), None),
        ],
        timestamp: Some(1_700_000_000_000 - n),
    })
}

#[test]
fn librdkafkas_batches_open_as_it_reads_them() {
    let broker = Broker::shared();
    let client = Client::new(&broker.address());
    for (codec, ours) in Compression::ALL.into_iter().zip(Codec::ALL) {
        let directory = TempDir::new().unwrap();
        let repository = directory.path().join("repository");
        let (repository, topic) = (
            repository.to_str().unwrap(),
            format!("opened.{}", codec.name()),
        );
        client.create_topic(&topic, 1, &[("retention.ms", "-1")]);
        client.produce(&topic, 0, codec, messages());
        let address = broker.address();
        let backup = [
            "backup",
            "--json",
            "--repository",
            repository,
            "--bootstrap-servers",
            &address,
            "--topic",
            &topic,
        ];
        kafkeep(backup).done();
        let (records, codecs) = opened(repository);
        assert_eq!(vec![records], client.read(&topic), "{topic}");
        assert!(codecs.contains(&ours), "{topic}: {codecs:?}");
    }
}

#[test]
fn messages_from_before_kafka_0_11_fail_their_topic_with_partition_and_offset_and_no_other() {
    let broker = Broker::start(Release::V2_8, Default::default());
    let client = Client::new(&broker.address());
    let directory = TempDir::new().unwrap();
    for (format, magic) in [("0.9.0", "v0"), ("0.10.2", "v1")] {
        let topic = format!("old.{magic}");
        client.create_topic(
            &topic,
            2,
            &[("message.format.version", format), ("retention.ms", "-1")],
        );
        let plain = (0..10).map(|n| Message::new(format!("{n}"), "value"));
        client.produce(&topic, 1, Compression::None, plain);
        let repository = directory.path().join(magic);
        let address = broker.address();
        let backup = [
            "backup",
            "--json",
            "--repository",
            repository.to_str().unwrap(),
            "--bootstrap-servers",
            &address,
            "--topic",
            &topic,
        ];
        let place = format!("{topic}-1 at offset 0");
        let what = format!("messages of format {magic} at offset 0");
        kafkeep(backup).refused(1, &[&place, &what]);
    }
    client.create_topic("old.good", 1, &[]);
    let plain = (0..10).map(|n| Message::new(format!("{n}"), "value"));
    client.produce("old.good", 0, Compression::None, plain);
    let repository = directory.path().join("beside");
    let address = broker.address();
    let backup = [
        "backup",
        "--json",
        "--repository",
        repository.to_str().unwrap(),
        "--bootstrap-servers",
        &address,
        "--topic",
        "old.*",
    ];
    let outcome = kafkeep(backup);
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    assert_eq!(report["status"], "incomplete", "{report}");
    assert_eq!(report["total_messages"], 10, "{report}");
    let warnings = report["warnings"].to_string();
    for topic in ["old.v0", "old.v1"] {
        let told = format!("topic {topic} is not in this backup");
        assert!(warnings.contains(&told), "{told:?} is not in {warnings}");
    }
    let repository = repository.to_str().unwrap();
    let verified = kafkeep(["verify", "--json", "--repository", repository]).done();
    assert_eq!(verified["status"], "sound", "{verified}");
}
