//! One leader's worker: keeps requests in flight, and takes answers in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::EngineError;
use crate::engine::watchdog::Wait;
use crate::kafka::{
    BrokerId, ErrorCode, FetchRequest, FetchedPartition, IsolationLevel, KafkaError, TopicPartition,
};
use crate::memory::SMALLEST_REQUEST;

use super::cursor::Homeless;
use super::shared::{Report, Shared};
use super::{Cursor, Expects, Flow, Leaders, Link, PARTITION_BYTES, Pending, Sink, Step, Wish};

/// Requests in flight on a connection: one is answered while the broker prepares the next.
const IN_FLIGHT: usize = 2;
/// Partitions that one request names, at most.
const REQUEST_PARTITIONS: usize = 1000;
/// What an answer needs for each partition beside its records, about.
const PARTITION_OVERHEAD: u64 = 128;
/// How long a leader may wait for something to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// A leader that gives nothing for so long, though it should, is looked for again.
const SILENCE: Duration = Duration::from_secs(5);
/// An empty answer that comes sooner is followed by a pause of this length.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a worker takes partitions in while it works.
pub(super) struct Inbox<P>(Mutex<Option<Vec<Cursor<P>>>>);

impl<P> Inbox<P> {
    pub fn with(cursors: Vec<Cursor<P>>) -> Self {
        Self(Mutex::new(Some(cursors)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Cursor<P>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives partitions to the worker; they come back when it has ended.
    pub fn give(&self, cursors: Vec<Cursor<P>>) -> Option<Vec<Cursor<P>>> {
        match self.lock().as_mut() {
            Some(waiting) => {
                waiting.extend(cursors);
                None
            }
            None => Some(cursors),
        }
    }

    fn take(&self) -> Vec<Cursor<P>> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes in nothing more, unless something waits; false when it does.
    fn close_if_empty(&self) -> bool {
        let mut inbox = self.lock();
        if inbox.as_ref().is_some_and(|waiting| !waiting.is_empty()) {
            return false;
        }
        *inbox = None;
        true
    }

    fn close(&self) -> Vec<Cursor<P>> {
        self.lock().take().unwrap_or_default()
    }
}

/// How a worker ended that did not fail.
pub(super) enum Ended {
    /// Nothing is left to be read from its leader.
    Idle,
    /// The sink ended the reading.
    All,
}

/// The partitions of a request, and what is wanted of each.
type Asked<P> = Vec<(Cursor<P>, Wish)>;

struct InFlightFetch<P, F> {
    cursors: Asked<P>,
    pending: F,
}

type LinkOf<L> = <L as Leaders>::Link;
type PendingOf<L> = <LinkOf<L> as Link>::Pending;

struct Worker<'a, L: Leaders, S: Sink> {
    shared: &'a Shared<'a, L, S>,
    leader: BrokerId,
    link: LinkOf<L>,
    inbox: &'a Inbox<S::Part>,
    ready: VecDeque<Cursor<S::Part>>,
    flights: VecDeque<InFlightFetch<S::Part, PendingOf<L>>>,
    /// Whether the last answer brought something: requests are large and two at a time then.
    is_flowing: bool,
    /// For how long the leader was waited for in vain.
    silent_for: Duration,
}

/// Reads from one leader until nothing is left to be read from it.
pub(super) async fn work<L: Leaders, S: Sink>(
    shared: &Shared<'_, L, S>,
    leader: BrokerId,
    inbox: std::sync::Arc<Inbox<S::Part>>,
) -> Result<Ended, EngineError> {
    let connecting = {
        let _waiting = shared.reading.watchdog.waits(Wait::Connection(leader));
        shared.reading.leaders.connect(leader).await
    };
    let link = match connecting {
        Ok(link) => link,
        Err(error) => return leave(shared, inbox.close(), error),
    };
    shared.workers.fetch_add(1, Ordering::Relaxed);
    let worker = Worker {
        shared,
        leader,
        link,
        inbox: &inbox,
        ready: VecDeque::new(),
        flights: VecDeque::new(),
        is_flowing: true,
        silent_for: Duration::ZERO,
    };
    let ended = worker.read().await;
    shared.workers.fetch_sub(1, Ordering::Relaxed);
    ended
}

/// Hands partitions back for other leaders to be found, unless the error is permanent.
fn leave<L: Leaders, S: Sink>(
    shared: &Shared<'_, L, S>,
    cursors: Vec<Cursor<S::Part>>,
    error: KafkaError,
) -> Result<Ended, EngineError> {
    if !error.is_transient() {
        return Err(error.into());
    }
    shared.failed(cursors, error);
    Ok(Ended::Idle)
}

impl<L: Leaders, S: Sink> Worker<'_, L, S> {
    async fn read(mut self) -> Result<Ended, EngineError> {
        loop {
            if let Err(error) = self.refill(true).await {
                return self.give_up(Vec::new(), error);
            }
            let Some(flight) = self.flights.pop_front() else {
                if self.inbox.close_if_empty() {
                    return Ok(Ended::Idle);
                }
                continue;
            };
            let asked_at = Instant::now();
            let answer = self.receive(&flight.cursors, flight.pending).await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return self.give_up(flight.cursors, error),
            };
            let waited = asked_at.elapsed();
            let (taken, came) = self.take_in(flight.cursors, answer)?;
            self.note(came, waited).await;
            // The next request goes out before these bytes are worked on, if there is memory for it: waiting for some
            // while these bytes hold theirs could be waiting for oneself.
            let refilled = self.refill(false).await;
            if self.pass_on(taken).await? == Flow::End {
                return Ok(Ended::All);
            }
            let silent = || KafkaError::silent(self.leader);
            let silence = (self.silent_for > SILENCE).then(silent);
            if let Some(error) = refilled.err().or(silence) {
                return self.give_up(Vec::new(), error);
            }
        }
    }

