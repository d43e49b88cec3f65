//! Content that is named by the SHA-256 of its stored bytes: index layers and states.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ObjectName;
use super::sealed_json::{self, FORMAT, Unusable};
use super::storage::Put;
use super::{BlockingStorage, RepositoryError, Sha256};

/// A kind of content, and how long it may be, in bytes.
pub(super) struct Kind {
    pub(super) directory: &'static str,
    pub(super) stored_limit: u64,
    pub(super) text_limit: u64,
}

impl Kind {
    fn name(&self, digest: &Sha256) -> Result<ObjectName, RepositoryError> {
        ObjectName::new(format!("{}/{digest}.json.zst", self.directory))
    }

    /// Stores `content`, unless the same is there already.
    pub(super) fn put<T: Serialize>(
        &self,
        storage: &BlockingStorage,
        content: &T,
    ) -> Result<Sha256, RepositoryError> {
        let stored = sealed_json::compress(content).map_err(|source| RepositoryError::Io {
            action: "encode an object of",
            path: self.directory.to_owned(),
            source,
        })?;
        let digest = Sha256::of(&stored);
        let name = self.name(&digest)?;
        match storage.get(&name, self.stored_limit) {
            Ok(present) if present == stored => return Ok(digest),
            Ok(_) => return Err(mismatch(&name)),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
        // Where another run was a moment faster, the same is there.
        match storage.put(&name, stored.into())? {
            Put::Created | Put::Same => Ok(digest),
            Put::Different => Err(mismatch(&name)),
        }
    }

    /// Makes all that is stored durable: what [`Self::put`] found stored already may be so new that it is not yet.
    pub(super) fn sync(&self, storage: &BlockingStorage) -> Result<(), RepositoryError> {
        storage.sync(self.directory)
    }

    /// The content of this digest, whatever wrote it.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        storage: &BlockingStorage,
        digest: &Sha256,
    ) -> Result<T, RepositoryError> {
        let (name, text) = self.text(storage, digest)?;
        serde_json::from_slice(&text)
            .map_err(|error| unusable(&name, Unusable::Damaged(error.to_string())))
    }

    /// The same for content that tells its format.
    pub(super) fn get_versioned<T: DeserializeOwned>(
        &self,
        storage: &BlockingStorage,
        digest: &Sha256,
    ) -> Result<T, RepositoryError> {
        let (name, text) = self.text(storage, digest)?;
        sealed_json::parse(&text).map_err(|error| unusable(&name, error))
    }

    fn text(
        &self,
        storage: &BlockingStorage,
        digest: &Sha256,
    ) -> Result<(ObjectName, Vec<u8>), RepositoryError> {
        let name = self.name(digest)?;
        let stored: Bytes = storage.get(&name, self.stored_limit)?;
        if Sha256::of(&stored) != *digest {
            return Err(mismatch(&name));
        }
        let text = sealed_json::decompress(&stored, self.text_limit)
            .map_err(|error| unusable(&name, error))?;
        Ok((name, text))
    }
}

/// The digest that names a piece of content below `directory`; none when it is another object.
pub(super) fn content_digest(name: &ObjectName, directory: &str) -> Option<Sha256> {
    let file = name.as_str().strip_prefix(directory)?.strip_prefix('/')?;
    file.strip_suffix(".json.zst")?.parse().ok()
}

fn mismatch(name: &ObjectName) -> RepositoryError {
    RepositoryError::ObjectDamaged {
        name: name.to_string(),
        detail: "its SHA-256 does not match its name".to_owned(),
    }
}

pub(super) fn unusable(name: &ObjectName, unusable: Unusable) -> RepositoryError {
    match unusable {
        Unusable::Damaged(detail) => RepositoryError::ObjectDamaged {
            name: name.to_string(),
            detail,
        },
        Unusable::NewerFormat(found) => RepositoryError::NewerFormat {
            object: name.to_string(),
            found,
            supported: FORMAT,
        },
    }
}
