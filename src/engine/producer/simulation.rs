//! Seeded runs against brokers that behave like Kafka's and fail in every way that is known: every batch is written once and in
//! order, memory is given back, and the run ends.
//!
//! `KAFKEEP_SEED=7` runs one seed; `KAFKEEP_SIMULATIONS=10000` runs more of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::brokers::{Brokers, PendingAnswer};
use super::scripted::{self, IDENTITY, disconnected, key, led_by, metadata, produced, sequence};
use super::*;
use crate::kafka::{ProduceBatch, Retry};
use crate::record::{LeaderEpoch, Offset, next_sequence, stamp_of_header};

const MEMORY: usize = 64;

/// Kafka's side: logs, their leaders, and what the cluster remembers of the producer.
struct Cluster {
    random: StdRng,
    started: Instant,
    brokers: i32,
    /// Whether faults never end.
    is_hopeless: bool,
    partitions: BTreeMap<TopicPartition, Log>,
}

#[derive(Default)]
struct Log {
    /// Who led it, latest last, each under the epoch that is its place.
    leaders: Vec<BrokerId>,
    end: i64,
    /// The payload of each batch, and where it lies.
    batches: Vec<(Bytes, Offset)>,
    /// Sequence number and offset of the last five batches (`ProducerStateEntry`).
    recent: VecDeque<(i32, Offset)>,
    next_sequence: Option<i32>,
}

#[derive(Clone)]
struct SimulatedBrokers(Arc<Mutex<Cluster>>);

type Exchange = (
    ProduceRequest,
    oneshot::Sender<Result<Vec<ProducedPartition>, KafkaError>>,
);

enum Fault {
    /// The connection breaks before the request is handled, or after.
    Lost,
    AnswerLost,
    /// The connection breaks, and the request is handled long after.
    Late,
    /// The broker is silent for as long as clients bear it.
    Silent,
}

impl Cluster {
    /// Faults come in waves of 50 s.
    fn is_faulty(&mut self, share: f64) -> bool {
        let is_wave = self.started.elapsed().as_secs() % 200 < 50;
        (self.is_hopeless || is_wave) && self.random.random_bool(share)
    }

    fn fault(&mut self) -> Option<Fault> {
        self.is_faulty(0.1)
            .then(|| match self.random.random_range(0..8) {
                0..3 => Fault::Lost,
                3..5 => Fault::AnswerLost,
                5..7 => Fault::Late,
                _ => Fault::Silent,
            })
    }

    fn pause(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.random_range(0..most))
    }

    fn handle(&mut self, broker: BrokerId, request: &ProduceRequest) -> Vec<ProducedPartition> {
        let batches = request.batches.iter();
        let handled = batches.map(|batch| produced(batch, self.append(broker, batch)));
        handled.collect()
    }

    fn append(&mut self, broker: BrokerId, batch: &ProduceBatch) -> Result<Offset, ErrorCode> {
        let moves = self.is_faulty(0.02);
        let (refuses, next) = (
            self.is_faulty(0.05),
            self.random.random_range(0..self.brokers),
        );
        let log = self.partitions.get_mut(&*batch.key).unwrap();
        if moves {
            log.leaders.push(BrokerId(next));
        }
        if log.leaders.last() != Some(&broker) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let (sequence, records) = (
            sequence(batch),
            i32::from_be_bytes(batch.header[57..].try_into().unwrap()),
        );
        let is_repeated = |(first, _): &&(i32, Offset)| *first == sequence;
        if let Some((_, offset)) = log.recent.iter().find(is_repeated) {
            return Ok(*offset);
        }
        if refuses {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        if log.next_sequence.is_some_and(|next| next != sequence) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        let offset = Offset(log.end);
        log.end += i64::from(records);
        log.batches.push((batch.payload.clone(), offset));
        log.next_sequence = Some(next_sequence(sequence, records as u32));
        log.recent.push_back((sequence, offset));
        if log.recent.len() > 5 {
            log.recent.pop_front();
        }
        Ok(offset)
    }
}

impl SimulatedBrokers {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap()
    }

    /// Handles the requests of a connection one after the other, as Kafka does, until it breaks.
    async fn serve(self, broker: BrokerId, mut requests: mpsc::UnboundedReceiver<Exchange>) {
        while let Some((request, answer)) = requests.recv().await {
            let (pause, fault) = {
                let mut cluster = self.lock();
                (cluster.pause(20), cluster.fault())
            };
            tokio::time::sleep(pause).await;
            match fault {
                None => {
                    let produced = self.lock().handle(broker, &request);
                    answer.send(Ok(produced)).ok();
                    continue;
                }
                Some(Fault::Lost) => {}
                Some(Fault::AnswerLost) => {
                    self.lock().handle(broker, &request);
                }
                Some(Fault::Late) => {
                    drop((answer, requests));
                    let pause = self.lock().pause(1000);
                    tokio::time::sleep(pause).await;
                    self.lock().handle(broker, &request);
                    return;
                }
                Some(Fault::Silent) => tokio::time::sleep(Retry::default().patience()).await,
            }
            return;
        }
    }
}

