//! Whatever becomes of a repository's bytes is found, and what it touches is named.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fixture::{Fixture, hex, numbered};
use crate::testbed::{Compression, Outcome};

/// Two topics in packs of their own, and a backup of each and of both: the damage to one must not touch the other.
struct Damaged {
    scene: Fixture<'static>,
    prefix: &'static str,
    /// Of the first topic, of the second, of both.
    backups: [String; 3],
    /// The first topic's pack, and the second's.
    packs: [PathBuf; 2],
}

impl Damaged {
    fn prepare(prefix: &'static str) -> Self {
        let scene = Fixture::shared();
        let mut packs = Vec::new();
        let mut backups = Vec::new();
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            let topic = format!("{prefix}.{name}");
            scene.client.create_topic(&topic, 1, &[]);
            for codec in [Compression::None, Compression::Zstd] {
                scene
                    .client
                    .produce(&topic, 0, codec, numbered(0, 50 + number as i64));
            }
            let report = scene.backup(&format!("--topic {topic}"));
            backups.push(report["backup_id"].as_str().unwrap().to_owned());
            let new = scene
                .files("packs")
                .into_iter()
                .find(|pack| !packs.contains(pack));
            packs.push(new.unwrap());
        }
        let both = scene.backup(&format!("--topic {prefix}.*"));
        backups.push(both["backup_id"].as_str().unwrap().to_owned());
        scene.verify();
        Self {
            scene,
            prefix,
            backups: backups.try_into().unwrap(),
            packs: packs.try_into().unwrap(),
        }
    }

    fn pack_id(&self, number: usize) -> &str {
        self.packs[number].file_stem().unwrap().to_str().unwrap()
    }

    /// What `verify` finds; it must find something, and say so with its exit code.
    #[track_caller]
    fn found(&self, arguments: &str) -> Value {
        let outcome = self.scene.run("verify", &format!("--json {arguments}"));
        assert_eq!(outcome.code, 2, "{outcome}");
        let report = outcome.json();
        assert_eq!(report["status"], "damaged");
        let findings = report["findings"].clone();
        assert!(!findings.as_array().unwrap().is_empty());
        findings
    }

    /// The first topic's pack is damaged: that is named with its offsets and backups, and the second is not touched.
    #[track_caller]
    fn first_pack_is_named(&self, arguments: &str) -> Value {
        let findings = self.found(arguments);
        for finding in findings.as_array().unwrap() {
            assert_eq!(finding["pack"], self.pack_id(0), "{finding:#}");
            assert_eq!(finding["topic"], format!("{}.a", self.prefix));
            assert_eq!(finding["partition"], 0);
            let offset = |name: &str| finding[name].as_i64().unwrap();
            assert!(0 <= offset("first_offset") && offset("last_offset") < 100);
            assert_eq!(
                finding["backups"],
                json!([self.backups[0], self.backups[2]])
            );
        }
        self.second_is_sound();
        findings
    }

    #[track_caller]
    fn second_is_sound(&self) {
        let other = self.scene.run("verify", &self.backups[1]);
        assert_eq!(other.code, 0, "{other}");
    }

    fn restore(&self, backup: usize, name: &str) -> Outcome {
        self.scene.run(
            "restore",
            &format!("{} --rename *={{topic}}.{name}", self.backups[backup]),
        )
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_anywhere_in_a_pack_is_found() {
    let damaged = Damaged::prepare("flip");
    let pack = &damaged.packs[0];
    let length = fs::read(pack).unwrap().len();
    // Header, blocks, footer and trailer: every 97th byte, and the last.
    for at in (0..length).step_by(97).chain([length - 1]) {
        flip(pack, at);
        damaged.first_pack_is_named("--all");
        flip(pack, at);
    }
    damaged.scene.verify();

    flip(pack, 300);
    let told = damaged.scene.run("verify", "");
    assert_eq!(told.code, 2);
    for text in [
        "damaged: pack",
        damaged.pack_id(0),
        "in flip.a-0, offsets 0 to",
        &damaged.backups[0],
        &damaged.backups[2],
    ] {
        assert!(told.stdout.contains(text), "{text:?} is not in {told}");
    }
    assert!(!told.stdout.contains(&damaged.backups[1]), "{told}");
    let broken = damaged.restore(0, "broken");
    assert_eq!(broken.code, 2, "{broken}");
    for text in [
        damaged.pack_id(0),
        "flip.a-0 is restored up to offset 0 only",
    ] {
        assert!(broken.stdout.contains(text), "{text:?} is not in {broken}");
    }
    let sound = damaged.restore(1, "sound");
    assert_eq!(sound.code, 0, "the other backup is usable: {sound}");
}

#[test]
fn a_flipped_bit_in_an_index_a_state_or_a_manifest_is_found() {
    let damaged = Damaged::prepare("meta");
    for part in ["index", "states", "backups"] {
        for file in damaged.scene.files(part) {
            let length = fs::read(&file).unwrap().len();
            for at in (0..length).step_by(length / 7 + 1) {
                flip(&file, at);
                let findings = damaged.found("");
                let known = json!(damaged.backups);
                for finding in findings.as_array().unwrap() {
                    let touched = finding["backups"].as_array().unwrap();
                    assert!(!touched.is_empty(), "{finding:#}");
                    assert!(
                        touched
                            .iter()
                            .all(|backup| known.as_array().unwrap().contains(backup))
                    );
                }
                flip(&file, at);
            }
        }
    }
    damaged.scene.verify();
    let identity = damaged.scene.repository().join("kafkeep.json");
    flip(&identity, 30);
    damaged
        .scene
        .run("verify", "")
        .refused(2, &["kafkeep.json is damaged"]);
}

#[test]
fn a_truncated_a_missing_and_a_swapped_pack_are_found_at_a_glance() {
    let damaged = Damaged::prepare("packs");
    let whole = damaged.packs.clone().map(|pack| fs::read(pack).unwrap());
    let problem = |arguments: &str| {
        damaged.first_pack_is_named(arguments)[0]["problem"]
            .as_str()
            .unwrap()
            .to_owned()
    };

    for length in [0, 10, whole[0].len() / 2, whole[0].len() - 1] {
        fs::write(&damaged.packs[0], &whole[0][..length]).unwrap();
        for depth in ["", "--quick"] {
            assert!(problem(depth).contains("truncated"), "{length} bytes");
        }
    }
    damaged
        .restore(0, "truncated")
        .refused(1, &["truncated", "topic packs.a cannot be restored whole"]);

    fs::remove_file(&damaged.packs[0]).unwrap();
    for depth in ["", "--quick"] {
        assert!(problem(depth).contains("is missing"));
    }
    damaged
        .restore(2, "missing")
        .refused(1, &["is missing", "topic packs.a cannot be restored whole"]);
    let part = damaged.scene.restore(&format!(
        "{} --topic packs.b --rename *={{topic}}.part",
        damaged.backups[2]
    ));
    assert_eq!(
        part["messages_restored"], 102,
        "what is sound of a backup is usable"
    );

    fs::write(&damaged.packs[0], &whole[1]).unwrap();
    for depth in ["", "--quick"] {
        assert!(problem(depth).contains("is not the pack that was written here"));
    }
    let topics = damaged.scene.client.topics();
    assert!(
        !topics
            .iter()
            .any(|topic| topic == "packs.a.truncated" || topic == "packs.a.missing")
    );
}

#[test]
fn a_pack_of_another_repository_is_foreign() {
    let damaged = Damaged::prepare("foreign");
    let other = Fixture::shared();
    other.backup("--topic foreign.a");
    fs::copy(&other.files("packs")[0], &damaged.packs[0]).unwrap();
    let findings = damaged.first_pack_is_named("");
    let problem = findings[0]["problem"].as_str().unwrap();
    assert!(
        problem.contains("is not the pack that was written here"),
        "{problem}"
    );
}

/// Takes the second newest index layer out of the chain of layers, and seals everything anew. Returns the first and last
/// offset that are lost by it.
fn lose_a_layer(scene: &Fixture<'_>) -> (i64, i64) {
    let manifest = scene.files("backups").pop().unwrap();
    let text = fs::read_to_string(&manifest).unwrap();
    let (start, end) = (text.find(": {").unwrap() + 2, text.rfind(",\n").unwrap());
    let parsed: Value = serde_json::from_str(&text[start..end]).unwrap();
    let old = parsed["topics"][0]["index"].as_str().unwrap();
    let place = |digest: &str| scene.repository().join(format!("index/{digest}.json.zst"));
    let read = |digest: &str| -> Value {
        let text = zstd::decode_all(&fs::read(place(digest)).unwrap()[..]).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let mut layer = read(old);
    let lost = read(layer["parent"].as_str().unwrap());
    layer["parent"] = lost["parent"].clone();
    let field = |extent: &Value, name: &str| {
        let fields = lost["extent_fields"].as_array().unwrap();
        let column = fields.iter().position(|field| field == name).unwrap();
        extent[column].as_i64().unwrap()
    };
    let extents = lost["partitions"]["0"].as_array().unwrap();
    let (first, last) = (extents.first().unwrap(), extents.last().unwrap());
    let layer = zstd::encode_all(layer.to_string().as_bytes(), 3).unwrap();
    let new = hex(&Sha256::digest(&layer));
    fs::write(place(&new), layer).unwrap();
    let content = text[start..end].replace(old, &new);
    let digest = hex(&Sha256::digest(content.as_bytes()));
    let sealed = format!("{{\n\"manifest\": {content},\n\"sha256\": \"{digest}\"\n}}\n");
    fs::write(manifest, sealed).unwrap();
    (field(first, "start_offset"), field(last, "last_offset"))
}

#[test]
fn offsets_that_no_extent_accounts_for_are_found_and_not_restored() {
    let scene = Fixture::shared();
    scene.client.create_topic("missing", 1, &[]);
    for run in 0..4 {
        scene
            .client
            .produce("missing", 0, Compression::None, numbered(run * 10, 10));
        scene.backup("--topic missing");
    }
    scene.verify();
    let (first, last) = lose_a_layer(&scene);
    let outcome = scene.run("verify", "--json --quick");
    assert_eq!(outcome.code, 2, "{outcome}");
    let report = outcome.json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{outcome}");
    let finding = &findings[0];
    assert_eq!(
        (&finding["topic"], &finding["partition"]),
        (&"missing".into(), &0.into())
    );
    assert_eq!(
        (&finding["first_offset"], &finding["last_offset"]),
        (&first.into(), &last.into())
    );
    assert_eq!(
        finding["backups"].as_array().unwrap().len(),
        1,
        "those before are whole"
    );
    scene
        .run("restore", "latest --rename missing=missing.back")
        .refused(
            1,
            &[&format!(
                "offsets {first} to {last} of partition 0 are in no extent"
            )],
        );
    assert!(!scene.client.topics().contains(&"missing.back".to_owned()));
}

#[test]
fn a_quick_verification_reads_no_blocks() {
    let damaged = Damaged::prepare("quick");
    // In the payload of the first block, behind its header.
    flip(&damaged.packs[0], 400);
    let quick = damaged.scene.run("verify", "--quick --json").done();
    assert_eq!(
        (&quick["depth"], &quick["blocks"]),
        (&"quick".into(), &0.into())
    );
    damaged.first_pack_is_named("");
    let told = damaged.scene.run("verify", "--quick");
    assert!(
        told.stdout.contains("quick: sizes and footers only"),
        "{told}"
    );
}

#[test]
fn a_sound_repository_is_said_to_be_sound() {
    let damaged = Damaged::prepare("sound");
    let report = damaged.scene.verify();
    assert_eq!(report["status"], "sound");
    assert_eq!(
        (&report["backups"], &report["packs"]),
        (&3.into(), &2.into())
    );
    assert!(report["batches"].as_u64().unwrap() >= 4);
    let told = damaged.scene.run("verify", "latest");
    assert_eq!(told.code, 0);
    assert!(
        told.stdout.starts_with("sound: 1 backup(s), 2 pack(s)"),
        "{told}"
    );
    assert_eq!(told.stderr, "");
}
