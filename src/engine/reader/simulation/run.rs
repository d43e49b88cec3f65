//! One run: what it reads, how its sink behaves, and what must hold at its end.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;

use super::super::{Cursor, Expects, Flow, PARTITION_BYTES, Reading, Sink, Step, Wish, read};
use super::world::{Faults, TOPIC, TOPIC_ID, World};
use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::engine::watchdog::Watchdog;
use crate::kafka::{FetchedPartition, IsolationLevel, TopicPartition};
use crate::memory::{MemoryBudget, SMALLEST_REQUEST};
use crate::record::{LeaderEpoch, Offset, PartitionId};

/// What becomes of a run.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It reads all.
    Whole,
    /// Its sink ends it after so many answers.
    Ended(u32),
    /// Its sink fails after so many answers.
    Failed(u32),
    /// It is dropped after this time.
    Cancelled(Duration),
    /// Its sink takes some answers and then no more.
    Stuck,
}

pub struct Run {
    pub fate: Fate,
    world: World,
    ends: Vec<usize>,
    budget: MemoryBudget,
    seed: u64,
    may_skip: bool,
}

/// Sizes of batches: small ones, ordinary ones, and those beyond the budget.
fn sizes(random: &mut StdRng, largest: u64, batches: usize) -> Vec<u64> {
    let largest = match random.random_range(0..4) {
        0 => 2_000.min(largest),
        1 => (200 << 10).min(largest),
        2 => (2 << 20).min(largest),
        _ => largest,
    };
    let size = |_| match random.random_range(0..8) {
        0 => 61,
        1 => largest,
        _ => random.random_range(61..=largest.min(1 << 20)),
    };
    (0..batches).map(size).collect()
}

impl Run {
    pub fn new(random: &mut StdRng, budget: &MemoryBudget, leaders: usize) -> Self {
        let fate = match random.random_range(0..10) {
            0 => Fate::Ended(random.random_range(0..20)),
            1 => Fate::Failed(random.random_range(0..20)),
            2 => Fate::Cancelled(Duration::from_millis(random.random_range(0..20_000))),
            3 => Fate::Stuck,
            _ => Fate::Whole,
        };
        let most = if leaders > 8 { 3 } else { 40 };
        let partitions = leaders * random.random_range(1..=if leaders > 8 { 1 } else { 4 });
        // There is one slot for oversize answers, which a batch of the smallest request and what is around it may be: who is
        // stuck in it keeps it until the watchdog ends that run.
        let largest = match fate {
            Fate::Stuck => SMALLEST_REQUEST / 2,
            _ => budget.bytes() + budget.bytes() / 2,
        };
        let logs: Vec<Vec<u64>> = (0..partitions)
            .map(|_| {
                let batches = random.random_range(0..most);
                sizes(random, largest, batches)
            })
            .collect();
        let mut rare = |most: u32| match random.random_range(0..2) {
            0 => 0,
            _ => random.random_range(0..most),
        };
        let faults = Faults {
            silent: rare(20),
            closed: rare(50),
            moved: rare(100),
            empty: rare(100),
            deleted: rare(30),
            unreachable: rare(100),
        };
        let ends = logs.iter().map(Vec::len).collect();
        let seed = random.random();
        Self {
            fate,
            world: World::new(seed, leaders, logs, faults, budget),
            ends,
            budget: budget.clone(),
            seed,
            may_skip: faults.deleted > 0,
        }
    }

    /// What it reads from.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// Plays it to its end, and checks what it passed on.
    pub async fn play(self) {
        let (store, stored) = mpsc::channel(4);
        let sink = ScriptedSink {
            random: Mutex::new(StdRng::seed_from_u64(self.seed)),
            limiter: RateLimiter::new(None),
            store,
            fate: self.fate,
            answers: Mutex::new(0),
        };
        let cursors = self.ends.iter().enumerate().map(|(number, end)| {
            let key = TopicPartition {
                topic: TOPIC.to_owned(),
                partition: PartitionId(i32::try_from(number).unwrap()),
            };
            Cursor {
                topic_id: TOPIC_ID,
                leader: Some(self.world.leader(number)),
                leader_epoch: Some(LeaderEpoch(0)),
                ..Cursor::new(key, Offset(0), (number, *end))
            }
        });
        let cursors = cursors.collect();
        let storing = store_all(stored, self.seed);
        let reading = async {
            let read = {
                let reading = Reading {
                    leaders: &self.world,
                    sink: &sink,
                    memory: self.budget.run(),
                    watchdog: Watchdog::new(),
                };
                read(&reading, cursors).await.map(|cursors| cursors.len())
            };
            drop(sink);
            read
        };
        let both = async { tokio::join!(reading, storing) };
        let limit = match self.fate {
            Fate::Cancelled(after) => after,
            _ => Duration::from_secs(100_000),
        };
        if let Ok((read, stored)) = tokio::time::timeout(limit, both).await {
            self.check(read, &stored);
        }
    }

