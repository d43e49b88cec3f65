//! Taking things away: first the manifests of backups, then what nothing references any more.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt;
use std::time::Duration;

use super::ObjectName;
use super::objects::content_digest;
use super::pack::pack_id_of;
use super::storage::ObjectInfo;
use super::{ExclusiveLock, Manifest, PackId, Repository, RepositoryError, Sha256};

/// What some backups and unfinished runs reference: all of it must stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    layers: BTreeSet<Sha256>,
    states: BTreeSet<Sha256>,
    packs: BTreeMap<PackId, u64>,
}

impl References {
    /// Adds what `other` references.
    pub fn extend(&mut self, other: &Self) {
        self.layers.extend(&other.layers);
        self.states.extend(&other.states);
        self.packs.extend(&other.packs);
    }

    /// Bytes of all packs.
    pub fn pack_bytes(&self) -> u64 {
        self.packs
            .values()
            .fold(0, |sum, length| sum.saturating_add(*length))
    }

    /// Packs that are not among `present`, or not as long there: what [`Repository::packs`] listed.
    pub fn lacking(&self, present: &BTreeMap<PackId, u64>) -> Vec<LackingPack> {
        let lacking = self.packs.iter().filter_map(|(pack_id, length)| {
            let found = present.get(pack_id).copied();
            (found != Some(*length)).then_some(LackingPack {
                pack_id: *pack_id,
                length: *length,
                found,
            })
        });
        lacking.collect()
    }

    fn keep(&self, name: &ObjectName) -> bool {
        let digest = |directory| content_digest(name, directory);
        if let Some(pack) = pack_id_of(name) {
            return self.packs.contains_key(&pack);
        }
        match (digest("index"), digest("states")) {
            (Some(layer), _) => self.layers.contains(&layer),
            (_, Some(state)) => self.states.contains(&state),
            // Nothing of kafkeep's, or of a later one: not ours to take.
            (None, None) => true,
        }
    }
}

/// A pack that is gone, or has another length than it was stored with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LackingPack {
    /// The id by which indexes refer to it.
    pub pack_id: PackId,
    /// Its length in bytes when it was stored.
    pub length: u64,
    /// Its length now; none when it is gone.
    pub found: Option<u64>,
}

impl fmt::Display for LackingPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pack_id, length) = (self.pack_id, self.length);
        match self.found {
            None => write!(f, "pack {pack_id} is missing"),
            Some(found) => write!(f, "pack {pack_id} has {found} bytes instead of {length}"),
        }
    }
}

/// Follows manifests and runs to what they reference. Layers are read once, however many backups share them.
pub struct ReferenceWalk<'a> {
    repository: &'a Repository,
    layers: BTreeMap<Sha256, KnownLayer>,
}

/// What a layer references.
struct KnownLayer {
    parent: Option<Sha256>,
    packs: Vec<(PackId, u64)>,
}

impl Repository {
    /// Begins to follow references.
    pub fn reference_walk(&self) -> ReferenceWalk<'_> {
        ReferenceWalk {
            repository: self,
            layers: BTreeMap::new(),
        }
    }

    /// Packs, layers and states that `referenced` does not name.
    pub fn unreferenced(
        &self,
        referenced: &References,
    ) -> Result<Vec<ObjectInfo>, RepositoryError> {
        let mut found = Vec::new();
        for directory in ["packs/", "index/", "states/"] {
            let objects = self.storage().list(directory)?;
            found.extend(
                objects
                    .into_iter()
                    .filter(|object| !referenced.keep(&object.name)),
            );
        }
        Ok(found)
    }

    /// Takes a backup away. What only it referenced is unreferenced from now on.
    pub fn remove_backup(
        &self,
        lock: &ExclusiveLock,
        manifest: &Manifest,
    ) -> Result<(), RepositoryError> {
        lock.check()?;
        let name = ObjectName::new(format!("backups/{}.json", manifest.backup_id))?;
        self.storage().delete(&name)
    }

    /// Removes an object that [`Self::unreferenced`] found under this lock.
    pub fn remove_unreferenced(
        &self,
        lock: &ExclusiveLock,
        object: &ObjectInfo,
    ) -> Result<(), RepositoryError> {
        lock.check()?;
        self.storage().delete(&object.name)
    }

    /// Removes what crashed writers left half-written and did not touch for `age`; returns how many things that were.
    pub fn remove_leftovers(
        &self,
        lock: &ExclusiveLock,
        age: Duration,
    ) -> Result<usize, RepositoryError> {
        lock.check()?;
        self.storage().remove_leftovers(age)
    }
}

impl ReferenceWalk<'_> {
    /// What a backup references.
    pub fn of_backup(&mut self, manifest: &Manifest) -> Result<References, RepositoryError> {
        let mut references = References::default();
        references.states.extend(manifest.groups);
        for topic in &manifest.topics {
            references.states.insert(topic.configuration);
            self.follow(topic.index, &mut references)?;
        }
        Ok(references)
    }

    /// What the index that ends in this layer references.
    pub fn of_index(&mut self, index: Option<Sha256>) -> Result<References, RepositoryError> {
        let mut references = References::default();
        self.follow(index, &mut references)?;
        Ok(references)
    }

    fn follow(
        &mut self,
        index: Option<Sha256>,
        references: &mut References,
    ) -> Result<(), RepositoryError> {
        let mut next = index;
        while let Some(digest) = next {
            // Chains end in the same layers: one that is there already brought its parents along.
            if !references.layers.insert(digest) {
                break;
            }
            let layer = self.layer(digest)?;
            references.packs.extend(layer.packs.iter().copied());
            next = layer.parent;
        }
        Ok(())
    }

    /// What the unfinished runs have sealed, for the next run to adopt.
    pub fn of_runs(&mut self) -> Result<References, RepositoryError> {
        let (runs, _) = self.repository.unfinished_runs()?;
        let layers = runs.iter().flat_map(|run| &run.layers);
        let packs = layers.flat_map(|layer| &layer.packs);
        Ok(References {
            packs: packs.map(|pack| (pack.pack_id, pack.length)).collect(),
            ..References::default()
        })
    }

    fn layer(&mut self, digest: Sha256) -> Result<&KnownLayer, RepositoryError> {
        match self.layers.entry(digest) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let layer = self.repository.layer(&digest)?;
                let packs = layer.packs.iter().map(|pack| (pack.pack_id, pack.length));
                Ok(place.insert(KnownLayer {
                    parent: layer.parent,
                    packs: packs.collect(),
                }))
            }
        }
    }
}
