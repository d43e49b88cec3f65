//! The budget itself: who holds how much, and who gets what is given back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::buffers::Buffers;
use super::reservation::Reservation;
use super::waiting::{Queues, RunNumber, Slot, Waiter};

/// The smallest budget with which every verb works: a few requests of ordinary batches.
pub const SMALLEST_BUDGET: u64 = 4 << 20;
/// What a command has, unless it is given another budget.
pub const DEFAULT_BUDGET: u64 = 64 << 20;
/// Nobody is given less, unless it wants less. A broker answers such a request with one batch at least.
pub const SMALLEST_REQUEST: u64 = 64 << 10;
/// A run holds at most so many times what stays free: alone four fifths, of two runs each four ninths.
pub const SHARE: u64 = 4;

/// Memory for record batches, shared by all runs. Clones are the same budget.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    total: AtomicU64,
    state: Mutex<State>,
    buffers: Mutex<Buffers>,
}

#[derive(Debug)]
struct State {
    /// What is reserved, without the oversize batch.
    held: u64,
    runs: BTreeMap<RunNumber, Run>,
    next_run: u64,
    /// Who has the slots for batches beyond the budget.
    slots: BTreeMap<Slot, RunNumber>,
    queues: Queues,
}

#[derive(Debug)]
struct Run {
    held: u64,
    /// How many values refer to it.
    uses: u64,
    /// When it gave something back last, or began.
    moved_at: Instant,
}

impl State {
    fn free(&self, total: u64) -> u64 {
        total.saturating_sub(self.held)
    }

    /// The most that a run may have now: afterwards it holds at most [`SHARE`] times what is free.
    fn allowed(&self, total: u64, run: RunNumber) -> u64 {
        let held = self.runs.get(&run).map_or(0, |run| run.held);
        let free = self.free(total);
        (SHARE * free).saturating_sub(held) / (SHARE + 1)
    }

    fn take(&mut self, run: RunNumber, bytes: u64) {
        self.held += bytes;
        if let Some(run) = self.runs.get_mut(&run) {
            run.held += bytes;
            run.uses += 1;
        }
    }

    fn take_slot(&mut self, slot: Slot, run: RunNumber) {
        self.slots.insert(slot, run);
        if let Some(run) = self.runs.get_mut(&run) {
            run.uses += 1;
        }
    }

    fn put_back(&mut self, run: RunNumber, bytes: u64) {
        self.held -= bytes;
        if let Some(run) = self.runs.get_mut(&run) {
            run.held -= bytes;
            run.moved_at = Instant::now();
        }
    }

    /// Notes that a run moved, and that one value less refers to it.
    fn leave(&mut self, number: RunNumber) {
        if let Some(run) = self.runs.get_mut(&number) {
            run.moved_at = Instant::now();
            run.uses -= 1;
            if run.uses == 0 {
                self.runs.remove(&number);
            }
        }
    }
}

impl Default for MemoryBudget {
    /// The budget of a command.
    fn default() -> Self {
        Self::new(DEFAULT_BUDGET)
    }
}

impl MemoryBudget {
    /// A budget of this many bytes; less than [`SMALLEST_BUDGET`] is raised to it.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared {
            total: bytes.max(SMALLEST_BUDGET).into(),
            state: Mutex::new(State {
                held: 0,
                runs: BTreeMap::new(),
                next_run: 0,
                slots: BTreeMap::new(),
                queues: Queues::default(),
            }),
            buffers: Mutex::default(),
        }))
    }

    /// The budget in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.total()
    }

    /// Changes the budget. Where less is left than is held, nobody gets anything before enough is given back.
    pub fn resize(&self, bytes: u64) {
        let bytes = bytes.max(SMALLEST_BUDGET);
        self.0.total.store(bytes, Ordering::Relaxed);
        self.0.serve();
    }

    /// What is reserved now, without an oversize batch.
    pub fn held(&self) -> u64 {
        self.0.state().held
    }

    /// Whether no run has memory, or waits for some.
    pub fn is_unused(&self) -> bool {
        let state = self.0.state();
        state.runs.is_empty() && state.slots.is_empty()
    }

    /// The memory of another run.
    pub fn run(&self) -> RunMemory {
        let mut state = self.0.state();
        let run = RunNumber(state.next_run);
        state.next_run += 1;
        let entry = Run {
            held: 0,
            uses: 1,
            moved_at: Instant::now(),
        };
        state.runs.insert(run, entry);
        RunMemory {
            shared: Arc::clone(&self.0),
            run,
        }
    }
}

