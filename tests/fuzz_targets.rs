//! What `make fuzz` throws bytes at, on its seeds and on damaged ones: quick, and with the stable compiler.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a target that cannot go on has found something"
)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod targets;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every seed must be believed. Cut off or with damage in it, it may be or not: nothing else happens.
fn survives(target: fn(&[u8]) -> bool, seeds: &Path) {
    let mut count = 0;
    for entry in fs::read_dir(seeds).unwrap() {
        let path = entry.unwrap().path();
        let old = ["v0-", "v1-", "emptied"]
            .iter()
            .any(|old| path.to_string_lossy().contains(old));
        if path.extension().is_some_and(|kind| kind == "jsonl") || old {
            continue;
        }
        let seed = fs::read(&path).unwrap();
        assert!(target(&seed), "{} is not believed", path.display());
        // Long seeds cost time and hold little that short ones do not.
        for step in 1..40_usize.min(seed.len()) {
            let at = step * seed.len() / 40;
            target(&seed[..at]);
            let mut damaged = seed.clone();
            damaged[at] ^= 1 << (step % 8);
            target(&damaged);
        }
        count += 1;
    }
    assert!(count > 0, "no seeds in {}", seeds.display());
}

#[test]
fn batches_of_the_java_client_survive() {
    survives(targets::batches, &here("tests/golden/batches"));
}

#[test]
fn rebuilding_batches_of_the_java_client_survives() {
    survives(targets::rebuild, &here("tests/golden/batches"));
}

#[test]
fn decompressing_survives() {
    survives(targets::decompress, &here("fuzz/seeds/decompress"));
}

#[test]
fn expressions_survive() {
    survives(targets::expression, &here("fuzz/seeds/expression"));
}

/// Puts the greatest, the smallest and the nearest in place of each number of a JSON text.
fn survives_any_number(target: fn(&[u8]) -> bool, seed: &Path) {
    let text = fs::read_to_string(seed).unwrap();
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let mut at = 0;
    while let Some(start) = text.as_bytes()[at..]
        .iter()
        .position(is_digit)
        .map(|found| at + found)
    {
        let digits = text.as_bytes()[start..]
            .iter()
            .take_while(|byte| is_digit(byte))
            .count();
        at = start + digits;
        let number: u64 = text[start..at].parse().unwrap_or(0);
        let (below, above) = (number.wrapping_sub(1), number.wrapping_add(1));
        let greatest = [
            u64::MAX,
            i64::MAX as u64,
            i64::MAX as u64 - 1,
            u32::MAX.into(),
            i32::MAX as u64,
        ];
        for other in [0, below, above].into_iter().chain(greatest) {
            for sign in ["", "-"] {
                let forged = format!("{}{sign}{other}{}", &text[..start], &text[at..]);
                target(forged.as_bytes());
            }
        }
    }
}

#[test]
fn forged_footers_survive() {
    survives(targets::footer, &here("fuzz/seeds/footer"));
    survives_any_number(targets::footer, &here("fuzz/seeds/footer/golden.json"));
}

#[test]
fn forged_index_layers_survive() {
    survives(targets::index, &here("fuzz/seeds/index"));
    survives_any_number(targets::index, &here("fuzz/seeds/index/golden.json"));
}

#[test]
fn forged_manifests_survive() {
    survives(targets::manifest, &here("fuzz/seeds/manifest"));
    survives_any_number(targets::manifest, &here("fuzz/seeds/manifest/golden.json"));
}

/// With KAFKEEP_WRITE_GOLDEN set, writes them anew.
#[test]
fn the_seeds_are_those_of_the_golden_repository() {
    for (target, text) in targets::seeds() {
        let path = here("fuzz/seeds").join(target).join("golden.json");
        if std::env::var_os("KAFKEEP_WRITE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert!(
            fs::read(&path).unwrap() == text,
            "{target}: run with KAFKEEP_WRITE_GOLDEN=1"
        );
    }
}