    fn check(&self, read: Result<usize, EngineError>, stored: &[(usize, Range<usize>)]) {
        self.world.check_connections();
        let mut next = vec![0; self.ends.len()];
        for (number, batches) in stored {
            let skipped = batches.start - next[*number];
            assert!(self.may_skip || skipped == 0, "batches are left out");
            assert!(batches.start >= next[*number], "batches come twice");
            next[*number] = batches.end;
        }
        match (self.fate, read) {
            (Fate::Whole | Fate::Cancelled(_), Ok(settled)) => {
                assert_eq!(settled, self.ends.len());
                if !self.may_skip {
                    assert_eq!(next, self.ends);
                }
            }
            (Fate::Failed(_), _) | (Fate::Ended(_) | Fate::Stuck, Ok(_)) => {}
            (fate, Err(error)) => panic!("{fate:?}: {error}"),
        }
    }
}

/// A thread that stores, slower or faster than the leaders are.
async fn store_all(
    mut incoming: mpsc::Receiver<(usize, Range<usize>, Bytes)>,
    seed: u64,
) -> Vec<(usize, Range<usize>)> {
    let mut random = StdRng::seed_from_u64(seed);
    let slowest = Duration::from_millis(random.random_range(1..100));
    let mut stored = Vec::new();
    while let Some((number, batches, held)) = incoming.recv().await {
        tokio::time::sleep(random.random_range(Duration::ZERO..slowest)).await;
        drop(held);
        stored.push((number, batches));
    }
    stored
}

struct ScriptedSink {
    random: Mutex<StdRng>,
    limiter: RateLimiter,
    store: mpsc::Sender<(usize, Range<usize>, Bytes)>,
    fate: Fate,
    answers: Mutex<u32>,
}

type Part = (usize, usize);
type Taken = Vec<(usize, Range<usize>, Bytes)>;

impl Sink for ScriptedSink {
    type Part = Part;
    type Taken = Taken;

    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadUncommitted
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn wish(&self, cursor: &mut Cursor<Part>) -> Option<Wish> {
        let end = i64::try_from(cursor.part.1).unwrap();
        (cursor.next.0 < end).then_some(Wish {
            max_bytes: PARTITION_BYTES,
            expects: Expects::Records,
        })
    }

    fn take(
        &self,
        cursor: &mut Cursor<Part>,
        fetched: FetchedPartition,
        taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        let Some((first, end)) = fetched.records.split_at_checked(8) else {
            return Ok(Step::Nothing);
        };
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap()) as usize;
        let batches = number(first)..number(end);
        assert_eq!(i64::try_from(batches.start).unwrap(), cursor.next.0);
        cursor.next = Offset(i64::try_from(batches.end).unwrap());
        taken.push((cursor.part.0, batches, fetched.records));
        Ok(Step::Moved)
    }

    fn diverged(
        &self,
        _: &mut Cursor<Part>,
        _: Offset,
        _: &mut Taken,
    ) -> Result<Step, EngineError> {
        panic!("no log forks here")
    }

    fn outside(
        &self,
        cursor: &mut Cursor<Part>,
        log: Range<Offset>,
        _taken: &mut Taken,
    ) -> Result<Step, EngineError> {
        cursor.next = log.start.max(cursor.next);
        Ok(Step::Moved)
    }

    fn recreated(&self, _: &mut Cursor<Part>, _: &mut Taken) -> Result<Step, EngineError> {
        panic!("no topic is created again here")
    }

    async fn pass_on(&self, taken: Taken) -> Result<Flow, EngineError> {
        let answers = {
            let mut answers = self.answers.lock().unwrap();
            *answers += 1;
            *answers
        };
        match self.fate {
            Fate::Ended(after) if answers > after => return Ok(Flow::End),
            Fate::Failed(after) if answers > after => {
                return Err(EngineError::refused("the sink fails".to_owned()));
            }
            Fate::Stuck if answers > 3 => std::future::pending().await,
            _ => {}
        }
        let pause = self.random.lock().unwrap().random_range(0..50);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        for piece in taken {
            if self.store.send(piece).await.is_err() {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::On {
            bytes: 1,
            records: 1,
        })
    }
}
