//! The watchdog above a run: when nothing has moved until the deadline, it ends the run and says what was waited for.
//!
//! It is a second net: every wait has a bound of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::kafka::{BrokerId, Retry};
use crate::memory::{MemoryBudget, RunMemory};

use super::blocking::blocking;
use super::{EngineError, Progress};

/// What a part of a run waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// Memory of the budget.
    Memory,
    /// A connection to a broker.
    Connection(BrokerId),
    /// An answer of a leader, which is asked for this partition among others.
    Leader(BrokerId, String),
    /// Somebody to lead these partitions.
    Leadership(String),
    /// A file system or an object store, for this purpose.
    Repository(&'static str),
    /// What is behind this step of the run itself.
    Step(&'static str),
    /// The other cluster, for this purpose.
    Target(&'static str),
    /// Something that ends by itself: a rate limit, an idle log, an open transaction of the source.
    Bounded,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Connection(broker) => write!(f, "a connection to broker {broker}"),
            Self::Leader(broker, partition) => {
                write!(f, "an answer of broker {broker}, the leader of {partition}")
            }
            Self::Leadership(partitions) => write!(f, "a leader of {partitions}"),
            Self::Repository(purpose) => write!(f, "the repository {purpose}"),
            Self::Step(step) => f.write_str(step),
            Self::Target(purpose) => write!(f, "the target {purpose}"),
            Self::Bounded => f.write_str("something that ends by itself"),
        }
    }
}

/// What the parts of one run tell its watchdog. Clones are of the same run.
#[derive(Debug, Clone)]
pub struct Watchdog(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    moved_at: Instant,
    next: u64,
    waits: BTreeMap<u64, Wait>,
}

/// A wait that goes on until this is dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    watchdog: &'a Watchdog,
    number: u64,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

impl Watchdog {
    /// A run that begins now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            moved_at: Instant::now(),
            next: 0,
            waits: BTreeMap::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something moved.
    pub fn moved(&self) {
        self.state().moved_at = Instant::now();
    }

    /// How long nothing has moved.
    pub fn idle(&self) -> Duration {
        self.state().moved_at.elapsed()
    }

    /// A wait begins.
    pub fn waits(&self, wait: Wait) -> Waiting<'_> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.waits.insert(number, wait);
        Waiting {
            watchdog: self,
            number,
        }
    }

    /// Waits for a step of the run. That it ends is a movement.
    pub async fn step<T>(&self, wait: Wait, step: impl Future<Output = T>) -> T {
        let _waiting = self.waits(wait);
        let done = step.await;
        self.moved();
        done
    }

    /// Runs `work`, which fails as [`EngineError::Stalled`] when nothing has moved for `deadline` and [`grace`] beyond it: the
    /// parts of a run have deadlines of their own, and say more. `memory` is the run's: while it waits for other runs that
    /// move, its clock is stopped.
    pub async fn over<T>(
        &self,
        deadline: Duration,
        memory: &RunMemory,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.moved();
        let deadline = deadline + grace(deadline);
        tokio::select! {
            biased;
            result = work => result,
            stalled = self.stalled(deadline, memory) => Err(stalled),
        }
    }

    async fn stalled(&self, deadline: Duration, memory: &RunMemory) -> EngineError {
        loop {
            let due = self.state().moved_at + deadline;
            if Instant::now() < due {
                tokio::time::sleep_until(due).await;
                continue;
            }
            let waits = self.waited_for(memory);
            let others_moved = || {
                let moved_at = memory.others_moved_at();
                moved_at.is_some_and(|moved_at| moved_at.elapsed() < deadline)
            };
            if waits.contains(&Wait::Bounded) || (waits.contains(&Wait::Memory) && others_moved()) {
                self.moved();
                continue;
            }
            return EngineError::Stalled {
                what: "the run".to_owned(),
                seconds: self.idle().as_secs(),
                last: self.describe(&waits, memory),
            };
        }
    }

    fn waited_for(&self, memory: &RunMemory) -> Vec<Wait> {
        let mut waits: Vec<Wait> = self.state().waits.values().cloned().collect();
        // Wherever in the run that is.
        waits.extend(memory.is_waited_for().then_some(Wait::Memory));
        waits.sort();
        waits.dedup();
        waits
    }

    fn describe(&self, waits: &[Wait], memory: &RunMemory) -> String {
        let (held, by_others) = memory.usage();
        let named = waits.iter().take(3).map(|wait| match wait {
            Wait::Memory => {
                format!("memory ({held} bytes are in use, {by_others} of them by other runs)")
            }
            wait => wait.to_string(),
        });
        let named: Vec<String> = named.collect();
        match waits.len().saturating_sub(named.len()) {
            0 if named.is_empty() => "it does not say what it waits for".to_owned(),
            0 => format!("it waits for {}", named.join(", ")),
            more => format!("it waits for {} and {more} more", named.join(", ")),
        }
    }
}

