//! `[mirror.NAME]`: topics copied from one cluster to another.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::engine::groups::GroupSelection;
use crate::engine::internal_topics::is_reserved;
use crate::engine::mirror::{
    Expression, From, IfExists, InvalidExpression, MirrorOptions, OnError, Transform,
};
use crate::engine::rate::RateLimit;
use crate::engine::renames::NameTemplate;
use crate::engine::settings::{ExistingConfig, Settings, SettingsChoice, UnsupportedConfig};
use crate::engine::topics::TopicPatterns;
use crate::schedule::Timetable;

use super::key::{At, Key, Keys, Kind, Node};
use super::kinds::{Count, Text};
use super::names::ClusterName;
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
    pub headers: BTreeMap<String, HeaderValue>,
    /// The new key of every record.
    pub key_transformation: Option<Expression>,
    /// What becomes of a record over which an expression fails.
    pub on_error: OnError,
    /// The topic of the target for dead letters.
    pub dead_letter_topic: Option<String>,
    /// Where partitions begin that were not mirrored before.
    pub from: From,
    /// How many records one run copies at most.
    pub max_messages: Option<u64>,
    /// What is done where the target holds records, and no progress is known.
    pub if_exists: IfExists,
    /// What is wanted of topics' settings.
    pub settings: SettingsChoice,
    /// Whether patterns that match nothing are fine.
    pub allow_empty: bool,
    /// The consumer groups whose offsets follow.
    pub groups: GroupSelection,
    /// How fast to read at most.
    pub rate_limit: Option<RateLimit>,
    /// When.
    pub mode: MirrorMode,
}

/// What a header holds that is added.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// This.
    Text(String),
    /// What it comes to over each record.
    Expression(Expression),
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
const FILTER: Key<Expression> = Key::optional(
    "filter",
    "CEL expression: only records that satisfy it are copied",
);
const HEADERS: Key<Headers> = Key::optional(
    "headers",
    "headers that are added to every record: a text, or { cel = \"…\" } for an expression",
);
const CEL: Key<Expression> = Key::required("cel", "CEL expression that gives the value");
const KEY_TRANSFORMATION: Key<Expression> = Key::optional(
    "key_transformation",
    "CEL expression that gives the new key, and so the partition: text, bytes, or null for no key",
);
const ON_ERROR: Key<OnError> = Key::optional(
    "on_error",
    "a record over which an expression fails: fail (the default) lets its partition stand still, skip leaves it out, dead_letter puts it into dead_letter_topic",
);
const DEAD_LETTER_TOPIC: Key<Text> = Key::optional(
    "dead_letter_topic",
    "the topic of the target for records over which an expression fails",
);
const FROM: Key<From> = Key::optional(
    "from",
    "where partitions begin that were not mirrored before: earliest (the default), latest, an offset or a time",
);
const MAX_MESSAGES: Key<Count<1>> =
    Key::optional("max_messages", "how many records one run copies at most");
const IF_EXISTS: Key<IfExists> = Key::optional(
    "if_exists",
    "a partition of the target that holds records, of which nothing is known: fail (the default) leaves it alone, append writes behind them",
);
const CONFIG_OVERRIDE: Key<TopicSettings> = Key::optional(
    "topic_config_override",
    "settings that topics of the target get, whatever the source has: a table",
);
const UNSUPPORTED_CONFIG: Key<UnsupportedConfig> = Key::optional(
    "unsupported_config",
    "settings that the target does not take: skip (the default) leaves them out, fail lets the topic stand still",
);
const EXISTING_CONFIG: Key<ExistingConfig> = Key::optional(
    "existing_topic_config",
    "topics of the target that exist: apply (the default) lets their settings follow the source's, keep leaves them, fail lets a \
     topic stand still that has others",
);
const ALLOW_EMPTY: Key<bool> = Key::optional(
    "allow_empty",
    "whether patterns that match nothing are fine; true for a mirror that is continuous",
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
    &KEY_TRANSFORMATION,
    &ON_ERROR,
    &DEAD_LETTER_TOPIC,
    &FROM,
    &MAX_MESSAGES,
    &IF_EXISTS,
    &CONFIG_OVERRIDE,
    &UNSUPPORTED_CONFIG,
    &EXISTING_CONFIG,
    &ALLOW_EMPTY,
    &GROUPS,
    &RATE_LIMIT,
    &MODE,
    &timetable::TIMEZONE,
];

