//! Scripted leaders: logs of batches, answers as Kafka gives them, and what may go wrong.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::{Leaders, Link, Pending, Ranges};
use crate::kafka::{
    BrokerId, ErrorCode, FetchRequest, FetchedPartition, KafkaError, Metadata, PartitionMetadata,
    Retry, TopicMetadata, TopicPartition,
};
use crate::memory::{MemoryBudget, Reservation};
use crate::record::{LeaderEpoch, Offset, PartitionId, TopicId};

pub const TOPIC: &str = "t";
pub const TOPIC_ID: TopicId = TopicId([7; 16]);
/// What an answer takes beside its records, for each partition.
const OVERHEAD: u64 = 60;

/// How likely things go wrong, in thousandths of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    pub silent: u32,
    pub closed: u32,
    pub moved: u32,
    pub empty: u32,
    pub deleted: u32,
    pub unreachable: u32,
}

/// A partition: batch `n` has offset `n`, and so many bytes.
struct Log {
    start: usize,
    batches: Vec<u64>,
    leader: BrokerId,
    epoch: i32,
}

struct State {
    random: StdRng,
    logs: Vec<Log>,
    faults: Faults,
    leaders: i32,
    /// How often each was connected to.
    connections: BTreeMap<BrokerId, u32>,
    /// Batches that were answered.
    batches: usize,
}

/// A cluster; clones are the same.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    budget: MemoryBudget,
    slowest: Duration,
}

