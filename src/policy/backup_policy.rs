//! `[backup.NAME]`: backups on a schedule.

use std::time::Duration;

use chrono::DateTime;
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::engine::backup::BackupOptions;
use crate::engine::expire::Retention;
use crate::engine::groups::GroupSelection;
use crate::engine::rate::RateLimit;
use crate::engine::size::Size;
use crate::engine::topics::TopicPatterns;
use crate::record::Compression;
use crate::schedule::{Schedule, Timetable};
use crate::words::words;

use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::{Count, Text};
use super::names::{ClusterName, RepositoryName};
use super::reader::Reader;
use super::section::Section;
use super::{schema, timetable};

/// Which topics are backed up, where to, when, and how long backups are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupPolicy {
    /// Its name, which no other policy has.
    pub name: String,
    /// The cluster to read from.
    pub cluster: String,
    /// The repository to write to.
    pub repository: String,
    /// The topics.
    pub topics: TopicPatterns,
    /// Whether patterns that match no topic are fine.
    pub allow_empty: bool,
    /// When.
    pub timetable: Timetable,
    /// Whose days and weeks the schedule and the retention count.
    pub time_zone: Tz,
    /// The codec for batches that the producer did not compress.
    pub compression: Compression,
    /// How fast to read at most.
    pub rate_limit: Option<RateLimit>,
    /// The consumer groups whose offsets go with the topics.
    pub groups: GroupSelection,
    /// What is verified after each run.
    pub verify: Verification,
    /// Which backups are kept.
    pub retention: Retention,
    /// How old the last success may be; exported as a gauge.
    pub max_age: Option<Duration>,
    /// A run in which nothing moves for so long has failed.
    pub deadline: Duration,
    /// When old backups are expired, besides after each run that succeeded: a policy that fails must not fill its disk.
    pub expire_timetable: Timetable,
    /// What becomes of a run of it when it is taken out of the files.
    pub when_removed: WhenRemoved,
}

impl BackupPolicy {
    /// What the engine is to do.
    pub fn options(&self) -> BackupOptions {
        BackupOptions {
            allow_empty: self.allow_empty,
            compression: self.compression,
            rate_limit: self.rate_limit,
            groups: self.groups.clone(),
            policy: Some(self.name.clone()),
            cluster_name: Some(self.cluster.clone()),
            ..BackupOptions::new(self.topics.clone())
        }
    }
}

words! {
    /// What becomes of a run whose policy is taken out of the files.
    pub enum WhenRemoved {
        /// It goes on to its end.
        Finish = "finish",
        /// It seals what it has, and ends.
        Cancel = "cancel",
    }
}

words! {
    /// What is verified after each run.
    pub enum Verification {
        /// Nothing.
        Off = "off",
        /// That all is there: names and sizes.
        Quick = "quick",
        /// Every byte.
        Full = "full",
    }
}

const CLUSTER: Key<ClusterName> =
    Key::required("cluster", "the cluster to read from, of kafkeep.toml");
const REPOSITORY: Key<RepositoryName> =
    Key::required("repository", "the repository to write to, of kafkeep.toml");
const TOPICS: Key<TopicPatterns> = Key::required(
    "topics",
    "names, globs (orders.*) and regular expressions between slashes (/^orders-\\d+$/); ! excludes",
);
const ALLOW_EMPTY: Key<bool> = Key::optional(
    "allow_empty",
    "whether patterns that match no topic are fine; false by default",
);
const COMPRESSION: Key<Compression> = Key::optional(
    "compression",
    "for batches that the producer did not compress: none, gzip (the default), snappy, lz4 or zstd",
);
const RATE_LIMIT: Key<RateLimit> = Key::optional(
    "rate_limit",
    "read no faster than this; no limit by default",
);
const GROUPS: Key<GroupSelection> = Key::optional(
    "groups",
    "consumer groups whose offsets go with the topics: true (all; one that cannot be read is an error), \
     false, or patterns; by default all that can be read",
);
const VERIFY: Key<Verification> =
    Key::optional("verify", "after each run: off, quick (the default) or full");
