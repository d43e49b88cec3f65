//! The index of one generation of a topic: where its batches lie. Kept in layers, so that a run writes what is new, and
//! merged so that reading it never takes more than a few.

use std::collections::{BTreeMap, HashMap};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::extent::{EXTENT_FIELDS, Extent};
use super::objects::Kind;
use super::pack::PackRef;
use super::sealed_json::FORMAT;
use super::{PackId, Repository, RepositoryError, Sha256};
use crate::record::{PartitionId, TopicId, is_topic_name};

pub(super) const LAYERS: Kind = Kind {
    directory: "index",
    stored_limit: 256 << 20,
    text_limit: 1 << 30,
};
/// A chain that this program writes is never deeper than 64: each layer weighs more than twice its child.
const DEPTH_LIMIT: usize = 256;
/// The most records, and bytes of batches, in a layer: sums over as many layers as there can be do not overflow.
const COUNT_LIMIT: u64 = 1 << 54;

/// Some extents of a topic generation, and the layer that holds those before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Format of the layer; see [`Manifest::format`](super::Manifest::format).
    pub format: u32,
    /// The topic's name in the source.
    pub topic: String,
    /// The topic's id; zero when the cluster knows none.
    pub topic_id: TopicId,
    /// The cluster that the topic belongs to.
    pub cluster_id: String,
    /// The layer whose extents come before this one's.
    pub parent: Option<Sha256>,
    /// Number of extents in this layer.
    pub weight: u64,
    /// The packs that the extents lie in.
    pub packs: Vec<PackRef>,
    /// The columns of an extent.
    pub extent_fields: ExtentFields,
    /// Extents by partition, ascending.
    pub partitions: BTreeMap<PartitionId, Vec<Extent>>,
}

/// Always the names of an [`Extent`]'s columns: a layer explains itself to whoever reads its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtentFields;

impl Serialize for ExtentFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        EXTENT_FIELDS.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExtentFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Vec::<String>::deserialize(deserializer)?;
        if fields == EXTENT_FIELDS {
            Ok(Self)
        } else {
            Err(D::Error::custom("extents have other columns"))
        }
    }
}

impl Layer {
    /// A layer without extents.
    pub fn new(topic: impl Into<String>, topic_id: TopicId, cluster_id: impl Into<String>) -> Self {
        Self {
            format: FORMAT,
            topic: topic.into(),
            topic_id,
            cluster_id: cluster_id.into(),
            parent: None,
            weight: 0,
            packs: Vec::new(),
            extent_fields: ExtentFields,
            partitions: BTreeMap::new(),
        }
    }

    /// Adds an extent of a finished pack, whatever number it gave the pack; extents that follow one another become one.
    pub fn push(
        &mut self,
        partition: PartitionId,
        pack: &PackRef,
        extent: Extent,
    ) -> Result<(), RepositoryError> {
        let index = match self.packs.last() {
            Some(last) if last == pack => self.packs.len() - 1,
            _ => self
                .packs
                .iter()
                .position(|known| known == pack)
                .unwrap_or_else(|| {
                    self.packs.push(pack.clone());
                    self.packs.len() - 1
                }),
        };
        let pack = u32::try_from(index).map_err(|_| self.unfit("too many packs".to_owned()))?;
        self.add(partition, Extent { pack, ..extent })
    }

    fn add(&mut self, partition: PartitionId, extent: Extent) -> Result<(), RepositoryError> {
        let unfit = |last: &Extent, extent: &Extent| RepositoryError::UnfitIndex {
            topic: self.topic.clone(),
            detail: format!(
                "offsets {} to {} of partition {partition} come after offset {}",
                extent.base_offset, extent.last_offset, last.last_offset
            ),
        };
        let extents = self.partitions.entry(partition).or_default();
        if let Some(last) = extents.last_mut() {
            if last.last_offset >= extent.base_offset {
                return Err(unfit(last, &extent));
            }
            if last.absorb(&extent) {
                return Ok(());
            }
        }
        extents.push(extent);
        self.weight += 1;
        Ok(())
    }

    /// This layer with the extents of `later` after its own.
    fn followed_by(mut self, later: Self) -> Result<Self, RepositoryError> {
        self.check_generation(&later)?;
        let mut places: HashMap<PackId, u32> = HashMap::new();
        for (index, pack) in self.packs.iter().enumerate() {
            places.insert(pack.pack_id, index as u32);
        }
        let mut renumbered = Vec::with_capacity(later.packs.len());
        for pack in &later.packs {
            let next = u32::try_from(self.packs.len())
                .map_err(|_| self.unfit("too many packs".to_owned()))?;
            let place = *places.entry(pack.pack_id).or_insert(next);
            if place == next {
                self.packs.push(pack.clone());
            } else if self.packs.get(place as usize) != Some(pack) {
                return Err(self.unfit(format!("two packs have the id {}", pack.pack_id)));
            }
            renumbered.push(place);
        }
        for (partition, extents) in later.partitions {
            for mut extent in extents {
                let place = renumbered.get(extent.pack as usize);
                extent.pack =
                    *place.ok_or_else(|| self.unfit("an extent without a pack".to_owned()))?;
                self.add(partition, extent)?;
            }
        }
        Ok(self)
    }

