//! What pages say of each other, of Cargo.toml and of the source is so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{root, sources};

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages that people read, by their paths from the root.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let docs = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from);
    docs.chain(top).collect()
}

/// Lines outside of fenced blocks.
fn prose(page: &str) -> Vec<&str> {
    let mut fenced = false;
    let outside = |line: &&str| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    };
    page.lines().filter(outside).collect()
}

/// Where the links of a page lead that stay in this repository: path and heading.
fn links(page: &str) -> Vec<(String, Option<String>)> {
    let prose = prose(page).join("\n");
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets
        .filter(|target| !target.contains("://"))
        .map(|target| match target.split_once('#') {
            Some((path, heading)) => (path.to_owned(), Some(heading.to_owned())),
            None => (target.to_owned(), None),
        })
        .collect()
}

/// What links to a heading call it: lower case, blanks as dashes, no other signs.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).into_iter().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let line = line.trim_start_matches('#').trim().to_lowercase();
            let kept = line.chars().map(|c| if c == ' ' { '-' } else { c });
            kept.filter(|c| c.is_alphanumeric() || "-_".contains(*c))
                .collect()
        })
        .collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        for (path, heading) in links(&text(&page)) {
            let beside = page.parent().unwrap().join(&path);
            let target = if path.is_empty() { &page } else { &beside };
            let there = root().join(target).exists();
            let known =
                there && heading.is_none_or(|heading| anchors(&text(target)).contains(&heading));
            if !known {
                dead.push(format!("{}: {path}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn the_index_has_every_page_once() {
    let listed: Vec<String> = links(&text("docs/README.md"))
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| !path.contains('/'))
        .collect();
    let pages: BTreeSet<String> = pages()
        .into_iter()
        .filter_map(|page| Some(page.strip_prefix("docs").ok()?.display().to_string()))
        .filter(|page| page != "README.md")
        .chain(["openapi.json".to_owned()])
        .collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), pages);
    assert_eq!(listed.len(), pages.len(), "{listed:?}");
    assert!(text("README.md").contains("](docs/README.md)"));
}

/// The names in backquotes of the first column of a page's tables.
fn first_column(page: &str) -> Vec<&str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split_once(" | "));
    cells
        .flat_map(|(cell, _)| cell.trim_end_matches('`').split("`, `"))
        .collect()
}

#[test]
fn the_page_of_packages_has_each_that_the_daemon_is_built_on() {
    let manifest = text("Cargo.toml");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let used = dependencies
        .lines()
        .filter_map(|line| line.split_once(" = "));
    let used: BTreeSet<&str> = used.map(|(name, _)| name).collect();
    let page = text("docs/packages.md");
    let listed = first_column(&page);
    assert!(used.len() > 40);
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), used);
    assert_eq!(listed.len(), used.len(), "a package is listed twice");
}

/// The value of a constant in a benchmark, such as `160.0`.
fn bound(source: &str, constant: &str) -> f64 {
    let (_, rest) = source
        .split_once(&format!("const {constant}: f64 = "))
        .unwrap();
    rest.split_once(';').unwrap().0.parse().unwrap()
}

#[test]
fn the_figures_of_the_readme_are_the_bounds_of_the_benchmarks() {
    let topics = text("benches/ratios/topics.rs");
    let readme = text("README.md");
    let peak = bound(&topics, "PEAK");
    assert!(readme.contains(&format!("≤ {peak} MiB of memory")));
    // Of backups: against a raw fetch to disk, in wall time.
    assert!(topics.contains("(as_is.then_some(1.25), as_is.then_some(CPU))"));
    assert!(readme.contains("backup ≤ 1.25 × a raw fetch to disk"));
    let seconds = "| the same, lz4 | 1.67 | 2.81 |";
    assert!(text("docs/packages.md").contains(seconds));
    assert!(readme.contains("1.67 s as batches, and in 2.81 s as records"));
    let peers = text("benches/ratios/peers.rs");
    assert!(peers.contains("wall: Some(1.0),") && peers.contains("cpu: Some(1.0),"));
    assert!(readme.contains("mirror no slower than MirrorMaker 2, with no more CPU"));
}

