//! A log that lives: several producers, transactions that overlap, deletions, and backups in between. The judge is a model of it,
//! which knows what each backup must hold.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Timestamp};

use crate::fixture::{Fixture, Random};
use crate::testbed::{Client, Compression, Message, Record, TransactionEnd};

const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest record of the model; brokers take a batch of a MiB.
const LARGE: u64 = 900_000;

type Hashed = u64;

/// Of everything about a record that must come back.
fn hash_of(record: &Record) -> Hashed {
    let mut hasher = DefaultHasher::new();
    let Timestamp::CreateTime(timestamp) = record.timestamp else {
        panic!("no timestamp: {record:?}")
    };
    (timestamp, &record.key, &record.value, &record.headers).hash(&mut hasher);
    hasher.finish()
}

/// What producers were told that they wrote: partition, offset, hash.
type Delivered = Arc<Mutex<Vec<(i32, i64, Hashed)>>>;

struct Noting(Delivered);

impl ClientContext for Noting {}

impl ProducerContext for Noting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let message = result
            .as_ref()
            .unwrap_or_else(|(error, _)| panic!("{error}"));
        let headers = message.headers().map(|headers| {
            let all = headers.iter();
            all.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        let record = Record {
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        };
        let noted = (message.partition(), record.offset, hash_of(&record));
        self.0.lock().unwrap().push(noted);
    }
}

/// A producer that notes down what it wrote.
struct Writer {
    producer: BaseProducer<Noting>,
    delivered: Delivered,
    /// Whether it writes in transactions.
    transactional: bool,
    in_transaction: bool,
}

impl Writer {
    fn new(address: &str, compression: Compression, id: Option<&str>) -> Self {
        let delivered = Delivered::default();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", address)
            .set("compression.type", compression.name())
            .set("linger.ms", "1");
        if let Some(id) = id {
            config.set("transactional.id", id);
        }
        let context = Noting(Arc::clone(&delivered));
        let producer: BaseProducer<Noting> = config.create_with_context(context).unwrap();
        if id.is_some() {
            producer.init_transactions(TIMEOUT).unwrap();
        }
        Self {
            producer,
            delivered,
            transactional: id.is_some(),
            in_transaction: false,
        }
    }

    fn write(&mut self, topic: &str, partition: i32, messages: &[Message]) {
        if self.transactional && !self.in_transaction {
            self.producer.begin_transaction().unwrap();
            self.in_transaction = true;
        }
        for message in messages {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &message.headers {
                let value = value.as_ref();
                headers = headers.insert(Header { key, value });
            }
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
            record.key = message.key.as_deref();
            record.payload = message.value.as_deref();
            record.timestamp = message.timestamp;
            record.headers = Some(headers);
            self.producer
                .send(record)
                .unwrap_or_else(|(error, _)| panic!("{error}"));
        }
        self.producer.flush(TIMEOUT).unwrap();
    }

    /// What it wrote since it was last asked, which is now there for good; nothing of an aborted transaction.
    fn end(&mut self, client: &Client, topic: &str, commit: bool) -> Vec<(i32, i64, Hashed)> {
        let delivered = std::mem::take(&mut *self.delivered.lock().unwrap());
        if !std::mem::take(&mut self.in_transaction) {
            return delivered;
        }
        let mut partitions: Vec<i32> = delivered.iter().map(|(id, ..)| *id).collect();
        partitions.sort_unstable();
        partitions.dedup();
        if commit {
            client.end_transaction(&self.producer, topic, &partitions, TransactionEnd::Commit);
            return delivered;
        }
        client.end_transaction(&self.producer, topic, &partitions, TransactionEnd::Abort);
        Vec::new()
    }
}

/// What a topic holds, by partition: the hash of each record by its offset.
#[derive(Clone)]
struct Model(Vec<BTreeMap<i64, Hashed>>);

impl Model {
    fn add(&mut self, written: Vec<(i32, i64, Hashed)>) {
        for (partition, offset, hash) in written {
            let before = self.0[partition as usize].insert(offset, hash);
            assert_eq!(before, None, "an offset twice");
        }
    }

    /// The records' hashes in their order.
    fn hashes(&self) -> Vec<Vec<Hashed>> {
        let partitions = self.0.iter();
        partitions
            .map(|partition| partition.values().copied().collect())
            .collect()
    }
}

fn hashes_of(topic: &[Vec<Record>]) -> Vec<Vec<Hashed>> {
    let partitions = topic.iter();
    partitions
        .map(|partition| partition.iter().map(hash_of).collect())
        .collect()
}

