//! Repositories that somebody else had a hand in: what lies in them leads nowhere, holds nobody up, and commands no terminal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fixture::{Fixture, hex, numbered};
use crate::testbed::{Compression, Outcome};

/// A repository with one backup of one topic, of which every test damages copies.
struct Hostile {
    scene: Fixture<'static>,
    topic: &'static str,
}

impl Hostile {
    fn new(topic: &'static str) -> Self {
        let scene = Fixture::shared();
        scene.client.create_topic(topic, 1, &[]);
        scene
            .client
            .produce(topic, 0, Compression::Gzip, numbered(0, 10));
        scene.backup(&format!("--topic {topic}"));
        Self { scene, topic }
    }

    /// A copy of the repository in a directory of its own.
    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.scene.beside(name).join("repository");
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        let source = self.scene.repository();
        let copied = Command::new("cp").arg("-a").args([&source, &copy]).status();
        assert!(copied.unwrap().success());
        copy
    }

    /// What every verb says of a repository. One that is held up, or panics, fails the test.
    fn every_verb(&self, repository: &Path, context: &str) -> Vec<(&'static str, Outcome)> {
        let cluster = format!(
            "--bootstrap-servers {} --deadline 5",
            self.scene.broker.address()
        );
        let topic = self.topic;
        let out = repository.with_file_name("out");
        let out = out.display();
        let verbs = [
            ("list", String::new()),
            ("list", "--json".to_owned()),
            ("show", "latest".to_owned()),
            ("show", "latest --json".to_owned()),
            ("verify", String::new()),
            ("verify", "--quick --json".to_owned()),
            (
                "restore",
                format!("latest --dry-run {cluster} --rename *=hostile.none"),
            ),
            (
                "export",
                format!("latest --topic * --format log --out {out}/log"),
            ),
            (
                "export",
                format!("latest --topic * --format jsonl --out {out}/jsonl"),
            ),
            ("backup", format!("--topic {topic} {cluster}")),
        ];
        let run = |(verb, arguments): &(&'static str, String)| {
            let output = Command::new("timeout")
                .args(["20", env!("CARGO_BIN_EXE_kafkeep"), verb])
                .args(arguments.split_whitespace())
                .arg("--repository")
                .arg(repository)
                .env_remove("RUST_LOG")
                .output()
                .expect("timeout, of coreutils");
            let outcome = Outcome::of(output);
            let context = format!("{context}: {verb} {arguments}: {outcome}");
            assert!([0, 1, 2].contains(&outcome.code), "{context}");
            assert!(!outcome.stderr.contains("panicked"), "{context}");
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            let commands = |c: char| c.is_control() && c != '\n';
            assert!(!said.contains(commands), "{context}");
            if outcome.code == 1 {
                let told = outcome.stderr.starts_with("kafkeep: ");
                assert!(told || outcome.stdout.contains("refused: "), "{context}");
            }
            (*verb, outcome)
        };
        verbs.iter().map(run).collect()
    }
}

/// Names, kinds and contents of all that is below a directory.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path.clone());
                found.insert(path, None);
            } else {
                let content = fs::read(&path).unwrap();
                found.insert(path, Some(content));
            }
        }
    }
    found
}

/// What an intruder puts in the place of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Impostor {
    /// A symbolic link to what was there, which lies outside now.
    Link,
    Fifo,
    Directory,
    File,
    /// `/dev/zero`: endless. Takes root to make.
    Device,
}

impl Impostor {
    /// Takes the place of `path`; whether it could.
    fn replace(self, path: &Path, outside: &Path) -> bool {
        let moved = outside.join("moved");
        if path.exists() {
            fs::rename(path, &moved).unwrap();
        } else {
            fs::create_dir(&moved).unwrap();
        }
        let node = |kind, device| mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device);
        match self {
            Self::Link => symlink(&moved, path).unwrap(),
            Self::Fifo => node(FileType::Fifo, 0).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::File => fs::write(path, b"an impostor").unwrap(),
            Self::Device => return node(FileType::CharacterDevice, makedev(1, 5)).is_ok(),
        }
        true
    }
}

