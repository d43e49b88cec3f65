//! The limits that kafkeep is held against: the same bytes moved by as little code as can be.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafkeep::kafka::{
    BrokerId, Client, Cluster, FetchPartition, FetchRequest, IsolationLevel, OffsetSpec,
    PendingFetch, ProduceBatch, ProduceRequest, Retry, TopicPartition, Topics,
};
use kafkeep::memory::MemoryBudget;
use kafkeep::record::{HEADER_LEN, Offset, PartitionId, TopicId, batches};
use kafkeep::repository::{BlockingStorage, DirectoryStorage, ObjectName};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc;

use crate::Limit;

const DUMP: &str = "dump";

/// Runs one, and prints how many bytes of record batches (rdkafka: of values) it moved.
pub fn run(limit: Limit) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bytes = runtime.block_on(async {
        match limit {
            Limit::Fetch {
                servers,
                topic,
                directory,
            } => fetch(&servers, &topic, directory.as_deref()).await,
            Limit::Rdkafka { servers, topic } => consume(&servers, &topic).await,
            Limit::Produce {
                servers,
                topic,
                directory,
            } => produce(&servers, &topic, &directory).await,
        }
    });
    println!("{bytes}");
}

async fn connect(servers: &str) -> Client {
    let servers = servers.split(',').map(str::to_owned).collect();
    Client::connect(Cluster::new(servers), Retry::default())
        .await
        .expect("a cluster")
}

/// What is to be read of one partition.
struct Cursor {
    topic_id: TopicId,
    key: Arc<TopicPartition>,
    next: Offset,
    end: Offset,
}

/// The partitions of a topic that one broker leads.
async fn cursors(client: &Client, topic: &str) -> (BrokerId, VecDeque<Cursor>) {
    let metadata = client
        .metadata(Topics::Named(&[topic.to_owned()]))
        .await
        .unwrap();
    let found = &metadata.topics[topic];
    let key = |partition| TopicPartition {
        topic: topic.to_owned(),
        partition,
    };
    let ask = |spec| {
        found
            .partitions
            .keys()
            .map(|id| (key(*id), spec))
            .collect::<Vec<_>>()
    };
    let starts = client
        .list_offsets(&ask(OffsetSpec::Earliest))
        .await
        .unwrap();
    let ends = client.list_offsets(&ask(OffsetSpec::Latest)).await.unwrap();
    let cursors = found.partitions.keys().map(|id| Cursor {
        topic_id: found.topic_id,
        key: Arc::new(key(*id)),
        next: starts[&key(*id)].as_ref().unwrap().offset,
        end: ends[&key(*id)].as_ref().unwrap().offset,
    });
    let leader = found.partitions.values().next().unwrap().leader.unwrap();
    (
        leader,
        cursors.filter(|cursor| cursor.next < cursor.end).collect(),
    )
}

/// Fetches everything over one connection, two requests in flight; batch headers are walked, nothing is checked.
async fn fetch(servers: &str, topic: &str, directory: Option<&Path>) -> u64 {
    let client = connect(servers).await;
    let (leader, mut ready) = cursors(&client, topic).await;
    let connection = client.connection(leader).await.unwrap();
    let memory = MemoryBudget::default().run();
    let mut writer = directory.map(Writer::start);
    let mut flying: VecDeque<(PendingFetch, Vec<Cursor>)> = VecDeque::new();
    let mut total = 0;
    loop {
        while flying.len() < 2 && !ready.is_empty() {
            let count = if flying.is_empty() {
                ready.len().div_ceil(2)
            } else {
                ready.len()
            };
            let cursors: Vec<Cursor> = ready.drain(..count).collect();
            let partitions = cursors.iter().map(|cursor| FetchPartition {
                key: Arc::clone(&cursor.key),
                topic_id: cursor.topic_id,
                offset: cursor.next,
                leader_epoch: None,
                last_fetched_epoch: None,
                max_bytes: 4 << 20,
            });
            let request = FetchRequest {
                max_wait: Duration::from_millis(500),
                min_bytes: 1,
                max_bytes: 8 << 20,
                isolation: IsolationLevel::ReadUncommitted,
                partitions: partitions.collect(),
            };
            let memory = memory.reserve(9 << 20).await;
            let pending = connection.start_fetch(request, memory).await.unwrap();
            flying.push_back((pending, cursors));
        }
        let Some((pending, cursors)) = flying.pop_front() else {
            break;
        };
        let answer = pending.receive().await.unwrap();
        for mut cursor in cursors {
            let fetched = answer
                .iter()
                .find(|fetched| fetched.key == cursor.key)
                .unwrap();
            let mut walk = batches(&fetched.records);
            for batch in walk.by_ref() {
                cursor.next = batch.unwrap().next_offset();
            }
            let records = fetched.records.slice(..walk.consumed());
            total += records.len() as u64;
            if let Some(writer) = &mut writer
                && !records.is_empty()
            {
                writer.send(cursor.key.partition, records).await;
            }
            if cursor.next < cursor.end {
                ready.push_back(cursor);
            }
        }
    }
    if let Some(writer) = writer {
        writer.finish().await;
    }
    total
}

