//! Looking ahead: whether the offsets between a group's place and the end of the log are records at all.
//!
//! A consumer that commits "the last record plus one" never commits what lies behind it: the markers of transactions, what
//! compaction left. So a short tail is read, raw and by its headers, from the place nearest to the end backwards: what is
//! found there decides for all that stand before it. All of it is bounded, by bytes, by requests and by rounds, and what is not
//! looked at counts as records.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use crate::kafka::{
    BrokerId, Client, ErrorCode, FetchPartition, FetchRequest, FetchedPartition, Isolation,
    KafkaError, TopicPartition,
};
use crate::record::{Offset, PartitionId, TopicId};

use super::criteria::{Criteria, Strategy};
use super::history::History;
use super::observation::{Ahead, Observation, SeenLog};
use super::standing::Standing;
use super::walk::{Aborted, Walked, walk};

/// A longer tail is taken for records unseen.
const LONGEST_TAIL: u64 = 10_000;
/// So many partitions are looked at in a check, the shortest tails first.
const MOST_PARTITIONS: usize = 1_000;
const MOST_ROUNDS: usize = 12;
const PARTITIONS_AT_ONCE: usize = 100;
/// So many partitions are asked alone in a round.
const ALONE_AT_ONCE: usize = 16;
const REQUESTS_AT_ONCE: usize = 8;
/// Room for fifty markers; four times as much in each round that follows.
const FIRST_BYTES: i32 = 4 << 10;
const MOST_BYTES: i32 = 1 << 20;
const MOST_BYTES_OF_ANSWER: i32 = 50 << 20;

/// Looks ahead of all groups of `observation` that might turn out to be drained, and notes there what it found.
pub(super) async fn look_ahead(
    client: &Client,
    criteria: &Criteria,
    history: &History,
    observation: &mut Observation,
) {
    let mut inquiry = Inquiry::new(criteria, history, observation);
    for _ in 0..MOST_ROUNDS {
        let requests = inquiry.requests();
        if requests.is_empty() {
            break;
        }
        let answers: Vec<_> = stream::iter(requests)
            .map(|(trails, leader, request)| async move {
                (trails, client.fetch(leader, request).await)
            })
            .buffer_unordered(REQUESTS_AT_ONCE)
            .collect()
            .await;
        for (trails, answer) in answers {
            inquiry.take(&trails, answer);
        }
    }
    let found = inquiry.into_answers();
    for (key, ahead) in found {
        let topic = observation.topics.get_mut(&key.topic);
        if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(&key.partition)) {
            log.ahead = ahead;
        }
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
    /// Which place is looked ahead from.
    current: usize,
    /// Where to read next.
    at: Offset,
    /// From here on nothing is a record.
    clear_from: Offset,
    max_bytes: i32,
    /// Brokers leave out a first batch that is too large, unless it is all that was asked for.
    is_alone: bool,
    answers: BTreeMap<Offset, Ahead>,
}

struct Inquiry {
    isolation: Isolation,
    by_time: bool,
    parties: Vec<Party>,
    trails: Vec<Trail>,
}

/// Which trails a request is about, and whom to ask.
type Request = (Vec<usize>, BrokerId, FetchRequest);

