//! `[mirror.NAME]`: topics copied from one cluster to another.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::engine::mirror::MirrorOptions;
use crate::engine::topics::{NameTemplate, TopicPatterns};
use crate::schedule::Timetable;

use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::{Text, Texts};
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
    /// A CEL expression that a record must satisfy to be copied.
    pub filter: Option<String>,
    /// Headers that are added to every record.
    pub headers: BTreeMap<String, String>,
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
    &MODE,
    &timetable::TIMEZONE,
];

impl MirrorPolicy {
    /// What the engine is to do; why it cannot do it yet.
    pub fn options(&self) -> Result<MirrorOptions, String> {
        let not_built = |key: &str| {
            Err(format!(
                "mirror policy {}: `{key}` is not built yet; records are mirrored as they are",
                self.name
            ))
        };
        if self.filter.is_some() {
            return not_built("filter");
        }
        if !self.headers.is_empty() {
            return not_built("headers");
        }
        Ok(MirrorOptions {
            rename: self.rename.clone(),
            ..MirrorOptions::new(&self.name, self.topics.clone())
        })
    }
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
        let filter = section.value(&FILTER, reader);
        let headers = section.value(&HEADERS, reader).unwrap_or_default();
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
            filter: filter.map(|Text(filter)| filter),
            headers: headers.0,
            mode: mode?,
        })
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