/// The memory of one run; clones are of the same run. A part of a run that waits for another part while it holds memory
/// must be a run of its own, as the two sides of a comparison are.
#[derive(Debug)]
pub struct RunMemory {
    shared: Arc<Shared>,
    run: RunNumber,
}

impl RunMemory {
    pub(super) fn again(shared: &Arc<Shared>, run: RunNumber) -> Self {
        if let Some(run) = shared.state().runs.get_mut(&run) {
            run.uses += 1;
        }
        Self {
            shared: Arc::clone(shared),
            run,
        }
    }

    /// The memory of another run on the same budget.
    pub fn another(&self) -> Self {
        MemoryBudget(Arc::clone(&self.shared)).run()
    }

    /// How much one of `count` equal workers may count on when this run has the budget for itself.
    pub fn part_for(&self, count: u64) -> u64 {
        let most = self.shared.total() * SHARE / (SHARE + 1);
        (most / count.max(1)).max(SMALLEST_REQUEST)
    }

    /// Waits for at most `wanted` bytes; gets at least the smaller of `wanted` and [`SMALLEST_REQUEST`].
    pub async fn reserve(&self, wanted: u64) -> Reservation {
        if let Some(reservation) = self.try_reserve(wanted) {
            return reservation;
        }
        self.wait(wanted, None).await
    }

    /// Waits for all of `bytes`, for a batch as it comes: from the budget, or, where that does not give so much now, as the
    /// one oversize batch.
    pub async fn reserve_whole(&self, bytes: u64) -> Reservation {
        self.wait(bytes, Some(Slot::Came)).await
    }

    /// Waits for all of `bytes`, for a batch that is made of one that holds memory already. Whoever has it must not wait for
    /// memory again before it is given back.
    pub async fn reserve_made(&self, bytes: u64) -> Reservation {
        self.wait(bytes, Some(Slot::Made)).await
    }

    /// [`RunMemory::reserve_whole`] for a thread that may block.
    pub fn reserve_whole_blocking(&self, bytes: u64) -> Reservation {
        self.wait_blocking(bytes, Some(Slot::Came))
    }

    /// [`RunMemory::reserve_made`] for a thread that may block.
    pub fn reserve_made_blocking(&self, bytes: u64) -> Reservation {
        self.wait_blocking(bytes, Some(Slot::Made))
    }

    /// Takes at most `wanted` bytes that are free; none when less than the smallest request is, or somebody waits.
    pub fn try_reserve(&self, wanted: u64) -> Option<Reservation> {
        let mut state = self.shared.state();
        if !state.queues.is_empty() {
            return None;
        }
        let granted = state.allowed(self.shared.total(), self.run).min(wanted);
        if granted < wanted.min(SMALLEST_REQUEST) {
            return None;
        }
        state.take(self.run, granted);
        Some(self.reservation(granted))
    }

    /// Whether a part of this run waits for memory.
    pub fn is_waited_for(&self) -> bool {
        self.shared.state().queues.has(self.run)
    }

    /// When another run of the budget gave memory back last, if one holds any.
    pub fn others_moved_at(&self) -> Option<Instant> {
        let state = self.shared.state();
        let others = state.runs.iter().filter(|(number, run)| {
            let has_slot = state.slots.values().any(|holder| holder == *number);
            **number != self.run && (run.held > 0 || has_slot)
        });
        others.map(|(_, run)| run.moved_at).max()
    }

    /// How much of the budget is in use, and how much of that by other runs, to say what is waited for.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.shared.state();
        let own = state.runs.get(&self.run).map_or(0, |run| run.held);
        (state.held, state.held - own)
    }

    fn reservation(&self, bytes: u64) -> Reservation {
        Reservation::new(Arc::clone(&self.shared), self.run, bytes, None)
    }

    async fn wait(&self, wanted: u64, slot: Option<Slot>) -> Reservation {
        loop {
            // The queues forget only those that gave up, so this succeeds the first time.
            if let Ok(reservation) = self.stand_in_line(wanted, slot).await {
                return reservation;
            }
        }
    }

    fn wait_blocking(&self, wanted: u64, slot: Option<Slot>) -> Reservation {
        loop {
            if let Ok(reservation) = self.stand_in_line(wanted, slot).blocking_recv() {
                return reservation;
            }
        }
    }

    fn stand_in_line(&self, wanted: u64, slot: Option<Slot>) -> oneshot::Receiver<Reservation> {
        let (ready, granted) = oneshot::channel();
        let waiter = Waiter {
            run: self.run,
            wanted,
            slot,
            ready,
        };
        self.shared.state().queues.push(waiter);
        self.shared.serve();
        granted
    }
}

