//! Who waits for memory, and who is next.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::reservation::Reservation;

/// A number that names one run at the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunNumber(pub u64);

/// A place for one batch that the budget has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// For one as it came. Whoever holds it may wait for the other slot.
    Came,
    /// For one that is made of another. Whoever holds it waits for no memory.
    Made,
}

/// One that waits: how much it wants, and where its memory is delivered.
#[derive(Debug)]
pub(super) struct Waiter {
    pub run: RunNumber,
    pub wanted: u64,
    /// Where it goes if it needs all it wants and the budget does not give it; none for one that takes less.
    pub slot: Option<Slot>,
    pub ready: oneshot::Sender<Reservation>,
}

/// All that wait. Whoever gave up waiting is passed over.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Those that take less than they want, by run, the longest waiting first.
    any_size: BTreeMap<RunNumber, VecDeque<Waiter>>,
    /// Those that need all they want, of all runs, the longest waiting first.
    whole: VecDeque<Waiter>,
    /// The run that was served last.
    turn: Option<RunNumber>,
}

impl Queues {
    pub fn push(&mut self, waiter: Waiter) {
        match waiter.slot {
            Some(_) => self.whole.push_back(waiter),
            None => {
                let waiting = self.any_size.entry(waiter.run).or_default();
                waiting.push_back(waiter);
            }
        }
    }

    /// Whether somebody waits. Counts those that gave up since the last turn.
    pub fn is_empty(&self) -> bool {
        self.any_size.is_empty() && self.whole.is_empty()
    }

    /// Whether a run waits.
    pub fn has(&self, run: RunNumber) -> bool {
        let any_size = self.any_size.get(&run).into_iter().flatten();
        let mut all = any_size.chain(&self.whole);
        all.any(|waiter| waiter.run == run && !waiter.ready.is_closed())
    }

    /// The first of those that need all they want, for whom `may` says yes.
    pub fn next_whole(&mut self, mut may: impl FnMut(&Waiter) -> bool) -> Option<Waiter> {
        self.whole.retain(|waiter| !waiter.ready.is_closed());
        let at = self.whole.iter().position(&mut may)?;
        self.whole.remove(at)
    }

    /// The longest waiting of the next run in turn for which `may` says yes.
    pub fn next_any_size(&mut self, mut may: impl FnMut(&Waiter) -> bool) -> Option<Waiter> {
        self.any_size.retain(|_, waiting| {
            while waiting
                .pop_front_if(|first| first.ready.is_closed())
                .is_some()
            {}
            !waiting.is_empty()
        });
        let turn = self.turn.unwrap_or(RunNumber(0));
        let behind = self
            .any_size
            .range(turn..)
            .skip_while(|(run, _)| **run == turn);
        let mut in_turn = behind.chain(self.any_size.range(..=turn));
        let run = in_turn.find(|(_, waiting)| waiting.front().is_some_and(&mut may));
        let run = run.map(|(run, _)| *run)?;
        self.turn = Some(run);
        let waiting = self.any_size.get_mut(&run)?;
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.any_size.remove(&run);
        }
        first
    }
}
