//! The order of rooms: a room imports only lower ones. Read from the sources, so that no habit has to remember it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first.
const ROOMS: [&str; 14] = [
    "words",
    "files",
    "record",
    "repository",
    "memory",
    "kafka",
    "engine",
    "schedule",
    "auth",
    "policy",
    "api",
    "daemon",
    "http",
    "cli",
];

/// Names that say nothing about what lies in a file.
const NAMELESS: [&str; 5] = ["utils", "util", "common", "helpers", "misc"];

/// What is wrong with one source file of the crate, whose path is given from `src/` on.
fn violations(path: &str, source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let segments: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    found.extend(
        segments
            .iter()
            .filter(|segment| NAMELESS.contains(segment))
            .map(|segment| {
                format!(
                    "{path}: `{segment}` says nothing: put it where it is used, name what it is"
                )
            }),
    );
    let [room, inner @ ..] = &segments[..] else {
        return found;
    };
    let Some(level) = ROOMS.iter().position(|known| known == room) else {
        // The crate's own two files see everything.
        let is_crate_root = ["lib", "main"].contains(room);
        found.extend(
            (!is_crate_root)
                .then(|| format!("{path}: `{room}` is no room: give it a place in the order")),
        );
        return found;
    };
    // How many modules deep the file is in the room: `room/mod.rs` and `room.rs` are the room itself.
    let depth = inner.iter().filter(|segment| **segment != "mod").count();
    for path_used in paths(source) {
        let target = match path_used.split_first() {
            Some((first, rest)) if first == "crate" || first == "kafkeep" => rest.first(),
            Some((first, _)) if first == "super" => {
                let ups = path_used
                    .iter()
                    .take_while(|segment| *segment == "super")
                    .count();
                // As if every file were one module; no room has a module of its own that is named like a room.
                (ups > depth).then(|| path_used.get(ups)).flatten()
            }
            _ => None,
        };
        let Some(target) = target.and_then(|name| ROOMS.iter().position(|known| known == name))
        else {
            continue;
        };
        if target > level {
            found.push(format!(
                "{path}: `{}` is above `{room}`: {}",
                ROOMS[target],
                path_used.join("::")
            ));
        }
    }
    found
}

/// Every path that begins with `crate`, `kafkeep` or `super`, groups in braces multiplied out.
fn paths(source: &str) -> Vec<Vec<String>> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = ["crate", "kafkeep", "super"].contains(&tokens[at].as_str())
            && tokens.get(at + 1).is_some_and(|next| next == "::")
            && (at == 0 || tokens[at - 1] != "::");
        if begins {
            at = path(&tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path from `at` on, below `prefix`; returns where it ends.
fn path(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    let mut path_so_far = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        if token == "{" {
            return group(tokens, at + 1, &path_so_far, found);
        }
        if token.starts_with(|first: char| first.is_alphanumeric() || first == '_' || first == '*')
        {
            path_so_far.push(token.clone());
            at += 1;
        }
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
        // The generic arguments of a path are paths of their own.
        if tokens.get(at).is_some_and(|token| {
            !token.starts_with(|first: char| first.is_alphanumeric() || "_*{".contains(first))
        }) {
            break;
        }
    }
    found.push(path_so_far);
    at
}

/// Reads what stands in braces from `at` on.
fn group(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<Vec<String>>,
) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "}" => return at + 1,
            "," => at += 1,
            // `name as other`
            "as" => at += 2,
            _ => at = path(tokens, at, prefix, found).max(at + 1),
        }
    }
    at
}

/// Identifiers and punctuation, without comments, strings and characters.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == 'r' && (rest.starts_with("r\"") || rest.starts_with("r#\"")) {
            let end = if rest.starts_with("r#") { "\"#" } else { "\"" };
            let start = rest.find('"').map_or(rest.len(), |quote| quote + 1);
            rest[start..]
                .find(end)
                .map_or(rest.len(), |found| start + found + end.len())
        } else if first == '"' {
            string_length(rest)
        } else if let Some(length) = character_length(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Of a character literal; a lifetime is none.
fn character_length(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        return inner[2..].find('\'').map(|end| end + 4);
    }
    let end = first.len_utf8();
    inner[end..].starts_with('\'').then_some(end + 2)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn rooms_import_only_lower_rooms() {
    let source_root = root().join("src");
    let mut files = Vec::new();
    sources(&source_root, &mut files);
    assert!(files.len() > 20);
    let violations: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let name = file
                .strip_prefix(&source_root)
                .unwrap()
                .display()
                .to_string();
            violations(&name, &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn async_code_calls_what_blocks_through_one_door() {
    let source_root = root().join("src");
    let mut files = Vec::new();
    sources(&source_root, &mut files);
    let door = "engine/blocking.rs";
    let beside: Vec<String> = files
        .iter()
        .filter(|file| fs::read_to_string(file).unwrap().contains("spawn_blocking"))
        .map(|file| {
            file.strip_prefix(&source_root)
                .unwrap()
                .display()
                .to_string()
        })
        .filter(|name| {
            ["engine/", "daemon/", "http/", "cli/"]
                .iter()
                .any(|room| name.starts_with(room))
        })
        .filter(|name| name != door)
        .collect();
    assert!(beside.is_empty(), "use engine::blocking in {beside:?}");
    assert!(
        fs::read_to_string(source_root.join(door))
            .unwrap()
            .contains("spawn_blocking")
    );
}

#[test]
fn the_architecture_page_has_a_row_for_each_room_in_order() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows: Vec<&str> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .split_once("/`")
                .map(|(room, _)| room)
        })
        .collect();
    let folders: BTreeSet<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let in_order: Vec<&str> = ROOMS
        .into_iter()
        .filter(|room| folders.contains(*room))
        .collect();
    assert_eq!(rows, in_order);
}

