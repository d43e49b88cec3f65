//! Looking ahead: whether the offsets between a group's place and the end of the log are records at all.
//!
//! A consumer that commits "the last record plus one" never commits what lies behind it: the markers of transactions, what
//! compaction left, records of aborted transactions where it reads committed ones. So a short tail is read, raw and by its
//! headers, from the place nearest to the end backwards: what is found there decides for all that stand before it. All of it is
//! bounded, by bytes and by requests, and what is not looked at counts as records.
//!
//! Only a fetch of committed records tells which are aborted, and it ends where the first open transaction begins. So there are
//! two readings: one of what lies from there on, in which every record counts, since it may still be committed; and one of
//! what lies before it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{self, Expects, Flow, Questions, Reading, Sink, Step, Wish};
use crate::engine::watchdog::Watchdog;
use crate::kafka::{
    BrokerId, Client, ErrorCode, FetchedPartition, IsolationLevel, KafkaError, TopicPartition,
};
use crate::memory::MemoryBudget;
use crate::record::{Offset, PartitionId, TopicId};

use super::criteria::{Criteria, Strategy};
use super::history::{GroupPast, History};
use super::observation::{Ahead, Observation, SeenGroup, SeenLog};
use super::standing::Standing;
use super::walk::{Aborted, Walked, walk};

/// A longer tail is taken for records unseen.
const LONGEST_TAIL: u64 = 10_000;
/// So many partitions are looked at in a check, the shortest tails first.
const MOST_PARTITIONS: usize = 1_000;
/// Requests about one partition, at most.
const MOST_REQUESTS: usize = 12;
/// Room for fifty markers; four times as much in each request that follows.
const FIRST_BYTES: u64 = 4 << 10;
const MOST_BYTES: u64 = 1 << 20;
const MOST_BYTES_OF_ANSWER: u64 = 4 << 20;

/// Looks ahead of all groups of `observation` that might turn out to be drained, and notes there what it found.
pub(super) async fn look_ahead(
    client: &Client,
    criteria: &Criteria,
    history: &History,
    observation: &mut Observation,
    memory: &MemoryBudget,
) -> Result<(), EngineError> {
    let mut inquiry = Inquiry::new(criteria, history, observation);
    for isolation in [
        IsolationLevel::ReadUncommitted,
        IsolationLevel::ReadCommitted,
    ] {
        inquiry = read(client, inquiry, isolation, memory).await?;
    }
    for (key, ahead) in inquiry.into_answers() {
        let topic = observation.topics.get_mut(&key.topic);
        if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(&key.partition)) {
            log.ahead = ahead;
        }
    }
    Ok(())
}

/// Looks ahead of the places that are read with this isolation.
async fn read(
    client: &Client,
    mut inquiry: Inquiry,
    isolation: IsolationLevel,
    memory: &MemoryBudget,
) -> Result<Inquiry, EngineError> {
    let cursors = inquiry.cursors(isolation);
    let tails = Tails {
        isolation,
        inquiry: Mutex::new(inquiry),
        limiter: RateLimiter::new(None),
    };
    let reading = Reading {
        leaders: &Questions(client.clone()),
        sink: &tails,
        memory: memory.run(),
        watchdog: Watchdog::new(),
    };
    reader::read(&reading, cursors).await?;
    drop(reading);
    let inquiry = tails.inquiry.into_inner();
    Ok(inquiry.unwrap_or_else(PoisonError::into_inner))
}

/// Looking ahead, as the reader sees it. A partition's own are the place of its trail, and how many requests were made.
struct Tails {
    isolation: IsolationLevel,
    inquiry: Mutex<Inquiry>,
    limiter: RateLimiter,
}

type Cursor = reader::Cursor<(usize, usize)>;

impl Tails {
    fn inquiry(&self) -> MutexGuard<'_, Inquiry> {
        self.inquiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What cannot be looked at counts as records.
    fn unread(&self, cursor: &Cursor, why: impl fmt::Display) -> Step {
        let why = format!("whether these are records cannot be told: {why}");
        self.inquiry().settle(cursor.part.0, Ahead::Unread(why));
        Step::Moved
    }
}

impl Sink for Tails {
    type Part = (usize, usize);
    type Taken = ();