impl MirrorPolicy {
    /// What the engine is to do.
    pub fn options(&self) -> MirrorOptions {
        let headers = self.headers.iter();
        let literal = headers.clone().filter_map(|(name, value)| match value {
            HeaderValue::Text(text) => Some((name.clone(), text.clone())),
            HeaderValue::Expression(_) => None,
        });
        let computed = headers.filter_map(|(name, value)| match value {
            HeaderValue::Text(_) => None,
            HeaderValue::Expression(expression) => Some((name.clone(), expression.clone())),
        });
        let transform = Transform {
            filter: self.filter.clone(),
            headers: literal.collect(),
            header_expressions: computed.collect(),
            key_transformation: self.key_transformation.clone(),
            on_error: self.on_error,
            dead_letter_topic: self.dead_letter_topic.clone(),
        };
        MirrorOptions {
            renames: self.rename.clone().into(),
            groups: self.groups.clone(),
            rate_limit: self.rate_limit,
            from: self.from,
            max_messages: self.max_messages,
            if_exists: self.if_exists,
            settings: self.settings.clone(),
            allow_empty: self.allow_empty,
            transform: Some(transform).filter(|transform| !transform.is_identity()),
            ..MirrorOptions::new(&self.name, self.topics.clone())
        }
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
        let topics = section.get(&TOPICS, reader);
        let rename = section.value(&RENAME, reader);
        let filter = section.value(&FILTER, reader);
        let headers = section.value(&HEADERS, reader).unwrap_or_default();
        let key_transformation = section.get(&KEY_TRANSFORMATION, reader);
        let on_error = section.get(&ON_ERROR, reader);
        let dead_letter_topic = section.get(&DEAD_LETTER_TOPIC, reader);
        check_dead_letters(on_error.as_ref(), dead_letter_topic.as_ref(), reader);
        let from = section.value(&FROM, reader);
        let max_messages = section.get(&MAX_MESSAGES, reader);
        let if_exists = section.value(&IF_EXISTS, reader);
        let settings = settings(&section, reader);
        let allow_empty = section.value(&ALLOW_EMPTY, reader);
        let groups = section.get(&GROUPS, reader);
        check_groups(groups.as_ref(), key_transformation.as_ref(), reader);
        let rate_limit = section.value(&RATE_LIMIT, reader);
        let mode = mode(&section, reader);
        if let (Some(most), Some(MirrorMode::Continuous)) = (&max_messages, &mode) {
            let help = "give it a schedule as mode, or leave max_messages out";
            let message = "a mirror that is continuous has no runs to be limited";
            reader.problem(most.place, message, help);
        }
        let (source, target) = (source?, target?);
        let rename = rename.unwrap_or_default();
        check_names(topics.as_ref(), &rename, reader);
        if source == target.value && rename.is_same() {
            let help = "give another target, or rename = \"copy.{topic}\"";
            reader.problem(target.place, "this writes topics into themselves", help);
        }
        Some(Self {
            name: reader.entry.clone(),
            source: source.0,
            target: target.value.0,
            topics: topics?.value,
            rename,
            filter,
            headers: headers.0,
            key_transformation: key_transformation.map(|at| at.value),
            on_error: on_error.map_or(OnError::Fail, |at| at.value),
            dead_letter_topic: dead_letter_topic.map(|at| at.value.0),
            from: from.unwrap_or(From::Earliest),
            max_messages: max_messages.map(|at| at.value.0.into()),
            if_exists: if_exists.unwrap_or_default(),
            settings,
            allow_empty: allow_empty.unwrap_or(false),
            groups: groups.map_or(GroupSelection::None, |at| at.value),
            rate_limit,
            mode: mode?,
        })
    }
}

fn settings(section: &Section<'_>, reader: &mut Reader) -> SettingsChoice {
    SettingsChoice {
        overrides: section
            .value(&CONFIG_OVERRIDE, reader)
            .unwrap_or_default()
            .0,
        unsupported: section
            .value(&UNSUPPORTED_CONFIG, reader)
            .unwrap_or(UnsupportedConfig::Skip),
        existing: section
            .value(&EXISTING_CONFIG, reader)
            .unwrap_or(ExistingConfig::Apply),
    }
}

