//! Reading TOML so that everything wrong is found, not the first thing alone.
//!
//! `toml` parses a file into values that know their place. Tables of [`Key`](super::key::Key)s say what may stand in it: they
//! alone drive the reading, the names that are suggested for an unknown key, and the JSON schema.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::engine::topics::nearest;
use crate::files;
use crate::quote::quote;

use super::PolicyError;
use super::diagnostic::{Diagnostic, Diagnostics, Related, Severity, Spot};
use super::source::{Place, SourceFile, secret_around};

/// A value of a file, with its place.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// What a key can take.
pub(super) trait Kind: Sized {
    /// In words: what it takes.
    const WANTS: &'static str;

    /// For editors.
    fn schema() -> Value;

    /// Takes the value, or tells `reader` why not.
    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self>;
}

/// The names that policies may use.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub clusters: BTreeSet<String>,
    pub repositories: BTreeSet<String>,
}

/// Something wrong, not yet told.
#[derive(Debug)]
struct Problem {
    severity: Severity,
    place: Result<Place, Spot>,
    message: String,
    help: Option<String>,
    related: Option<(Place, &'static str)>,
}

/// Reads files, and remembers what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    sources: Vec<SourceFile>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The name of the innermost table with a name that is being read, as `orders` in `[backup.orders]`.
    pub entry: String,
    /// The key that is being read.
    key: &'static str,
    /// The file that is being read.
    file: usize,
    /// Whether the values of unknown keys may be shown: where policies are, no secret is.
    pub is_open: bool,
    /// Whether files that are named are looked at: a secret must be readable by nobody else, a certificate must be one.
    pub looks_at_files: bool,
    /// Whether what should be looked at is told, too. To find that takes a while.
    pub warns: bool,
    /// Keys that belong into other files, with the advice to put them there.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// What policies may refer to; none when the file that says so cannot be read.
    pub known: Option<Known>,
}

/// More than any sensible file, and little enough to hold.
pub(crate) const LARGEST_FILE: u64 = 16 << 20;
/// After the first few errors of syntax, the others are mostly about what they left behind.
const SYNTAX_ERRORS: usize = 5;
/// Nobody reads more at once.
const MOST_TOLD: usize = 200;
const MOST_NAMES: usize = 10;

impl Reader {
    /// Reads a file whole; `None` when there is nothing to go on with.
    pub fn read<T: Kind>(&mut self, path: &Path) -> Option<T> {
        let text = self.open(path)?;
        let (table, errors) = DeTable::parse_recoverable(&text);
        if errors.is_empty() {
            let span = table.span();
            let root = Spanned::new(span, DeValue::Table(table.into_inner()));
            return T::read(&root, self);
        }
        for error in errors.iter().take(SYNTAX_ERRORS) {
            let span = error.span().unwrap_or(0..0);
            self.syntax_error(&text, span, error.message());
        }
        None
    }

