//! What values may be: checks that several requests share.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::engine::rate::RateLimit;
use crate::record::is_topic_name;

use super::Problem;

/// Names of groups and of what else has no shorter bound.
const NAME_LIMIT: usize = 1024;

/// A number within its range.
pub(super) fn within<T: PartialOrd + Display + Copy>(
    field: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, Problem> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (range.start(), range.end());
    Err(Problem::invalid(
        field,
        value,
        format!("{field} must be from {least} to {most}"),
    ))
}

/// A legal name of a topic (`org.apache.kafka.common.internals.Topic`).
pub(super) fn topic(field: &str, name: &str) -> Result<String, Problem> {
    if is_topic_name(name) {
        return Ok(name.to_owned());
    }
    Err(Problem::invalid(
        field,
        name,
        format!("{field} must be the name of a topic: up to 249 letters, digits, `.`, `_` and `-`"),
    ))
}

/// Any other name.
pub(super) fn name(field: &str, name: &str) -> Result<String, Problem> {
    if !name.is_empty() && name.len() <= NAME_LIMIT {
        return Ok(name.to_owned());
    }
    Err(Problem::invalid(
        field,
        name,
        format!("{field} must have 1 to {NAME_LIMIT} bytes"),
    ))
}

/// Records a second.
pub(super) fn rate(records: Option<u64>) -> Result<Option<RateLimit>, Problem> {
    match records {
        None => Ok(None),
        Some(records) => within("rate_limit_per_second", records, 1..=1_000_000_000_000)
            .map(|records| Some(RateLimit::Records(records))),
    }
}