#[test]
fn what_stands_in_the_place_of_an_object_or_a_directory_is_neither_followed_nor_waited_for() {
    let hostile = Hostile::new("hostile.impostors");
    let repository = hostile.scene.repository();
    let below = |part: &str| -> Vec<PathBuf> {
        let files = hostile.scene.files(part);
        let inner = files
            .iter()
            .map(|path| path.strip_prefix(&repository).unwrap());
        inner.map(Path::to_owned).collect()
    };
    let mut objects = vec![PathBuf::from("kafkeep.json")];
    for part in ["backups", "index", "states", "packs"] {
        objects.extend(below(part));
    }
    let shelf = below("packs")[0].parent().unwrap().to_owned();
    let directories = [
        "backups", "index", "states", "packs", "locks", "runs", "expired", "restores", ".tmp",
    ];
    let directories = directories.map(PathBuf::from).into_iter().chain([shelf]);
    let objects = objects
        .into_iter()
        .map(|object| (object, Impostor::Directory));
    let directories = directories.map(|directory| (directory, Impostor::File));
    let mut count = 0;
    for (place, other) in objects.chain(directories) {
        for impostor in [Impostor::Link, Impostor::Fifo, Impostor::Device, other] {
            let context = format!("{impostor:?} in the place of {}", place.display());
            count += 1;
            let copy = hostile.copy(&count.to_string());
            let outside = copy.with_file_name("outside");
            fs::create_dir(&outside).unwrap();
            if !impostor.replace(&copy.join(&place), &outside) {
                continue;
            }
            let before = snapshot(&outside);
            let said = hostile.every_verb(&copy, &context);
            assert_eq!(snapshot(&outside), before, "{context}");
            // A manifest of which nothing is left is no backup.
            let is_gone = place.starts_with("backups") && impostor == Impostor::Directory;
            let is_of_backup = !is_gone
                && !["locks", "runs", "expired", "restores", ".tmp"]
                    .contains(&place.to_str().unwrap());
            for (verb, outcome) in &said {
                // Settings are not exported.
                let needs_it = match *verb {
                    "verify" => is_of_backup,
                    "export" => is_of_backup && !place.starts_with("states"),
                    _ => false,
                };
                assert!(
                    !needs_it || outcome.code != 0,
                    "{context}: {verb}: {outcome}"
                );
            }
        }
    }
}

/// Seals a manifest as whoever knows the format can.
fn seal(path: &Path, manifest: &Value) {
    let content = serde_json::to_string_pretty(manifest).unwrap();
    let digest = hex(&Sha256::digest(content.as_bytes()));
    let sealed = format!("{{\n\"manifest\": {content},\n\"sha256\": \"{digest}\"\n}}\n");
    fs::write(path, sealed).unwrap();
}

/// Stores a layer or a state; its digest.
fn store(directory: &Path, content: &Value) -> String {
    let stored = zstd::encode_all(content.to_string().as_bytes(), 3).unwrap();
    let digest = hex(&Sha256::digest(&stored));
    fs::write(directory.join(format!("{digest}.json.zst")), stored).unwrap();
    digest
}

fn load(directory: &Path, digest: &Value) -> Value {
    let path = directory.join(format!("{}.json.zst", digest.as_str().unwrap()));
    let text = zstd::decode_all(&fs::read(path).unwrap()[..]).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The manifest of a repository with one backup, changed and sealed again.
pub fn forge(repository: &Path, change: impl FnOnce(&mut Value)) {
    let manifests = fs::read_dir(repository.join("backups")).unwrap();
    let path = manifests.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut sealed: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut sealed["manifest"]);
    seal(&path, &sealed["manifest"]);
}

const RED: &str = "red\u{1b}[31m\u{9b}31m\u{7f}\r\n\u{0}text";

#[test]
fn topic_names_that_are_paths_or_commands_make_a_manifest_damaged_and_lead_nowhere() {
    let hostile = Hostile::new("hostile.names");
    let absolute = hostile.scene.beside("absolute").display().to_string();
    let names = [
        "../../etc/x",
        "..",
        "/etc/passwd",
        &absolute,
        "a\0b",
        "a\nb",
        RED,
        "",
    ];
    for (number, name) in names.iter().enumerate() {
        let copy = hostile.copy(&format!("name{number}"));
        // Only the manifest tells lies; then the index does, too.
        for index_too in [false, true] {
            let index = copy.join("index");
            forge(&copy, |manifest| {
                let topic = &mut manifest["topics"][0];
                topic["topic"] = json!(name);
                if index_too {
                    let mut layer = load(&index, &topic["index"]);
                    layer["topic"] = json!(name);
                    topic["index"] = json!(store(&index, &layer));
                }
            });
            for (verb, outcome) in hostile.every_verb(&copy, name) {
                // The next backup passes over the manifest and copies anew.
                let code = match verb {
                    "list" | "verify" => 2,
                    "backup" => 0,
                    _ => 1,
                };
                assert_eq!(outcome.code, code, "{name:?}: {verb}: {outcome}");
                let said = format!("{}{}", outcome.stdout, outcome.stderr);
                if code != 0 {
                    assert!(
                        said.contains("is not a name that Kafka gives"),
                        "{verb}: {outcome}"
                    );
                }
                if verb == "backup" {
                    // Every verb is to look at the forged one.
                    let newest = fs::read_dir(copy.join("backups")).unwrap();
                    let newest = newest.map(|entry| entry.unwrap().path()).max().unwrap();
                    fs::remove_file(newest).unwrap();
                }
            }
        }
        assert!(
            !copy.with_file_name("out").exists(),
            "{name:?}: something was exported"
        );
    }
    assert!(!Path::new(&absolute).exists());
}