/// A thread that writes what it gets into one file.
struct Writer {
    chunks: mpsc::Sender<(PartitionId, Bytes)>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(directory: &Path) -> Self {
        let storage = DirectoryStorage::create(directory).unwrap();
        let storage = BlockingStorage::new(Arc::new(storage));
        let (chunks, mut incoming) = mpsc::channel::<(PartitionId, Bytes)>(4);
        let thread = std::thread::spawn(move || {
            let mut file = storage.create(&ObjectName::new(DUMP).unwrap()).unwrap();
            while let Some((partition, records)) = incoming.blocking_recv() {
                file.write(&partition.0.to_be_bytes()).unwrap();
                file.write(&(records.len() as u32).to_be_bytes()).unwrap();
                file.write(&records).unwrap();
            }
            file.finish().unwrap();
        });
        Self { chunks, thread }
    }

    async fn send(&mut self, partition: PartitionId, records: Bytes) {
        self.chunks.send((partition, records)).await.unwrap();
    }

    async fn finish(self) {
        drop(self.chunks);
        tokio::task::spawn_blocking(move || self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

async fn consume(servers: &str, topic: &str) -> u64 {
    let (_, cursors) = cursors(&connect(servers).await, topic).await;
    let (servers, topic) = (servers.to_owned(), topic.to_owned());
    let work = move || {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "limits")
            .set("enable.auto.commit", "false")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "65536")
            .create()
            .unwrap();
        let mut assignment = rdkafka::TopicPartitionList::new();
        for cursor in &cursors {
            let start = rdkafka::Offset::Offset(cursor.next.0);
            assignment
                .add_partition_offset(&topic, cursor.key.partition.0, start)
                .unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let mut left: BTreeMap<i32, i64> = cursors
            .iter()
            .map(|cursor| (cursor.key.partition.0, cursor.end.0))
            .collect();
        let mut bytes = 0;
        while !left.is_empty() {
            let Some(message) = consumer.poll(Duration::from_secs(1)) else {
                continue;
            };
            use rdkafka::Message;
            let message = message.unwrap();
            bytes += message.payload_len() as u64;
            if message.offset() + 1 >= left.get(&message.partition()).copied().unwrap_or(i64::MAX) {
                left.remove(&message.partition());
            }
        }
        bytes
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Sends the dumped batches over up to four connections, five requests in flight each, one batch a partition and request.
async fn produce(servers: &str, topic: &str, directory: &Path) -> u64 {
    let client = connect(servers).await;
    let metadata = client
        .metadata(Topics::Named(&[topic.to_owned()]))
        .await
        .unwrap();
    let partitions = metadata.topics[topic].partitions.len();
    let leader = metadata.topics[topic].partitions[&PartitionId(0)]
        .leader
        .unwrap();
    let lanes = partitions.min(4);
    let mut senders = Vec::new();
    let mut running = Vec::new();
    for _ in 0..lanes {
        let (sender, batches) = mpsc::channel(64);
        senders.push(sender);
        running.push(tokio::spawn(produce_lane(
            client.clone(),
            leader,
            topic.to_owned(),
            batches,
        )));
    }
    let file = directory.join(DUMP);
    let reading = tokio::task::spawn_blocking(move || read_dump(&file, &senders));
    for lane in running {
        lane.await.unwrap();
    }
    reading.await.unwrap()
}

type Batch = (PartitionId, [u8; HEADER_LEN], Bytes);

fn read_dump(file: &Path, lanes: &[mpsc::Sender<Batch>]) -> u64 {
    let mut file = BufReader::with_capacity(4 << 20, File::open(file).unwrap());
    let mut total = 0;
    let mut head = [0; 8];
    while file.read_exact(&mut head).is_ok() {
        let partition = PartitionId(i32::from_be_bytes(*head.first_chunk().unwrap()));
        let length = u32::from_be_bytes(*head.last_chunk().unwrap()) as usize;
        let mut records = vec![0; length];
        file.read_exact(&mut records).unwrap();
        let records = Bytes::from(records);
        let mut at = 0;
        for batch in batches(&records) {
            let batch = batch.unwrap();
            let payload = records.slice(at + HEADER_LEN..at + batch.len());
            at += batch.len();
            total += batch.len() as u64;
            lanes[partition.0 as usize % lanes.len()]
                .blocking_send((partition, at_the_start(batch.header()), payload))
                .unwrap();
        }
    }
    total
}

/// Base offset 0 and no leader epoch, as a producer sends a batch: both lie outside its CRC32C.
fn at_the_start(mut header: [u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    header[..8].copy_from_slice(&0_i64.to_be_bytes());
    header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    header
}

async fn produce_lane(
    client: Client,
    leader: BrokerId,
    topic: String,
    mut batches: mpsc::Receiver<Batch>,
) {
    let connection = client.connection(leader).await.unwrap();
    let mut flying = VecDeque::new();
    let mut open = true;
    while open || !flying.is_empty() {
        let mut request: BTreeMap<PartitionId, Batch> = BTreeMap::new();
        while open && flying.len() < 5 && request.is_empty() {
            match batches.recv().await {
                Some(batch) => {
                    request.insert(batch.0, batch);
                }
                None => open = false,
            }
        }
        if !request.is_empty() {
            let batches = request
                .into_values()
                .map(|(partition, header, payload)| ProduceBatch {
                    key: Arc::new(TopicPartition {
                        topic: topic.clone(),
                        partition,
                    }),
                    header,
                    payload,
                });
            let request = ProduceRequest {
                transactional_id: None,
                acks: -1,
                timeout: Duration::from_secs(30),
                batches: batches.collect(),
            };
            flying.push_back(connection.start_produce(request).await.unwrap());
        }
        if flying.len() == 5 || (!open && !flying.is_empty()) {
            for partition in flying.pop_front().unwrap().receive().await.unwrap() {
                assert_eq!(partition.error, None);
            }
        }
    }
}
