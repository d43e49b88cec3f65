//! What an unfinished run has sealed so far, for the next run to adopt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ObjectName;
use super::index::Layer;
use super::objects::unusable;
use super::sealed_json::{self, FORMAT};
use super::{BackupId, PackId, Repository, RepositoryError, RepositoryId};

const DIRECTORY: &str = "runs/";
const RECORD_LIMIT: u64 = 256 << 20;

/// One finished pack of a run whose backup does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RunRecord {
    format: u32,
    /// The backup that the run is making.
    run_id: BackupId,
    repository_id: RepositoryId,
    /// What lies in the pack, a layer a topic.
    layers: Vec<Layer>,
}

/// A run that has sealed packs, and whose backup does not exist, or did not when it was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedRun {
    /// The backup that it was making.
    pub run_id: BackupId,
    /// What lies in its packs, in the order of sealing.
    pub layers: Vec<Layer>,
}

impl Repository {
    /// Records that a pack of a run is durable, and what lies in it. A pack is recorded once.
    pub fn record_run(
        &self,
        run_id: BackupId,
        pack_id: PackId,
        layers: Vec<Layer>,
    ) -> Result<(), RepositoryError> {
        let name = ObjectName::new(format!("{DIRECTORY}{run_id}.{pack_id}.json"))?;
        let record = RunRecord {
            format: FORMAT,
            run_id,
            repository_id: self.id(),
            layers,
        };
        let sealed =
            sealed_json::seal("run", &record).map_err(|error| RepositoryError::ObjectDamaged {
                name: name.to_string(),
                detail: error.to_string(),
            })?;
        self.storage().put_new(&name, sealed)
    }

    /// The runs that left records, oldest first; and what is wrong with records that cannot be read, which are
    /// passed over: they are worth no more than the copying that they would have saved.
    pub fn unfinished_runs(
        &self,
    ) -> Result<(Vec<UnfinishedRun>, Vec<RepositoryError>), RepositoryError> {
        let mut runs: BTreeMap<BackupId, Vec<Layer>> = BTreeMap::new();
        let mut unreadable = Vec::new();
        for object in self.storage().list(DIRECTORY)? {
            let Some(run_id) = run_of(&object.name) else {
                continue;
            };
            match self.run_record(&object.name, run_id) {
                Ok(layers) => runs.entry(run_id).or_default().extend(layers),
                // Another run has just adopted it.
                Err(error) if error.is_missing() => {}
                Err(error) if error.is_damage() => unreadable.push(error),
                Err(error) => return Err(error),
            }
        }
        let runs = runs
            .into_iter()
            .map(|(run_id, layers)| UnfinishedRun { run_id, layers });
        Ok((runs.collect(), unreadable))
    }

    /// The largest id of a run that left a record, told by their files' names.
    pub(super) fn newest_run(&self) -> Result<Option<BackupId>, RepositoryError> {
        let objects = self.storage().list(DIRECTORY)?;
        Ok(objects
            .iter()
            .filter_map(|object| run_of(&object.name))
            .max())
    }

    fn run_record(
        &self,
        name: &ObjectName,
        run_id: BackupId,
    ) -> Result<Vec<Layer>, RepositoryError> {
        let sealed = self.storage().get(name, RECORD_LIMIT)?;
        let record: RunRecord =
            sealed_json::unseal("run", &sealed).map_err(|error| unusable(name, error))?;
        if record.run_id != run_id || record.repository_id != self.id() {
            return Err(RepositoryError::ObjectDamaged {
                name: name.to_string(),
                detail: "it belongs to another run or repository".to_owned(),
            });
        }
        for layer in &record.layers {
            layer.check()?;
        }
        Ok(record.layers)
    }

    /// Removes runs' records: their backups exist, or another backup holds all that they tell of.
    pub fn forget_runs(&self, runs: &[BackupId]) -> Result<(), RepositoryError> {
        for object in self.storage().list(DIRECTORY)? {
            if run_of(&object.name).is_none_or(|run_id| !runs.contains(&run_id)) {
                continue;
            }
            self.storage().delete(&object.name)?;
        }
        Ok(())
    }
}

