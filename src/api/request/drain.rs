use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::bounds::{name, topic, within};
use crate::api::{DrainOrder, Problem, integers};
use crate::engine::drain::{Criteria, DrainOptions, DrainStrategy, Patience, Strategy, TimeBound};
use crate::engine::topics::{TopicPattern, TopicPatterns};
use crate::kafka::IsolationLevel;
use crate::record::Timestamp;

use super::schema::TopicName;

/// `POST /api/kafka/clusters/{cluster-id}/drain`
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The consumer group.
    #[schema(min_length = 1, max_length = 1024, example = "consumer-group-1")]
    pub group_id: String,
    /// The topics to watch.
    #[schema(value_type = Vec<TopicName>, min_items = 1, max_items = 1000)]
    pub topics: Vec<String>,
    /// How many records may be left, over all partitions; for lag_based.
    #[serde(default, deserialize_with = "integers::optional")]
    #[schema(default = 0)]
    pub max_lag: Option<u64>,
    /// When to stop waiting.
    #[serde(default, deserialize_with = "integers::optional")]
    #[schema(default = 300, maximum = 86400)]
    pub timeout_seconds: Option<u64>,
    /// From the beginning of one check to that of the next.
    #[serde(default, deserialize_with = "integers::optional")]
    #[schema(default = 5000, minimum = 100, maximum = 3600000)]
    pub check_interval_ms: Option<u64>,
    /// What is compared.
    #[schema(default = "lag_based")]
    pub strategy: Option<DrainStrategy>,
    /// Addition, for time_based: what was produced before this moment must be consumed; by default the moment of the call.
    pub produced_before: Option<DateTime<Utc>>,
    /// Addition, for time_based instead of produced_before: what is older must be consumed.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "integers::optional")]
    pub max_age_seconds: Option<u64>,
    /// Addition: whether records of open and aborted transactions count as left.
    pub isolation_level: Option<IsolationLevel>,
}

/// When to stop waiting, by default.
const TIMEOUT_SECONDS: u64 = 300;
/// From check to check, by default.
const CHECK_INTERVAL_MS: u64 = 5000;

/// Topics of one call.
const TOPICS_LIMIT: usize = 1000;

impl DrainRequest {
    /// In this cluster, called `now`.
    pub fn order(&self, cluster: &str, now: DateTime<Utc>) -> Result<DrainOrder, Problem> {
        let group_id = name("group_id", &self.group_id)?;
        if !(1..=TOPICS_LIMIT).contains(&self.topics.len()) {
            let message = format!("topics must name 1 to {TOPICS_LIMIT}");
            return Err(Problem::invalid(
                "topics",
                format!("{} of them", self.topics.len()),
                message,
            ));
        }
        let topics = self.topics.iter().map(|name| topic("topics", name));
        let topics: BTreeSet<String> = topics.collect::<Result<_, _>>()?;
        let patterns = topics.iter().map(|name| name.parse::<TopicPattern>());
        let patterns: Vec<TopicPattern> = patterns
            .collect::<Result<_, _>>()
            .map_err(|error| Problem::from(&error))?;
        let timeout = self.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
        let timeout = within("timeout_seconds", timeout, 0..=86_400)?;
        let interval = self.check_interval_ms.unwrap_or(CHECK_INTERVAL_MS);
        let interval = within("check_interval_ms", interval, 100..=3_600_000)?;
        Ok(DrainOrder {
            cluster: cluster.to_owned(),
            options: DrainOptions {
                groups: TopicPatterns::literal(&group_id),
                topics: Some(TopicPatterns::new(patterns)),
                criteria: Criteria {
                    strategy: self.strategy(now)?,
                    isolation: self.isolation_level.unwrap_or_default(),
                    ..Criteria::default()
                },
            },
            patience: Patience {
                interval: Duration::from_millis(interval),
                until_drained: true,
                timeout: Some(Duration::from_secs(timeout)),
            },
            group_id,
            topics: topics.into_iter().collect(),
        })
    }

    fn strategy(&self, now: DateTime<Utc>) -> Result<Strategy, Problem> {
        let strategy = self.strategy.unwrap_or_default();
        match (strategy, self.produced_before, self.max_age_seconds) {
            (DrainStrategy::LagBased, None, None) => Ok(Strategy::Lag {
                max_lag: self.max_lag.unwrap_or(0),
            }),
            (DrainStrategy::LagBased, Some(moment), _) => {
                let message = "produced_before goes with strategy time_based";
                Err(Problem::invalid("produced_before", moment, message))
            }
            (DrainStrategy::LagBased, None, Some(age)) => {
                let message = "max_age_seconds goes with strategy time_based";
                Err(Problem::invalid("max_age_seconds", age, message))
            }
            (DrainStrategy::TimeBased, Some(_), Some(age)) => {
                let message = "give produced_before or max_age_seconds, not both";
                Err(Problem::invalid("max_age_seconds", age, message))
            }
            (DrainStrategy::TimeBased, None, Some(age)) => {
                let age = within("max_age_seconds", age, 1..=315_360_000)?;
                Ok(Strategy::Time(TimeBound::YoungerThan(Duration::from_secs(
                    age,
                ))))
            }
            (DrainStrategy::TimeBased, moment, None) => {
                let moment = moment.unwrap_or(now).timestamp_millis();
                Ok(Strategy::Time(TimeBound::ProducedBefore(Timestamp(moment))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::field_of;
    use super::*;
    use crate::api::read;

    fn drain(body: &str) -> Result<DrainOrder, Problem> {
        read::<DrainRequest>(body.as_bytes())?.order("prod", DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_drain_waits_for_its_lag_or_for_the_moment_of_the_call() {
        let order = drain(r#"{"group_id": "g", "topics": ["a", "b"]}"#).unwrap();
        assert_eq!(
            order.options.criteria.strategy,
            Strategy::Lag { max_lag: 0 }
        );
        assert_eq!(order.patience.timeout, Some(Duration::from_secs(300)));
        assert_eq!(order.patience.interval, Duration::from_secs(5));
        let nulls = r#"{"group_id": "g", "topics": ["a", "b"], "max_lag": null, "timeout_seconds": null,
            "check_interval_ms": null, "strategy": null, "produced_before": null, "max_age_seconds": null,
            "isolation_level": null}"#;
        let defaults = drain(nulls).unwrap();
        assert_eq!(
            defaults.options.criteria.strategy,
            order.options.criteria.strategy
        );
        assert_eq!(defaults.patience.timeout, order.patience.timeout);
        let order =
            drain(r#"{"group_id": "g", "topics": ["a"], "strategy": "time_based"}"#).unwrap();
        let moment = TimeBound::ProducedBefore(Timestamp(0));
        assert_eq!(order.options.criteria.strategy, Strategy::Time(moment));
        for (rest, field) in [
            (r#""topics": []"#, "topics"),
            (r#""topics": ["a b"]"#, "topics"),
            (
                r#""topics": ["a"], "timeout_seconds": 86401"#,
                "timeout_seconds",
            ),
            (
                r#""topics": ["a"], "check_interval_ms": 0"#,
                "check_interval_ms",
            ),
            (r#""topics": ["a"], "strategy": "x""#, "strategy"),
            (
                r#""topics": ["a"], "max_age_seconds": 1"#,
                "max_age_seconds",
            ),
        ] {
            assert_eq!(
                field_of(drain(&format!(r#"{{"group_id": "g", {rest}}}"#))),
                field,
                "{rest}"
            );
        }
        assert_eq!(
            field_of(drain(r#"{"group_id": "", "topics": ["a"]}"#)),
            "group_id"
        );
    }
}