    async fn receive(
        &self,
        cursors: &Asked<S::Part>,
        pending: PendingOf<L>,
    ) -> Result<Vec<FetchedPartition>, KafkaError> {
        let first = cursors.first().map(|(cursor, _)| cursor.to_string());
        let wait = Wait::Leader(self.leader, first.unwrap_or_default());
        let _waiting = self.shared.reading.watchdog.waits(wait);
        pending.receive().await
    }

    async fn pass_on(&mut self, taken: S::Taken) -> Result<Flow, EngineError> {
        let reading = self.shared.reading;
        let flow = {
            let _waiting = reading
                .watchdog
                .waits(Wait::Step("what was read to be worked on"));
            reading.sink.pass_on(taken).await?
        };
        if let Flow::On { bytes, records } = flow {
            let _waiting = reading.watchdog.waits(Wait::Bounded);
            reading.sink.limiter().moved(bytes, records).await;
            if bytes > 0 {
                self.shared.moved();
            }
        }
        Ok(flow)
    }

    fn give_up(self, asked: Asked<S::Part>, error: KafkaError) -> Result<Ended, EngineError> {
        let asked = asked
            .into_iter()
            .chain(self.flights.into_iter().flat_map(|flight| flight.cursors));
        let mut left: Vec<Cursor<S::Part>> = asked.map(|(cursor, _)| cursor).collect();
        left.extend(self.ready);
        left.extend(self.inbox.close());
        leave(self.shared, left, error)
    }