fn check_groups(
    groups: Option<&At<GroupSelection>>,
    key_transformation: Option<&At<Expression>>,
    reader: &mut Reader,
) {
    if let (Some(key), Some(groups)) = (key_transformation, groups)
        && groups.value != GroupSelection::None
    {
        reader.conflict(
            groups.place,
            "groups cannot follow: their records go to other partitions",
            "leave groups out, or key_transformation",
            (key.place, "by this"),
        );
    }
}

/// What brokers refuse, or are harmed by.
const INTERNAL: &str = "this writes to one of Kafka's internal topics";

fn check_names(topics: Option<&At<TopicPatterns>>, rename: &NameTemplate, reader: &mut Reader) {
    let Some(topics) = topics else { return };
    let mut literals = topics.value.literals();
    if literals.any(|name| is_reserved(&rename.apply(name))) {
        let help = "leave it out, or rename it";
        reader.problem(topics.place, INTERNAL, help);
    }
}

fn check_dead_letters(
    on_error: Option<&At<OnError>>,
    topic: Option<&At<Text>>,
    reader: &mut Reader,
) {
    let wanted = on_error.filter(|at| at.value == OnError::DeadLetter);
    match (wanted, topic) {
        (Some(wanted), None) => {
            let help = "give dead_letter_topic = \"…\", a topic of the target";
            reader.problem(wanted.place, "dead letters have no topic", help);
        }
        (None, Some(topic)) => {
            let help = "set on_error = \"dead_letter\", or leave it out";
            reader.problem(topic.place, "no record becomes a dead letter", help);
        }
        (Some(_), Some(topic)) if is_reserved(&topic.value.0) => {
            let help = "give dead letters a topic of their own";
            reader.problem(topic.place, INTERNAL, help);
        }
        _ => {}
    }
}

impl Kind for Expression {
    const WANTS: &'static str = "a CEL expression";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Text(text) = Text::read(node, reader)?;
        match text.parse() {
            Ok(expression) => Some(expression),
            Err(InvalidExpression { message, help }) => {
                let place = reader.place(node.span());
                reader.problem(place, message, help);
                None
            }
        }
    }
}

/// Headers by name.
#[derive(Debug, Default)]
struct Headers(BTreeMap<String, HeaderValue>);

impl Kind for Headers {
    const WANTS: &'static str = "a table of texts and of { cel = \"…\" }";

    fn schema() -> Value {
        let value = json!({ "anyOf": [{ "type": "string" }, schema::table(&[&CEL])] });
        json!({ "type": "object", "additionalProperties": value })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            reader.wrong_type::<Self>(node);
            return None;
        };
        let mut headers = BTreeMap::new();
        for (name, node) in table {
            let value = match node.get_ref().as_str() {
                Some(text) => Some(HeaderValue::Text(text.to_owned())),
                None => Section::open::<Self>(node, &[&CEL], reader)
                    .and_then(|section| section.value(&CEL, reader))
                    .map(HeaderValue::Expression),
            };
            headers.extend(value.map(|value| (name.get_ref().to_string(), value)));
        }
        Some(Self(headers))
    }
}

/// Settings by name, as Kafka writes them.
#[derive(Debug, Default)]
struct TopicSettings(Settings);

impl Kind for TopicSettings {
    const WANTS: &'static str = "a table of texts, such as { \"retention.ms\" = \"86400000\" }";

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": Text::schema() })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            reader.wrong_type::<Self>(node);
            return None;
        };
        let mut settings = Settings::new();
        for (name, node) in table {
            let value = Text::read(node, reader);
            settings.extend(value.map(|value| (name.get_ref().to_string(), value.0)));
        }
        Some(Self(settings))
    }
}

impl Kind for From {
    const WANTS: &'static str = "earliest, latest, an offset or a time";

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, Text::schema()] })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let number = node.get_ref().as_integer();
        let text = match number {
            Some(number) => number.as_str().to_owned(),
            None => Text::read(node, reader)?.0,
        };
        let from = text.parse().ok();
        if from.is_none() {
            let help = "times are written as \"2026-11-24T09:00:00Z\"";
            reader.wrong_text::<Self>(node, &text, help);
        }
        from
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
