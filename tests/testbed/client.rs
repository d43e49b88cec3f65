//! A client that is not ours: librdkafka, to make topics and traffic, and to say what a topic holds.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, Timestamp, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

/// How a producer compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A record to produce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
}

impl Message {
    /// One with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// The same at this time, in milliseconds.
    pub fn at(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: Timestamp,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The same as if it lay at offset 0: for comparing topics whose offsets differ.
    pub fn without_offset(mut self) -> Self {
        self.offset = 0;
        self
    }
}

/// What becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Abort,
    /// It stays open.
    None,
}

/// Where a partition lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// librdkafka on one cluster.
pub struct Client {
    config: ClientConfig,
}

impl Client {
    /// On the plaintext listener at `address`.
    pub fn new(address: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        config.set("log_level", "0");
        Self { config }
    }

    /// With another librdkafka setting.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.config.set(name, value);
        self
    }

    pub(super) fn wait_for_brokers(&self, count: usize, deadline: Instant) {
        let consumer: BaseConsumer = self.config.create().unwrap();
        loop {
            match consumer.fetch_metadata(None, Duration::from_secs(2)) {
                Ok(metadata) if metadata.brokers().len() >= count => return,
                _ => assert!(Instant::now() < deadline, "the cluster does not answer"),
            }
        }
    }

    /// Creates a topic with these settings, and waits until every partition has a leader.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        self.create(new, settings);
        self.wait_for_leaders(topic, partitions);
    }

    /// Creates a topic whose partitions lie on these brokers: the first of each leads.
    pub fn create_on(&self, topic: &str, replicas: &[&[i32]], settings: &[(&str, &str)]) {
        let partitions = i32::try_from(replicas.len()).unwrap();
        let new = NewTopic::new(topic, partitions, TopicReplication::Variable(replicas));
        self.create(new, settings);
        self.wait_for_leaders(topic, partitions);
    }

    fn create<'a>(&self, new: NewTopic<'a>, settings: &[(&'a str, &'a str)]) {
        self.try_to_create(new, settings).unwrap();
    }

    fn try_to_create<'a>(
        &self,
        mut new: NewTopic<'a>,
        settings: &[(&'a str, &'a str)],
    ) -> Result<(), RDKafkaErrorCode> {
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let created = futures_executor(admin.create_topics([&new], &options)).unwrap();
        created
            .into_iter()
            .try_for_each(|result| result.map(drop).map_err(|(_, code)| code))
    }

    /// Deletes a topic and makes it again: with ZooKeeper, the name is taken until the deletion is complete.
    pub fn recreate_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.delete_topic(topic);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            match self.try_to_create(new, settings) {
                Ok(()) => return self.wait_for_leaders(topic, partitions),
                Err(RDKafkaErrorCode::TopicAlreadyExists) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(code) => panic!("{topic}: {code}"),
            }
        }
    }

    /// Leader, replicas and in-sync replicas of each partition.
    pub fn placement(&self, topic: &str) -> Vec<Placement> {
        let consumer: BaseConsumer = self.config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
        let placed = metadata.topics()[0]
            .partitions()
            .iter()
            .map(|partition| Placement {
                leader: partition.leader(),
                replicas: partition.replicas().to_vec(),
                in_sync: partition.isr().to_vec(),
            });
        placed.collect()
    }

    /// Waits until every partition has a leader that answers.
    pub fn wait_for_leaders(&self, topic: &str, partitions: i32) {
        let consumer: BaseConsumer = self.config.create().unwrap();
        let deadline = Instant::now() + TIMEOUT;
        for partition in 0..partitions {
            while consumer
                .fetch_watermarks(topic, partition, Duration::from_secs(5))
                .is_err()
            {
                assert!(
                    Instant::now() < deadline,
                    "{topic}-{partition} has no leader"
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Looks again and again until something has happened.
    #[track_caller]
    pub fn wait_until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !happened(self) {
            assert!(Instant::now() < deadline, "{what} does not come");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        let deleted =
            futures_executor(admin.delete_topics(&[topic], &AdminOptions::new())).unwrap();
        for result in deleted {
            result.unwrap();
        }
    }

    /// Adds partitions, up to `count`.
    pub fn add_partitions(&self, topic: &str, count: i32) {
        use rdkafka::admin::NewPartitions;
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        let new = NewPartitions::new(topic, count as usize);
        let added =
            futures_executor(admin.create_partitions([&new], &AdminOptions::new())).unwrap();
        for result in added {
            result.unwrap();
        }
        while self.partitions(topic) < count {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait_for_leaders(topic, count);
    }

    /// Makes a log start at an offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(before))
            .unwrap();
        futures_executor(admin.delete_records(&offsets, &AdminOptions::new())).unwrap();
    }

    /// The names of all topics.
    pub fn topics(&self) -> Vec<String> {
        let consumer: BaseConsumer = self.config.create().unwrap();
        let metadata = consumer.fetch_metadata(None, TIMEOUT).unwrap();
        metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .collect()
    }

    /// How many partitions a topic has.
    pub fn partitions(&self, topic: &str) -> i32 {
        let consumer: BaseConsumer = self.config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
        let found = metadata
            .topics()
            .iter()
            .find(|found| found.name() == topic)
            .unwrap();
        i32::try_from(found.partitions().len()).unwrap()
    }

    /// Log start and high watermark: a consumer of committed records would be told the last stable offset.
    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let consumer: BaseConsumer = self
            .config
            .clone()
            .set("isolation.level", "read_uncommitted")
            .create()
            .unwrap();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match consumer.fetch_watermarks(topic, partition, TIMEOUT) {
                Ok(watermarks) => return watermarks,
                // Its leader is being changed, or has not heard yet what its followers have.
                Err(KafkaError::MetadataFetch(
                    RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::OffsetNotAvailable,
                )) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("{topic}-{partition}: {error}"),
            }
        }
    }

    /// A setting of a topic as the broker describes it.
    pub fn setting(&self, topic: &str, name: &str) -> Option<String> {
        use rdkafka::admin::ResourceSpecifier;
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        let resource = ResourceSpecifier::Topic(topic);
        let described =
            futures_executor(admin.describe_configs([&resource], &AdminOptions::new())).unwrap();
        let described = described.into_iter().next().unwrap().unwrap();
        described.get(name).and_then(|entry| entry.value.clone())
    }

    /// Produces to one partition and waits until all is acknowledged.
    pub fn produce(
        &self,
        topic: &str,
        partition: i32,
        compression: Compression,
        messages: impl IntoIterator<Item = Message>,
    ) {
        let producer = self.producer(compression);
        producer.produce(topic, partition, messages);
    }

    /// A producer to use again and again.
    pub fn producer(&self, compression: Compression) -> TestProducer {
        let mut config = self.config.clone();
        config.set("compression.type", compression.name());
        config.set("linger.ms", "20").set("max.in.flight", "1");
        TestProducer(config.create().unwrap())
    }

    /// Produces single records to partitions, all at once.
    pub fn produce_to_each(&self, topic: &str, messages: impl IntoIterator<Item = (i32, Message)>) {
        let producer: BaseProducer = self.config.create().unwrap();
        for (partition, message) in messages {
            send(&producer, topic, partition, &message);
        }
        producer.flush(TIMEOUT).unwrap();
    }

    /// Writes `messages` in one transaction and leaves it as `end` says; the producer keeps an open one open.
    pub fn transaction(
        &self,
        id: &str,
        topic: &str,
        messages: impl IntoIterator<Item = Message>,
        end: TransactionEnd,
    ) -> BaseProducer {
        let producer: BaseProducer = self
            .config
            .clone()
            .set("transactional.id", id)
            .set("linger.ms", "5")
            .create()
            .unwrap();
        producer.init_transactions(TIMEOUT).unwrap();
        producer.begin_transaction().unwrap();
        for message in messages {
            send(&producer, topic, 0, &message);
        }
        producer.flush(TIMEOUT).unwrap();
        self.end_transaction(&producer, topic, &[0], end);
        producer
    }

    /// Ends a transaction that wrote to these partitions, and waits for its markers: the broker answers when the end is
    /// decided, and writes them afterwards.
    pub fn end_transaction<C: ProducerContext>(
        &self,
        producer: &BaseProducer<C>,
        topic: &str,
        partitions: &[i32],
        end: TransactionEnd,
    ) {
        let ends = || partitions.iter().map(|id| self.watermarks(topic, *id).1);
        let before: Vec<i64> = ends().collect();
        match end {
            TransactionEnd::Commit => producer.commit_transaction(TIMEOUT).unwrap(),
            TransactionEnd::Abort => producer.abort_transaction(TIMEOUT).unwrap(),
            TransactionEnd::None => return,
        }
        self.wait_until("the transaction's markers", |_| {
            ends().zip(&before).all(|(now, before)| now > *before)
        });
    }

    /// The names of all consumer groups.
    pub fn groups(&self) -> Vec<String> {
        let consumer: BaseConsumer = self.config.create().unwrap();
        let groups = consumer.fetch_group_list(None, TIMEOUT).unwrap();
        let names = groups.groups().iter().map(|group| group.name().to_owned());
        names.collect()
    }

    /// Changes a setting of a topic that exists; others that were made on it go back to their defaults.
    pub fn change_settings(&self, topic: &str, settings: &[(&str, &str)]) {
        use rdkafka::admin::{AlterConfig, ResourceSpecifier};
        let admin: AdminClient<DefaultClientContext> = self.config.create().unwrap();
        let mut changes = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in settings {
            changes = changes.set(name, value);
        }
        let altered =
            futures_executor(admin.alter_configs([&changes], &AdminOptions::new())).unwrap();
        for result in altered {
            result.unwrap();
        }
    }

    /// Everything that a consumer sees of a topic up to its end, partition by partition, offsets ascending.
    pub fn read(&self, topic: &str) -> Vec<Vec<Record>> {
        let mut records = vec![Vec::new(); self.partitions(topic) as usize];
        self.for_each(topic, |partition, record| {
            records[partition as usize].push(record);
        });
        records
    }

    /// Shows what [`Client::read`] returns, record by record: partitions in any order, offsets of one ascending.
    pub fn for_each(&self, topic: &str, mut shown: impl FnMut(i32, Record)) {
        let consumer: BaseConsumer = self
            .config
            .clone()
            .set("group.id", "tests-that-commit-nothing")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .set("fetch.message.max.bytes", "20000000")
            .set("fetch.wait.max.ms", "50")
            .create()
            .unwrap();
        let mut open = self.partitions(topic);
        let mut assignment = TopicPartitionList::new();
        for partition in 0..open {
            assignment
                .add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while open > 0 {
            assert!(Instant::now() < deadline, "{topic} is not read to its end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let record = Record {
                        offset: message.offset(),
                        timestamp: message.timestamp(),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: message.headers().map(headers).unwrap_or_default(),
                    };
                    shown(message.partition(), record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                // librdkafka tells of a broker that it does not reach, and goes on with the others.
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
                )))
                | None => {}
                Some(Err(error)) => panic!("{topic}: {error}"),
            }
        }
    }
}

/// A producer that stays connected.
pub struct TestProducer(BaseProducer);

impl TestProducer {
    /// Produces to one partition and waits until all is acknowledged.
    pub fn produce(
        &self,
        topic: &str,
        partition: i32,
        messages: impl IntoIterator<Item = Message>,
    ) {
        for message in messages {
            send(&self.0, topic, partition, &message);
        }
        self.0.flush(TIMEOUT).unwrap();
    }
}

fn headers(headers: &rdkafka::message::BorrowedHeaders) -> Vec<(String, Option<Vec<u8>>)> {
    headers
        .iter()
        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
        .collect()
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, message: &Message) {
    let mut headers = OwnedHeaders::new();
    for (key, value) in &message.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_ref(),
        });
    }
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
    if !message.headers.is_empty() {
        record = record.headers(headers);
    }
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    record.timestamp = message.timestamp;
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => panic!("{topic}-{partition}: {error}"),
        }
    }
}

/// Waits for a future of librdkafka's, which has threads of its own to complete it.
fn futures_executor<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
