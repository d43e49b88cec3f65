//! Whatever stands in the files: no panic, and every error is at a place that is there.

use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::DaemonConfiguration;

const KAFKEEP: &str = include_str!("../../etc/kafkeep.toml");
const ORDERS: &str = include_str!("../../etc/policies.d/orders.toml");
const CLUSTER: &str = "\n[clusters.x]\nsasl = { mechanism = \"PLAIN\", username = \"u\", password = { env = \"HOME\" } }\n\
    bootstrap_servers = [\"k:1\"]\n";

/// An edit at a place between 0 and 1 of a text.
#[derive(Debug, Clone)]
enum Edit {
    Cut(f64),
    Insert(f64, String),
    Remove(f64, usize),
    Repeat(f64, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = || 0.0..1.0f64;
    let bits = prop_oneof![
        "[\\[\\]{}=\"'#,.\\n\\t a-z0-9ß-]{1,6}",
        Just("\"\"\"".to_owned()),
        Just("\u{0}".to_owned()),
        Just("\r\n".to_owned()),
        Just("[backup.orders]\n".to_owned()),
        any::<String>(),
    ];
    let edit = prop_oneof![
        1 => at().prop_map(Edit::Cut),
        6 => (at(), bits).prop_map(|(at, bits)| Edit::Insert(at, bits)),
        3 => (at(), 1..20usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (at(), 1..60usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
    ];
    prop::collection::vec(edit, 1..4)
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for edit in edits {
        let index = |at: f64| (text.len() as f64 * at) as usize;
        match edit {
            Edit::Cut(at) => text.truncate(index(*at)),
            Edit::Insert(at, bits) => {
                let at = index(*at);
                text.splice(at..at, bits.chars());
            }
            Edit::Remove(at, length) => {
                let at = index(*at);
                text.drain(at..(at + length).min(text.len()));
            }
            Edit::Repeat(at, length) => {
                let at = index(*at);
                let piece = text[at..(at + length).min(text.len())].to_vec();
                text.splice(at..at, piece);
            }
        }
    }
    text.into_iter().collect()
}

fn assert_inside(directory: &Path, files: &[(&str, &str)]) {
    let Err(wrong) = DaemonConfiguration::load(directory) else {
        return;
    };
    assert!(!wrong.told.is_empty());
    let related = wrong
        .told
        .iter()
        .filter_map(|one| Some(&one.related.as_ref()?.spot));
    for spot in wrong.told.iter().map(|one| &one.spot).chain(related) {
        let (_, text) = files
            .iter()
            .find(|(name, _)| spot.file.ends_with(name))
            .unwrap();
        let (line, column) = (spot.line.unwrap(), spot.column.unwrap());
        let found = text
            .split('\n')
            .nth(line - 1)
            .unwrap_or_else(|| panic!("{spot}: no such line"));
        assert!(
            (1..=found.chars().count() + 1).contains(&column),
            "{spot}: {found:?}"
        );
    }
    assert!(!wrong.to_string().is_empty());
}

proptest! {
    #[test]
    fn edited_files_are_read_without_panic_and_their_errors_are_inside(
        kafkeep in edits(), orders in edits(), which in 0..3u8,
    ) {
        let directory = TempDir::new().unwrap();
        let kafkeep = match which {
            0 => format!("{KAFKEEP}{CLUSTER}"),
            _ => edited(&format!("{KAFKEEP}{CLUSTER}"), &kafkeep),
        };
        let orders = if which == 1 { ORDERS.to_owned() } else { edited(ORDERS, &orders) };
        std::fs::create_dir(directory.path().join("policies.d")).unwrap();
        std::fs::write(directory.path().join("kafkeep.toml"), &kafkeep).unwrap();
        std::fs::write(directory.path().join("policies.d/orders.toml"), &orders).unwrap();
        assert_inside(directory.path(), &[("kafkeep.toml", &kafkeep), ("orders.toml", &orders)]);
    }
}
