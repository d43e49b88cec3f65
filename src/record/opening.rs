//! How much memory opened batches take at once, in the whole process. What a compressed batch opens to is known only when it
//! is opened: a megabyte may hold gigabytes.

use std::num::NonZeroU32;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A batch that opens to more waits for its turn: as many as [`PARTS`] at once open to at most [`LARGE`] each, and any that
/// opens to more is opened alone.
const SMALL: usize = 1 << 20;
const LARGE: usize = 8 << 20;
const PARTS: u32 = 4;

/// How a batch is tried to be opened, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Within the bytes that every batch may open to without waiting.
    Small,
    /// As one of a few at a time, each within a larger bound.
    Large,
    /// As the only one in the process.
    Alone,
}

impl Opening {
    /// From the smallest on, those that `limit` has use for.
    pub fn up_to(limit: usize) -> impl Iterator<Item = (Self, usize)> {
        let all = [
            (Self::Small, SMALL, 0),
            (Self::Large, LARGE, SMALL),
            (Self::Alone, usize::MAX, LARGE),
        ];
        let useful = all.into_iter().filter(move |(_, _, above)| limit > *above);
        useful.map(move |(opening, bytes, _)| (opening, bytes.min(limit)))
    }

    /// How much room is made at once for what opens to at most `bound` bytes, of which `compressed` are there. What is not
    /// filled takes no memory.
    pub fn room(self, bound: usize, compressed: usize) -> usize {
        match self {
            Self::Small => compressed.saturating_mul(3).min(bound),
            Self::Large | Self::Alone => bound.saturating_add(1),
        }
    }

    /// Waits until a batch may be opened like this; the turn ends when what is returned is dropped.
    pub fn turn(self) -> Turn {
        let parts = match self {
            Self::Small => None,
            Self::Large => NonZeroU32::new(1),
            Self::Alone => NonZeroU32::new(PARTS),
        };
        TURNS.take(parts)
    }
}

/// The right to hold an opened batch. Whoever has it only computes: it waits neither for memory nor for another turn. It
/// does not leave its thread, so that no async code holds it while it waits.
#[derive(Debug)]
pub(super) struct Turn {
    parts: Option<NonZeroU32>,
    _stays_in_its_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(parts) = self.parts {
            TURNS.put_back(parts);
        }
    }
}

static TURNS: Turns = Turns {
    state: Mutex::new(State {
        free: PARTS,
        alone: 0,
    }),
    changed: Condvar::new(),
};

struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: u32,
    /// How many wait to be alone: they come before others.
    alone: u32,
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, parts: Option<NonZeroU32>) -> Turn {
        if let Some(parts) = parts {
            let parts = parts.get();
            let is_alone = parts == PARTS;
            let mut state = self.state();
            state.alone += u32::from(is_alone);
            let must_wait =
                |state: &mut State| state.free < parts || (!is_alone && state.alone > 0);
            let waited = self.changed.wait_while(state, must_wait);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            state.alone -= u32::from(is_alone);
            state.free -= parts;
        }
        Turn {
            parts,
            _stays_in_its_thread: std::marker::PhantomData,
        }
    }

    fn put_back(&self, parts: NonZeroU32) {
        self.state().free += parts.get();
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_opens_to_much_is_opened_alone_and_what_opens_to_little_at_once() {
        let held = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let held = &held;
                scope.spawn(move || {
                    for round in 0..200 {
                        let (opening, parts) = match (number + round) % 3 {
                            0 => (Opening::Alone, PARTS),
                            _ => (Opening::Large, 1),
                        };
                        let turn = opening.turn();
                        let _small = Opening::Small.turn();
                        let before = held.fetch_add(parts, Ordering::SeqCst);
                        assert!(before + parts <= PARTS, "{before} + {parts}");
                        std::thread::yield_now();
                        held.fetch_sub(parts, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
    }

    #[test]
    fn a_batch_is_opened_as_small_as_its_limit_allows() {
        let tried = |limit| Opening::up_to(limit).collect::<Vec<_>>();
        assert_eq!(tried(100), [(Opening::Small, 100)]);
        assert_eq!(
            tried(LARGE),
            [(Opening::Small, SMALL), (Opening::Large, LARGE)]
        );
        let beyond = LARGE + 1;
        let last = tried(beyond).pop();
        assert_eq!(last, Some((Opening::Alone, beyond)));
    }
}