    fn isolation(&self) -> IsolationLevel {
        self.isolation
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn request_bytes(&self) -> u64 {
        MOST_BYTES_OF_ANSWER
    }

    fn wish(&self, cursor: &mut Cursor) -> Option<Wish> {
        let (index, requests) = cursor.part;
        let mut inquiry = self.inquiry();
        let wanted = inquiry.wanted(index, self.isolation);
        let (max_bytes, at) = wanted.filter(|_| requests < MOST_REQUESTS)?;
        cursor.next = at;
        Some(Wish {
            max_bytes,
            expects: Expects::Answer,
        })
    }

    fn take(
        &self,
        cursor: &mut Cursor,
        fetched: FetchedPartition,
        _taken: &mut (),
    ) -> Result<Step, EngineError> {
        cursor.part.1 += 1;
        let is_led_on = self.inquiry().take(cursor.part.0, &fetched);
        Ok(match is_led_on {
            true => Step::Moved,
            false => Step::Nothing,
        })
    }

    fn diverged(&self, cursor: &mut Cursor, _: Offset, _: &mut ()) -> Result<Step, EngineError> {
        Ok(self.unread(cursor, ErrorCode::OffsetOutOfRange))
    }

    fn outside(
        &self,
        cursor: &mut Cursor,
        _log: Range<Offset>,
        _taken: &mut (),
    ) -> Result<Step, EngineError> {
        Ok(self.unread(cursor, ErrorCode::OffsetOutOfRange))
    }

    fn recreated(&self, cursor: &mut Cursor, _taken: &mut ()) -> Result<Step, EngineError> {
        Ok(self.unread(cursor, ErrorCode::UnknownTopicId))
    }

    fn refused(
        &self,
        cursor: &mut Cursor,
        error: KafkaError,
        _taken: &mut (),
    ) -> Result<Step, EngineError> {
        Ok(self.unread(cursor, error))
    }

    fn gives_up(&self, cursor: &mut Cursor, error: &KafkaError) -> bool {
        self.unread(cursor, error);
        true
    }

    async fn pass_on(&self, (): ()) -> Result<Flow, EngineError> {
        Ok(Flow::On {
            bytes: 0,
            records: 0,
        })
    }
}

/// A group, as far as looking ahead can make a difference for it.
#[derive(Debug, Clone, Copy)]
struct Party {
    /// Records that it may still be found to lag behind; none when it cannot be drained any more.
    spare: Option<u64>,
}

impl Party {
    fn loses(&mut self, lag: u64) {
        self.spare = self.spare.and_then(|spare| spare.checked_sub(lag));
    }
}

/// A place from which somebody has to read.
#[derive(Debug)]
struct Place {
    offset: Offset,
    lag: u64,
    /// Who stands there: indices of parties.
    parties: Vec<usize>,
}

/// One partition's places, the nearest to the end first, and how far the reading has come.
#[derive(Debug)]
struct Trail {
    key: TopicPartition,
    topic_id: TopicId,
    leader: BrokerId,
    places: Vec<Place>,
    /// From here on transactions are open, or nothing is looked at.
    stable: Offset,
    /// Which place is looked ahead from.
    current: usize,
    /// Where to read next.
    at: Offset,
    /// From here on nothing is a record.
    clear_from: Offset,
    max_bytes: u64,
    answers: BTreeMap<Offset, Ahead>,
}

/// Places by partition: who stands at which offset, as indices of parties.
type Places<'a> = BTreeMap<(&'a str, PartitionId), BTreeMap<Offset, Vec<usize>>>;

#[derive(Debug)]
struct Inquiry {
    isolation: IsolationLevel,
    by_time: bool,
    parties: Vec<Party>,
    trails: Vec<Trail>,
}

impl Inquiry {
    fn new(criteria: &Criteria, history: &History, observation: &Observation) -> Self {
        let mut inquiry = Self {
            isolation: criteria.isolation,
            by_time: matches!(criteria.strategy, Strategy::Time(_)),
            parties: Vec::new(),
            trails: Vec::new(),
        };
        let mut places: Places<'_> = BTreeMap::new();
        for (name, group) in &observation.groups {
            let index = inquiry.parties.len();
            let mut party = Party {
                spare: Some(criteria.strategy.max_lag()),
            };
            let past = history.get(name);
            let stands = inquiry.stands(&mut party, group, past, observation);
            if party.spare.is_some() {
                for (topic, partition, from) in stands {
                    let of = places.entry((topic, partition)).or_default();
                    of.entry(from).or_default().push(index);
                }
            }
            inquiry.parties.push(party);
        }
        inquiry.lay_trails(places, observation);
        inquiry
    }

