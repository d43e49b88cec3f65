//! A file of `policies.d`: any number of policies of each kind.

use serde_json::Value;

use super::backup_policy::BackupPolicy;
use super::drain_policy::DrainPolicy;
use super::key::{Key, Keys, Kind, Node};
use super::kinds::Named;
use super::mirror_policy::MirrorPolicy;
use super::reader::Reader;
use super::schema;
use super::section::Section;

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct PolicyFile {
    pub backups: Named<BackupPolicy>,
    pub mirrors: Named<MirrorPolicy>,
    pub drains: Named<DrainPolicy>,
}

/// Everything in the files of policies, together.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub backups: Named<BackupPolicy>,
    pub mirrors: Named<MirrorPolicy>,
    pub drains: Named<DrainPolicy>,
}

const BACKUP: Key<Named<BackupPolicy>> = Key::optional("backup", "backups on a schedule, by name");
const MIRROR: Key<Named<MirrorPolicy>> =
    Key::optional("mirror", "topics copied from cluster to cluster, by name");
const DRAIN: Key<Named<DrainPolicy>> = Key::optional(
    "drain",
    "consumer groups watched until they have read all, by name",
);
const KEYS: Keys = &[&BACKUP, &MIRROR, &DRAIN];

const ELSEWHERE: &[(&str, &str)] = &[
    ("http", "this belongs into kafkeep.toml"),
    ("clusters", "this belongs into kafkeep.toml"),
    ("repositories", "this belongs into kafkeep.toml"),
    ("limits", "this belongs into kafkeep.toml"),
];

impl Kind for PolicyFile {
    const WANTS: &'static str = "a table";

    fn schema() -> Value {
        schema::table(KEYS)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.elsewhere = ELSEWHERE;
        let section = Section::open::<Self>(node, KEYS, reader);
        reader.elsewhere = &[];
        let section = section?;
        reader.is_open = true;
        let file = Self {
            backups: section.value(&BACKUP, reader).unwrap_or_default(),
            mirrors: section.value(&MIRROR, reader).unwrap_or_default(),
            drains: section.value(&DRAIN, reader).unwrap_or_default(),
        };
        reader.is_open = false;
        Some(file)
    }
}