const RETENTION: Key<Retention> = Key::optional(
    "retention",
    "which backups are kept: those that any rule wants; { retention_days = 30 } by default",
);
const MAX_AGE: Key<Duration> = Key::optional(
    "max_age",
    "how old the last success may be: exported as a gauge, for one alert on every policy",
);
const DEADLINE: Key<Duration> = Key::optional(
    "deadline",
    "a run in which nothing moves for so long has failed; 2m by default",
);
const EXPIRE_SCHEDULE: Key<Text> = Key::optional(
    "expire_schedule",
    "when retention is applied, besides after each run that succeeded: a cron expression; @daily by default",
);
const WHEN_REMOVED: Key<WhenRemoved> = Key::optional(
    "when_removed",
    "a run that goes on when the policy is taken out of the files: finish (the default) or cancel",
);
const KEYS: Keys = &[
    &CLUSTER,
    &REPOSITORY,
    &TOPICS,
    &ALLOW_EMPTY,
    &timetable::SCHEDULE,
    &timetable::EVERY,
    &timetable::TIMEZONE,
    &timetable::CONCURRENCY,
    &timetable::CATCH_UP,
    &timetable::START_DEADLINE,
    &timetable::JITTER,
    &timetable::SUSPEND,
    &COMPRESSION,
    &RATE_LIMIT,
    &GROUPS,
    &VERIFY,
    &RETENTION,
    &EXPIRE_SCHEDULE,
    &MAX_AGE,
    &DEADLINE,
    &WHEN_REMOVED,
];

const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);
const DEFAULT_RETENTION_DAYS: u32 = 30;
/// Repositories of many policies are not all looked through at midnight.
const EXPIRE_JITTER: Duration = Duration::from_secs(3600);

impl Kind for BackupPolicy {
    const WANTS: &'static str = "a table with cluster, repository, topics and schedule";

    fn schema() -> Value {
        schema::table(KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, KEYS, reader)?;
        let cluster = section.value(&CLUSTER, reader);
        let repository = section.value(&REPOSITORY, reader);
        let topics = section.value(&TOPICS, reader);
        let allow_empty = section.value(&ALLOW_EMPTY, reader).unwrap_or(false);
        let times = timetable::read(&section, reader);
        let compression = section.value(&COMPRESSION, reader);
        let rate_limit = section.value(&RATE_LIMIT, reader);
        let groups = section.value(&GROUPS, reader).unwrap_or_default();
        let verify = section.value(&VERIFY, reader);
        let retention = section.value(&RETENTION, reader);
        let max_age = section.get(&MAX_AGE, reader);
        let deadline = section.value(&DEADLINE, reader);
        let when_removed = section.value(&WHEN_REMOVED, reader);
        let expire_schedule = section.get(&EXPIRE_SCHEDULE, reader);
        let (timetable, time_zone) = times?;
        if let Some(max_age) = &max_age {
            warn_of_short_age(max_age, &timetable.schedule, reader);
        }
        let expire_schedule = match expire_schedule {
            Some(expression) => timetable::cron(&expression, time_zone, reader)?,
            None => Schedule::cron("@daily", time_zone.name())
                .ok()?
                .jittered(EXPIRE_JITTER, &reader.entry),
        };
        Some(Self {
            name: reader.entry.clone(),
            cluster: cluster?.0,
            repository: repository?.0,
            topics: topics?,
            allow_empty,
            time_zone,
            compression: compression.unwrap_or(Compression::Gzip),
            rate_limit,
            groups,
            verify: verify.unwrap_or(Verification::Quick),
            retention: retention.unwrap_or(Retention {
                retention_days: Some(DEFAULT_RETENTION_DAYS),
                ..Retention::default()
            }),
            max_age: max_age.map(|at| at.value),
            deadline: deadline.unwrap_or(DEFAULT_DEADLINE),
            expire_timetable: Timetable {
                // Nobody expects a policy that rests to take anything away.
                suspend: timetable.suspend,
                ..Timetable::new(expire_schedule)
            },
            timetable,
            when_removed: when_removed.unwrap_or(WhenRemoved::Finish),
        })
    }
}