impl Clone for RunMemory {
    fn clone(&self) -> Self {
        Self::again(&self.shared, self.run)
    }
}

impl Drop for RunMemory {
    fn drop(&mut self) {
        self.shared.state().leave(self.run);
    }
}

/// What the next waiter gets.
struct Next {
    waiter: Waiter,
    bytes: u64,
    /// Where it is beyond the budget.
    beyond: Option<Slot>,
}

impl State {
    /// Takes from the budget for the next waiter that may have something.
    fn next_grant(&mut self, total: u64) -> Option<Next> {
        let mut queues = std::mem::take(&mut self.queues);
        let next = self.next_whole(&mut queues, total);
        let next = next.or_else(|| self.next_any_size(&mut queues, total));
        self.queues = queues;
        next
    }

    fn next_whole(&mut self, queues: &mut Queues, total: u64) -> Option<Next> {
        let fits = |waiter: &Waiter| waiter.wanted <= self.allowed(total, waiter.run);
        let is_free = |waiter: &Waiter| {
            let slot = waiter.slot.as_ref();
            slot.is_some_and(|slot| !self.slots.contains_key(slot))
        };
        let waiter = queues.next_whole(|waiter| fits(waiter) || is_free(waiter))?;
        let beyond = waiter.slot.filter(|_| !fits(&waiter));
        match beyond {
            Some(slot) => self.take_slot(slot, waiter.run),
            None => self.take(waiter.run, waiter.wanted),
        }
        Some(Next {
            bytes: waiter.wanted,
            beyond,
            waiter,
        })
    }

    fn next_any_size(&mut self, queues: &mut Queues, total: u64) -> Option<Next> {
        let may = |run, wanted: u64| self.allowed(total, run) >= wanted.min(SMALLEST_REQUEST);
        let waiter = queues.next_any_size(|waiter| may(waiter.run, waiter.wanted))?;
        let bytes = waiter.wanted.min(self.allowed(total, waiter.run));
        self.take(waiter.run, bytes);
        Some(Next {
            bytes,
            beyond: None,
            waiter,
        })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Gives what is free to those that wait.
    fn serve(self: &Arc<Self>) {
        loop {
            let next = self.state().next_grant(self.total());
            let Some(Next {
                waiter,
                bytes,
                beyond,
            }) = next
            else {
                return;
            };
            let reservation = Reservation::new(Arc::clone(self), waiter.run, bytes, beyond);
            // Whoever gave up in this moment gives back by dropping it. The lock is not held.
            drop(waiter.ready.send(reservation));
        }
    }

    /// A part of what a run holds is free again.
    pub(super) fn give_back_part(self: &Arc<Self>, run: RunNumber, bytes: u64) {
        self.state().put_back(run, bytes);
        self.serve();
    }

    /// Takes the bytes of a dropped reservation back.
    pub(super) fn give_back(self: &Arc<Self>, run: RunNumber, bytes: u64) {
        {
            let mut state = self.state();
            state.put_back(run, bytes);
            state.leave(run);
        }
        self.serve();
    }

    /// An oversize batch is gone.
    pub(super) fn free_slot(self: &Arc<Self>, run: RunNumber, slot: Slot) {
        {
            let mut state = self.state();
            state.slots.remove(&slot);
            state.leave(run);
        }
        self.serve();
    }

    pub(super) fn take_buffer(&self, length: usize, most: usize) -> Vec<u8> {
        let buffers = self.buffers.lock();
        let mut buffers = buffers.unwrap_or_else(PoisonError::into_inner);
        buffers.take(length, most)
    }

    pub(super) fn keep_buffer(&self, buffer: Vec<u8>) {
        let buffers = self.buffers.lock();
        let mut buffers = buffers.unwrap_or_else(PoisonError::into_inner);
        buffers.keep(buffer);
    }
}
