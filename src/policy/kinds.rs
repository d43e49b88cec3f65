//! What keys take: texts, numbers, sizes, durations, lists, named tables.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeString;

use crate::engine::rate::RateLimit;
use crate::engine::size::Size;
use crate::engine::topics::{TopicPattern, TopicPatterns, nearest};
use crate::repository::{InvalidLocation, Location};
use crate::words::Words;

use super::key::{At, Kind, Node};
use super::reader::Reader;

/// A text that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub String);

/// The text of a node, if it is one.
fn text<'n, T: Kind>(node: &'n Node<'_>, reader: &mut Reader) -> Option<&'n str> {
    let text = node.get_ref().as_str();
    if text.is_none() {
        reader.wrong_type::<T>(node);
    }
    text
}

impl Kind for Text {
    const WANTS: &'static str = "a string";

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        match text::<Self>(node, reader)? {
            "" => {
                reader.empty(node);
                None
            }
            text => Some(Self(text.to_owned())),
        }
    }
}

impl Kind for PathBuf {
    const WANTS: &'static str = "a path";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        match text::<Self>(node, reader)? {
            "" => {
                reader.empty(node);
                None
            }
            text if text.contains('\0') => {
                let place = reader.place(node.span());
                reader.problem(place, "no path has a NUL in it", "");
                None
            }
            text => Some(text.into()),
        }
    }
}

impl Kind for Location {
    const WANTS: &'static str = "a path";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(node, reader)?;
        match text.parse() {
            Ok(location) => Some(location),
            Err(InvalidLocation::Empty) => {
                reader.empty(node);
                None
            }
            Err(error) => {
                let place = reader.place(node.span());
                reader.problem(place, error.to_string(), "");
                None
            }
        }
    }
}

impl Kind for bool {
    const WANTS: &'static str = "true or false";

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let value = node.get_ref().as_bool();
        if value.is_none() {
            reader.wrong_type::<Self>(node);
        }
        value
    }
}

/// A whole number, from `LEAST` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count<const LEAST: u32>(pub u32);

impl<const LEAST: u32> Kind for Count<LEAST> {
    const WANTS: &'static str = match LEAST {
        0 => "a whole number from 0 to 4294967295",
        _ => "a whole number from 1 to 4294967295",
    };

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": LEAST, "maximum": u32::MAX })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(number) = node.get_ref().as_integer() else {
            reader.wrong_type::<Self>(node);
            return None;
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if count >= LEAST => Some(Self(count)),
            _ => {
                reader.wrong_text::<Self>(node, &number.to_string(), "");
                None
            }
        }
    }
}

impl Kind for Size {
    const WANTS: &'static str = "a size such as \"64MiB\" or \"100GB\"";

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^\\s*[0-9]+\\s*(B|[kK]B|KiB|MB|MiB|GB|GiB|TB|TiB)?\\s*$" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(node, reader)?;
        let size = text.parse().ok();
        if size.is_none() {
            reader.wrong_text::<Self>(
                node,
                text,
                "units are B, kB, KiB, MB, MiB, GB, GiB, TB and TiB",
            );
        }
        size
    }
}

impl Kind for RateLimit {
    const WANTS: &'static str = "a rate such as \"50MiB/s\" or \"10000 records/s\"";

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "/s\\s*$" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(node, reader)?;
        let rate = text.parse().ok();
        if rate.is_none() {
            reader.wrong_text::<Self>(node, text, "leave it out for no limit");
        }
        rate
    }
}

/// What is longer is a slip, and overflows calendars.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

impl Kind for Duration {
    const WANTS: &'static str = "a duration such as \"15m\" or \"26h\"";

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^\\s*[0-9].*[A-Za-z]\\s*$" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(node, reader)?;
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= LONGEST => Some(duration),
            Ok(_) => {
                reader.wrong_text::<Self>(node, text, "the longest is 100 years");
                None
            }
            Err(_) => {
                let help = "write numbers with units: ms, s, m, h, days, weeks";
                reader.wrong_text::<Self>(node, text, help);
                None
            }
        }
    }
}

impl<T: Words> Kind for T {
    const WANTS: &'static str = T::ONE_OF;

    fn schema() -> Value {
        json!({ "enum": T::WORDS })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(node, reader)?;
        let chosen = T::from_word(text);
        if chosen.is_none() {
            let near = nearest(text, T::WORDS.iter().copied());
            let help = near.map(|near| format!("did you mean `{near}`?"));
            reader.wrong_text::<Self>(node, text, help.unwrap_or_default());
        }
        chosen
    }
}

