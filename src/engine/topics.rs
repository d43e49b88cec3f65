//! Which topics a command speaks of: patterns.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use globset::{Glob, GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};

use crate::kafka::{Client, ErrorCode, KafkaError, Metadata, Topics};
use crate::repository::{Manifest, TopicEntry};

use super::EngineError;
use super::refusal::{Advice, Part, Refusal};

/// One pattern of names, of topics or of groups: a literal, a glob (`orders.*`), a regular expression between slashes
/// (`/^orders-\d+$/`), any of them negated by a leading `!`.
#[derive(Debug, Clone)]
pub struct TopicPattern {
    text: String,
    exclude: bool,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Literal,
    /// Compiled when it is first needed: a configuration has many more patterns than run at a time.
    Glob(OnceLock<Option<Box<GlobMatcher>>>),
    Regex(Regex),
}

/// Patterns are equal when they are written alike.
impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicPattern {}

impl TopicPattern {
    /// Whether it is about `name`, to choose or to exclude it.
    pub(super) fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Literal => self.body() == name,
            Matcher::Glob(compiled) => compiled
                .get_or_init(|| {
                    glob(self.body())
                        .ok()
                        .map(|glob| Box::new(glob.compile_matcher()))
                })
                .as_ref()
                .is_some_and(|glob| glob.is_match(name)),
            Matcher::Regex(regex) => regex.is_match(name),
        }
    }

    /// What all names that it matches begin with, as far as it is written out.
    pub fn prefix(&self) -> &str {
        let body = self.body();
        match &self.matcher {
            Matcher::Literal => body,
            Matcher::Glob(_) => body.split(GLOB_SIGNS).next().unwrap_or_default(),
            Matcher::Regex(_) => "",
        }
    }

    /// What it says, without the `!`.
    fn body(&self) -> &str {
        self.text
            .get(usize::from(self.exclude)..)
            .unwrap_or_default()
    }

    /// Whether it takes topics away.
    pub fn is_exclusion(&self) -> bool {
        self.exclude
    }

    /// The one that chooses this name alone.
    pub(super) fn of_name(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            exclude: false,
            matcher: Matcher::Literal,
        }
    }

    /// The one name that it chooses, if it is no more than that.
    pub fn literal(&self) -> Option<&str> {
        match &self.matcher {
            Matcher::Literal if !self.exclude => Some(self.body()),
            _ => None,
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for TopicPattern {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        Self::within(text, LARGEST_REGEX)
    }
}

/// The largest that a regular expression of an operator may become when it is compiled, in bytes.
const LARGEST_REGEX: usize = 10 << 20;
/// The same for one of a caller, and the longest pattern that a caller may give: names have 249 bytes at most.
const LARGEST_REGEX_OF_CALLERS: usize = 64 << 10;
const LONGEST_OF_CALLERS: usize = 256;

impl TopicPattern {
    /// A pattern of somebody who may give any: within bounds, so that to try it on a name takes little.
    ///
    /// # Errors
    ///
    /// When it is no pattern, or is over a bound.
    pub fn of_caller(text: &str) -> Result<Self, EngineError> {
        if text.len() > LONGEST_OF_CALLERS {
            let why = format!("the pattern has more than {LONGEST_OF_CALLERS} bytes");
            return Err(EngineError::refused(why));
        }
        Self::within(text, LARGEST_REGEX_OF_CALLERS)
    }

    fn within(text: &str, largest_regex: usize) -> Result<Self, EngineError> {
        let (exclude, body) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let refuse = |why: String| EngineError::refused(format!("pattern `{text}`: {why}"));
        let matcher = if body.is_empty() {
            return Err(refuse(
                "is empty; write a name, a glob or /a regular expression/".into(),
            ));
        } else if let Some(regex) = body
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
        {
            let mut builder = RegexBuilder::new(regex);
            let built = builder.size_limit(largest_regex).build();
            Matcher::Regex(built.map_err(|error| refuse(in_one_line(&error)))?)
        } else if body.contains(GLOB_SIGNS) {
            glob(body).map_err(|error| refuse(error.kind().to_string()))?;
            Matcher::Glob(OnceLock::new())
        } else {
            Matcher::Literal
        };
        Ok(Self {
            text: text.to_owned(),
            exclude,
            matcher,
        })
    }
}

/// What makes a glob of a name.
const GLOB_SIGNS: [char; 4] = ['*', '?', '[', '{'];

fn glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(false).build()
}

