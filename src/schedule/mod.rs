//! When: cron expressions and periods in time zones, and what becomes of moments that were missed.
//!
//! A [`Schedule`] is a row of due moments, a [`Timetable`] adds what happens when they cannot be kept, and a [`Timer`] says from
//! both clocks whether a run is due. The room reads no clock but through parameters, and knows nothing of what is run; [`Alarm`]
//! alone sleeps.
//!
//! croner knows the grammar and the calendar. What daylight saving does to a schedule is decided in `cron.rs`.

mod alarm;
mod cron;
mod due;
mod error;
mod fields;
mod time_zone;
mod timer;
mod timetable;

#[cfg(test)]
mod due_tests;
#[cfg(test)]
mod timer_tests;
#[cfg(test)]
mod year_tests;

pub use alarm::Alarm;
pub use due::{Missed, Schedule};
pub use error::ScheduleError;
pub use timer::{DueVerdict, LONGEST_WAIT, ON_TIME, Timer};
pub use timetable::{Concurrency, Timetable};
