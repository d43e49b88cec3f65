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
#[cfg(test)]
mod simulation;
mod worker;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::kafka::{BrokerId, FetchedPartition, Isolation, KafkaError};
use crate::memory::RunMemory;
use crate::record::Offset;

use super::EngineError;
use super::rate::RateLimiter;
use super::watchdog::Watchdog;

pub use cursor::Cursor;
pub use leaders::{Leaders, Link, Pending, Questions, Ranges};
use search::{Found, Homeless, search};
use worker::{Ended, Inbox, work};

/// What a request asks for in all, at most.
const REQUEST_BYTES: u64 = 8 << 20;
/// What a request asks for of one partition, at most.
pub const PARTITION_BYTES: u64 = 4 << 20;
/// The shortest time between two warnings that partitions are read again.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What a sink wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Bytes, at most; one batch comes in any case.
    pub max_bytes: u64,
    /// What the leader is expected to have.
    pub expects: Expects,
}

/// What a leader is expected to have of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// Records: a leader that gives none is asked for again.
    Records,
    /// Records, or the log's end, at which more may come.
    RecordsOrEnd,
    /// An answer, even without records, at once.
    Answer,
}

/// What became of a partition.
#[derive(Debug)]
pub enum Step {
    /// It led on, and goes on.
    Moved,
    /// Nothing came of it; it goes on.
    Nothing,
    /// It is read no further.
    Settled,
    /// Another leader may do better.
    Elsewhere(KafkaError),
}

/// Whether the reading goes on behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does. The rate limit counts what was passed on.
    On {
        /// Bytes.
        bytes: u64,
        /// Records.
        records: u64,
    },
    /// The whole reading ends.
    End,
}

/// A verb, as the reader sees it.
pub trait Sink: Sync {
    /// What the sink keeps of a partition.
    type Part: Send;
    /// What the parts of one answer became, in their order.
    type Taken: Default + Send;

    /// How far it reads.
    fn isolation(&self) -> Isolation;

    /// How fast.
    fn limiter(&self) -> &RateLimiter;

    /// What a request asks for in all, at most.
    fn request_bytes(&self) -> u64 {
        REQUEST_BYTES
    }

    /// What is wanted of a partition next; none when it is settled.
    fn wish(&self, cursor: &mut Cursor<Self::Part>) -> Option<Wish>;

    /// Takes in what came of a partition, and moves the cursor over it.
    fn take(
        &self,
        cursor: &mut Cursor<Self::Part>,
        fetched: FetchedPartition,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The leader's log left the one that was read so far, at this offset (KIP-595).
    fn diverged(
        &self,
        cursor: &mut Cursor<Self::Part>,
        end: Offset,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The log does not have the offset wanted; it has these.
    fn outside(
        &self,
        cursor: &mut Cursor<Self::Part>,
        log: Range<Offset>,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The topic is another one than that of which was read so far.
    fn recreated(
        &self,
        cursor: &mut Cursor<Self::Part>,
        taken: &mut Self::Taken,
    ) -> Result<Step, EngineError>;

    /// The leader refuses a partition, and trying again would not help.
    fn refused(
        &self,
        _cursor: &mut Cursor<Self::Part>,
        error: KafkaError,
        _taken: &mut Self::Taken,
    ) -> Result<Step, EngineError> {
        Err(error.into())
    }

    /// Whether a partition that could not be read for this reason is settled, instead of being read again later.
    fn gives_up(&self, _cursor: &mut Cursor<Self::Part>, _error: &KafkaError) -> bool {
        false
    }

    /// Passes on what came of one answer. The next request is on its way meanwhile.
    fn pass_on(&self, taken: Self::Taken)
    -> impl Future<Output = Result<Flow, EngineError>> + Send;
}

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
enum Report<P> {
    /// A partition is read no further.
    Settled(Cursor<P>),
    /// Partitions must be read from whoever leads them now.
    Homeless(Vec<Homeless<P>>, KafkaError),
}

/// What all workers share.
struct Shared<'a, L: Leaders, S: Sink> {
    reading: &'a Reading<'a, L, S>,
    reports: mpsc::UnboundedSender<Report<S::Part>>,
    /// When any of them got something last.
    moved_at: Mutex<Instant>,
    /// How many leaders are read from.
    workers: std::sync::atomic::AtomicU64,
}

impl<L: Leaders, S: Sink> Shared<'_, L, S> {
    fn moved(&self) {
        *self.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.reading.watchdog.moved();
    }

    fn silence(&self) -> Duration {
        let moved_at = self.moved_at.lock();
        moved_at.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Hands partitions over that could not be read: to be read again later, unless the sink gives them up.
    fn failed(&self, cursors: Vec<Cursor<S::Part>>, error: KafkaError) {
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

    fn report(&self, report: Report<S::Part>) {
        // The receiver lives as long as the reading, of which every worker is a part.
        if self.reports.send(report).is_err() {
            tracing::trace!("the reading has ended");
        }
    }
}

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