    /// Keeps requests in flight. Memory is waited for only if `may_wait`, and nothing is in flight.
    async fn refill(&mut self, may_wait: bool) -> Result<(), KafkaError> {
        self.ready.extend(self.inbox.take());
        while self.flights.len() < IN_FLIGHT && !self.ready.is_empty() {
            let wanted = self.request_bytes();
            let memory = &self.shared.reading.memory;
            let reservation = if may_wait && self.flights.is_empty() {
                let _waiting = self.shared.reading.watchdog.waits(Wait::Memory);
                memory.reserve(wanted).await
            } else {
                match memory.try_reserve(wanted) {
                    Some(reservation) => reservation,
                    None => break,
                }
            };
            let (request, cursors) = self.request(reservation.bytes());
            if cursors.is_empty() {
                continue;
            }
            match self.link.ask(request, reservation).await {
                Ok(pending) => self.flights.push_back(InFlightFetch { cursors, pending }),
                Err(error) => {
                    self.ready
                        .extend(cursors.into_iter().map(|(cursor, _)| cursor));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What the next request needs: a part of the run's memory that leaves as much to every other leader; little where
    /// nothing has come, so that whoever waits for news keeps nobody from working.
    fn request_bytes(&self) -> u64 {
        let partitions = self.ready.len().min(REQUEST_PARTITIONS) as u64;
        let overhead = partitions * PARTITION_OVERHEAD * 2;
        if !self.is_flowing {
            return SMALLEST_REQUEST + overhead;
        }
        let reading = self.shared.reading;
        let workers = self.shared.workers.load(Ordering::Relaxed);
        let part = reading.memory.part_for(workers * IN_FLIGHT as u64);
        let most = reading.sink.request_bytes().min(part);
        let bytes = reading.sink.limiter().request_bytes(most);
        (bytes + overhead).min(part.max(SMALLEST_REQUEST))
    }

    /// A request whose answer fits into `bytes`, unless its first batch alone is larger.
    fn request(&mut self, bytes: u64) -> (FetchRequest, Asked<S::Part>) {
        let sink = self.shared.reading.sink;
        let ready = self.ready.len();
        // Half of the partitions each, so that two requests can be in flight.
        let share = match self.is_flowing && self.flights.is_empty() {
            true => ready.div_ceil(2),
            false => ready,
        };
        let fit = usize::try_from(bytes / (2 * PARTITION_OVERHEAD)).unwrap_or(usize::MAX);
        let most = share.min(REQUEST_PARTITIONS).min(fit.max(1));
        let mut cursors = Vec::with_capacity(most);
        while cursors.len() < most
            && let Some(mut cursor) = self.ready.pop_front()
        {
            match sink.wish(&mut cursor) {
                Some(wish) => cursors.push((cursor, wish)),
                None => self.shared.report(Report::Settled(cursor)),
            }
        }
        let overhead = PARTITION_OVERHEAD * (cursors.len() as u64 + 4);
        let max_bytes = bytes.saturating_sub(overhead).max(1);
        // Where an answer is wanted at once, nothing is waited for.
        let at_once = cursors
            .iter()
            .any(|(_, wish)| wish.expects == Expects::Answer);
        // Those that are not asked now need not wait for these.
        let patience = PATIENCE.mul_f64(cursors.len() as f64 / ready.max(1) as f64);
        let of_each = |wish: &Wish| wish.max_bytes.min(max_bytes).min(PARTITION_BYTES);
        let request = FetchRequest {
            max_wait: if at_once { Duration::ZERO } else { patience },
            min_bytes: i32::from(!at_once),
            max_bytes: i32::try_from(max_bytes).unwrap_or(i32::MAX),
            isolation: sink.isolation(),
            partitions: cursors
                .iter()
                .map(|(cursor, wish)| cursor.to_fetch(of_each(wish)))
                .collect(),
        };
        (request, cursors)
    }

    /// Moves cursors over an answer.
    fn take_in(
        &mut self,
        cursors: Asked<S::Part>,
        answer: Vec<FetchedPartition>,
    ) -> Result<(S::Taken, Came), EngineError> {
        let keyed = answer.into_iter();
        let keyed = keyed.map(|fetched| (Arc::clone(&fetched.key), fetched));
        let mut answer: BTreeMap<Arc<TopicPartition>, FetchedPartition> = keyed.collect();
        let mut taken = S::Taken::default();
        let mut came = Came::Nothing;
        let mut starved = Vec::new();
        for (mut cursor, wish) in cursors {
            let Some(fetched) = answer.remove(&cursor.key) else {
                starved.push(cursor);
                continue;
            };
            let is_more = self.end(&fetched) > cursor.next;
            match self.step(&mut cursor, fetched, &mut taken)? {
                Some(Step::Moved) => {
                    came = Came::Records;
                    cursor.succeeded();
                    self.ready.push_back(cursor);
                }
                Some(Step::Settled) => {
                    came = Came::Records;
                    self.shared.report(Report::Settled(cursor));
                }
                Some(Step::Nothing) if is_more => starved.push(cursor),
                Some(Step::Nothing) => {
                    if wish.expects != Expects::Records {
                        came = came.max(Came::End);
                        cursor.succeeded();
                    }
                    self.ready.push_back(cursor);
                }
                Some(Step::Elsewhere(error)) => self.shared.failed(vec![cursor], error),
                None => {
                    let error = KafkaError::for_topic(
                        ErrorCode::OffsetOutOfRange,
                        "READ",
                        &cursor.key.topic,
                    );
                    let retry = self.shared.reading.leaders.retry();
                    let homeless = vec![Homeless::outside(cursor, retry)];
                    self.shared.report(Report::Homeless(homeless, error));
                }
            }
        }
        // The first partition of a request gets a batch, however large it is.
        for cursor in starved.into_iter().rev() {
            self.ready.push_front(cursor);
        }
        Ok((taken, came))
    }

    /// Where the log ends for this reader.
    fn end(&self, fetched: &FetchedPartition) -> crate::record::Offset {
        match self.shared.reading.sink.isolation() {
            IsolationLevel::ReadCommitted => fetched.last_stable_offset,
            IsolationLevel::ReadUncommitted => fetched.high_watermark,
        }
    }

    /// What a partition's part of an answer means; none when the log does not have the offset.
    fn step(
        &self,
        cursor: &mut Cursor<S::Part>,
        fetched: FetchedPartition,
        taken: &mut S::Taken,
    ) -> Result<Option<Step>, EngineError> {
        let sink = self.shared.reading.sink;
        if let Some((_, end)) = fetched.diverging_epoch {
            return sink.diverged(cursor, end, taken).map(Some);
        }
        let step = match fetched.error {
            None => sink.take(cursor, fetched, taken)?,
            Some(ErrorCode::OffsetOutOfRange) => return Ok(None),
            Some(code) => {
                let error = KafkaError::for_topic(code, "READ", &cursor.key.topic);
                if error.is_transient() {
                    Step::Elsewhere(error)
                } else {
                    sink.refused(cursor, error, taken)?
                }
            }
        };
        Ok(Some(step))
    }

    /// Notes what an answer brought for which `waited` passed.
    async fn note(&mut self, came: Came, waited: Duration) {
        self.is_flowing = came == Came::Records;
        let mut waited = waited;
        if !self.is_flowing && waited < PAUSE && !self.ready.is_empty() {
            tokio::time::sleep(PAUSE).await;
            waited += PAUSE;
        }
        match came {
            Came::Nothing => self.silent_for += waited,
            Came::End | Came::Records => {
                self.silent_for = Duration::ZERO;
                self.shared.moved();
            }
        }
    }
}

/// What an answer brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// Nothing, though something should have come.
    Nothing,
    /// Nothing, because there is nothing more at present.
    End,
    /// Records.
    Records,
}