/// Warns where a success becomes too old before the next run can be one, however well all goes.
fn warn_of_short_age(max_age: &At<Duration>, schedule: &Schedule, reader: &mut Reader) {
    if !reader.warns {
        return;
    }
    let Some(longest) = schedule.longest_gap(DateTime::UNIX_EPOCH) else {
        return;
    };
    if max_age.value > longest {
        return;
    }
    let message = format!(
        "max_age is {}, and up to {} lie between two runs: each success becomes too old before the next run ends",
        humantime::format_duration(max_age.value),
        humantime::format_duration(longest),
    );
    let help = "give a max_age that is longer than that by what a run takes, or run more often";
    reader.warning(max_age.place, message, help);
}

impl Kind for GroupSelection {
    const WANTS: &'static str = "true, false or an array of patterns";

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "boolean" }, TopicPatterns::schema()] })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        match node.get_ref().as_bool() {
            Some(true) => Some(Self::All),
            Some(false) => Some(Self::None),
            None if node.get_ref().is_array() => {
                TopicPatterns::read(node, reader).map(Self::Matching)
            }
            None => {
                reader.wrong_type::<Self>(node);
                None
            }
        }
    }
}

const KEEP_LAST: Key<Count<0>> = Key::optional("keep_last", "the newest N");
const KEEP_HOURLY: Key<Count<0>> = Key::optional(
    "keep_hourly",
    "the newest of each of the last N hours that have any",
);
const KEEP_DAILY: Key<Count<0>> = Key::optional(
    "keep_daily",
    "the newest of each of the last N days that have any",
);
const KEEP_WEEKLY: Key<Count<0>> = Key::optional(
    "keep_weekly",
    "the newest of each of the last N weeks that have any",
);
const KEEP_MONTHLY: Key<Count<0>> = Key::optional(
    "keep_monthly",
    "the newest of each of the last N months that have any",
);
const KEEP_YEARLY: Key<Count<0>> = Key::optional(
    "keep_yearly",
    "the newest of each of the last N years that have any",
);
const KEEP_WITHIN: Key<Duration> = Key::optional(
    "keep_within",
    "all that began less than this before the newest of them",
);
const RETENTION_DAYS: Key<Count<0>> = Key::optional(
    "retention_days",
    "all that began less than N days before the newest of them",
);
const MAX_SIZE: Key<Size> = Key::optional(
    "max_size",
    "the oldest go until the rest fits into this, whatever the other rules want",
);
const MIN_BACKUPS: Key<Count<0>> = Key::optional(
    "min_backups",
    "so many complete ones are kept whatever the rules say; 1 by default",
);
const RETENTION_KEYS: Keys = &[
    &KEEP_LAST,
    &KEEP_HOURLY,
    &KEEP_DAILY,
    &KEEP_WEEKLY,
    &KEEP_MONTHLY,
    &KEEP_YEARLY,
    &KEEP_WITHIN,
    &RETENTION_DAYS,
    &MAX_SIZE,
    &MIN_BACKUPS,
];

impl Kind for Retention {
    const WANTS: &'static str = "a table such as { keep_daily = 7, keep_weekly = 4 }";

    fn schema() -> Value {
        schema::table(RETENTION_KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let so_far = reader.count();
        let section = Section::open::<Self>(node, RETENTION_KEYS, reader)?;
        let mut count = |key: &Key<Count<0>>| section.value(key, reader).map(|Count(count)| count);
        let retention = Self {
            keep_last: count(&KEEP_LAST),
            keep_hourly: count(&KEEP_HOURLY),
            keep_daily: count(&KEEP_DAILY),
            keep_weekly: count(&KEEP_WEEKLY),
            keep_monthly: count(&KEEP_MONTHLY),
            keep_yearly: count(&KEEP_YEARLY),
            retention_days: count(&RETENTION_DAYS),
            min_backups: count(&MIN_BACKUPS).unwrap_or(Self::default().min_backups),
            keep_within: section.value(&KEEP_WITHIN, reader),
            max_size: section.value(&MAX_SIZE, reader),
        };
        // A rule that could not be read might have kept something.
        if let (true, Err(error)) = (reader.count() == so_far, retention.check()) {
            reader.problem(section.place, error.problem, error.advice);
        }
        Some(retention)
    }
}