/// The last line says what is wrong; those before it show where.
fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// The topics a command chooses. A name is chosen when some pattern matches it and no `!` pattern does;
/// patterns that only exclude choose from everything. Internal topics only when named literally.
///
/// Clones share them: a configuration is held by several, and has tens of thousands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPatterns(Arc<[TopicPattern]>);

/// A topic as far as choosing it goes.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether Kafka keeps it for itself.
    pub is_internal: bool,
}

impl TopicPatterns {
    /// No patterns choose every topic that is not internal.
    pub fn new(patterns: Vec<TopicPattern>) -> Self {
        Self(patterns.into())
    }

    /// The one of this name, be it that it looks like a pattern.
    pub fn literal(name: &str) -> Self {
        Self::new(vec![TopicPattern::of_name(name)])
    }

    /// The patterns, as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &TopicPattern> {
        self.0.iter()
    }

    /// The names that are chosen as they are.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|pattern| !pattern.exclude)
            .filter_map(TopicPattern::literal)
    }

    /// Whether there are no patterns, which choose all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `topic` is chosen.
    pub fn chooses(&self, topic: Candidate<'_>) -> bool {
        if self
            .0
            .iter()
            .any(|pattern| pattern.exclude && pattern.matches(topic.name))
        {
            return false;
        }
        if topic.is_internal {
            return self
                .0
                .iter()
                .any(|pattern| pattern.literal() == Some(topic.name));
        }
        let mut including = self.0.iter().filter(|pattern| !pattern.exclude).peekable();
        including.peek().is_none() || including.any(|pattern| pattern.matches(topic.name))
    }

    /// A pattern that is to choose something and matches none of `names`.
    pub(super) fn unmatched<'a>(
        &self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<&TopicPattern> {
        self.0
            .iter()
            .find(|pattern| !pattern.exclude && !names.clone().any(|name| pattern.matches(name)))
    }

    /// The chosen topics of a backup, in order: at least one.
    ///
    /// # Errors
    ///
    /// Where a pattern matches none, or no topic is left.
    pub(super) fn choose_of<'a>(
        &self,
        manifest: &'a Manifest,
    ) -> Result<Vec<&'a TopicEntry>, EngineError> {
        let id = manifest.backup_id;
        let names = manifest.topics.iter().map(|topic| topic.topic.as_str());
        if let Some(pattern) = self.unmatched(names.clone()) {
            let refusal = Refusal::new(format!("no topic `{pattern}` in backup {id}"));
            let refusal = refusal.of(Part::Topic, pattern);
            let near = pattern.literal().and_then(|name| nearest(name, names));
            return Err(EngineError::not_found(match near {
                Some(near) => refusal.advise(Advice::DidYouMean(near.to_owned())),
                None => refusal,
            }));
        }
        let is_chosen = |topic: &&TopicEntry| {
            self.chooses(Candidate {
                name: &topic.topic,
                is_internal: false,
            })
        };
        let chosen: Vec<&TopicEntry> = manifest.topics.iter().filter(is_chosen).collect();
        match (chosen.is_empty(), self.is_empty()) {
            (false, _) => Ok(chosen),
            (true, true) => Err(EngineError::refused(format!("backup {id} holds no topics"))),
            (true, false) => Err(EngineError::refused(format!(
                "every topic of backup {id} is excluded: leave out a pattern with `!`"
            ))),
        }
    }

    /// The chosen names among `candidates`, in order. A literal that is not there, and a pattern that
    /// matches nothing unless `allow_empty`, are refused: `place` says where was looked.
    pub fn choose<'a>(
        &self,
        candidates: impl IntoIterator<Item = Candidate<'a>> + Clone,
        allow_empty: bool,
        place: &str,
    ) -> Result<BTreeSet<&'a str>, EngineError> {
        for pattern in self.0.iter().filter(|pattern| !pattern.exclude) {
            let found = candidates
                .clone()
                .into_iter()
                .any(|topic| pattern.matches(topic.name));
            if found {
                continue;
            }
            if let Some(name) = pattern.literal() {
                let near = nearest(name, candidates.clone().into_iter().map(|topic| topic.name));
                let refusal = Refusal::new(format!("no topic `{name}` in {place}"));
                let refusal = refusal.of(Part::Topic, name);
                return Err(EngineError::not_found(match near {
                    Some(near) => refusal.advise(Advice::DidYouMean(near.to_owned())),
                    None => refusal,
                }));
            }
            if !allow_empty {
                let why = format!("pattern `{pattern}` matches no topic in {place}");
                let refusal = Refusal::new(why).advise(Advice::AllowEmpty);
                return Err(EngineError::refused(refusal));
            }
        }
        let chosen: BTreeSet<_> = candidates
            .into_iter()
            .filter(|topic| self.chooses(*topic))
            .map(|topic| topic.name)
            .collect();
        if chosen.is_empty() && !allow_empty {
            let refusal = Refusal::new(format!("no topic is chosen in {place}"));
            return Err(EngineError::refused(refusal.advise(Advice::AllowEmpty)));
        }
        Ok(chosen)
    }
}

