//! What one evaluation may use: steps, and memory. Both are counted before they are used.

use std::cell::Cell;

use super::error::Reason;

/// Steps of one evaluation. A node, an element or an entry is a step, as are 16 bytes that a function or operator reads or
/// writes; a pattern takes more (see `pattern.rs`).
pub const COST: u64 = 10_000_000;
/// Bytes of all values that one evaluation has made, and that are there at one time. Parts of the record are not copied, and do
/// not count.
pub const MEMORY: usize = 8 << 20;
/// Steps between two looks whether to stop: fractions of a millisecond.
const LOOK_EVERY: u64 = 4096;
/// Bytes that are a step.
const BYTES: u64 = 16;

/// The budget of one evaluation.
pub struct Budget<'s> {
    cost: Cell<u64>,
    memory: Cell<usize>,
    /// Of what was made, what variables hold: they stay to the end.
    kept: Cell<usize>,
    look_at: Cell<u64>,
    is_stopped: &'s dyn Fn() -> bool,
}

/// How much memory was left at some time.
#[derive(Debug)]
pub(super) struct Mark {
    memory: usize,
    kept: usize,
}

impl<'s> Budget<'s> {
    /// A whole budget. `is_stopped` is asked often, and ends the evaluation when it says so.
    pub fn new(is_stopped: &'s dyn Fn() -> bool) -> Self {
        Self {
            cost: Cell::new(COST),
            memory: Cell::new(MEMORY),
            kept: Cell::new(0),
            look_at: Cell::new(COST),
            is_stopped,
        }
    }

    /// Steps that were taken.
    pub fn spent(&self) -> u64 {
        COST - self.cost.get()
    }

    /// Bytes of values that were made and are still there.
    pub fn made(&self) -> usize {
        MEMORY - self.memory.get()
    }

    /// How things stand, for [`Budget::free_since`].
    pub(super) fn mark(&self) -> Mark {
        Mark {
            memory: self.memory.get(),
            kept: self.kept.get(),
        }
    }

    /// What was made since then is gone, but for what variables hold.
    pub(super) fn free_since(&self, mark: &Mark) {
        let kept = self.kept.get() - mark.kept;
        self.memory.set(mark.memory.saturating_sub(kept));
    }

    /// What was made since then is held by a variable.
    pub(super) fn keep_since(&self, mark: &Mark) {
        let made = mark.memory.saturating_sub(self.memory.get());
        self.kept.set(mark.kept + made);
    }

    /// Takes steps. When they are used up, every later step fails too, so that no `||` hides it.
    pub(super) fn spend(&self, steps: u64) -> Result<(), Reason> {
        let Some(left) = self.cost.get().checked_sub(steps) else {
            self.cost.set(0);
            return Err(Reason::Cost);
        };
        self.cost.set(left);
        if left <= self.look_at.get() {
            self.look_at.set(left.saturating_sub(LOOK_EVERY));
            if (self.is_stopped)() {
                self.cost.set(0);
                return Err(Reason::Stopped);
            }
        }
        Ok(())
    }

    /// Reads or writes bytes.
    pub(super) fn touch(&self, bytes: usize) -> Result<(), Reason> {
        self.spend(1 + bytes as u64 / BYTES)
    }

    /// Makes room for bytes that are about to be allocated.
    pub(super) fn allocate(&self, bytes: usize) -> Result<(), Reason> {
        match self.memory.get().checked_sub(bytes) {
            Some(left) => {
                self.memory.set(left);
                Ok(())
            }
            None => {
                self.memory.set(0);
                self.cost.set(0);
                Err(Reason::Memory)
            }
        }
    }

    /// An empty list with room for `length`.
    pub(super) fn list<T>(&self, length: usize) -> Result<Vec<T>, Reason> {
        self.allocate(length.saturating_mul(size_of::<T>()))?;
        Ok(Vec::with_capacity(length))
    }

    /// Adds to a list, whose room doubles when it is full.
    pub(super) fn push<T>(&self, list: &mut Vec<T>, item: T) -> Result<(), Reason> {
        if list.len() == list.capacity() {
            let room = list.len().max(4);
            self.allocate((list.len() + room).saturating_mul(size_of::<T>()))?;
            list.reserve_exact(room);
        }
        list.push(item);
        Ok(())
    }
}
