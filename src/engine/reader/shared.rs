//! What the workers of one reading share.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::watchdog::Watchdog;
use crate::kafka::KafkaError;
use crate::memory::RunMemory;

use super::cursor::Homeless;
use super::{Cursor, Leaders, Sink};

/// What a reading needs.
pub struct Reading<'a, L: Leaders, S: Sink> {
    /// The cluster.
    pub leaders: &'a L,
    /// The verb.
    pub sink: &'a S,
    /// The run's memory.
    pub memory: RunMemory,
    /// The run's watchdog.
    pub watchdog: Watchdog,
}

/// What a worker tells before it ends.
pub(super) enum Report<P> {
    /// A partition is read no further.
    Settled(Cursor<P>),
    /// Partitions must be read from whoever leads them now.
    Homeless(Vec<Homeless<P>>, KafkaError),
}

/// What all workers share.
pub(super) struct Shared<'a, L: Leaders, S: Sink> {
    pub reading: &'a Reading<'a, L, S>,
    pub reports: mpsc::UnboundedSender<Report<S::Part>>,
    /// When any of them got something last.
    pub moved_at: Mutex<Instant>,
    /// How many leaders are read from.
    pub workers: AtomicU64,
}

impl<L: Leaders, S: Sink> Shared<'_, L, S> {
    /// A worker got something.
    pub fn moved(&self) {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.reading.watchdog.moved();
    }

    /// How long ago any worker got something.
    pub fn silence(&self) -> Duration {
        let moved_at = self.moved_at.lock();
        moved_at.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Hands partitions over that could not be read: to be read again later, unless the sink gives them up.
    pub fn failed(&self, cursors: Vec<Cursor<S::Part>>, error: KafkaError) {
        let retry = self.reading.leaders.retry();
        let mut homeless = Vec::with_capacity(cursors.len());
        for mut cursor in cursors {
            if self.reading.sink.gives_up(&mut cursor, &error) {
                self.report(Report::Settled(cursor));
            } else {
                homeless.push(Homeless::failed(cursor, retry));
            }
        }
        self.report(Report::Homeless(homeless, error));
    }

    /// Tells the reading.
    pub fn report(&self, report: Report<S::Part>) {
        // The receiver lives as long as the reading, of which every worker is a part.
        if self.reports.send(report).is_err() {
            tracing::trace!("the reading has ended");
        }
    }
}
