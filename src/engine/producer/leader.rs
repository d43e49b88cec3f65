//! What a producer knows of a leader.

use std::collections::BTreeSet;

use super::PartitionIndex;

/// How many requests a leader may have in flight.
const IN_FLIGHT: usize = 5;

#[derive(Default)]
pub(super) struct Leader {
    pub is_connecting: bool,
    /// How many connections it has had: a request that fails says nothing about a later connection.
    pub connections: u64,
    /// How many requests are in flight.
    pub requests: usize,
    /// Partitions with something to send.
    pub ready: BTreeSet<PartitionIndex>,
    /// Whose turn it is: not all partitions may fit into one request.
    pub turn: PartitionIndex,
}

impl Leader {
    /// Whether there is something to send, and another request may be in flight.
    pub fn is_due(&self) -> bool {
        !self.ready.is_empty() && self.requests < IN_FLIGHT
    }

    /// The partitions with something to send, in turn.
    pub fn in_turn(&self) -> impl Iterator<Item = PartitionIndex> + '_ {
        let others = self.ready.range(..self.turn);
        self.ready.range(self.turn..).chain(others).copied()
    }
}