#[test]
fn an_import_that_points_upwards_is_found_however_it_is_written() {
    for source in [
        "use crate::engine::verify;",
        "use crate::{record::Offset, engine::verify};",
        "use crate::{\n    record::{Offset, PartitionId},\n    kafka,\n};",
        "fn f() -> crate::cli::Exit { todo() }",
        "fn f() { let x = crate::kafka::Client::new(); }",
        "fn f(x: Vec<crate::http::Answer>) {}",
        "use super::kafka::Client;",
        "use super::{super::engine::verify as look, Pack};",
        "pub(crate) use crate :: policy :: *;",
        "use kafkeep::engine;",
    ] {
        let (file, source) = (
            "repository/pack.rs",
            source.replace("use super::kafka", "use super::super::kafka"),
        );
        assert_eq!(violations(file, &source).len(), 1, "{source}");
    }
    assert_eq!(
        violations("record/mod.rs", "use super::repository::Pack;").len(),
        1
    );
    assert_eq!(
        violations(
            "engine/backup/plan.rs",
            "use super::super::super::cli::Exit;"
        )
        .len(),
        1
    );
}

#[test]
fn what_points_downwards_or_is_no_import_is_not_found() {
    for source in [
        "use crate::record::{Offset, engine};",
        "use super::kafka;",
        "// use crate::engine;\n/* crate::cli */ const S: &str = \"crate::engine::x\";",
        "const S: &str = r#\"use \"crate::engine\"\"#; const C: char = '\"'; // crate::cli",
        "fn f<'a>(x: &'a str) -> char { '\\'' }",
        "use other::crate_::engine;",
    ] {
        assert_eq!(
            violations("repository/pack.rs", source),
            Vec::<String>::new(),
            "{source}"
        );
    }
    assert!(violations("main.rs", "use kafkeep::cli;").is_empty());
}

#[test]
fn files_and_folders_without_a_name_or_a_place_are_found() {
    for path in [
        "record/utils.rs",
        "engine/common/mod.rs",
        "helpers.rs",
        "plugins/mod.rs",
    ] {
        assert!(!violations(path, "").is_empty(), "{path}");
    }
}

/// Paths in backquotes that name a file or a folder: with a slash in them, and `.rs`, `.md`, `.toml` or a slash at their end.
fn named_paths(page: &str) -> BTreeSet<&str> {
    let quoted = page.split('`').skip(1).step_by(2);
    let is_path = |text: &&str| {
        let ends = [".rs", ".md", ".toml", "/"];
        text.contains('/') && ends.iter().any(|end| text.ends_with(end))
    };
    quoted.filter(is_path).collect()
}

#[test]
fn what_the_architecture_page_names_is_there() {
    // Fenced blocks have an even number of backquotes.
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let named = named_paths(&page);
    assert!(named.len() > 50, "{named:?}");
    let is_there = |path: &str| {
        let places = [root().join(path), root().join("src").join(path)];
        // A folder is written with a slash at its end, a file without.
        places
            .iter()
            .any(|place| place.is_dir() == path.ends_with('/') && place.exists())
    };
    let missing: Vec<&str> = named.into_iter().filter(|path| !is_there(path)).collect();
    assert!(
        missing.is_empty(),
        "docs/architecture.md names {missing:?}, which is neither in the repository's root nor in src/"
    );
}

#[test]
fn paths_are_told_from_other_quoted_text() {
    let page = "`kafka/tls/` and `docs/api.md`, `GET /metrics`, `Stop`, `mod.rs`\n```\na/b.rs\n```\n`src/x.rs`";
    let expected = ["docs/api.md", "kafka/tls/", "src/x.rs"];
    assert_eq!(named_paths(page), BTreeSet::from(expected));
}