/// How much later than its parts a run is given up: a part may have met silence for as long as one broker may be silent, and
/// paused, before its own deadline began.
fn grace(deadline: Duration) -> Duration {
    let retry = Retry {
        deadline,
        ..Retry::default()
    };
    2 * retry.patience() + retry.max
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.watchdog.state().waits.remove(&self.number);
    }
}

/// Carries out `work` on a thread that may block, under a watchdog that sees its progress.
///
/// # Errors
///
/// Those of `work`; [`EngineError::Stalled`] when nothing has moved for `deadline`: the thread then ends by itself, as soon
/// as its storage answers.
pub async fn watched<T: Send + 'static>(
    deadline: Duration,
    memory: &MemoryBudget,
    progress: Arc<dyn Progress>,
    what: &'static str,
    work: impl FnOnce(&dyn Progress) -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let watchdog = Watchdog::new();
    let progress = WatchedProgress {
        progress,
        watchdog: watchdog.clone(),
    };
    let _waiting = watchdog.waits(Wait::Repository("to be read"));
    let working = blocking(what, move || work(&progress));
    watchdog.over(deadline, &memory.run(), working).await
}

/// Progress that the watchdog sees too.
pub struct WatchedProgress {
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// The run's watchdog.
    pub watchdog: Watchdog,
}

impl Progress for WatchedProgress {
    fn planned(&self, offsets: u64) {
        self.watchdog.moved();
        self.progress.planned(offsets);
    }

    fn advanced(&self, offsets: u64, bytes: u64) {
        self.watchdog.moved();
        self.progress.advanced(offsets, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    const DEADLINE: Duration = Duration::from_secs(120);

    fn stalls(error: &EngineError, said: &str) {
        assert!(matches!(error, EngineError::Stalled { .. }), "{error}");
        assert!(error.is_transient());
        assert!(error.to_string().contains(said), "{error}");
    }

    async fn never(watchdog: &Watchdog, wait: Wait) -> Result<(), EngineError> {
        let _waiting = watchdog.waits(wait);
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_ends_is_a_movement_and_one_that_does_not_is_named() {
        let (watchdog, memory) = (Watchdog::new(), MemoryBudget::default().run());
        let work = async {
            for _ in 0..5 {
                let step = tokio::time::sleep(DEADLINE);
                watchdog.step(Wait::Target("to be asked"), step).await;
            }
            let never = std::future::pending::<()>();
            watchdog.step(Wait::Target("to take settings"), never).await;
            Ok(())
        };
        let error = watchdog.over(DEADLINE, &memory, work).await.unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("it waits for the target to take settings"),
            "{told}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_in_which_nothing_moves_ends_and_says_what_it_waited_for() {
        let memory = MemoryBudget::default().run();
        for (wait, said) in [
            (Wait::Memory, "memory (0 bytes are in use"),
            (
                Wait::Leader(BrokerId(3), "t-0 at 7".to_owned()),
                "broker 3, the leader of t-0 at 7",
            ),
            (
                Wait::Repository("to be locked"),
                "the repository to be locked",
            ),
            (
                Wait::Target("to acknowledge batches"),
                "the target to acknowledge",
            ),
        ] {
            let watchdog = Watchdog::new();
            let began = Instant::now();
            let work = never(&watchdog, wait);
            let error = watchdog.over(DEADLINE, &memory, work).await.unwrap_err();
            stalls(&error, said);
            assert!(began.elapsed() < 2 * DEADLINE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_moves_now_and_then_goes_on() {
        let memory = MemoryBudget::default().run();
        let watchdog = Watchdog::new();
        let work = async {
            for _ in 0..100 {
                tokio::time::sleep(DEADLINE - Duration::from_secs(1)).await;
                watchdog.moved();
            }
            Ok(7)
        };
        assert_eq!(watchdog.over(DEADLINE, &memory, work).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_with_a_bound_of_their_own_are_left_out() {
        let memory = MemoryBudget::default().run();
        let watchdog = Watchdog::new();
        let work = async {
            let _waiting = watchdog.waits(Wait::Bounded);
            tokio::time::sleep(20 * DEADLINE).await;
            Ok(())
        };
        watchdog.over(DEADLINE, &memory, work).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_other_runs_goes_on_as_long_as_they_move() {
        let budget = MemoryBudget::new(4 << 20);
        let (memory, other) = (budget.run(), budget.run());
        let _held = other.reserve(1 << 20).await;
        let _oversize = other.reserve_whole(8 << 20).await;
        let watchdog = Watchdog::new();
        let began = Instant::now();
        let moves = async {
            for _ in 0..50 {
                tokio::time::sleep(DEADLINE / 2).await;
                drop(other.reserve(1).await);
            }
            std::future::pending::<()>().await;
        };
        // No part of the run says that it waits: the budget knows.
        let waits = async {
            drop(memory.reserve_whole(8 << 20).await);
            Ok(())
        };
        let waits = watchdog.over(DEADLINE, &memory, waits);
        let error = tokio::select! {
            ended = waits => ended.unwrap_err(),
            () = moves => unreachable!("it never ends"),
        };
        stalls(&error, "1048576 of them by other runs");
        assert!(began.elapsed() > 25 * DEADLINE);
    }
}
