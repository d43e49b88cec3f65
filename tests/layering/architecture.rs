//! The files that pages about the code name are there.

use std::collections::BTreeSet;
use std::fs;

use super::root;

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
fn what_pages_about_the_code_name_is_there() {
    for (page, at_least) in [("docs/architecture.md", 50), ("docs/packages.md", 20)] {
        // Fenced blocks have an even number of backquotes.
        let text = fs::read_to_string(root().join(page)).unwrap();
        let named = named_paths(&text);
        assert!(named.len() > at_least, "{page}: {named:?}");
        let missing: Vec<&str> = named.into_iter().filter(|path| !is_there(path)).collect();
        assert!(
            missing.is_empty(),
            "{page} names {missing:?}, which is neither in the repository's root nor in src/"
        );
    }
}

/// Below the root or below `src`. A folder is written with a slash at its end, a file without.
fn is_there(path: &str) -> bool {
    let places = [root().join(path), root().join("src").join(path)];
    places
        .iter()
        .any(|place| place.is_dir() == path.ends_with('/') && place.exists())
}

#[test]
fn paths_are_told_from_other_quoted_text() {
    let page = "`kafka/tls/` and `docs/api.md`, `GET /metrics`, `Stop`, `mod.rs`\n```\na/b.rs\n```\n`src/x.rs`";
    let expected = ["docs/api.md", "kafka/tls/", "src/x.rs"];
    assert_eq!(named_paths(page), BTreeSet::from(expected));
}
