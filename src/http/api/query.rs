//! What stands behind the question mark.

use std::str::FromStr;

use crate::api::Problem;

/// The parameters of a request, of which some are known.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them; one that is not `known`, or given twice, is refused.
    pub fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut read: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let message = format!("unknown parameter: known are {}", known.join(", "));
                return Err(Problem::invalid(&name, &value, message));
            }
            if read.iter().any(|(other, _)| *other == name) {
                return Err(Problem::invalid(&name, &value, "given twice"));
            }
            read.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(read))
    }

    /// The text of one.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The value of one.
    pub fn value<T: FromStr>(&self, name: &str, wants: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let parsed = text.parse().map(Some);
        parsed.map_err(|_| Problem::invalid(name, text, format!("{name} must be {wants}")))
    }

    /// How many are shown at once: 1 to 1000, by default 100.
    pub fn limit(&self) -> Result<usize, Problem> {
        let limit = self
            .value::<usize>("limit", "a number from 1 to 1000")?
            .unwrap_or(100);
        match limit {
            1..=1000 => Ok(limit),
            _ => Err(Problem::invalid(
                "limit",
                limit,
                "limit must be a number from 1 to 1000",
            )),
        }
    }
}

/// The first `limit` of what there is, and whether there is more.
pub(super) fn page<T>(mut all: impl Iterator<Item = T>, limit: usize) -> (Vec<T>, bool) {
    let page = all.by_ref().take(limit).collect();
    (page, all.next().is_some())
}
