//! When the progress of a mirror rose last, over all its sessions: by that it pauses and gives up.

use std::time::Duration;

use tokio::time::Instant;

use crate::kafka::Retry;

use super::state::MirrorState;

/// How long to wait before a session is begun again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What sessions came to so far.
pub(super) struct Movement<'a> {
    state: &'a MirrorState,
    seen: u64,
    at: Instant,
    /// Sessions in a row that moved nothing.
    in_vain: u32,
}

impl<'a> Movement<'a> {
    /// A mirror that begins now.
    pub fn new(state: &'a MirrorState) -> Self {
        Self {
            state,
            seen: state.moved(),
            at: Instant::now(),
            in_vain: 0,
        }
    }

    /// A session ended.
    pub fn session_ended(&mut self) {
        let moved = self.state.moved();
        if moved == self.seen {
            self.in_vain += 1;
        } else {
            self.seen = moved;
            self.at = Instant::now();
            self.in_vain = 0;
        }
    }

    /// What is left of a deadline that counts from the last movement on.
    pub fn left(&self, deadline: Duration) -> Duration {
        deadline.saturating_sub(self.at.elapsed())
    }

    /// The pause before the next session: the longer, the more of them moved nothing.
    pub fn pause(&self, retry: Retry) -> Duration {
        let attempts = self.in_vain.saturating_sub(1);
        retry.backoff(attempts).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Advance, PartitionStatus};
    use super::*;
    use crate::kafka::TopicPartition;
    use crate::record::{Offset, PartitionId};

    #[tokio::test(start_paused = true)]
    async fn to_commit_a_beginning_again_is_no_movement() {
        let state = MirrorState::default();
        let mut status = PartitionStatus::new("orders", PartitionId(0), "dr.orders");
        status.next_offset = Offset(100);
        state.begin(vec![status]);
        let key = TopicPartition {
            topic: "orders".to_owned(),
            partition: PartitionId(0),
        };
        let commit = |next: i64| {
            let next = Offset(next);
            state.committed(
                &key,
                &Advance {
                    next,
                    ..Advance::default()
                },
            );
        };
        let (retry, deadline) = (Retry::default(), Duration::from_secs(60));
        let mut movement = Movement::new(&state);
        for _ in 0..10 {
            commit(100);
            tokio::time::advance(Duration::from_secs(5)).await;
            movement.session_ended();
        }
        assert_eq!(movement.left(deadline), Duration::from_secs(10));
        assert!(movement.pause(retry) >= Duration::from_secs(4));
        commit(101);
        movement.session_ended();
        assert_eq!(movement.left(deadline), deadline);
        assert!(movement.pause(retry) < Duration::from_secs(1));
    }
}
