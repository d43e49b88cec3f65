//! What topics are called in a target, as `restore` and `mirror` take it: `--rename [PATTERN=]TEMPLATE`.

use std::fmt;
use std::str::FromStr;

use super::EngineError;
use super::topics::TopicPattern;

/// A new name for topics, in which `{topic}` stands for the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(String);

const OLD_NAME: &str = "{topic}";

impl NameTemplate {
    /// This name, whatever the topic: a legal one.
    pub fn literal(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name that `topic` gets.
    pub fn apply(&self, topic: &str) -> String {
        self.0.replace(OLD_NAME, topic)
    }

    /// Whether every topic keeps its name.
    pub fn is_same(&self) -> bool {
        self.0 == OLD_NAME
    }
}

impl Default for NameTemplate {
    /// Every topic keeps its name.
    fn default() -> Self {
        Self(OLD_NAME.to_owned())
    }
}

impl FromStr for NameTemplate {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let refuse = |why: &str| Err(EngineError::refused(why.to_owned()));
        let bare = text.replace(OLD_NAME, "");
        if bare.contains(['{', '}']) {
            return refuse("the template knows only {topic}");
        }
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !bare.chars().all(is_legal) || text.is_empty() {
            return refuse("a topic's name has only letters, digits, `.`, `_` and `-`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `PATTERN=TEMPLATE`: topics that match get the template's name. A template alone is for all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// None for all topics.
    pattern: Option<TopicPattern>,
    template: NameTemplate,
}

impl Rename {
    /// One topic gets one name, both legal.
    pub fn literal(topic: &str, name: &str) -> Self {
        Self {
            pattern: Some(TopicPattern::of_name(topic)),
            template: NameTemplate::literal(name),
        }
    }

    fn matches(&self, topic: &str) -> bool {
        let pattern = self.pattern.as_ref();
        pattern.is_none_or(|pattern| pattern.matches(topic))
    }
}

impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Some(pattern) => write!(f, "{pattern}={}", self.template),
            None => self.template.fmt(f),
        }
    }
}

impl FromStr for Rename {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let refuse = |why: &str| {
            let usage = "write [PATTERN=]TEMPLATE, as in 'orders.*=dr.{topic}' or 'dr.{topic}'";
            EngineError::refused(format!("rename `{text}`: {why}; {usage}"))
        };
        let (pattern, template) = match text.rsplit_once('=') {
            Some((pattern, template)) => (Some(pattern), template),
            None => (None, text),
        };
        let pattern: Option<Result<TopicPattern, EngineError>> = pattern.map(str::parse);
        let pattern = pattern.transpose()?;
        if pattern.as_ref().is_some_and(TopicPattern::is_exclusion) {
            return Err(refuse("a pattern to rename by cannot start with `!`"));
        }
        let template: Result<NameTemplate, EngineError> = template.parse();
        let template = template.map_err(|why| refuse(&why.to_string()))?;
        Ok(Self { pattern, template })
    }
}

/// Renames in their order: the first one that matches a topic counts. Without any, topics keep their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames(Vec<Rename>);

impl Renames {
    /// In this order.
    pub fn new(renames: Vec<Rename>) -> Self {
        Self(renames)
    }

    /// The name that `topic` gets.
    pub fn apply(&self, topic: &str) -> String {
        let found = self.0.iter().find(|rename| rename.matches(topic));
        found.map_or_else(|| topic.to_owned(), |rename| rename.template.apply(topic))
    }

    /// The first one that matches none of `topics`: a slip.
    pub(super) fn unmatched<'a>(
        &self,
        topics: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<&Rename> {
        let mut renames = self.0.iter();
        renames.find(|rename| !topics.clone().any(|topic| rename.matches(topic)))
    }
}

impl From<NameTemplate> for Renames {
    /// The same for all topics.
    fn from(template: NameTemplate) -> Self {
        Self(vec![Rename {
            pattern: None,
            template,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renames(texts: &[&str]) -> Renames {
        Renames::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_first_matching_rename_counts() {
        let renames = renames(&["orders.eu=eu", "orders.*=dr.{topic}"]);
        assert_eq!(renames.apply("orders.eu"), "eu");
        assert_eq!(renames.apply("orders.us"), "dr.orders.us");
        assert_eq!(renames.apply("payments"), "payments");
    }

    #[test]
    fn a_template_alone_is_for_all_topics() {
        let all = renames(&["orders.eu=eu", "dr.{topic}"]);
        assert_eq!(all.apply("orders.eu"), "eu");
        assert_eq!(all.apply("payments"), "dr.payments");
        assert_eq!(Renames::default().apply("payments"), "payments");
    }

    #[test]
    fn a_rename_that_matches_nothing_is_found() {
        let renames = renames(&["orders.*=dr.{topic}", "paymens=p", "{topic}.back"]);
        let unmatched = renames.unmatched(["orders.eu", "payments"].into_iter());
        assert_eq!(unmatched.unwrap().to_string(), "paymens=p");
        assert_eq!(
            renames.unmatched(["orders.eu", "paymens"].into_iter()),
            None
        );
    }

    #[test]
    fn a_template_with_foreign_characters_is_refused() {
        for text in ["a=b/c", "a={name}", "b/c", "=", "!a=b", ""] {
            assert!(text.parse::<Rename>().is_err(), "{text}");
        }
    }
}
