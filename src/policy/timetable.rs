//! When a policy runs: the keys that say so, shared by what has a schedule.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::Value;

use crate::schedule::{Concurrency, Schedule, ScheduleError, Timetable};

use super::key::{At, Key, Kind, Node};
use super::kinds::Text;
use super::reader::Reader;
use super::section::Section;
use super::source::Place;

pub(super) const SCHEDULE: Key<Text> = Key::optional(
    "schedule",
    "cron expression of 5 or 6 fields, or @hourly, @daily, @weekly, @monthly; or use every",
);
pub(super) const EVERY: Key<Duration> = Key::optional(
    "every",
    "the time from one run to the next; or use schedule",
);
pub(super) const TIMEZONE: Key<Tz> = Key::optional(
    "timezone",
    "IANA time zone of schedule and of the days of retention, as Europe/Berlin; UTC by default",
);
pub(super) const CONCURRENCY: Key<Concurrency> = Key::optional(
    "concurrency",
    "when a run is due while the last one goes on: forbid (the default) leaves it out, allow starts it, \
     replace cancels the last one",
);
pub(super) const CATCH_UP: Key<bool> = Key::optional(
    "catch_up",
    "one run for all that were missed while the daemon was down; true by default",
);
pub(super) const START_DEADLINE: Key<Duration> = Key::optional(
    "start_deadline",
    "how late a run may start, else it counts as missed; any time by default",
);
pub(super) const JITTER: Key<Duration> = Key::optional(
    "jitter",
    "runs are put off by up to this, each policy by its own constant time; 0s by default",
);
pub(super) const SUSPEND: Key<bool> =
    Key::optional("suspend", "true to run only when asked; false by default");

impl Kind for Tz {
    const WANTS: &'static str = "an IANA time zone such as \"Europe/Berlin\"";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Text(name) = Text::read(node, reader)?;
        let zone = name.parse().ok();
        // A schedule knows which name may have been meant.
        if let (None, Err(error)) = (&zone, Schedule::cron("@daily", &name)) {
            refuse(reader.place(node.span()), &error, reader);
        }
        zone
    }
}

/// Reads all of them.
pub(super) fn read(section: &Section<'_>, reader: &mut Reader) -> Option<(Timetable, Tz)> {
    let expression = section.get(&SCHEDULE, reader);
    let every = section.get(&EVERY, reader);
    let time_zone = section.value(&TIMEZONE, reader).unwrap_or(Tz::UTC);
    let jitter = section.value(&JITTER, reader);
    let concurrency = section.value(&CONCURRENCY, reader);
    let catch_up = section.value(&CATCH_UP, reader).unwrap_or(true);
    let start_deadline = section.value(&START_DEADLINE, reader);
    let suspend = section.value(&SUSPEND, reader).unwrap_or(false);
    let schedule = match (&expression, &every) {
        (Some(expression), Some(every)) => {
            let other = (expression.place, "schedule is given here");
            let help = "leave one of them out";
            reader.conflict(
                every.place,
                "both schedule and every say when to run",
                help,
                other,
            );
            None
        }
        (Some(expression), None) => cron(expression, time_zone, reader),
        (None, Some(every)) => match Schedule::every(every.value) {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                refuse(every.place, &error, reader);
                None
            }
        },
        (None, None) => {
            // A wrong one has been told.
            if !section.has(&SCHEDULE) && !section.has(&EVERY) {
                let help = "give schedule = \"15 2 * * *\" or every = \"1h\"";
                reader.problem(section.place, "nothing says when to run", help);
            }
            None
        }
    }?;
    let timetable = Timetable {
        schedule: match jitter {
            Some(jitter) => schedule.jittered(jitter, &reader.entry),
            None => schedule,
        },
        concurrency: concurrency.unwrap_or(Concurrency::Forbid),
        catch_up,
        start_deadline,
        suspend,
    };
    Some((timetable, time_zone))
}

/// A cron expression in its time zone.
pub(super) fn cron(expression: &At<Text>, time_zone: Tz, reader: &mut Reader) -> Option<Schedule> {
    match Schedule::cron(&expression.value.0, time_zone.name()) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            refuse(expression.place, &error, reader);
            None
        }
    }
}

/// What an error says behind a semicolon is the advice.
fn refuse(place: Place, error: &ScheduleError, reader: &mut Reader) {
    let problem = error.to_string();
    let (message, help) = problem.split_once("; ").unwrap_or((&problem, ""));
    reader.problem(place, message, help);
}