    fn open(&mut self, path: &Path) -> Option<Arc<str>> {
        let bytes = match files::read(path, LARGEST_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                self.unreadable(path, "is larger than 16MiB: split it into several");
                return None;
            }
            Err(error) => {
                self.unreadable(path, &format!("cannot be read: {error}"));
                return None;
            }
        };
        let wrong_at = std::str::from_utf8(&bytes).err().map(|e| e.valid_up_to());
        let text: Arc<str> = String::from_utf8_lossy(&bytes).into();
        self.file = self.sources.len();
        self.sources.push(SourceFile {
            path: path.to_owned(),
            text: Arc::clone(&text),
            hidden: Vec::new(),
        });
        let Some(at) = wrong_at else {
            return Some(text);
        };
        self.syntax_error(&text, at..at, "these bytes are not UTF-8");
        None
    }

    fn syntax_error(&mut self, text: &str, span: Range<usize>, message: &str) {
        let hidden = secret_around(text, span.start);
        self.hide(hidden);
        let place = self.place(span);
        let first = (message == "duplicate key").then(|| self.same_header_before(text, place));
        self.problems.push(Problem {
            severity: Severity::Error,
            place: Ok(place),
            message: message.to_owned(),
            help: None,
            related: first.flatten().map(|place| (place, "first given here")),
        });
    }

    /// The header of a table that is given once more at `place`.
    fn same_header_before(&self, text: &str, place: Place) -> Option<Place> {
        let line_start = text.get(..place.start)?.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(line_start..)?.lines().next()?.trim();
        if !line.starts_with('[') {
            return None;
        }
        let mut at = 0;
        for candidate in text.get(..line_start)?.split_inclusive('\n') {
            if candidate.trim() == line {
                let start = at + candidate.find('[')?;
                return Some(self.place(start..start + line.len()));
            }
            at += candidate.len();
        }
        None
    }

    /// A problem with a file as a whole.
    pub fn unreadable(&mut self, path: &Path, problem: &str) {
        let spot = Spot {
            file: path.display().to_string(),
            line: None,
            column: None,
            excerpt: None,
        };
        self.problems.push(Problem {
            severity: Severity::Error,
            place: Err(spot),
            message: format!("{} {problem}", path.display()),
            help: None,
            related: None,
        });
    }

    /// Where `span` is in the file that is being read.
    pub fn place(&self, span: Range<usize>) -> Place {
        Place {
            file: self.file,
            start: span.start,
            end: span.end,
        }
    }

    /// Something is wrong; says what to do about it.
    pub fn problem(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem {
            severity: Severity::Error,
            place: Ok(place),
            message: message.into(),
            help: Some(help.into()).filter(|help| !help.is_empty()),
            related: None,
        });
    }

    /// Something should be looked at, and is no reason to reject the configuration.
    pub fn warning(&mut self, place: Place, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.push(Problem {
            severity: Severity::Warning,
            place: Ok(place),
            message: message.into(),
            help: Some(help.into()),
            related: None,
        });
    }

    /// Something contradicts what is at another place.
    pub fn conflict(
        &mut self,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
        other: (Place, &'static str),
    ) {
        self.problem(place, message, help);
        if let Some(problem) = self.problems.last_mut() {
            problem.related = Some(other);
        }
    }

    /// Reads the value of a key.
    pub fn keyed<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.key, key);
        let value = read(self);
        self.key = outer;
        value
    }

    /// Reads a table that the operator gave this name.
    pub fn named<T: Kind>(&mut self, name: &str, node: &Node<'_>) -> Option<T> {
        let outer = std::mem::replace(&mut self.entry, name.to_owned());
        let value = self.keyed("", |reader| T::read(node, reader));
        self.entry = outer;
        value
    }

    /// A value of the wrong type.
    pub fn wrong_type<T: Kind>(&mut self, node: &Node<'_>) {
        let (wanted, found) = (T::WANTS, type_name(node.get_ref()));
        let message = match self.key {
            "" => format!("this takes {wanted}, not {found}"),
            key => format!("`{key}` takes {wanted}, not {found}"),
        };
        self.problem(self.place(node.span()), message, "");
    }

    /// A text that says nothing.
    pub fn empty(&mut self, node: &Node<'_>) {
        let message = format!("`{}` is empty", self.key);
        self.problem(self.place(node.span()), message, "");
    }

    /// A text that is not what it should be.
    pub fn wrong_text<T: Kind>(&mut self, node: &Node<'_>, text: &str, help: impl Into<String>) {
        let message = format!("`{text}` is not {}", T::WANTS);
        self.problem(self.place(node.span()), message, help);
    }

    /// How much is wrong so far.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// Never shows this.
    pub fn hide(&mut self, span: Range<usize>) {
        if let Some(source) = self.sources.get_mut(self.file) {
            source.hidden.push(span);
        }
    }

    /// Never shows any value in this.
    pub fn hide_values(&mut self, node: &Node<'_>) {
        match node.get_ref() {
            DeValue::Table(table) => table.iter().for_each(|(_, node)| self.hide_values(node)),
            DeValue::Array(nodes) => nodes.iter().for_each(|node| self.hide_values(node)),
            _ => self.hide(node.span()),
        }
    }

    /// Looks whether `kafkeep.toml` has a cluster or repository of this name.
    pub fn known(
        &mut self,
        what: &str,
        node: &Node<'_>,
        name: &str,
        of: impl Fn(&Known) -> &BTreeSet<String>,
    ) {
        self.known_at(what, self.place(node.span()), name, of);
    }

    /// The same for what stands at a place.
    pub fn known_at(
        &mut self,
        what: &str,
        place: Place,
        name: &str,
        of: impl Fn(&Known) -> &BTreeSet<String>,
    ) {
        let Some(known) = &self.known else { return };
        let names = of(known);
        if names.contains(name) {
            return;
        }
        let help = match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => format!("kafkeep.toml has no {what}"),
            None => {
                let names: Vec<&str> = names.iter().map(String::as_str).take(MOST_NAMES).collect();
                format!("kafkeep.toml has: {}", names.join(", "))
            }
        };
        self.problem(place, format!("no {what} is called `{name}`"), help);
    }

    /// The files that were read.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.path.as_path())
    }

    /// All that is wrong, if anything is.
    pub fn finish(&mut self) -> Result<(), Diagnostics> {
        let problems = std::mem::take(&mut self.problems);
        let untold = problems.len().saturating_sub(MOST_TOLD);
        let told = self.told(problems);
        if told.is_empty() {
            Ok(())
        } else {
            Err(Diagnostics { told, untold })
        }
    }

    /// What should be looked at.
    pub fn take_warnings(&mut self) -> Vec<Diagnostic> {
        let warnings = std::mem::take(&mut self.warnings);
        self.told(warnings)
    }

    /// The first problems, in the order of files and lines.
    fn told(&self, mut problems: Vec<Problem>) -> Vec<Diagnostic> {
        problems.sort_by_key(|problem| problem.place.as_ref().ok().copied());
        let told = problems.into_iter().take(MOST_TOLD);
        let told = told.filter_map(|problem| {
            Some(Diagnostic {
                severity: problem.severity,
                spot: match problem.place {
                    Ok(place) => self.spot(place)?,
                    Err(spot) => spot,
                },
                message: quote(problem.message),
                help: problem.help.map(quote),
                related: problem.related.and_then(|(place, message)| {
                    let spot = self.spot(place)?;
                    Some(Related { spot, message })
                }),
            })
        });
        told.collect()
    }

    /// What was read, unless anything is wrong.
    pub fn result<T>(&mut self, read: Option<T>) -> Result<T, PolicyError> {
        self.finish()?;
        // Whatever is missing has been told.
        read.ok_or_else(|| {
            let told = Vec::new();
            Diagnostics { told, untold: 0 }.into()
        })
    }

    /// None only for a place in no file.
    fn spot(&self, place: Place) -> Option<Spot> {
        Some(self.sources.get(place.file)?.spot(place))
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a datetime",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