impl Kind for TopicPattern {
    const WANTS: &'static str = "a pattern such as \"orders.*\"";

    fn schema() -> Value {
        Text::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let text = text::<Self>(node, reader)?;
        match text.parse() {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let help = "write a name, a glob (orders.*) or a regular expression between slashes \
                            (/^orders-\\d+$/), and ! before it to exclude";
                let place = reader.place(node.span());
                reader.problem(place, error.to_string(), help);
                None
            }
        }
    }
}

impl<T: Kind> Kind for Vec<At<T>> {
    const WANTS: &'static str = "an array";

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema(), "minItems": 1 })
    }

    /// Takes what is right in it.
    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(nodes) = node.get_ref().as_array() else {
            reader.wrong_type::<Self>(node);
            return None;
        };
        let mut list = Vec::with_capacity(nodes.len());
        for node in nodes.iter() {
            list.extend(T::read(node, reader).map(|value| At {
                value,
                place: reader.place(node.span()),
            }));
        }
        Some(list)
    }
}

impl Kind for TopicPatterns {
    const WANTS: &'static str = "an array of patterns such as [\"orders.*\", \"!orders.tmp\"]";

    fn schema() -> Value {
        Vec::<At<TopicPattern>>::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let is_array = node.get_ref().is_array();
        if !is_array {
            reader.wrong_type::<Self>(node);
            return None;
        }
        let patterns = Vec::<At<TopicPattern>>::read(node, reader)?;
        if node
            .get_ref()
            .as_array()
            .is_some_and(|nodes| nodes.is_empty())
        {
            let place = reader.place(node.span());
            reader.problem(place, "no topic is named", "for all of them, write [\"*\"]");
            return None;
        }
        Some(Self::new(patterns.into_iter().map(|at| at.value).collect()))
    }
}

/// Tables that the operator gives names to, as in `[clusters.NAME]`; in the order of the file.
#[derive(Debug)]
pub(super) struct Named<T>(pub Vec<Entry<T>>);

/// One of them. Its value is missing when it is wrong: then that has been told.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub name: At<String>,
    pub value: Option<T>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    pub fn get(&self, name: &str) -> Option<&Entry<T>> {
        self.0.iter().find(|entry| entry.name.value == name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| entry.name.value.as_str())
    }
}

/// Names become labels of metrics, and are typed into shells.
const LONGEST_NAME: usize = 100;

impl<T: Kind> Kind for Named<T> {
    const WANTS: &'static str = "a table of tables, each with a name";

    fn schema() -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": format!("^[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}$") },
            "additionalProperties": T::schema(),
        })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            if !reader.is_open {
                reader.hide_values(node);
            }
            reader.wrong_type::<Self>(node);
            return None;
        };
        let mut nodes: Vec<_> = table.iter().collect();
        nodes.sort_by_key(|(key, _)| key.span().start);
        let mut entries = Vec::with_capacity(nodes.len());
        for (key, node) in nodes {
            let name = key.get_ref().to_string();
            let place = reader.place(key.span());
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
                reader.problem(
                    place,
                    "a name is made of letters, digits, `.`, `_` and `-`, at most 100 of them",
                    "",
                );
            }
            if let Some(dotted) = dotted::<T>(key, node) {
                let help = format!("write \"{dotted}\" in its place");
                reader.problem(place, "a name with dots is written in quotes", help);
                continue;
            }
            let value = reader.named(&name, node);
            entries.push(Entry {
                name: At { value: name, place },
                value,
            });
        }
        Some(Self(entries))
    }
}

/// The whole name where it was written with dots and without quotes, as in `[backup.my.orders]`: TOML reads tables within tables.
fn dotted<T: Kind>(key: &Spanned<DeString<'_>>, node: &Node<'_>) -> Option<String> {
    let table = node.get_ref().as_table()?;
    let mut entries = table.iter();
    let (Some((inner, within)), None) = (entries.next(), entries.next()) else {
        return None;
    };
    let known = T::schema();
    let is_key = known["properties"].get(inner.get_ref().as_ref()).is_some();
    let is_next = inner.span().start == key.span().end + 1;
    if is_key || !is_next || !within.get_ref().is_table() {
        return None;
    }
    let rest = dotted::<T>(inner, within).unwrap_or_else(|| inner.get_ref().to_string());
    Some(format!("{}.{rest}", key.get_ref()))
}