fn run_of(name: &ObjectName) -> Option<BackupId> {
    let (run_id, _) = name.as_str().strip_prefix(DIRECTORY)?.split_once('.')?;
    run_id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scratch, TOPIC_ID, TestBatch, source};
    use super::*;
    use crate::record::{Compression, Offset};
    use crate::repository::{BlockPlace, Extent, PACK_HEADER_LEN, SealedBlock};

    fn record(scratch: &Scratch, run_id: BackupId, base_offset: i64) -> Layer {
        let raw = TestBatch::new(base_offset, 3, b"value").encode();
        let block = SealedBlock::seal(&source(0), raw.into(), Compression::None).unwrap();
        let pack = scratch.pack(std::slice::from_ref(&block));
        let place = BlockPlace {
            offset: PACK_HEADER_LEN as u64,
            len: block.header.len(),
        };
        let extent = Extent::of_block(0, place, Offset(base_offset), &block.header);
        let mut layer = Layer::new("orders", TOPIC_ID, "cluster");
        layer.push(source(0).partition, &pack, extent).unwrap();
        let layers = vec![layer.clone()];
        scratch
            .repository
            .record_run(run_id, pack.pack_id, layers)
            .unwrap();
        layer
    }

    #[test]
    fn what_a_run_recorded_is_read_back_in_order_until_it_is_forgotten() {
        let scratch = Scratch::new();
        let (first, second) = (id(1), id(2));
        let layers = vec![record(&scratch, first, 0), record(&scratch, first, 3)];
        record(&scratch, second, 6);
        let (runs, unreadable) = scratch.repository.unfinished_runs().unwrap();
        assert!(unreadable.is_empty());
        assert_eq!(runs.len(), 2);
        assert_eq!((runs[0].run_id, &runs[0].layers), (first, &layers));
        scratch.repository.forget_runs(&[first]).unwrap();
        let (runs, _) = scratch.repository.unfinished_runs().unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].run_id, second);
    }

    #[test]
    fn a_damaged_record_is_passed_over_and_told() {
        let scratch = Scratch::new();
        let layer = record(&scratch, id(1), 0);
        record(&scratch, id(2), 3);
        let path = path_of(&scratch, id(1), &layer);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("orders", "0rders")).unwrap();
        let (runs, unreadable) = scratch.repository.unfinished_runs().unwrap();
        assert_eq!(runs.len(), 1);
        assert!(
            unreadable[0].to_string().contains("SHA-256"),
            "{unreadable:?}"
        );
    }

    #[test]
    fn records_with_the_numbers_of_earlier_versions_are_read_and_forgotten() {
        let scratch = Scratch::new();
        let layer = record(&scratch, id(1), 0);
        let runs = scratch.directory.path().join("runs");
        std::fs::rename(
            path_of(&scratch, id(1), &layer),
            runs.join(format!("{}.000000.json", id(1))),
        )
        .unwrap();
        let (found, unreadable) = scratch.repository.unfinished_runs().unwrap();
        assert!(unreadable.is_empty(), "{unreadable:?}");
        assert_eq!((found[0].run_id, &found[0].layers), (id(1), &vec![layer]));
        scratch.repository.forget_runs(&[id(1)]).unwrap();
        assert_eq!(std::fs::read_dir(runs).unwrap().count(), 0);
    }

    fn path_of(scratch: &Scratch, run_id: BackupId, layer: &Layer) -> std::path::PathBuf {
        let pack_id = layer.packs[0].pack_id;
        let name = format!("runs/{run_id}.{pack_id}.json");
        scratch.directory.path().join(name)
    }

    fn id(second: i64) -> BackupId {
        format!("20261124T11400{second}000Z-3f9a1c")
            .parse()
            .unwrap()
    }
}