    /// The places of a group from which has to be looked ahead. What it certainly lags behind elsewhere, `party` loses.
    fn stands<'a>(
        &self,
        party: &mut Party,
        group: &SeenGroup,
        past: Option<&GroupPast>,
        observation: &'a Observation,
    ) -> Vec<(&'a str, PartitionId, Offset)> {
        let topics = group.topics.iter();
        let topics = topics.filter_map(|name| observation.topics.get_key_value(name));
        let mut stands = Vec::new();
        for (topic, seen) in topics {
            for (partition, log) in &seen.partitions {
                let commit = group.committed.get(topic).and_then(|of| of.get(partition));
                let past = past.and_then(|past| past.partition(topic, *partition));
                match Standing::of(commit.copied(), seen.topic_id, log, past, self.isolation) {
                    Standing::AtEnd => {}
                    Standing::Behind(from) | Standing::NeverCommitted(from) => {
                        match self.certain_lag(log, from) {
                            Some(lag) => party.loses(lag),
                            None => stands.push((topic.as_str(), *partition, from)),
                        }
                    }
                    Standing::Unreachable(_) | Standing::Recreated(_) => party.spare = None,
                }
            }
        }
        stands
    }

    /// Lays a trail through the places of each partition, the shortest first.
    fn lay_trails(&mut self, places: Places<'_>, observation: &Observation) {
        for ((topic, partition), mut places) in places {
            let Some(seen) = observation.topics.get(topic) else {
                continue;
            };
            let Some(log) = seen.partitions.get(&partition) else {
                continue;
            };
            if self.by_time {
                look_behind_stable(log, self.isolation, &mut places);
            }
            let key = TopicPartition {
                topic: topic.to_owned(),
                partition,
            };
            let trail = Trail::new(key, seen.topic_id, log, places, self.isolation);
            self.trails.push(trail);
        }
        self.trails
            .sort_by_key(|trail| trail.places.first().map(|place| place.lag));
        self.trails.truncate(MOST_PARTITIONS);
    }

    /// The lag of a place that need not be looked ahead from: it lags, whatever lies there.
    fn certain_lag(&self, log: &SeenLog, from: Offset) -> Option<u64> {
        let lag = log.end(self.isolation).0.abs_diff(from.0);
        let is_certain = match log.moment {
            // What lies before it is older than the moment; of what lies behind it only the first record matters.
            Some(moment) => from < moment,
            None => lag > LONGEST_TAIL,
        };
        is_certain.then_some(lag)
    }

    /// A cursor for each trail of which something is wanted with this isolation.
    fn cursors(&mut self, isolation: IsolationLevel) -> Vec<Cursor> {
        let mut cursors = Vec::new();
        for index in 0..self.trails.len() {
            if let Some((_, at)) = self.wanted(index, isolation)
                && let Some(trail) = self.trails.get(index)
            {
                cursors.push(Cursor {
                    topic_id: trail.topic_id,
                    leader: Some(trail.leader),
                    ..Cursor::new(trail.key.clone(), at, (index, 0))
                });
            }
        }
        cursors
    }

    /// How much of a trail is wanted next, and from where; none when it makes no difference any more, or is not read with this
    /// isolation.
    fn wanted(&mut self, index: usize, isolation: IsolationLevel) -> Option<(u64, Offset)> {
        let trail = self.trails.get_mut(index)?;
        let goes_on = trail.goes_on(&self.parties) && trail.isolation() == isolation;
        goes_on.then_some((trail.max_bytes, trail.at))
    }

    /// Takes in what came of a trail; false when nothing did.
    fn take(&mut self, index: usize, fetched: &FetchedPartition) -> bool {
        let Some(trail) = self.trails.get_mut(index) else {
            return true;
        };
        if fetched.records.is_empty() {
            return false;
        }
        let aborted = Aborted::new(&fetched.aborted);
        let ahead = match walk(&fetched.records, trail.at, trail.goal(), aborted) {
            Ok(Walked::UpTo(next)) => {
                trail.at = next;
                trail.max_bytes = trail.max_bytes.saturating_mul(4).min(MOST_BYTES);
                return true;
            }
            Ok(Walked::Clear) if trail.goal() < trail.clear_from => trail.behind_stable(),
            Ok(Walked::Clear) => Ahead::Nothing,
            Ok(Walked::Record(timestamp)) => Ahead::Records(Some(timestamp)),
            Err(error) => Ahead::Unread(error.to_string()),
        };
        self.settle(index, ahead);
        true
    }

    /// Notes what is ahead of a trail's current place, and goes on to the place before.
    fn settle(&mut self, index: usize, ahead: Ahead) {
        let Some(trail) = self.trails.get_mut(index) else {
            return;
        };
        let decides_all = !self.by_time && ahead != Ahead::Nothing;
        let settled = if decides_all {
            trail.places.len()
        } else {
            trail.current + 1
        };
        for place in trail.places.get(trail.current..settled).unwrap_or_default() {
            let is_lag = match ahead {
                Ahead::Nothing => false,
                Ahead::Records(_) => !self.by_time,
                Ahead::Unread(_) => true,
            };
            // In time, a record is no loss; that one could not be looked at is.
            let lag = if self.by_time { u64::MAX } else { place.lag };
            for party in place.parties.iter().filter(|_| is_lag) {
                if let Some(party) = self.parties.get_mut(*party) {
                    party.loses(lag);
                }
            }
            trail.answers.insert(place.offset, ahead.clone());
        }
        if ahead == Ahead::Nothing
            && let Some(place) = trail.places.get(trail.current)
        {
            trail.clear_from = place.offset;
        }
        trail.turn_to(settled);
    }

    fn into_answers(self) -> impl Iterator<Item = (TopicPartition, BTreeMap<Offset, Ahead>)> {
        self.trails
            .into_iter()
            .map(|trail| (trail.key, trail.answers))
    }
}

