//! What is wrong with the operator's files, told in rustc's manner: the place, the line, what to do.

use std::fmt;

use serde::Serialize;

use crate::words::words;

/// A place in a file, as people are told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// Which file.
    pub file: String,
    /// Which line, counted from 1; none when it is about the file as a whole.
    pub line: Option<usize>,
    /// Which character of the line, counted from 1.
    pub column: Option<usize>,
    /// The line itself.
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// A line, or a part of it, with the characters to underline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub line: String,
    pub start: usize,
    pub length: usize,
}

words! {
    /// How much it matters.
    pub enum Severity {
        /// The configuration is rejected.
        Error = "error",
        /// The configuration is applied, and something in it should be looked at.
        Warning = "warning",
    }
}

/// One thing that is wrong, or should be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Where.
    #[serde(flatten)]
    pub spot: Spot,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The other place that it takes to understand it, and what is there.
    pub related: Option<Related>,
}

/// Another place, and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Where.
    #[serde(flatten)]
    pub spot: Spot,
    /// What is there.
    pub message: &'static str,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, ":{line}:{column}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let related_line = self.related.as_ref().and_then(|related| related.spot.line);
        let gutter = self
            .spot
            .line
            .max(related_line)
            .unwrap_or(0)
            .to_string()
            .len();
        let blank = " ".repeat(gutter);
        let (severity, message) = (self.severity, &self.message);
        write!(f, "{severity}: {message}\n{blank}--> {}", self.spot)?;
        self.spot.underlined(f, gutter, '^', "")?;
        if let Some(related) = &self.related {
            write!(f, "\n{blank}::: {}", related.spot)?;
            related.spot.underlined(f, gutter, '-', related.message)?;
        }
        match &self.help {
            Some(help) => write!(f, "\n{blank} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Spot {
    fn underlined(
        &self,
        f: &mut fmt::Formatter<'_>,
        gutter: usize,
        mark: char,
        label: &str,
    ) -> fmt::Result {
        let (Some(line), Some(excerpt)) = (self.line, &self.excerpt) else {
            return Ok(());
        };
        let blank = " ".repeat(gutter);
        let indent = " ".repeat(excerpt.start);
        let marks = mark.to_string().repeat(excerpt.length);
        let underline = format!("{blank} | {indent}{marks} {label}");
        let text = format!("{line:>gutter$} | {}", excerpt.line);
        write!(
            f,
            "\n{blank} |\n{}\n{}",
            text.trim_end(),
            underline.trim_end()
        )
    }
}

/// All that is wrong, in the order of files and lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// What is wrong.
    pub told: Vec<Diagnostic>,
    /// How much more is.
    pub untold: usize,
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.told {
            write!(f, "{diagnostic}\n\n")?;
        }
        match (self.told.len(), self.untold) {
            (1, 0) => f.write_str("1 error"),
            (count, 0) => write!(f, "{count} errors"),
            (count, untold) => write!(
                f,
                "{} errors, of which these are the first {count}",
                count + untold
            ),
        }
    }
}

impl std::error::Error for Diagnostics {}