/// The closest of `names` to `wanted`, when it is close enough to be a slip.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wanted.chars().count() / 3 + 1;
    names
        .map(|name| (edit_distance(wanted, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein's distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        for (j, cb) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let left = if j == 0 {
                i + 1
            } else {
                row.get(j).copied().unwrap_or(usize::MAX)
            };
            let best = (diagonal + usize::from(ca != *cb))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = best;
            }
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// A topic that is named but not listed may be there all the same, for others to see: asked for by its name, the
/// brokers say so.
pub(super) async fn refuse_unseen(
    client: &Client,
    metadata: &Metadata,
    patterns: &TopicPatterns,
) -> Result<(), EngineError> {
    let unseen: Vec<String> = patterns
        .literals()
        .filter(|name| !metadata.topics.contains_key(*name))
        .map(str::to_owned)
        .collect();
    if unseen.is_empty() {
        return Ok(());
    }
    for (name, topic) in client.metadata(Topics::Named(&unseen)).await?.topics {
        if topic.error == Some(ErrorCode::TopicAuthorizationFailed) {
            let code = ErrorCode::TopicAuthorizationFailed;
            return Err(KafkaError::for_topic(code, "READ", &name).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> TopicPatterns {
        TopicPatterns::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn plain(name: &str) -> Candidate<'_> {
        Candidate {
            name,
            is_internal: false,
        }
    }

    #[test]
    fn a_glob_chooses_and_an_exclusion_takes_away() {
        let chosen = patterns(&["orders.*", "!orders.tmp"]);
        assert!(chosen.chooses(plain("orders.eu")));
        assert!(!chosen.chooses(plain("orders.tmp")));
        assert!(!chosen.chooses(plain("payments")));
    }

    #[test]
    fn exclusions_alone_choose_from_everything() {
        let chosen = patterns(&["!tmp.*"]);
        assert!(chosen.chooses(plain("orders")));
        assert!(!chosen.chooses(plain("tmp.x")));
    }

    #[test]
    fn a_regular_expression_stands_between_slashes() {
        let chosen = patterns(&[r"/^orders-\d+$/"]);
        assert!(chosen.chooses(plain("orders-12")));
        assert!(!chosen.chooses(plain("orders-x")));
    }

    #[test]
    fn internal_topics_are_chosen_only_by_name() {
        let internal = Candidate {
            name: "__consumer_offsets",
            is_internal: true,
        };
        assert!(!patterns(&["*"]).chooses(internal));
        assert!(patterns(&["__consumer_offsets"]).chooses(internal));
    }

    #[test]
    fn a_missing_literal_names_its_neighbour() {
        let error = patterns(&["ordes"])
            .choose([plain("orders")], false, "cluster x")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no topic `ordes` in cluster x; did you mean `orders`?"
        );
    }

    #[test]
    fn a_pattern_without_matches_is_refused_unless_allowed() {
        let none = patterns(&["a*"]);
        assert!(none.choose([plain("b")], false, "x").is_err());
        assert!(none.choose([plain("b")], true, "x").unwrap().is_empty());
    }
}
