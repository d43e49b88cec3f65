//! The golden repository's first backup with one text replaced, and every digest above it made to fit again: what an
//! attacker could write who may write the repository. All that reads it must say no, or yes, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kafkeep::engine::NoProgress;
use kafkeep::engine::verify::{VerifyOptions, verify};
use kafkeep::repository::{PackRef, Repository, Sha256, TRAILER_LEN};
use serde_json::Value;
use serde_json::value::RawValue;

use super::memory::Memory;

const BACKUP: &str = "20261118T120640000Z-abcd00";
const PACK: &str = "packs/00/019a0000-0000-7000-8000-000000000000.pack";

/// Replaces the footer of the pack.
pub fn footer(text: &[u8]) -> bool {
    let mut forgery = Forgery::new();
    let pack = &forgery.objects[PACK];
    let start = footer_start(pack);
    let stored = compressed(text);
    let digest = Sha256::of(&stored);
    let trailer = [
        &(start as u64).to_le_bytes()[..],
        &(stored.len() as u64).to_le_bytes(),
        &digest.0,
        &[0; 8],
        b"kafkeepE",
    ]
    .concat();
    let forged = Bytes::from([&pack[..start], &stored, &trailer].concat());
    let mut layer = forgery.layer.clone();
    layer["packs"][0]["length"] = forged.len().into();
    layer["packs"][0]["footer_sha256"] = digest.to_string().into();
    let pack: PackRef = serde_json::from_value(layer["packs"][0].clone()).expect("a pack");
    forgery.objects.insert(PACK.to_owned(), forged);
    forgery.put_layer(layer.to_string().as_bytes());
    let repository = forgery.repository();
    // Whether or not an extent leads there.
    if let Ok(pack) = repository.open_pack(&pack) {
        let blocks = pack.blocks(pack.block_range());
        blocks.flatten().for_each(|block| drop(block.verify()));
    }
    is_sound(&repository)
}

/// Replaces the index layer.
pub fn index(text: &[u8]) -> bool {
    let mut forgery = Forgery::new();
    let digest = forgery.put_layer(text);
    let repository = forgery.repository();
    repository.index(&digest).ok();
    is_sound(&repository)
}

/// Replaces the manifest.
pub fn manifest(text: &[u8]) -> bool {
    let mut forgery = Forgery::new();
    forgery.put_manifest(text);
    is_sound(&forgery.repository())
}

fn is_sound(repository: &Repository) -> bool {
    let report = verify(repository, &VerifyOptions::default(), &NoProgress);
    report.is_ok_and(|report| report.findings.is_empty())
}

struct Forgery {
    objects: BTreeMap<String, Bytes>,
    manifest: Value,
    layer: Value,
}

impl Forgery {
    fn new() -> Self {
        let objects = golden().clone();
        let manifest = unsealed(&objects[&manifest_name()], "manifest");
        let digest = manifest["topics"][1]["index"].as_str().expect("an index");
        let layer = zstd::decode_all(&objects[&layer_name(digest)][..]).expect("zstd");
        let layer = serde_json::from_slice(&layer).expect("JSON");
        Self {
            objects,
            manifest,
            layer,
        }
    }

    fn put_layer(&mut self, text: &[u8]) -> Sha256 {
        let stored = compressed(text);
        let digest = Sha256::of(&stored);
        self.objects
            .insert(layer_name(&digest.to_string()), stored.into());
        self.manifest["topics"][1]["index"] = digest.to_string().into();
        let manifest = self.manifest.to_string();
        self.put_manifest(manifest.as_bytes());
        digest
    }

    /// Sealed, unless it is no JSON at all: then as it is.
    fn put_manifest(&mut self, text: &[u8]) {
        let content: Option<&RawValue> = serde_json::from_slice(text).ok();
        let object = content.map_or_else(
            || text.to_vec(),
            |content| {
                let digest = Sha256::of(content.get().as_bytes());
                format!(r#"{{"manifest":{},"sha256":"{digest}"}}"#, content.get()).into_bytes()
            },
        );
        self.objects.insert(manifest_name(), object.into());
    }

    fn repository(self) -> Repository {
        Repository::open(Arc::new(Memory::of(self.objects))).expect("the identity is golden")
    }
}

fn manifest_name() -> String {
    format!("backups/{BACKUP}.json")
}

fn layer_name(digest: &str) -> String {
    format!("index/{digest}.json.zst")
}

/// Text becomes what is stored; what is no JSON object is stored as it is, for the decompressor to refuse.
fn compressed(text: &[u8]) -> Vec<u8> {
    if text.starts_with(b"{") {
        zstd::encode_all(text, 1).expect("memory")
    } else {
        text.to_vec()
    }
}

fn footer_start(pack: &[u8]) -> usize {
    let trailer = &pack[pack.len() - TRAILER_LEN..];
    u64::from_le_bytes(*trailer.first_chunk().expect("a trailer")) as usize
}

fn unsealed(object: &[u8], key: &str) -> Value {
    let object: Value = serde_json::from_slice(object).expect("JSON");
    object[key].clone()
}

/// The golden repository without its second backup.
fn golden() -> &'static BTreeMap<String, Bytes> {
    static GOLDEN: OnceLock<BTreeMap<String, Bytes>> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let root = golden_directory();
        let mut objects = BTreeMap::new();
        collect(&root, &root, &mut objects);
        objects.retain(|name, _| !name.starts_with("backups/") || *name == manifest_name());
        objects
    })
}

/// This crate lies one below the project that it belongs to, or is built as a part of it.
fn golden_directory() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places =
        [here.to_owned(), here.join("..")].map(|root| root.join("tests/golden/repository-v1"));
    places
        .into_iter()
        .find(|place| place.exists())
        .expect("the golden repository")
}

fn collect(root: &Path, directory: &Path, objects: &mut BTreeMap<String, Bytes>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, objects);
        } else {
            let name = path.strip_prefix(root).expect("below the root");
            let content = std::fs::read(&path).expect("a file");
            objects.insert(name.display().to_string(), content.into());
        }
    }
}

/// The texts that the repository has now: seeds.
pub fn seeds() -> [(&'static str, Vec<u8>); 3] {
    let forgery = Forgery::new();
    let pack = &forgery.objects[PACK];
    let stored = &pack[footer_start(pack)..pack.len() - TRAILER_LEN];
    [
        ("footer", zstd::decode_all(stored).expect("zstd")),
        ("index", forgery.layer.to_string().into_bytes()),
        ("manifest", forgery.manifest.to_string().into_bytes()),
    ]
}