/// The string literals of a source, as they are when they are compiled: `\` at the end of a line joins it with the next. What stands
/// in braces becomes `…`.
fn messages(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                chars.by_ref().find(|c| *c == '\n');
            }
            // A character, which may be a quote.
            '\'' => match chars.next() {
                Some('\\') => drop(chars.next()),
                Some('"') if chars.peek() == Some(&'\'') => drop(chars.next()),
                _ => {}
            },
            '"' => found.push(message(&mut chars)),
            _ => {}
        }
    }
    found
}

/// The rest of a literal behind its first quote.
fn message(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let (mut text, mut open) = (String::new(), 0);
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => break,
            ('\\', Some('\n')) => while chars.next_if(|c| c.is_whitespace()).is_some() {},
            ('\\', _) => match chars.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => break,
            },
            ('{', Some('{')) | ('}', Some('}')) => text.extend(chars.next()),
            ('{', _) => {
                if open == 0 && !text.ends_with('…') {
                    text.push('…');
                }
                open += 1;
            }
            ('}', _) => open -= 1,
            (c, _) if open == 0 => text.push(c),
            _ => {}
        }
    }
    text
}

fn messages_of(path: &Path) -> Vec<String> {
    messages(&fs::read_to_string(path).unwrap())
}

/// The messages of a room's errors: those that hold more than what another error says.
fn error_messages(file: &str) -> BTreeSet<String> {
    let source = text(file);
    let attributes = source.split("#[error(").skip(1);
    attributes
        .filter(|rest| !rest.starts_with("transparent"))
        .filter_map(|rest| messages(rest).into_iter().next())
        .filter(|message| message.chars().any(char::is_alphabetic))
        .collect()
}

/// The rooms whose errors an operator meets, and that the page explains one by one.
const EXPLAINED: [&str; 3] = [
    "src/kafka/error.rs",
    "src/repository/error.rs",
    "src/engine/error.rs",
];

#[test]
fn the_messages_that_troubleshooting_explains_are_those_of_the_source() {
    let page = text("docs/troubleshooting.md");
    let shown: BTreeSet<String> = first_column(&page).into_iter().map(unquoted).collect();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let said: Vec<String> = files.iter().flat_map(|file| messages_of(file)).collect();
    let unknown: Vec<&String> = shown
        .iter()
        .filter(|shown| !said.iter().any(|said| said.contains(*shown)))
        .collect();
    assert!(unknown.is_empty(), "no source says {unknown:#?}");
    let missing: BTreeMap<&str, Vec<String>> = EXPLAINED
        .into_iter()
        .map(|file| {
            let told = error_messages(file).into_iter();
            (
                file,
                told.filter(|message| !is_explained(message, &shown))
                    .collect(),
            )
        })
        .filter(|(_, missing): &(_, Vec<String>)| !missing.is_empty())
        .collect();
    assert!(
        missing.is_empty(),
        "docs/troubleshooting.md does not explain {missing:#?}"
    );
}

/// A row shows a message, or a part of it that says what it is.
fn is_explained(message: &str, shown: &BTreeSet<String>) -> bool {
    shown.iter().any(|shown| message.contains(shown.as_str()))
}

/// A table's cell as text: `|` is written `\|`.
fn unquoted(cell: &str) -> String {
    cell.trim_matches('`').trim().replace("\\|", "|")
}

#[test]
fn messages_are_read_from_sources_as_they_are_compiled() {
    let source = r#"
        // "a remark"
        #[error("pack {pack:?} is \"here\"{}", more("x{}"))]
        let quote = '"'; fn f<'a>(x: &'a str) { g('\'', "it is \
            one {{brace}} {a}{b}") }
    "#;
    let expected = ["pack … is \"here\"…", "x…", "it is one {brace} …"];
    assert_eq!(messages(source), expected);
}

#[test]
fn links_and_headings_are_read_from_pages() {
    let page = "# A page\n## What it *is*: `x`\n[a](b.md#c-d) [e](https://f) [g](#h)\n```\n[i](j)\n# k\n```\n";
    let expected = [("b.md", Some("c-d")), ("", Some("h"))];
    let expected = expected.map(|(path, heading)| (path.to_owned(), heading.map(str::to_owned)));
    assert_eq!(links(page), expected);
    let expected = ["a-page", "what-it-is-x"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
}
