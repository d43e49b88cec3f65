//! Beginning and opening a repository.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};

use super::ObjectName;
use super::lock_watch::LockWatch;
use super::pack::pack_id_of;
use super::sealed_json::{self, FORMAT, Unusable};
use super::storage::{Put, Storage};
use super::{
    BlockingStorage, PackId, PackReader, PackRef, PackWriter, RepositoryError, RepositoryId,
};

const IDENTITY: &str = "kafkeep.json";
const IDENTITY_LIMIT: u64 = 64 << 10;

/// An open repository. Clones are cheap and share what lies below.
#[derive(Debug, Clone)]
pub struct Repository {
    storage: BlockingStorage,
    identity: Identity,
    lock_watch: Arc<LockWatch>,
}

/// What the objects of a repository take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How many there are.
    pub objects: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// The content of `kafkeep.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    format: u32,
    repository_id: RepositoryId,
    created_at: DateTime<Utc>,
}

impl Repository {
    /// Begins a repository where nothing is.
    pub fn init(storage: Arc<dyn Storage>) -> Result<Self, RepositoryError> {
        let now = Utc::now().trunc_subsecs(3);
        Self::init_as(storage, RepositoryId::random(), now)
    }

    pub(super) fn init_as(
        storage: Arc<dyn Storage>,
        repository_id: RepositoryId,
        created_at: DateTime<Utc>,
    ) -> Result<Self, RepositoryError> {
        let storage = BlockingStorage::new(storage);
        let location = storage.location();
        if !storage.is_empty()? {
            return Err(match storage.size(&identity_name()?) {
                Ok(_) => RepositoryError::AlreadyARepository { location },
                Err(error) if error.is_missing() => not_empty(location),
                Err(error) => error,
            });
        }
        let identity = Identity {
            format: FORMAT,
            repository_id,
            created_at,
        };
        let sealed = sealed_json::seal("repository", &identity).map_err(|error| {
            RepositoryError::ObjectDamaged {
                name: IDENTITY.to_owned(),
                detail: error.to_string(),
            }
        })?;
        match storage.put(&identity_name()?, sealed.into())? {
            Put::Created => Ok(Self::of(storage, identity)),
            Put::Same | Put::Different => Err(RepositoryError::AlreadyARepository { location }),
        }
    }

    /// Opens a repository that was begun before.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, RepositoryError> {
        let storage = BlockingStorage::new(storage);
        let sealed = match storage.get(&identity_name()?, IDENTITY_LIMIT) {
            Err(RepositoryError::ObjectMissing { location, .. }) => {
                return Err(if storage.is_empty()? {
                    let reason = "it is empty: a first backup makes one here".to_owned();
                    RepositoryError::NotARepository { location, reason }
                } else {
                    not_empty(location)
                });
            }
            sealed => sealed?,
        };
        let identity =
            sealed_json::unseal("repository", &sealed).map_err(|unusable| match unusable {
                Unusable::Damaged(detail) => RepositoryError::ObjectDamaged {
                    name: IDENTITY.to_owned(),
                    detail,
                },
                Unusable::NewerFormat(found) => RepositoryError::NewerFormat {
                    object: format!("the repository {}", storage.location()),
                    found,
                    supported: FORMAT,
                },
            })?;
        Ok(Self::of(storage, identity))
    }

    fn of(storage: BlockingStorage, identity: Identity) -> Self {
        Self {
            storage,
            identity,
            lock_watch: Arc::default(),
        }
    }

    pub(super) fn lock_watch(&self) -> &LockWatch {
        &self.lock_watch
    }

    /// Opens a repository, or begins one where nothing is.
    pub fn open_or_init(storage: Arc<dyn Storage>) -> Result<Self, RepositoryError> {
        if BlockingStorage::new(Arc::clone(&storage)).is_empty()? {
            match Self::init(Arc::clone(&storage)) {
                // Another run was a moment faster.
                Err(RepositoryError::AlreadyARepository { .. }) => {}
                result => return result,
            }
        }
        Self::open(storage)
    }

    /// The id that every pack and manifest of this repository carries.
    pub fn id(&self) -> RepositoryId {
        self.identity.repository_id
    }

    /// When it was begun.
    pub fn created_at(&self) -> DateTime<Utc> {
        self.identity.created_at
    }

    /// The directory or bucket prefix that it lies in.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    /// What all its objects take.
    pub fn usage(&self) -> Result<Usage, RepositoryError> {
        let objects = self.storage.list("")?;
        Ok(Usage {
            objects: objects.len() as u64,
            bytes: objects.iter().map(|object| object.size).sum(),
        })
    }

    /// Bytes that are free where it lies; none where that has no bounds.
    pub fn free_bytes(&self) -> Result<Option<u64>, RepositoryError> {
        self.storage.free_bytes()
    }

    /// What its objects lie in.
    pub fn storage(&self) -> &BlockingStorage {
        &self.storage
    }

    /// Begins a pack.
    pub fn pack_writer(&self) -> Result<PackWriter, RepositoryError> {
        PackWriter::begin(self.storage(), self.id(), PackId::now())
    }

    /// Opens a pack: checks that it is the one that `pack` means, that it is as long, and its footer.
    pub fn open_pack(&self, pack: &PackRef) -> Result<PackReader, RepositoryError> {
        PackReader::open(&self.storage, self.id(), pack)
    }

    /// All packs, oldest first, and their lengths in bytes, whether or not a backup references them.
    pub fn packs(&self) -> Result<Vec<(PackId, u64)>, RepositoryError> {
        let objects = self.storage.list("packs/")?;
        let mut packs: Vec<(PackId, u64)> = objects
            .iter()
            .filter_map(|object| Some((pack_id_of(&object.name)?, object.size)))
            .collect();
        packs.sort();
        Ok(packs)
    }
}

fn identity_name() -> Result<ObjectName, RepositoryError> {
    ObjectName::new(IDENTITY)
}

fn not_empty(location: String) -> RepositoryError {
    let reason = format!(
        "it holds other things and no {IDENTITY}: choose another directory, or an empty one"
    );
    RepositoryError::NotARepository { location, reason }
}
