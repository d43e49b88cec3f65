//! `[mirror.NAME]`: topics copied from one cluster to another.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::engine::backup::GroupSelection;
use crate::engine::mirror::{Expression, MirrorOptions, OnError, Transform};
use crate::engine::rate::RateLimit;
use crate::engine::topics::{NameTemplate, TopicPatterns};
use crate::schedule::Timetable;

use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::{Choice, OneOf, Text, Texts};
use super::policy_file::ClusterName;
use super::reader::Reader;
use super::section::Section;
use super::{schema, timetable};

/// Which topics are copied from where to where, and how they change on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorPolicy {
    /// Its name, which no other policy has.
    pub name: String,
    /// The cluster to read from.
    pub source: String,
    /// The cluster to write to.
    pub target: String,
    /// The topics.
    pub topics: TopicPatterns,
    /// What they are called in the target.
    pub rename: NameTemplate,
    /// What a record must satisfy to be copied.
    pub filter: Option<Expression>,
    /// Headers that are added to every record.
    pub headers: BTreeMap<String, String>,
    /// What becomes of a record over which the filter fails.
    pub on_error: OnError,
    /// The consumer groups whose offsets follow.
    pub groups: GroupSelection,
    /// How fast to read at most.
    pub rate_limit: Option<RateLimit>,
    /// When.
    pub mode: MirrorMode,
}

/// When a mirror copies.
#[derive(Debug, Clone, PartialEq)]
pub enum MirrorMode {
    /// All the time.
    Continuous,
    /// What is there at certain times, in the local time of a zone.
    Scheduled(Timetable, Tz),
}

const SOURCE: Key<ClusterName> =
    Key::required("source", "the cluster to read from, of kafkeep.toml");
const TARGET: Key<ClusterName> =
    Key::required("target", "the cluster to write to, of kafkeep.toml");
const TOPICS: Key<TopicPatterns> = Key::required(
    "topics",
    "names, globs (orders.*) and regular expressions between slashes (/^orders-\\d+$/); ! excludes",
);
const RENAME: Key<NameTemplate> = Key::optional(
    "rename",
    "the topics' names in the target, where {topic} stands for the old one; {topic} by default",
);
const FILTER: Key<Text> = Key::optional(
    "filter",
    "CEL expression: only records that satisfy it are copied",
);
const HEADERS: Key<Texts> = Key::optional("headers", "headers that are added to every record");
const ON_ERROR: Key<OneOf<OnError>> = Key::optional(
    "on_error",
    "a record over which the filter fails: fail (the default) lets its partition stand still, skip leaves it out",
);
const GROUPS: Key<GroupSelection> = Key::optional(
    "groups",
    "consumer groups whose offsets follow, translated: true (all), patterns, or false (the default)",
);
const RATE_LIMIT: Key<RateLimit> = Key::optional(
    "rate_limit",
    "read no faster than this; no limit by default",
);
const MODE: Key<Text> = Key::optional(
    "mode",
    "continuous (the default), or a schedule: a cron expression of 5 or 6 fields, or @daily",
);
const KEYS: Keys = &[
    &SOURCE,
    &TARGET,
    &TOPICS,
    &RENAME,
    &FILTER,
    &HEADERS,
    &ON_ERROR,
    &GROUPS,
    &RATE_LIMIT,
    &MODE,
    &timetable::TIMEZONE,
];

impl MirrorPolicy {
    /// What the engine is to do.
    pub fn options(&self) -> MirrorOptions {
        let changes = self.filter.is_some() || !self.headers.is_empty();
        let headers = self.headers.iter();
        MirrorOptions {
            rename: self.rename.clone(),
            groups: self.groups.clone(),
            rate_limit: self.rate_limit,
            transform: changes.then(|| Transform {
                filter: self.filter.clone(),
                headers: headers
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
                on_error: self.on_error,
            }),
            ..MirrorOptions::new(&self.name, self.topics.clone())
        }
    }
}

impl Choice for OnError {
    const WANTS: &'static str = "fail or skip";
    const CHOICES: &'static [(&'static str, Self)] = &[("fail", Self::Fail), ("skip", Self::Skip)];
}

impl Kind for MirrorPolicy {
    const WANTS: &'static str = "a table with source, target and topics";

    fn schema() -> Value {
        schema::table(KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let section = Section::open::<Self>(node, KEYS, reader)?;
        let source = section.value(&SOURCE, reader);
        let target = section.get(&TARGET, reader);
        let topics = section.value(&TOPICS, reader);
        let rename = section.value(&RENAME, reader);
        let filter = section
            .get(&FILTER, reader)
            .and_then(|filter| compiled(&filter, reader));
        let headers = section.value(&HEADERS, reader).unwrap_or_default();
        let on_error = section.value(&ON_ERROR, reader);
        let groups = section.value(&GROUPS, reader);
        let rate_limit = section.value(&RATE_LIMIT, reader);
        let mode = mode(&section, reader);
        let (source, target) = (source?, target?);
        let rename = rename.unwrap_or_default();
        if source == target.value && rename.is_same() {
            let help = "give another target, or rename = \"copy.{topic}\"";
            reader.problem(target.place, "this writes topics into themselves", help);
        }
        Some(Self {
            name: reader.entry.clone(),
            source: source.0,
            target: target.value.0,
            topics: topics?,
            rename,
            filter,
            headers: headers.0,
            on_error: on_error.map_or(OnError::Fail, |OneOf(on_error)| on_error),
            groups: groups.unwrap_or(GroupSelection::None),
            rate_limit,
            mode: mode?,
        })
    }
}

fn compiled(filter: &At<Text>, reader: &mut Reader) -> Option<Expression> {
    match filter.value.0.parse::<Expression>() {
        Ok(expression) => Some(expression),
        Err(error) => {
            reader.problem(filter.place, error.message, error.help);
            None
        }
    }
}

fn mode(section: &Section<'_>, reader: &mut Reader) -> Option<MirrorMode> {
    let mode: Option<At<Text>> = section.get(&MODE, reader);
    let time_zone = section
        .value(&timetable::TIMEZONE, reader)
        .unwrap_or(Tz::UTC);
    let Some(expression) = mode.filter(|mode| mode.value.0 != "continuous") else {
        return Some(MirrorMode::Continuous);
    };
    let schedule = timetable::cron(&expression, time_zone, reader)?;
    Some(MirrorMode::Scheduled(Timetable::new(schedule), time_zone))
}

impl Kind for NameTemplate {
    const WANTS: &'static str = "a template such as \"dr.{topic}\"";

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^([A-Za-z0-9._-]|\\{topic\\})+$" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Text(text) = Text::read(node, reader)?;
        match text.parse() {
            Ok(template) => Some(template),
            Err(error) => {
                reader.wrong_text::<Self>(node, &text, error.to_string());
                None
            }
        }
    }
}