    fn check_generation(&self, other: &Self) -> Result<(), RepositoryError> {
        let same = (&self.topic, self.topic_id, &self.cluster_id)
            == (&other.topic, other.topic_id, &other.cluster_id);
        if same {
            Ok(())
        } else {
            Err(self.unfit("its layers belong to different topics".to_owned()))
        }
    }

    /// Whether all that it says can be: read layers are not believed before.
    pub(super) fn check(&self) -> Result<(), RepositoryError> {
        if !is_topic_name(&self.topic) {
            return Err(self.unfit("Kafka gives no topic such a name".to_owned()));
        }
        let extents = || self.partitions.values().flatten();
        let counts: [fn(&Extent) -> u64; 3] = [
            |extent| extent.records,
            |extent| extent.control_records,
            |extent| extent.raw_bytes,
        ];
        for count in counts {
            if extents().map(count).fold(0, u64::saturating_add) > COUNT_LIMIT {
                return Err(self.unfit("it counts more than there can be".to_owned()));
            }
        }
        let mut weight = 0;
        for (partition, extents) in &self.partitions {
            weight += extents.len() as u64;
            let ordered = extents.windows(2).all(|pair| match pair {
                [first, second] => first.last_offset < second.base_offset,
                _ => true,
            });
            let fits = |extent: &Extent| {
                self.packs
                    .get(extent.pack as usize)
                    .is_some_and(|pack| extent.fits(pack))
            };
            if partition.0 < 0 || !ordered || !extents.iter().all(fits) {
                return Err(self.unfit(format!("the extents of partition {partition} cannot be")));
            }
        }
        if weight == self.weight {
            Ok(())
        } else {
            Err(self.unfit("its weight is wrong".to_owned()))
        }
    }

    fn unfit(&self, detail: String) -> RepositoryError {
        RepositoryError::UnfitIndex {
            topic: self.topic.clone(),
            detail,
        }
    }
}

/// All of a topic generation's extents: a chain of layers, flattened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicIndex {
    /// The packs that the extents lie in.
    pub packs: Vec<PackRef>,
    /// Extents by partition, ascending and without overlap.
    pub partitions: BTreeMap<PartitionId, Vec<Extent>>,
}

impl Repository {
    /// Stores a layer.
    pub fn put_layer(&self, layer: &Layer) -> Result<Sha256, RepositoryError> {
        layer.check()?;
        LAYERS.put(self.storage(), layer)
    }

    /// The layer of this digest.
    pub fn layer(&self, digest: &Sha256) -> Result<Layer, RepositoryError> {
        let layer: Layer = LAYERS.get_versioned(self.storage(), digest)?;
        layer.check()?;
        Ok(layer)
    }

    /// Stores `new` after the chain that ends in `parent`.
    ///
    /// Parents that weigh at most twice as much are merged in. So every layer left weighs more than twice what follows
    /// it, the chain stays logarithmic in the number of extents, and an extent is rewritten a logarithmic number of times.
    pub fn extend_index(
        &self,
        parent: Option<&Sha256>,
        new: Layer,
    ) -> Result<Sha256, RepositoryError> {
        let mut merged = new;
        let mut next = parent.copied();
        if let (0, Some(parent)) = (merged.weight, next) {
            return Ok(parent);
        }
        while let Some(digest) = next {
            let parent = self.layer(&digest)?;
            parent.check_generation(&merged)?;
            if parent.weight > merged.weight.saturating_mul(2) {
                break;
            }
            next = parent.parent;
            merged = parent.followed_by(merged)?;
        }
        merged.parent = next;
        self.put_layer(&merged)
    }

    /// The whole chain that ends in `digest`, flattened.
    pub fn index(&self, digest: &Sha256) -> Result<TopicIndex, RepositoryError> {
        let mut layers = vec![self.layer(digest)?];
        while let Some(parent) = layers.last().and_then(|layer| layer.parent) {
            if layers.len() == DEPTH_LIMIT {
                return Err(RepositoryError::ObjectDamaged {
                    name: format!("index/{digest}.json.zst"),
                    detail: format!("more than {DEPTH_LIMIT} layers hang on it"),
                });
            }
            layers.push(self.layer(&parent)?);
        }
        let mut flat: Option<Layer> = None;
        while let Some(layer) = layers.pop() {
            flat = Some(match flat {
                None => layer,
                Some(earlier) => earlier.followed_by(layer)?,
            });
        }
        let (packs, partitions) = flat
            .map(|layer| (layer.packs, layer.partitions))
            .unwrap_or_default();
        Ok(TopicIndex { packs, partitions })
    }
}