impl Brokers for SimulatedBrokers {
    type Connection = mpsc::UnboundedSender<Exchange>;

    fn retry(&self) -> Retry {
        Retry::default()
    }

    async fn connect(&self, broker: BrokerId) -> Result<Self::Connection, KafkaError> {
        let (pause, fails) = {
            let mut cluster = self.lock();
            (cluster.pause(100), cluster.is_faulty(0.2))
        };
        tokio::time::sleep(pause).await;
        if fails {
            return Err(disconnected());
        }
        let (connection, requests) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().serve(broker, requests));
        Ok(connection)
    }

    async fn produce(
        &self,
        connection: &Self::Connection,
        request: ProduceRequest,
    ) -> Result<PendingAnswer, KafkaError> {
        let (answer, pending) = oneshot::channel();
        // What is on the wire is a copy.
        let mut request = request;
        for batch in &mut request.batches {
            batch.payload = Bytes::copy_from_slice(&batch.payload);
        }
        let sent = connection.send((request, answer));
        sent.map_err(|_| disconnected())?;
        let pending = pending.map(|answer| answer.unwrap_or_else(|_| Err(disconnected())));
        Ok(pending.boxed())
    }

    async fn metadata(&self, topics: &[String]) -> Result<Metadata, KafkaError> {
        let (pause, fails) = {
            let mut cluster = self.lock();
            (cluster.pause(100), cluster.is_faulty(0.2))
        };
        tokio::time::sleep(pause).await;
        if fails {
            return Err(disconnected());
        }
        let mut cluster = self.lock();
        let (is_old, is_away) = (cluster.is_faulty(0.2), cluster.is_faulty(0.2));
        let partitions = cluster.partitions.iter();
        let wanted = partitions.filter(|(key, _)| topics.contains(&key.topic));
        Ok(metadata(wanted.map(|(key, log)| {
            let latest = log.leaders.len() - 1;
            let epoch = latest - usize::from(is_old && latest > 5);
            let leader = (!is_away).then_some(log.leaders[epoch]);
            (key.clone(), leader, LeaderEpoch(epoch as i32))
        })))
    }
}

/// A batch on its way to the producer.
struct Fed {
    partition: PartitionIndex,
    records: u32,
    payload: Bytes,
}

/// A payload that holds memory.
struct Held {
    text: String,
    _memory: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// What a seed decides of a run.
struct Scenario {
    mode: Mode,
    /// The partition of each batch, in order.
    batches: Vec<usize>,
    /// The pause before a batch.
    pauses: BTreeMap<usize, Duration>,
    cancelled_after: Option<Duration>,
    brokers: SimulatedBrokers,
    partitions: Vec<TopicPartition>,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let brokers = if seed.is_multiple_of(500) {
            1000
        } else {
            random.random_range(1..9)
        };
        let count = if brokers == 1000 {
            3000
        } else {
            random.random_range(1..12)
        };
        let partitions: Vec<_> = (0..count)
            .map(|partition| key(&format!("topic{}", partition % 3), partition / 3))
            .collect();
        let length = if brokers == 1000 {
            6000
        } else {
            random.random_range(1..300)
        };
        let batches = (0..length).map(|_| random.random_range(0..partitions.len()));
        let batches = batches.collect();
        let pauses = (0..random.random_range(0..3)).map(|_| {
            let pause = Duration::from_secs(random.random_range(1..400));
            (random.random_range(0..length), pause)
        });
        let pauses = pauses.collect();
        let cancelled_after = random
            .random_bool(0.1)
            .then(|| Duration::from_millis(random.random_range(0..5000)));
        let mode = if random.random_bool(0.3) {
            Mode::Transactional { id: "t".into() }
        } else {
            Mode::Idempotent
        };
        let is_hopeless = random.random_bool(0.05);
        let mut logs = BTreeMap::new();
        for key in &partitions {
            let leader = BrokerId(random.random_range(0..brokers));
            let log = Log {
                leaders: vec![leader; 6],
                end: random.random_range(0..1000),
                ..Log::default()
            };
            logs.insert(key.clone(), log);
        }
        let cluster = Cluster {
            random,
            started: Instant::now(),
            brokers,
            is_hopeless,
            partitions: logs,
        };
        Self {
            mode,
            batches,
            pauses,
            cancelled_after,
            brokers: SimulatedBrokers(Arc::new(Mutex::new(cluster))),
            partitions,
        }
    }

