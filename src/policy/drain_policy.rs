//! `[drain.NAME]`: whether a consumer group has read all that there is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::drain::{Criteria, DrainOptions, DrainStrategy, Strategy, TimeBound};
use crate::engine::topics::TopicPatterns;
use crate::kafka::IsolationLevel;

use super::key::{Key, Keys, Kind, Node};
use super::kinds::{Count, Text};
use super::names::ClusterName;
use super::reader::Reader;
use super::schema;
use super::section::Section;

/// Which group is watched on which topics, and when it counts as drained.
#[derive(Debug, Clone, PartialEq)]
pub struct DrainPolicy {
    /// Its name, which no other policy has.
    pub name: String,
    /// The group's cluster.
    pub cluster: String,
    /// The consumer group.
    pub group: String,
    /// The topics.
    pub topics: TopicPatterns,
    /// Records that it may lag behind and still be drained.
    pub max_lag: u64,
    /// The time from one look to the next.
    pub every: Duration,
    /// What its progress is judged by.
    pub strategy: DrainStrategy,
    /// How old the first record may be that is not consumed, and the group still be drained; where time counts.
    pub max_age: Duration,
    /// How the group reads.
    pub isolation: IsolationLevel,
    /// So many looks in a row must agree that it is drained.
    pub stable_checks: u32,
    /// With members and without progress for so long, it is stalled.
    pub stall_after: Duration,
}

impl DrainPolicy {
    /// What the engine is to watch.
    pub fn options(&self) -> DrainOptions {
        DrainOptions {
            groups: TopicPatterns::literal(&self.group),
            topics: Some(self.topics.clone()),
            criteria: Criteria {
                strategy: match self.strategy {
                    DrainStrategy::LagBased => Strategy::Lag {
                        max_lag: self.max_lag,
                    },
                    DrainStrategy::TimeBased => {
                        Strategy::Time(TimeBound::YoungerThan(self.max_age))
                    }
                },
                isolation: self.isolation,
                stable_checks: self.stable_checks,
                stall_after: self.stall_after,
            },
        }
    }
}

const CLUSTER: Key<ClusterName> = Key::required("cluster", "the group's cluster, of kafkeep.toml");
const GROUP: Key<Text> = Key::required("group", "the consumer group");
const TOPICS: Key<TopicPatterns> = Key::required(
    "topics",
    "names, globs (orders.*) and regular expressions between slashes (/^orders-\\d+$/); ! excludes",
);
const MAX_LAG: Key<Lag> = Key::optional(
    "max_lag",
    "records that it may lag behind and still be drained; 0 by default",
);
const EVERY: Key<Interval> = Key::optional(
    "every",
    "the time from one look to the next; 30s by default",
);
const STRATEGY: Key<DrainStrategy> =
    Key::optional("strategy", "lag_based (the default) or time_based");
const MAX_AGE: Key<Duration> = Key::optional(
    "max_age",
    "with time_based, how old the first record may be that is not consumed; 1m by default",
);
const ISOLATION: Key<IsolationLevel> = Key::optional(
    "isolation",
    "how the group reads: read_uncommitted (the default), or read_committed, with which open transactions do not count",
);
const STABLE_CHECKS: Key<Count<1>> = Key::optional(
    "stable_checks",
    "so many looks in a row must agree that it is drained; 2 by default",
);
const STALL_AFTER: Key<Duration> = Key::optional(
    "stall_after",
    "with members and without progress for so long, it is stalled; 2m by default",
);
const KEYS: Keys = &[
    &CLUSTER,
    &GROUP,
    &TOPICS,
    &MAX_LAG,
    &EVERY,
    &STRATEGY,
    &MAX_AGE,
    &ISOLATION,
    &STABLE_CHECKS,
    &STALL_AFTER,
];

const DEFAULT_MAX_AGE: Duration = Duration::from_secs(60);
const DEFAULT_STALL_AFTER: Duration = Duration::from_secs(120);
const DEFAULT_STABLE_CHECKS: u32 = 2;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

impl Kind for DrainPolicy {
    const WANTS: &'static str = "a table with cluster, group and topics";

    fn schema() -> Value {
        schema::table(KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, KEYS, reader)?;
        let cluster = section.value(&CLUSTER, reader);
        let group = section.value(&GROUP, reader);
        let topics = section.value(&TOPICS, reader);
        let max_lag = section.value(&MAX_LAG, reader);
        let every = section.value(&EVERY, reader);
        let strategy = section.value(&STRATEGY, reader);
        let max_age = section.value(&MAX_AGE, reader);
        let isolation = section.value(&ISOLATION, reader);
        let stable_checks = section.value(&STABLE_CHECKS, reader);
        let stall_after = section.value(&STALL_AFTER, reader);
        Some(Self {
            name: reader.entry.clone(),
            cluster: cluster?.0,
            group: group?.0,
            topics: topics?,
            max_lag: max_lag.map_or(0, |Lag(lag)| lag),
            every: every.map_or(DEFAULT_INTERVAL, |Interval(every)| every),
            strategy: strategy.unwrap_or(DrainStrategy::LagBased),
            max_age: max_age.unwrap_or(DEFAULT_MAX_AGE),
            isolation: isolation.unwrap_or(IsolationLevel::ReadUncommitted),
            stable_checks: stable_checks.map_or(DEFAULT_STABLE_CHECKS, |Count(count)| count),
            stall_after: stall_after.unwrap_or(DEFAULT_STALL_AFTER),
        })
    }
}

/// A number of records.
struct Lag(u64);

impl Kind for Lag {
    const WANTS: &'static str = "a number of records";

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(number) = node.get_ref().as_integer() else {
            reader.wrong_type::<Self>(node);
            return None;
        };
        let lag = u64::from_str_radix(number.as_str(), number.radix()).ok();
        if lag.is_none() {
            reader.wrong_text::<Self>(node, &number.to_string(), "");
        }
        lag.map(Self)
    }
}

/// A time between looks: asking brokers all the time helps nobody.
struct Interval(Duration);

impl Kind for Interval {
    const WANTS: &'static str = Duration::WANTS;

    fn schema() -> Value {
        Duration::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let every = Duration::read(node, reader)?;
        if every < Duration::from_secs(1) {
            let place = reader.place(node.span());
            reader.problem(
                place,
                "this asks the brokers all the time",
                "give 1s or more",
            );
            return None;
        }
        Some(Self(every))
    }
}
