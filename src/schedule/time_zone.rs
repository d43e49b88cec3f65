//! IANA time zones: their names, and what their local times are in real time.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::error::ScheduleError;

/// The zone of that name.
pub(super) fn named(name: &str) -> Result<Tz, ScheduleError> {
    name.parse().map_err(|_| ScheduleError::TimeZone {
        name: name.to_owned(),
        nearest: nearest(name),
    })
}

/// The known name that is most like `name`, as a whole or as its city.
fn nearest(name: &str) -> &'static str {
    let name = name.to_lowercase();
    let distance = |zone: &Tz| {
        let known = zone.name().to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        strsim::damerau_levenshtein(&known, &name).min(strsim::damerau_levenshtein(city, &name))
    };
    // Of UTC and Etc/UTC, the one that people write.
    TZ_VARIANTS
        .iter()
        .min_by_key(|zone| (distance(zone), zone.name().len()))
        .map_or("UTC", |zone| zone.name())
}

/// When a clock on the wall in `zone` first shows `local`; where it skips that, the moment at which it does.
///
/// Later local times never come earlier.
pub(super) fn first_instant(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(instant) | MappedLocalTime::Ambiguous(instant, _) => {
            instant.to_utc()
        }
        MappedLocalTime::None => end_of_gap(zone, local),
    }
}

/// The first second that shows a later time than `local`, which the zone skips.
fn end_of_gap(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    // No zone is further from UTC.
    const FARTHEST: i64 = 26 * 3600;
    let as_utc = local.and_utc();
    let (mut before, mut after) = (-FARTHEST, FARTHEST);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let shown = zone.from_utc_datetime(&(as_utc + TimeDelta::seconds(middle)).naive_utc());
        match shown.naive_local() > local {
            true => after = middle,
            false => before = middle,
        }
    }
    as_utc + TimeDelta::seconds(after)
}