impl Inquiry {
    fn new(criteria: &Criteria, history: &History, observation: &Observation) -> Self {
        let mut inquiry = Self {
            isolation: criteria.isolation,
            by_time: matches!(criteria.strategy, Strategy::Time(_)),
            parties: Vec::new(),
            trails: Vec::new(),
        };
        let mut places: BTreeMap<(&str, PartitionId), BTreeMap<Offset, Vec<usize>>> =
            BTreeMap::new();
        for (name, group) in &observation.groups {
            let party = inquiry.parties.len();
            let mut spare = Party {
                spare: Some(criteria.strategy.max_lag()),
            };
            let topics = group.topics.iter();
            let topics = topics.filter_map(|name| observation.topics.get_key_value(name));
            let mut stands: Vec<(&str, PartitionId, Offset)> = Vec::new();
            for (topic, seen) in topics {
                for (partition, log) in &seen.partitions {
                    let commit = group.committed.get(topic).and_then(|of| of.get(partition));
                    let past = history
                        .get(name)
                        .and_then(|past| past.partition(topic, *partition));
                    let isolation = criteria.isolation;
                    match Standing::of(commit.copied(), seen.topic_id, log, past, isolation) {
                        Standing::AtEnd => {}
                        Standing::Behind(from) | Standing::NeverCommitted(from) => {
                            match inquiry.certain_lag(log, from) {
                                Some(lag) => spare.loses(lag),
                                None => stands.push((topic, *partition, from)),
                            }
                        }
                        Standing::Unreachable(_) | Standing::Recreated(_) => spare.spare = None,
                    }
                }
            }
            if spare.spare.is_some() {
                for (topic, partition, from) in stands {
                    let of = places.entry((topic, partition)).or_default();
                    of.entry(from).or_default().push(party);
                }
            }
            inquiry.parties.push(spare);
        }
        for ((topic, partition), places) in places {
            let Some(seen) = observation.topics.get(topic) else {
                continue;
            };
            let Some(log) = seen.partitions.get(&partition) else {
                continue;
            };
            let key = TopicPartition {
                topic: topic.to_owned(),
                partition,
            };
            inquiry.trails.push(Trail::new(
                key,
                seen.topic_id,
                log,
                places,
                criteria.isolation,
            ));
        }
        inquiry
            .trails
            .sort_by_key(|trail| trail.places.first().map(|place| place.lag));
        inquiry.trails.truncate(MOST_PARTITIONS);
        inquiry
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

    /// What to ask in the next round.
    fn requests(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut together: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (index, trail) in self.trails.iter_mut().enumerate() {
            if !trail.goes_on(&self.parties) {
                continue;
            }
            if !trail.is_alone {
                together.entry(trail.leader).or_default().push(index);
            } else if requests.len() < ALONE_AT_ONCE {
                requests.push((vec![index], trail.leader));
            }
        }
        for (leader, trails) in together {
            let chunks = trails.chunks(PARTITIONS_AT_ONCE);
            requests.extend(chunks.map(|chunk| (chunk.to_vec(), leader)));
        }
        let asked = requests.into_iter().map(|(trails, leader)| {
            let partitions = trails.iter().filter_map(|index| self.trails.get(*index));
            let request = FetchRequest {
                max_wait: Duration::ZERO,
                min_bytes: 0,
                max_bytes: MOST_BYTES_OF_ANSWER,
                isolation: self.isolation,
                partitions: partitions.map(Trail::to_fetch).collect(),
            };
            (trails, leader, request)
        });
        asked.collect()
    }

    /// Takes in what came for these trails.
    fn take(&mut self, trails: &[usize], answer: Result<Vec<FetchedPartition>, KafkaError>) {
        match answer {
            Ok(fetched) => {
                for fetched in fetched {
                    let index = trails.iter().copied().find(|index| {
                        self.trails
                            .get(*index)
                            .is_some_and(|trail| trail.is_of(&fetched))
                    });
                    if let Some(index) = index {
                        self.take_one(index, &fetched);
                    }
                }
            }
            Err(error) => {
                for index in trails {
                    self.settle(*index, Ahead::Unread(error.to_string()));
                }
            }
        }
    }

    fn take_one(&mut self, index: usize, fetched: &FetchedPartition) {
        let Some(trail) = self.trails.get_mut(index) else {
            return;
        };
        let ahead = match fetched.error {
            Some(ErrorCode::TopicAuthorizationFailed) => {
                let topic = &fetched.topic;
                let code = ErrorCode::TopicAuthorizationFailed;
                let missing = KafkaError::for_topic(code, "READ", topic);
                Ahead::Unread(format!(
                    "whether these are records cannot be told: {missing}"
                ))
            }
            Some(code) => {
                Ahead::Unread(format!("whether these are records cannot be told: {code}"))
            }
            // Too much else was asked for at the same time.
            None if fetched.records.is_empty() && !trail.is_alone => {
                trail.is_alone = true;
                return;
            }
            None if fetched.records.is_empty() => {
                Ahead::Unread("the broker answers without records".to_owned())
            }
            None => {
                let aborted = Aborted::new(&fetched.aborted);
                match walk(&fetched.records, trail.at, trail.clear_from, aborted) {
                    Ok(Walked::UpTo(next)) => {
                        trail.at = next;
                        trail.max_bytes = trail.max_bytes.saturating_mul(4).min(MOST_BYTES);
                        return;
                    }
                    Ok(Walked::Clear) => Ahead::Nothing,
                    Ok(Walked::Record(timestamp)) => Ahead::Records(Some(timestamp)),
                    Err(error) => Ahead::Unread(error.to_string()),
                }
            }
        };
        self.settle(index, ahead);
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

impl Trail {
    fn new(
        key: TopicPartition,
        topic_id: TopicId,
        log: &SeenLog,
        places: BTreeMap<Offset, Vec<usize>>,
        isolation: Isolation,
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
            current: 0,
            at: end,
            clear_from: end,
            max_bytes: FIRST_BYTES,
            is_alone: false,
            answers: BTreeMap::new(),
        };
        trail.turn_to(0);
        trail
    }

    /// Looks ahead from another of its places.
    fn turn_to(&mut self, place: usize) {
        self.current = place;
        self.max_bytes = FIRST_BYTES;
        self.is_alone = false;
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

    fn to_fetch(&self) -> FetchPartition {
        FetchPartition {
            topic: self.key.topic.clone(),
            topic_id: self.topic_id,
            partition: self.key.partition,
            offset: self.at,
            leader_epoch: None,
            last_fetched_epoch: None,
            max_bytes: self.max_bytes,
        }
    }

    fn is_of(&self, fetched: &FetchedPartition) -> bool {
        self.key.topic == fetched.topic && self.key.partition == fetched.partition
    }
}