/// A record of any kind: null, empty and absent parts, repeated header keys, old and far timestamps.
fn message(random: &mut Random, number: u64) -> Message {
    let bytes = |random: &mut Random, length: u64| -> Vec<u8> {
        (0..length).map(|_| random.below(256) as u8).collect()
    };
    let part = |random: &mut Random, length: u64| match random.below(4) {
        0 => None,
        1 => Some(Vec::new()),
        _ => {
            let length = random.below(length);
            Some(bytes(random, length))
        }
    };
    let mut message = Message {
        key: part(random, 40),
        value: part(random, 600),
        headers: Vec::new(),
        timestamp: Some(match random.below(5) {
            0 => 0,
            1 => 4_102_444_800_000,
            _ => 1_700_000_000_000 + random.below(1_000_000_000) as i64,
        }),
    };
    for _ in 0..random.below(4) {
        let key = ["trace", "ключ", ""][random.below(3) as usize].to_owned();
        message.headers.push((key, part(random, 20)));
    }
    // Identical records would hide that two changed places.
    message
        .headers
        .push(("n".to_owned(), Some(number.to_be_bytes().to_vec())));
    message
}

/// A backup's id. It is incomplete when, and only when, something was deleted behind the `ends` of the last one.
fn back_up(scene: &Fixture<'_>, topic: &str, ends: &mut [i64]) -> String {
    let mut lost = false;
    for (partition, end) in (0..).zip(ends) {
        let (low, high) = scene.client.watermarks(topic, partition);
        lost |= low > *end;
        *end = high;
    }
    let arguments = format!("--json --topic {topic} --pack-size 1MiB");
    let outcome = scene.run("backup", &arguments);
    assert_eq!(outcome.code, if lost { 2 } else { 0 }, "{outcome}");
    outcome.json()["backup_id"].as_str().unwrap().to_owned()
}

fn play(partitions: i32, steps: u32) {
    let scene = Fixture::shared();
    let address = scene.broker.address();
    let topic = format!("model.{partitions}");
    let forever = [
        ("retention.ms", "-1"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
    ];
    scene.client.create_topic(&topic, partitions, &forever);
    let mut random = Random::seeded();
    let mut writers: Vec<Writer> = Compression::ALL
        .into_iter()
        .map(|compression| Writer::new(&address, compression, None))
        .collect();
    for (number, compression) in Compression::ALL.into_iter().enumerate() {
        let id = format!("{topic}.{number}");
        writers.push(Writer::new(&address, compression, Some(&id)));
    }
    let mut model = Model(vec![BTreeMap::new(); partitions as usize]);
    let mut backups: Vec<(String, Model)> = Vec::new();
    let mut ends = vec![i64::MAX; partitions as usize];
    let mut number = 0;
    for _ in 0..steps {
        let partition = random.below(partitions as u64) as i32;
        let writer = random.below(writers.len() as u64) as usize;
        match random.below(20) {
            0..12 => {
                let count = 1 + random.below(60);
                let messages: Vec<Message> = (number..number + count)
                    .map(|number| message(&mut random, number))
                    .collect();
                number += count;
                writers[writer].write(&topic, partition, &messages);
            }
            12 => {
                let mut large = message(&mut random, number);
                large.value = Some(vec![number as u8; random.below(LARGE) as usize]);
                number += 1;
                writers[writer].write(&topic, partition, &[large]);
            }
            13..16 => {
                let written = writers[writer].end(&scene.client, &topic, random.below(3) > 0);
                model.add(written);
            }
            16 => {
                let (start, end) = scene.client.watermarks(&topic, partition);
                let before = start + random.below(1 + (end - start) as u64 / 3) as i64;
                scene.client.delete_records(&topic, partition, before);
                for writer in &mut writers {
                    // What lies in open transactions below is gone as well.
                    let mut delivered = writer.delivered.lock().unwrap();
                    delivered.retain(|(of, offset, _)| *of != partition || *offset >= before);
                }
                model.0[partition as usize] = model.0[partition as usize].split_off(&before);
            }
            _ => {
                for writer in writers.iter_mut().filter(|writer| !writer.transactional) {
                    model.add(writer.end(&scene.client, &topic, true));
                }
                let id = back_up(&scene, &topic, &mut ends);
                backups.push((id, model.clone()));
            }
        }
    }
    for writer in &mut writers {
        model.add(writer.end(&scene.client, &topic, true));
    }
    let id = back_up(&scene, &topic, &mut ends);
    backups.push((id, model));
    scene.verify();
    // The last one, and some of those before.
    let last = backups.len() - 1;
    for (place, (id, model)) in backups.iter().enumerate() {
        if place != last && random.below(backups.len() as u64) > 3 {
            continue;
        }
        let target = format!("{topic}.{place}");
        scene.restore(&format!("{id} --check --rename {topic}={target}"));
        let restored = Client::new(&address).read(&target);
        assert_eq!(
            hashes_of(&restored),
            model.hashes(),
            "backup {place} of {last}"
        );
    }
}

#[test]
fn one_partition_of_a_living_log_comes_back_as_it_was_at_each_backup() {
    play(1, 80);
}

#[test]
fn three_partitions_of_a_living_log_come_back_as_they_were_at_each_backup() {
    play(3, 120);
}

#[test]
fn ten_partitions_of_a_living_log_come_back_as_they_were_at_each_backup() {
    play(10, 160);
}