/// Where time counts, it matters of when the first record of the first open transaction is for all that stand before it.
fn look_behind_stable(
    log: &SeenLog,
    isolation: IsolationLevel,
    places: &mut BTreeMap<Offset, Vec<usize>>,
) {
    let stable = log.last_stable;
    let before = places.range(..stable).flat_map(|(_, parties)| parties);
    let before: BTreeSet<usize> = before.copied().collect();
    if stable < log.end(isolation) && !before.is_empty() {
        places.entry(stable).or_default().extend(before);
    }
}

impl Trail {
    fn new(
        key: TopicPartition,
        topic_id: TopicId,
        log: &SeenLog,
        places: BTreeMap<Offset, Vec<usize>>,
        isolation: IsolationLevel,
    ) -> Self {
        let end = log.end(isolation);
        let places = places.into_iter().rev().map(|(offset, parties)| Place {
            offset,
            lag: end.0.abs_diff(offset.0),
            parties,
        });
        let mut trail = Self {
            key,
            topic_id,
            leader: log.leader,
            places: places.collect(),
            stable: log.last_stable,
            current: 0,
            at: end,
            clear_from: end,
            max_bytes: FIRST_BYTES,
            answers: BTreeMap::new(),
        };
        trail.turn_to(0);
        trail
    }

    /// How its current place is read.
    fn isolation(&self) -> IsolationLevel {
        match self.places.get(self.current) {
            Some(place) if place.offset < self.stable => IsolationLevel::ReadCommitted,
            _ => IsolationLevel::ReadUncommitted,
        }
    }

    /// Up to where its current place is to be looked ahead from.
    fn goal(&self) -> Offset {
        match self.isolation() {
            IsolationLevel::ReadCommitted => self.clear_from.min(self.stable),
            IsolationLevel::ReadUncommitted => self.clear_from,
        }
    }

    /// What lies behind the last stable offset, which is what is ahead where nothing lies before it: a transaction that is open
    /// may become records.
    fn behind_stable(&self) -> Ahead {
        let found = self.answers.get(&self.stable);
        found.cloned().unwrap_or(Ahead::Records(None))
    }

    /// Looks ahead from another of its places.
    fn turn_to(&mut self, place: usize) {
        self.current = place;
        self.max_bytes = FIRST_BYTES;
        if let Some(place) = self.places.get(place) {
            self.at = place.offset;
        }
    }

    /// Turns to the next place at which somebody stands for whom it matters; whether there is one.
    fn goes_on(&mut self, parties: &[Party]) -> bool {
        let matters = |party: &usize| {
            parties
                .get(*party)
                .is_some_and(|party| party.spare.is_some())
        };
        let ahead = self.places.iter().enumerate().skip(self.current);
        let next = ahead
            .filter(|(_, place)| place.parties.iter().any(matters))
            .map(|(index, _)| index)
            .next();
        match next {
            Some(next) if next == self.current => true,
            Some(next) => {
                self.turn_to(next);
                true
            }
            None => false,
        }
    }
}
