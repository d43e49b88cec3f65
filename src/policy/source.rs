//! The operator's files as texts, and places in them.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::diagnostic::{Excerpt, Spot};

/// A stretch of bytes in one of the files that are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// One file.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub path: PathBuf,
    pub text: Arc<str>,
    /// What is never shown: a secret may stand there.
    pub hidden: Vec<Range<usize>>,
}

/// Of a longer line, what is around the place is shown.
const WIDTH: usize = 110;
const BEFORE: usize = 30;

impl SourceFile {
    /// The place as people are told it.
    pub fn spot(&self, place: Place) -> Spot {
        let text: &str = &self.text;
        // What is missing at the end is told where the last thing ends.
        let start = floor(text, place.start.min(text.trim_end().len()));
        let end = place.end.max(start);
        let line_start = text
            .get(..start)
            .and_then(|before| before.rfind('\n'))
            .map_or(0, |at| at + 1);
        let before = text.get(line_start..start).unwrap_or_default();
        let rest = text.get(line_start..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        Spot {
            file: self.path.display().to_string(),
            line: Some(
                1 + text
                    .get(..line_start)
                    .map_or(0, |t| t.matches('\n').count()),
            ),
            column: Some(1 + before.chars().count()),
            excerpt: Some(self.excerpt(line, line_start, start, end)),
        }
    }

    /// `line`, with what is hidden as `…`, and where in it the place is.
    fn excerpt(&self, line: &str, line_start: usize, start: usize, end: usize) -> Excerpt {
        let mut shown: Vec<char> = Vec::new();
        let (mut from, mut to) = (None, 0);
        let mut in_hidden = false;
        for (at, c) in line.char_indices() {
            let at = line_start + at;
            let hidden = self.hidden.iter().any(|range| range.contains(&at));
            if hidden && in_hidden {
                // It is one `…` already.
            } else if hidden {
                shown.push('…');
            } else {
                shown.push(visible(c));
            }
            in_hidden = hidden;
            if at >= start && from.is_none() {
                from = Some(shown.len() - 1);
            }
            if at < end {
                to = shown.len();
            }
        }
        let from = from.unwrap_or(shown.len());
        let mut excerpt = Excerpt {
            start: from,
            length: to.saturating_sub(from).max(1),
            line: String::new(),
        };
        if shown.len() > WIDTH {
            let left = from.saturating_sub(BEFORE).min(shown.len() - WIDTH);
            shown = shown.split_off(left);
            let cut_right = shown.len() > WIDTH;
            shown.truncate(WIDTH);
            if left > 0
                && let Some(first) = shown.first_mut()
            {
                *first = '…';
            }
            if cut_right && let Some(last) = shown.last_mut() {
                *last = '…';
            }
            excerpt.start -= left;
            excerpt.length = excerpt
                .length
                .min(WIDTH.saturating_sub(excerpt.start))
                .max(1);
        }
        excerpt.line = shown.into_iter().collect();
        excerpt
    }
}

/// A character that takes one column, whatever it does to a terminal.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The last boundary of characters that is not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// What must not be shown of the line at `at` of a file whose syntax is wrong, so that nobody knows what stands where:
/// all behind the first `=`, should the section have anything to do with secrets.
pub(super) fn secret_around(text: &str, at: usize) -> Range<usize> {
    const TELLTALES: [&str; 7] = [
        "clusters",
        "sasl",
        "pass",
        "pw",
        "secret",
        "token",
        "credential",
    ];
    let at = at.min(text.trim_end().len());
    let before = text.get(..at).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let rest = text.get(line_start..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default();
    let section_start = if line.starts_with('[') {
        line_start
    } else {
        before.rfind("\n[").unwrap_or(0)
    };
    let line_end = line_start + line.len();
    let section = text
        .get(section_start..line_end)
        .unwrap_or_default()
        .to_lowercase();
    if !TELLTALES.iter().any(|word| section.contains(word)) {
        return 0..0;
    }
    let is_header = |c: char| c.is_ascii_alphanumeric() || "[]._- ".contains(c);
    let shown = match line.find('=') {
        Some(at) => at + 1,
        None if line.starts_with('[') && line.chars().all(is_header) => line.len(),
        None => 0,
    };
    line_start + shown..line_end
}