#[test]
fn texts_of_a_repository_are_no_commands_to_a_terminal() {
    let hostile = Hostile::new("hostile.texts");
    type Change<'a> = &'a dyn Fn(&Path, &mut Value);
    let harmless = "\\u{1b}[31m\\u{9b}31m\\u{7f}\\r\\n\\";
    let show = |name: &str, change: Change<'_>| -> Vec<(&str, Outcome)> {
        let copy = hostile.copy(name);
        forge(&copy, |manifest| change(&copy, manifest));
        hostile.every_verb(&copy, name)
    };
    // What kafkeep itself has written is never like this: the manifest cannot be.
    let ours: [(&str, Change<'_>); 4] = [
        ("cluster", &|_, manifest| {
            manifest["cluster_id"] = json!(RED)
        }),
        ("version", &|_, manifest| {
            manifest["kafkeep_version"] = json!(RED)
        }),
        ("restarted", &|_, manifest| {
            manifest["topics"][0]["chain_restarted"] = json!(RED)
        }),
        ("gap", &|_, manifest| {
            let gaps = json!([{"start_offset": 0, "end_offset": 1, "reason": RED}]);
            manifest["topics"][0]["partitions"][0]["gaps"] = gaps;
        }),
    ];
    for (name, change) in ours {
        let said = show(name, change);
        said[2].1.refused(1, &["has control characters", harmless]);
    }
    // What others have named may be like this: it is shown, and harmless.
    let theirs: [(&str, Change<'_>); 3] = [
        ("policy", &|_, manifest| manifest["policy"] = json!(RED)),
        ("settings", &|copy, manifest| {
            let states = copy.join("states");
            let topic = &mut manifest["topics"][0];
            let mut state = load(&states, &topic["configuration"]);
            let entry = &mut state["entries"][0];
            entry["value"] = json!(RED);
            entry["source"] = json!("DYNAMIC_TOPIC_CONFIG");
            topic["configuration"] = json!(store(&states, &state));
        }),
        ("groups", &|copy, manifest| {
            let committed =
                json!([{"partition": 0, "offset": 1, "leader_epoch": -1, "metadata": RED}]);
            let topics = json!([{"topic": RED, "partitions": committed}]);
            let group = json!({"group": RED, "type": "classic", "state": RED, "topics": topics});
            let unread = json!({"group": RED, "reason": RED});
            let state = json!({"groups": [group], "unread": [unread]});
            manifest["groups"] = json!(store(&copy.join("states"), &state));
        }),
    ];
    for (name, change) in theirs {
        let said = show(name, change);
        let (_, shown) = &said[2];
        assert_eq!(shown.code, 0, "{name}: {shown}");
        assert!(shown.stdout.contains(harmless), "{name}: {shown}");
    }
}

#[test]
fn numbers_that_cannot_be_make_a_manifest_damaged() {
    let hostile = Hostile::new("hostile.numbers");
    type Change<'a> = &'a dyn Fn(&mut Value);
    let changes: [(&str, Change<'_>); 6] = [
        ("start", &|entry| entry["start_offset"] = json!(-1)),
        ("end", &|entry| entry["end_offset"] = json!(i64::MIN)),
        ("partition", &|entry| entry["partition"] = json!(-1)),
        ("gap", &|entry| {
            let gap = json!({"start_offset": 5, "end_offset": i64::MIN, "reason": "none"});
            entry["gaps"] = json!([gap]);
        }),
        ("records", &|entry| entry["records"] = json!(-1)),
        ("batch", &|entry| {
            entry["last_batch"]["last_offset"] = json!(i64::MAX);
        }),
    ];
    for (name, change) in changes {
        let copy = hostile.copy(name);
        forge(&copy, |manifest| {
            change(&mut manifest["topics"][0]["partitions"][0])
        });
        let said = hostile.every_verb(&copy, name);
        said[0].1.refused(2, &[]);
        said[2]
            .1
            .refused(1, &["the manifest of backup", "is damaged"]);
    }
    // Each by itself can be, and their sum cannot.
    let copy = hostile.copy("sum");
    forge(&copy, |manifest| {
        let topic = &mut manifest["topics"][0];
        let mut entry = topic["partitions"][0].clone();
        entry["bytes"] = json!(u64::MAX);
        let mut next = entry.clone();
        next["partition"] = json!(1);
        topic["partitions"] = json!([entry, next]);
    });
    let said = hostile.every_verb(&copy, "sum");
    said[2].1.refused(1, &["counts more than there can be"]);
    let copy = hostile.copy("totals");
    forge(&copy, |manifest| {
        for total in manifest["totals"].as_object_mut().unwrap().values_mut() {
            *total = json!(u64::MAX);
        }
    });
    hostile.every_verb(&copy, "totals");
}
