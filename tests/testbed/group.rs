//! librdkafka as a consumer of a group: commits, reads on from where it stands, joins and leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::client::{Client, Message, TransactionEnd};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A group on a cluster.
pub struct Group {
    config: ClientConfig,
}

impl Group {
    /// Of this id, on the plaintext listener at `address`.
    pub fn new(address: &str, id: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", address)
            .set("log_level", "0")
            .set("group.id", id)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20");
        Self { config }
    }

    /// With another librdkafka setting.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.config.set(name, value);
        self
    }

    fn consumer(&self) -> BaseConsumer {
        self.config.create().unwrap()
    }

    /// Commits without being a member, as a client does that assigns partitions itself.
    pub fn commit(&self, topic: &str, partition: i32, offset: i64, metadata: &str) {
        commit(&self.consumer(), topic, partition, offset, metadata);
    }

    /// Commits on many partitions at once, without being a member.
    pub fn commit_each(&self, topic: &str, offsets: impl IntoIterator<Item = (i32, i64)>) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))
                .unwrap();
        }
        self.consumer().commit(&list, CommitMode::Sync).unwrap();
    }

    /// Writes records to partition 0, which ends at `end`, one by one, and commits behind each at once, until told to stop.
    pub fn write_and_commit(&self, topic: &str, mut end: i64, stop: &AtomicBool) -> i64 {
        let mut config = self.config.clone();
        let producer: BaseProducer = config.set("linger.ms", "0").create().unwrap();
        let consumer = self.consumer();
        while !stop.load(Ordering::Relaxed) {
            let record: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(topic).partition(0).payload(b"x");
            producer.send(record).map_err(|(error, _)| error).unwrap();
            while producer.in_flight_count() > 0 {
                producer.poll(Duration::from_millis(1));
            }
            end += 1;
            commit(&consumer, topic, 0, end, "");
        }
        end
    }

    /// Sends an offset to a transaction that stays open as long as the returned producer.
    pub fn send_to_transaction(&self, id: &str, topic: &str, offset: i64) -> BaseProducer {
        let producer: BaseProducer = self
            .config
            .clone()
            .set("transactional.id", id)
            .create()
            .unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, 0, Offset::Offset(offset))
            .unwrap();
        let metadata = self.consumer().group_metadata().unwrap();
        producer
            .send_offsets_to_transaction(&offsets, &metadata, TIMEOUT)
            .unwrap();
        producer
    }

    /// What is committed for one partition: offset and metadata.
    pub fn committed(&self, topic: &str, partition: i32) -> Option<(i64, String)> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic, partition);
        let committed = self.consumer().committed_offsets(wanted, TIMEOUT).unwrap();
        let element = committed.find_partition(topic, partition).unwrap();
        match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        }
    }

    /// The value of the record that a consumer reads next from the committed offset; none at the end of the log.
    pub fn next(&self, topic: &str, partition: i32) -> Option<Vec<u8>> {
        let consumer = self.consumer();
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Stored)
            .unwrap();
        consumer.assign(&assignment).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(
                Instant::now() < deadline,
                "{topic}-{partition} says nothing"
            );
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => return Some(message.payload().unwrap_or_default().to_vec()),
                Some(Err(KafkaError::PartitionEOF(_))) => return None,
                Some(Err(error)) => panic!("{topic}-{partition}: {error}"),
                None => {}
            }
        }
    }

    /// Becomes a member that has partitions of `topic`, and stays one until the value is dropped.
    pub fn join(&self, topic: &str) -> Member {
        let mut config = self.config.clone();
        let consumer: BaseConsumer = config
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let mut member = Member {
            consumer,
            values: Vec::new(),
        };
        let deadline = Instant::now() + TIMEOUT;
        while member.consumer.assignment().unwrap().count() == 0 {
            assert!(Instant::now() < deadline, "the group does not form");
            member.poll();
        }
        member
    }
}

fn commit(consumer: &BaseConsumer, topic: &str, partition: i32, offset: i64, metadata: &str) {
    let mut offsets = TopicPartitionList::new();
    let mut element = offsets.add_partition(topic, partition);
    element.set_offset(Offset::Offset(offset)).unwrap();
    element.set_metadata(metadata);
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
}

/// A member of a group.
pub struct Member {
    consumer: BaseConsumer,
    /// What it has read.
    pub values: Vec<Vec<u8>>,
}

impl Member {
    fn poll(&mut self) {
        match self.consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => self
                .values
                .push(message.payload().unwrap_or_default().to_vec()),
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }

    /// Reads until it has `count` records, commits behind the last, and leaves.
    pub fn read_and_leave(mut self, count: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while self.values.len() < count {
            assert!(Instant::now() < deadline, "only {:?}", self.values);
            self.poll();
        }
        self.consumer
            .commit_consumer_state(CommitMode::Sync)
            .unwrap();
    }
}

/// Writes values to partition 0 in one transaction, and commits or aborts it.
pub fn transaction(address: &str, id: &str, topic: &str, values: &[String], commit: bool) {
    let messages = values.iter().map(|value| Message {
        value: Some(value.clone().into_bytes()),
        ..Message::default()
    });
    let end = if commit {
        TransactionEnd::Commit
    } else {
        TransactionEnd::Abort
    };
    Client::new(address).transaction(id, topic, messages, end);
}

/// Stops the log cleaner for a topic, which keeps the holes that it made.
pub fn keep_as_compacted(address: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", address)
        .create()
        .unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "delete");
    let altered = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(admin.alter_configs([&change], &AdminOptions::new()));
    for result in altered.unwrap() {
        result.unwrap();
    }
}
