//! Reads partitions from their leaders, for every verb: backup, mirror, read-back, comparison, drain.
//!
//! ```text
//! read       owns the partitions; finds leaders; ends when every partition is settled
//! worker     one for each leader: a connection, up to two requests in flight
//! Sink       the verb: what it wants of a partition, what it does with an answer, when a partition is settled
//! ```
//!
//! Memory: a worker waits for memory only while it holds none, neither of an answer nor of a request in flight. A sink may
//! make the worker wait, but must not wait for memory of the same run itself.

mod cursor;
mod leaders;
mod search;
mod shared;
#[cfg(test)]
mod simulation;
mod sink;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::kafka::{BrokerId, KafkaError};

use super::EngineError;

pub use cursor::Cursor;
pub use leaders::{Leaders, Link, Pending, Questions, Ranges};
pub use shared::Reading;
pub use sink::{Expects, Flow, PARTITION_BYTES, Sink, Step, Wish};

use cursor::Homeless;
use search::{Found, search};
use shared::{Report, Shared};
use worker::{Ended, Inbox, work};

/// The shortest time between two warnings that partitions are read again.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Reads until every partition is settled, or the sink ends the reading; returns the settled ones.
///
/// What a leader could not give is asked of the next one, while the others are read on. When nothing at all has moved for
/// the client's deadline, that is [`EngineError::Stalled`].
pub async fn read<L: Leaders, S: Sink>(
    reading: &Reading<'_, L, S>,
    cursors: Vec<Cursor<S::Part>>,
) -> Result<Vec<Cursor<S::Part>>, EngineError> {
    let (reports, incoming) = mpsc::unbounded_channel();
    let shared = Shared {
        reading,
        reports,
        moved_at: Mutex::new(Instant::now()),
        workers: 0.into(),
    };
    let mut reader = Reader {
        shared: &shared,
        incoming,
        inboxes: BTreeMap::new(),
        homeless: Vec::new(),
        settled: Vec::new(),
        warned_at: None,
        last_error: None,
    };
    let mut workers = FuturesUnordered::new();
    let mut searches = FuturesUnordered::new();
    workers.extend(reader.assign(cursors));
    loop {
        while let Ok(report) = reader.incoming.try_recv() {
            reader.hear(report)?;
        }
        let due = reader.next_search().filter(|_| searches.is_empty());
        if workers.is_empty() && searches.is_empty() && due.is_none() {
            return Ok(reader.settled);
        }
        tokio::select! {
            biased;
            Some(report) = reader.incoming.recv() => reader.hear(report)?,
            Some(ended) = workers.next(), if !workers.is_empty() => match ended? {
                Ended::Idle => {}
                Ended::All => return Ok(reader.settled),
            },
            Some(found) = searches.next(), if !searches.is_empty() => {
                let found: Found<S::Part> = found?;
                if found.is_end {
                    return Ok(reader.settled);
                }
                reader.settled.extend(found.settled);
                reader.homeless.extend(found.homeless);
                workers.extend(reader.assign(found.found));
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                searches.push(search(&shared, reader.take_due()));
            }
        }
    }
}

/// Who reads what.
struct Reader<'a, L: Leaders, S: Sink> {
    shared: &'a Shared<'a, L, S>,
    incoming: mpsc::UnboundedReceiver<Report<S::Part>>,
    /// By leader, where its worker takes partitions in.
    inboxes: BTreeMap<BrokerId, Arc<Inbox<S::Part>>>,
    homeless: Vec<Homeless<S::Part>>,
    settled: Vec<Cursor<S::Part>>,
    warned_at: Option<Instant>,
    last_error: Option<KafkaError>,
}

impl<'a, L: Leaders, S: Sink> Reader<'a, L, S> {
    /// Gives partitions to their leaders' workers; returns the workers that must begin for that.
    fn assign(
        &mut self,
        cursors: Vec<Cursor<S::Part>>,
    ) -> Vec<impl Future<Output = Result<Ended, EngineError>> + use<'a, L, S>> {
        let mut by_leader: BTreeMap<BrokerId, Vec<Cursor<S::Part>>> = BTreeMap::new();
        for mut cursor in cursors {
            if self.shared.reading.sink.wish(&mut cursor).is_none() {
                self.settled.push(cursor);
            } else if let Some(leader) = cursor.leader {
                by_leader.entry(leader).or_default().push(cursor);
            } else {
                self.homeless.push(Homeless::new(cursor));
            }
        }
        let mut begin = Vec::new();
        for (leader, cursors) in by_leader {
            let refused = match self.inboxes.get(&leader) {
                Some(inbox) => inbox.give(cursors),
                None => Some(cursors),
            };
            let Some(cursors) = refused else { continue };
            let inbox = Arc::new(Inbox::with(cursors));
            self.inboxes.insert(leader, Arc::clone(&inbox));
            begin.push(work(self.shared, leader, inbox));
        }
        begin
    }

    fn hear(&mut self, report: Report<S::Part>) -> Result<(), EngineError> {
        match report {
            Report::Settled(cursor) => self.settled.push(cursor),
            Report::Homeless(homeless, _) if homeless.is_empty() => {}
            Report::Homeless(homeless, error) => {
                self.warn(homeless.len(), &error);
                self.homeless.extend(homeless);
                self.last_error = Some(error);
                let silence = self.shared.silence();
                if silence > self.shared.reading.leaders.retry().deadline {
                    return Err(self.stalled(silence));
                }
            }
        }
        Ok(())
    }

    fn warn(&mut self, count: usize, error: &KafkaError) {
        let what = match count {
            1 => "reading 1 partition again".to_owned(),
            count => format!("reading {count} partitions again"),
        };
        let is_news = self
            .warned_at
            .is_none_or(|warned_at| warned_at.elapsed() >= WARN_EVERY);
        if is_news {
            self.warned_at = Some(Instant::now());
            tracing::warn!("{what}: {error}");
        } else {
            tracing::debug!("{what}: {error}");
        }
    }

    fn stalled(&self, silence: Duration) -> EngineError {
        let names = self.homeless.iter().take(3);
        let names: Vec<String> = names.map(|homeless| homeless.cursor.to_string()).collect();
        let more = match self.homeless.len().saturating_sub(names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        EngineError::Stalled {
            what: format!("{}{more}", names.join(", ")),
            seconds: silence.as_secs(),
            last: match &self.last_error {
                Some(error) => error.to_string(),
                None => "no broker leads them".to_owned(),
            },
        }
    }

    /// When leaders are to be looked for next.
    fn next_search(&self) -> Option<Instant> {
        self.homeless
            .iter()
            .map(|homeless| homeless.not_before)
            .min()
    }

    /// Those whose leaders are to be looked for now.
    fn take_due(&mut self) -> Vec<Homeless<S::Part>> {
        let now = Instant::now();
        let is_due = |homeless: &mut Homeless<S::Part>| homeless.not_before <= now;
        self.homeless.extract_if(.., is_due).collect()
    }
}