    /// Feeds batches as long as there is memory for them.
    async fn feed(&self, memory: &Arc<Semaphore>, feeding: mpsc::UnboundedSender<Fed>) {
        for (number, partition) in self.batches.iter().enumerate() {
            if let Some(pause) = self.pauses.get(&number) {
                tokio::time::sleep(*pause).await;
            }
            let size = self.brokers.lock().random.random_range(1..20);
            let memory = Arc::clone(memory).acquire_many_owned(size).await.unwrap();
            let fed = Fed {
                partition: PartitionIndex(*partition),
                records: size,
                payload: Bytes::from_owner(Held {
                    text: number.to_string(),
                    _memory: memory,
                }),
            };
            if feeding.send(fed).is_err() {
                return;
            }
        }
    }

    /// Writes what is fed: offsets by partition and batch, in the order of their acknowledgements.
    async fn write(
        &self,
        mut fed: mpsc::UnboundedReceiver<Fed>,
        acknowledged: &mut [Vec<(Bytes, Offset)>],
    ) -> Result<(), EngineError> {
        let mut producer = Producer::new(self.brokers.clone(), self.mode.clone(), None);
        for key in &self.partitions {
            let leader = self.brokers.lock().partitions[key].leaders[5];
            producer.add_partition(led_by(key.clone(), leader), IDENTITY, 0);
        }
        let mut is_open = true;
        loop {
            producer.send().await?;
            if !is_open && producer.is_idle() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(outcome) = producer.next(), if !producer.is_idle() => {
                    for batch in outcome? {
                        acknowledged[batch.partition.0].push((batch.note, batch.base_offset));
                    }
                }
                batch = fed.recv(), if is_open => match batch {
                    Some(fed) => enqueue(&mut producer, fed),
                    None => is_open = false,
                },
            }
        }
    }
}

fn enqueue(producer: &mut Producer<SimulatedBrokers, Bytes>, fed: Fed) {
    let mut header = scripted::header(producer.stamp(fed.partition));
    header[57..].copy_from_slice(&fed.records.to_be_bytes());
    let batch = Batch {
        header,
        payload: fed.payload.clone(),
        records: fed.records,
        expected_offset: None,
        note: Bytes::copy_from_slice(&fed.payload),
    };
    assert_eq!(
        stamp_of_header(&batch.header),
        producer.stamp(fed.partition)
    );
    producer.enqueue(fed.partition, batch).unwrap();
}

async fn simulate(seed: u64) {
    let scenario = Scenario::new(seed);
    let memory = Arc::new(Semaphore::new(MEMORY));
    let (feeding, fed) = mpsc::unbounded_channel();
    let mut acknowledged = vec![Vec::new(); scenario.partitions.len()];
    let running = async {
        let write = scenario.write(fed, &mut acknowledged);
        let feed = scenario.feed(&memory, feeding);
        tokio::select! {
            (outcome, ()) = async { tokio::join!(write, feed) } => outcome,
            () = tokio::time::sleep(scenario.cancelled_after.unwrap_or(Duration::MAX)) => Err(EngineError::Stopped),
        }
    };
    let running = tokio::time::timeout(Duration::from_secs(4 * 3600), running);
    let outcome = running
        .await
        .unwrap_or_else(|_| panic!("seed {seed}: it does not end"));
    assert_eq!(
        memory.available_permits(),
        MEMORY,
        "seed {seed}: memory is lost"
    );
    let cluster = scenario.brokers.lock();
    let is_over = match &outcome {
        Ok(()) => true,
        Err(EngineError::Stopped) => scenario.cancelled_after.is_some(),
        Err(EngineError::Stalled { .. }) => cluster.is_hopeless,
        Err(error) => error.is_transient() && !matches!(scenario.mode, Mode::Idempotent),
    };
    assert!(is_over, "seed {seed}: {outcome:?}");
    if outcome.is_err() && matches!(scenario.mode, Mode::Transactional { .. }) {
        // Nobody reads what an aborted transaction wrote.
        return;
    }
    for (partition, key) in scenario.partitions.iter().enumerate() {
        let (log, acknowledged) = (&cluster.partitions[key], &acknowledged[partition]);
        let fed = scenario
            .batches
            .iter()
            .enumerate()
            .filter(|(_, to)| **to == partition);
        let fed: Vec<_> = fed.map(|(number, _)| number.to_string()).collect();
        let written: Vec<_> = log
            .batches
            .iter()
            .map(|(payload, _)| payload.clone())
            .collect();
        assert!(
            fed.len() >= written.len(),
            "seed {seed}: {key} has {written:?}, not {fed:?}"
        );
        assert_eq!(fed[..written.len()], written, "seed {seed}: {key}");
        assert_eq!(
            log.batches[..acknowledged.len()],
            acknowledged[..],
            "seed {seed}: {key}"
        );
        if outcome.is_ok() {
            assert_eq!(acknowledged.len(), fed.len(), "seed {seed}: {key}");
        }
    }
}

#[test]
fn every_batch_is_written_once_and_in_order_whatever_fails() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|number| number.parse().unwrap())
    };
    let seeds = match number("KAFKEEP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KAFKEEP_SIMULATIONS").unwrap_or(500),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(simulate(seed));
    }
}
