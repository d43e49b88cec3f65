//! The order of rooms: a room imports only lower ones, files do not import each other in circles, and no verb imports another. Read
//! from the sources, so that no habit has to remember it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod architecture;
mod functions;
mod modules;
mod pages;
mod paths;
mod rooms;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use modules::Modules;
use rooms::{ROOMS, violations};

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
fn files_do_not_use_each_other_in_circles() {
    let circles = the_crate().uses().circles();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn verbs_are_rooms() {
    let uses = the_crate().uses().of_verbs();
    assert!(
        uses.is_empty(),
        "a verb uses what all verbs share, and nobody uses a verb in the engine; move it beside them:\n  {}",
        uses.join("\n  ")
    );
}

fn the_crate() -> Modules {
    let source_root = root().join("src");
    Modules::read(|file| fs::read_to_string(source_root.join(file)).ok())
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

/// A crate of these files.
fn modules<const N: usize>(files: [(&str, &str); N]) -> Modules {
    let files = BTreeMap::from(files);
    Modules::read(|file| files.get(file).map(|source| (*source).to_owned()))
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    for (a, b) in [
        ("use crate::b::B; struct A;", "use super::a::A; struct B;"),
        ("use super::b; struct A;", "fn f(x: crate::a::A) {}"),
        (
            "use crate::{b::{C, B}}; struct A;",
            "use super::{a::{self}};",
        ),
        (
            "pub use super::b::B; struct A(B);",
            "use super::a::A; struct B;",
        ),
    ] {
        let files = [
            ("lib.rs", "mod a; pub(crate) mod b;"),
            ("a.rs", a),
            ("b/mod.rs", b),
        ];
        let circles = modules(files).uses().circles();
        assert_eq!(circles.len(), 1, "{a} {b}");
        assert!(circles[0].contains("\n  a.rs uses "), "{}", circles[0]);
        assert!(circles[0].contains("\n  b/mod.rs uses "), "{}", circles[0]);
    }
}

#[test]
fn a_circle_between_a_module_and_its_child_is_found() {
    for calls in ["use c::f;", "use self::c::f;", "fn g() { c::f() }"] {
        let parent = format!("mod c; struct Options; {calls}");
        let child = "use super::Options; pub fn f() {}";
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", &parent),
            ("a/c.rs", child),
        ];
        assert_eq!(modules(files).uses().circles().len(), 1, "{calls}");
    }
}

#[test]
fn a_circle_is_found_through_re_exports() {
    let circles = modules([
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a/mod.rs", "mod inner; pub use inner::Inner;"),
        ("a/inner.rs", "use crate::b::B; pub struct Inner;"),
        (
            "b.rs",
            "pub use crate::c::C as B;\npub(crate) use super::c::B;",
        ),
        ("c.rs", "use super::a::Inner; struct B;"),
    ])
    .uses()
    .circles();
    let told = "2 files use each other in a circle; move what they share below them:\n  \
                a/inner.rs uses B of c.rs\n  c.rs uses Inner of a/inner.rs";
    assert_eq!(circles, [told]);
}

#[test]
fn what_only_passes_a_module_by_or_is_a_test_s_is_in_no_circle() {
    let circles = modules([
        ("lib.rs", "mod a; mod b;"),
        (
            "a/mod.rs",
            "mod options; mod run; #[cfg(test)] mod tests;
             pub use options::Options; pub(crate) use run::run;
             #[cfg(test)] use run::{Run, run};
             #[cfg(test)] fn f(x: [u8; 2]) -> super::b::B { run::g() }",
        ),
        ("a/options.rs", "pub struct Options;"),
        (
            "a/run.rs",
            "use super::Options; pub(in crate::a) fn run() {}
             #[cfg(test)] mod tests { use super::super::Tested; use crate::b; }",
        ),
        ("b.rs", "use crate::a::{Options, run as go};"),
    ])
    .uses()
    .circles();
    assert_eq!(circles, Vec::<String>::new());
}

#[test]
fn what_uses_a_verb_is_found_and_what_verbs_share_is_free() {
    let found = modules([
        ("lib.rs", "mod engine; mod cli;"),
        ("cli.rs", "use crate::engine::mirror::mirror;"),
        (
            "engine/mod.rs",
            "mod backup; mod mirror; mod reader; pub use backup::Options; pub use reader::read;",
        ),
        ("engine/backup/mod.rs", "mod plan; pub use plan::Options;"),
        (
            "engine/backup/plan.rs",
            "use crate::engine::read; pub struct Options;",
        ),
        (
            "engine/mirror.rs",
            "use super::Options; use super::reader::read; fn mirror() {}",
        ),
        (
            "engine/reader.rs",
            "use super::backup::Options; pub fn read() {}",
        ),
    ])
    .uses()
    .of_verbs();
    let expected = ["mirror.rs", "reader.rs"]
        .map(|user| format!("engine/{user} uses Options of engine/backup/plan.rs"));
    assert_eq!(found, expected);
}