impl World {
    pub fn new(
        seed: u64,
        leaders: usize,
        logs: Vec<Vec<u64>>,
        faults: Faults,
        budget: &MemoryBudget,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let leaders = i32::try_from(leaders).unwrap();
        let slowest = Duration::from_millis(random.random_range(1..400));
        let logs = logs.into_iter().enumerate().map(|(number, batches)| Log {
            start: 0,
            batches,
            leader: BrokerId(i32::try_from(number).unwrap() % leaders),
            epoch: 0,
        });
        let logs = logs.collect();
        Self {
            state: Arc::new(Mutex::new(State {
                random,
                logs,
                faults,
                leaders,
                connections: BTreeMap::new(),
                batches: 0,
            })),
            budget: budget.clone(),
            slowest,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Batches that leaders have answered so far.
    pub fn batches(&self) -> usize {
        self.state().batches
    }

    pub fn leader(&self, log: usize) -> BrokerId {
        self.state().logs[log].leader
    }

    /// Where nothing goes wrong, a leader is connected to once.
    pub fn check_connections(&self) {
        let state = self.state();
        if state.faults == Faults::default() {
            let connections = &state.connections;
            assert!(
                connections.values().all(|count| *count == 1),
                "connections by leader: {connections:?}"
            );
        }
    }

    fn check_budget(&self) {
        let held = self.budget.held();
        assert!(
            held <= self.budget.bytes(),
            "{held} of {}",
            self.budget.bytes()
        );
    }

    async fn delay(&self) {
        let slowest = self.slowest;
        let delay = self.state().random.random_range(Duration::ZERO..slowest);
        tokio::time::sleep(delay).await;
    }
}

impl State {
    fn happens(&mut self, thousandths: u32) -> bool {
        self.random.random_range(0..1000) < thousandths
    }

    /// Somebody else leads a partition from now on.
    fn move_one(&mut self) {
        let leader = BrokerId(self.random.random_range(0..self.leaders));
        let count = self.logs.len();
        let log = &mut self.logs[self.random.random_range(0..count)];
        log.leader = leader;
        log.epoch += 1;
    }

    fn delete_some(&mut self) {
        let count = self.logs.len();
        let log = &mut self.logs[self.random.random_range(0..count)];
        log.start = (log.start + 2).min(log.batches.len());
    }

    /// What a broker answers: at most the bytes asked for, but one batch at least.
    fn answer(&mut self, broker: BrokerId, request: &FetchRequest) -> (u64, Vec<Fetched>) {
        let is_empty = self.happens(self.faults.empty);
        let mut left = u64::try_from(request.max_bytes).unwrap();
        let mut is_first = true;
        let (mut total, mut answer) = (0, Vec::new());
        for wanted in &request.partitions {
            let number = usize::try_from(wanted.key.partition.0).unwrap();
            let log = &self.logs[number];
            let from = usize::try_from(wanted.offset.0).unwrap();
            let mut fetched = Fetched {
                number,
                batches: from..from,
                error: None,
                end: log.batches.len(),
            };
            total += OVERHEAD;
            if log.leader != broker {
                fetched.error = Some(ErrorCode::NotLeaderOrFollower);
            } else if from < log.start {
                fetched.error = Some(ErrorCode::OffsetOutOfRange);
            } else if !is_empty {
                let most = left.min(u64::try_from(wanted.max_bytes).unwrap());
                let mut bytes = 0;
                for size in &log.batches[from..] {
                    let is_within = bytes + size <= most;
                    let is_let_through = is_first && bytes == 0;
                    if !is_within && !is_let_through {
                        break;
                    }
                    bytes += size;
                    fetched.batches.end += 1;
                    if !is_within {
                        break;
                    }
                }
                is_first &= bytes == 0;
                left = left.saturating_sub(bytes);
                total += bytes;
            }
            self.batches += fetched.batches.len();
            answer.push(fetched);
        }
        (total, answer)
    }
}

/// What is answered for one partition.
struct Fetched {
    number: usize,
    batches: Range<usize>,
    error: Option<ErrorCode>,
    end: usize,
}

impl Fetched {
    /// Its records are the numbers of its first batch and of that behind its last one.
    fn into_partition(self, memory: &Arc<Reservation>) -> FetchedPartition {
        let mut records = Bytes::new();
        if !self.batches.is_empty() {
            let mut bytes = u64::try_from(self.batches.start)
                .unwrap()
                .to_be_bytes()
                .to_vec();
            bytes.extend(u64::try_from(self.batches.end).unwrap().to_be_bytes());
            records = memory.share(bytes.into());
        }
        let end = Offset(i64::try_from(self.end).unwrap());
        let key = TopicPartition {
            topic: TOPIC.to_owned(),
            partition: PartitionId(i32::try_from(self.number).unwrap()),
        };
        FetchedPartition {
            key: Arc::new(key),
            error: self.error,
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: Offset(0),
            diverging_epoch: None,
            aborted: Vec::new(),
            records,
        }
    }
}

/// A connection: answers one request after the other, as brokers do.
pub struct ScriptedLink {
    world: World,
    broker: BrokerId,
    turn: Arc<tokio::sync::Mutex<Turns>>,
}

#[derive(Default)]
struct Turns {
    is_closed: bool,
}

pub struct ScriptedPending {
    world: World,
    broker: BrokerId,
    request: FetchRequest,
    memory: Reservation,
    turn: Arc<tokio::sync::Mutex<Turns>>,
}

impl Leaders for World {
    type Link = ScriptedLink;

    async fn connect(&self, broker: BrokerId) -> Result<ScriptedLink, KafkaError> {
        self.delay().await;
        let mut state = self.state();
        let unreachable = state.faults.unreachable;
        if state.happens(unreachable) {
            return Err(KafkaError::silent(broker));
        }
        *state.connections.entry(broker).or_default() += 1;
        drop(state);
        Ok(ScriptedLink {
            world: self.clone(),
            broker,
            turn: Arc::default(),
        })
    }

    async fn find(&self, _topics: &[String]) -> Result<Metadata, KafkaError> {
        self.delay().await;
        let mut state = self.state();
        let unreachable = state.faults.unreachable;
        if state.happens(unreachable) {
            return Err(KafkaError::silent(BrokerId(0)));
        }
        let partitions = state.logs.iter().enumerate().map(|(number, log)| {
            let partition = PartitionMetadata {
                leader: Some(log.leader),
                leader_epoch: LeaderEpoch(log.epoch),
                replicas: Vec::new(),
                error: None,
            };
            (PartitionId(i32::try_from(number).unwrap()), partition)
        });
        let topic = TopicMetadata {
            topic_id: TOPIC_ID,
            is_internal: false,
            partitions: partitions.collect(),
            error: None,
        };
        Ok(Metadata {
            cluster_id: String::new(),
            controller: BrokerId(0),
            brokers: BTreeMap::new(),
            topics: BTreeMap::from([(TOPIC.to_owned(), topic)]),
        })
    }

    async fn ranges(
        &self,
        _metadata: &Metadata,
        keys: &[TopicPartition],
    ) -> Result<Ranges, KafkaError> {
        let state = self.state();
        let range = |key: &TopicPartition| {
            let log = &state.logs[usize::try_from(key.partition.0).unwrap()];
            let offset = |at: usize| Offset(i64::try_from(at).unwrap());
            (key.clone(), offset(log.start)..offset(log.batches.len()))
        };
        Ok(keys.iter().map(range).collect())
    }

    fn retry(&self) -> Retry {
        Retry::default()
    }
}

impl Link for ScriptedLink {
    type Pending = ScriptedPending;

    async fn ask(
        &self,
        request: FetchRequest,
        memory: Reservation,
    ) -> Result<ScriptedPending, KafkaError> {
        self.world.check_budget();
        Ok(ScriptedPending {
            world: self.world.clone(),
            broker: self.broker,
            request,
            memory,
            turn: Arc::clone(&self.turn),
        })
    }
}

impl Pending for ScriptedPending {
    async fn receive(self) -> Result<Vec<FetchedPartition>, KafkaError> {
        let (world, broker) = (self.world, self.broker);
        let mut turn = self.turn.lock().await;
        world.delay().await;
        let (is_silent, is_closed) = {
            let mut state = world.state();
            let faults = state.faults;
            if state.happens(faults.moved) {
                state.move_one();
            }
            if state.happens(faults.deleted) {
                state.delete_some();
            }
            (state.happens(faults.silent), state.happens(faults.closed))
        };
        if is_silent {
            tokio::time::sleep(world.retry().patience()).await;
        }
        turn.is_closed |= is_closed || is_silent;
        if turn.is_closed {
            return Err(KafkaError::silent(broker));
        }
        let (total, answer) = world.state().answer(broker, &self.request);
        if answer
            .iter()
            .all(|fetched| fetched.batches.is_empty() && fetched.error.is_none())
        {
            tokio::time::sleep(self.request.max_wait).await;
        }
        // The size is known when the answer's length is read.
        let mut memory = self.memory.exchange(total).await;
        memory.shrink_to(total);
        world.check_budget();
        let memory = Arc::new(memory);
        let answer = answer.into_iter().collect::<VecDeque<_>>();
        let partitions = answer.into_iter();
        Ok(partitions
            .map(|fetched| fetched.into_partition(&memory))
            .collect())
    }
}
