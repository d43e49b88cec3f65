//! A key set in a file (RFC 7517), read again when the file changes.

use std::path::{Path, PathBuf};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};

use super::algorithm::{KeyAlgorithm, is_for, read};
use super::error::KeyError;
use super::renewed::Renewed;

/// The keys of a set that are for one algorithm, with their names.
type Keys = Vec<(Option<String>, DecodingKey)>;

/// A key set, of which those keys are used that are for one algorithm.
#[derive(Debug)]
pub(super) struct JwksFile {
    path: PathBuf,
    algorithm: KeyAlgorithm,
    keys: Renewed<Keys>,
}

impl JwksFile {
    pub fn open(path: &Path, algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        Ok(Self {
            path: path.to_owned(),
            algorithm,
            keys: Renewed::open(&[path], || keys(path, algorithm))?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys as they are now. A new file that cannot be used leaves them as they were.
    pub fn keys(&self) -> Keys {
        self.keys.now("the key set", || {
            let keys = keys(&self.path, self.algorithm)?;
            let (path, count) = (self.path.display(), keys.len());
            tracing::info!("the key set {path} is read again: {count} keys");
            Ok::<_, KeyError>(keys)
        })
    }
}

fn keys(path: &Path, algorithm: KeyAlgorithm) -> Result<Keys, KeyError> {
    let set: JwkSet = serde_json::from_slice(&read(path)?).map_err(|error| {
        let message = format!("{} is no key set (RFC 7517): {error}", path.display());
        KeyError::Unusable(message)
    })?;
    let keys = set.keys.iter().filter_map(|jwk| {
        let common = &jwk.common;
        let is_for_signatures =
            matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let is_of_algorithm = common
            .key_algorithm
            .is_none_or(|own| own.to_string() == algorithm.name());
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let is_usable = is_for_signatures && is_of_algorithm && is_for(&key, algorithm);
        is_usable.then(|| (common.key_id.clone(), key))
    });
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() {
        let message = format!("{} holds no key for {}", path.display(), algorithm.name());
        return Err(KeyError::Unusable(message));
    }
    Ok(keys)
}
