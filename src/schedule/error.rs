//! Why a schedule that an operator wrote cannot be one.

use croner::errors::CronError;

/// A wrong schedule: always for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Neither five fields nor six.
    #[error(
        "`{expression}` has {count} fields; a schedule has 5 (minute, hour, day of month, month, day of week) or 6 \
         (a second in front), as in `15 2 * * *`, or is a name such as @daily"
    )]
    FieldCount {
        /// The expression as it was written.
        expression: String,
        /// How many fields it has.
        count: usize,
    },
    /// One field says what it cannot.
    #[error("{field} `{text}`: {problem}")]
    Field {
        /// Which field, in words.
        field: &'static str,
        /// What is written in that field.
        text: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// `@something` that is no name of a schedule.
    #[error("no schedule is called `{name}`; the names are {known}")]
    Name {
        /// The name as it was written, with its `@`.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The fields are right one by one, but no day is like that.
    #[error("`{expression}` is never due: no year has such a day")]
    Never {
        /// The expression as it was written.
        expression: String,
    },
    /// What only the grammar objects to.
    #[error("`{expression}` is no schedule")]
    Grammar {
        /// The expression as it was written.
        expression: String,
        /// The parser's reason.
        source: CronError,
    },
    /// No such time zone.
    #[error(
        "no time zone is called `{name}`; did you mean `{nearest}`? A time zone has an IANA name, such as Europe/Berlin or UTC"
    )]
    TimeZone {
        /// The time zone as it was written.
        name: String,
        /// The name that is most like it.
        nearest: &'static str,
    },
    /// `every` shorter or longer than can be kept.
    #[error("every `{}` is {problem}; a period is at least 1s and at most 1year", humantime::format_duration(*.period))]
    Period {
        /// The period as it was written.
        period: std::time::Duration,
        /// Too short or too long.
        problem: &'static str,
    },
}
