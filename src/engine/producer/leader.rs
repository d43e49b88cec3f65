//! A leader as its producer sees it: its connection, its requests in flight, and the partitions with something to send.

use std::collections::BTreeSet;

use super::PartitionIndex;

/// How many requests a leader may have in flight.
const IN_FLIGHT: usize = 5;

pub(super) struct Leader<C> {
    link: Link<C>,
    generation: Generation,
    requests: usize,
    /// Partitions with something to send.
    pub ready: BTreeSet<PartitionIndex>,
    /// Whose turn it is: not all partitions may fit into one request.
    turn: PartitionIndex,
}

enum Link<C> {
    Closed,
    Opening,
    Open(C),
}

/// Tells the connections to one leader apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl<C> Default for Leader<C> {
    fn default() -> Self {
        Self {
            link: Link::Closed,
            generation: Generation(0),
            requests: 0,
            ready: BTreeSet::new(),
            turn: PartitionIndex(0),
        }
    }
}

impl<C> Leader<C> {
    /// Whether there is something to send, and another request may be in flight.
    pub fn is_due(&self) -> bool {
        !self.ready.is_empty() && self.requests < IN_FLIGHT
    }

    /// The connection, when it is open.
    pub fn connection(&self) -> Option<(&C, Generation)> {
        match &self.link {
            Link::Open(connection) => Some((connection, self.generation)),
            Link::Closed | Link::Opening => None,
        }
    }

    /// Whether a connection must be opened; from then on it is being opened.
    pub fn begin_opening(&mut self) -> bool {
        let is_closed = matches!(self.link, Link::Closed);
        if is_closed {
            self.link = Link::Opening;
            self.generation.0 += 1;
        }
        is_closed
    }

    pub fn opened(&mut self, connection: C) {
        self.link = Link::Open(connection);
    }

    pub fn cannot_open(&mut self) {
        self.link = Link::Closed;
    }

    /// A request on the connection of this generation failed. A later connection is not affected.
    pub fn disconnected(&mut self, generation: Generation) {
        if generation == self.generation {
            self.link = Link::Closed;
        }
    }

    pub fn sent(&mut self, last: PartitionIndex) {
        self.requests += 1;
        self.turn = PartitionIndex(last.0 + 1);
    }

    pub fn answered(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }

    /// The partitions with something to send, in turn.
    pub fn in_turn(&self) -> impl Iterator<Item = PartitionIndex> + '_ {
        let others = self.ready.range(..self.turn);
        self.ready.range(self.turn..).chain(others).copied()
    }
}
