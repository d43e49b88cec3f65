//! What `docs/architecture.md` names is there.

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
