//! Functions fit a screen: in the sources, not in tests and simulations, which tell a story from its beginning to its end.

use std::fs;

use super::{root, sources};

/// A longer function does not fit, counted from its signature to its closing brace.
const LINES: usize = 60;

/// A function of a source file.
#[derive(Debug, PartialEq, Eq)]
struct Function<'a> {
    name: &'a str,
    /// Where its signature begins, counted from 1.
    line: usize,
    /// How many it has, signature and closing brace included.
    lines: usize,
}

/// The functions of a source, as rustfmt writes them, without those of the tests at its end.
fn functions(source: &str) -> Vec<Function<'_>> {
    let tests = source.find("\n#[cfg(test)]\nmod tests {");
    let lines: Vec<&str> = source[..tests.unwrap_or(source.len())].lines().collect();
    let function = |at: usize| {
        Some(Function {
            name: name(lines[at])?,
            line: at + 1,
            lines: length(&lines[at..]),
        })
    };
    (0..lines.len()).filter_map(function).collect()
}

/// The name of the function whose signature begins with this line.
fn name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(visible) = rest.strip_prefix("pub") {
        rest = match visible.starts_with('(') {
            true => visible.split_once(") ")?.1,
            false => visible.strip_prefix(' ')?,
        };
    }
    for word in ["const ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// How many of these lines belong to the function that begins with the first one.
fn length(lines: &[&str]) -> usize {
    let is_end_of_signature = |line: &&str| line.ends_with(['{', '}', ';']);
    let signature = lines.iter().position(is_end_of_signature);
    let signature = signature.map_or(lines.len(), |last| last + 1);
    if !lines[signature - 1].ends_with('{') {
        return signature;
    }
    let indent = lines[0].len() - lines[0].trim_start().len();
    let is_closing = |line: &&str| line.trim_start() == "}" && line.len() == indent + 1;
    let body = lines[signature..].iter().position(is_closing);
    body.map_or(lines.len(), |last| signature + last + 1)
}

/// Whether a file, by its path from `src/` on, is there for tests alone.
fn is_for_tests(file: &str) -> bool {
    file.trim_end_matches(".rs").split('/').any(|segment| {
        ["tests", "testing"].contains(&segment)
            || segment.ends_with("_tests")
            || segment.starts_with("golden")
            || segment.contains("simulation")
    })
}

#[test]
fn functions_fit_a_screen() {
    let source_root = root().join("src");
    let mut files = Vec::new();
    sources(&source_root, &mut files);
    let (mut count, mut too_long) = (0, Vec::new());
    for path in files {
        let file = path.strip_prefix(&source_root).unwrap().display();
        let file = file.to_string();
        if is_for_tests(&file) {
            continue;
        }
        for function in functions(&fs::read_to_string(&path).unwrap()) {
            let Function { name, line, lines } = function;
            count += 1;
            if lines > LINES {
                too_long.push(format!("src/{file}:{line}: {name} has {lines} lines"));
            }
        }
    }
    assert!(count > 1000, "only {count} functions were found");
    assert!(
        too_long.is_empty(),
        "a function has {LINES} lines at most; give its steps names:\n{}",
        too_long.join("\n")
    );
}

#[test]
fn functions_are_found_and_counted_however_they_are_written() {
    let source = "\
//! fn not_this() {
fn short() {}

pub(in crate::engine) async fn long(
    a: u8,
) -> Vec<u8> {
    if a > 0 {
        fn inner() {
        }
    }
    Vec::new()
}

trait Shape {
    fn declared(&self) -> fn(u8) -> u8;

    const fn given(&self) -> u8
    where
        Self: Sized,
    {
        1
    }
}

pub fn last() {
}
#[cfg(test)]
mod tests {
    #[test]
    fn of_tests() {
    }
}
";
    let found = functions(source);
    let found: Vec<_> = found
        .iter()
        .map(|function| (function.name, function.line, function.lines))
        .collect();
    let expected = [
        ("short", 2, 1),
        ("long", 4, 9),
        ("inner", 8, 2),
        ("declared", 15, 1),
        ("given", 17, 6),
        ("last", 25, 2),
    ];
    assert_eq!(found, expected);
}

#[test]
fn files_of_tests_are_told_from_sources() {
    for file in [
        "engine/producer/tests.rs",
        "engine/producer/simulation/mod.rs",
        "engine/backup/adopt_simulation.rs",
        "policy/diagnostics_tests.rs",
        "repository/golden.rs",
        "engine/testing.rs",
    ] {
        assert!(is_for_tests(file), "{file}");
    }
    for file in ["engine/restore/read.rs", "engine/mirror/session.rs"] {
        assert!(!is_for_tests(file), "{file}");
    }
}
