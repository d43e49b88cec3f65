//! A key set in a file (RFC 7517), read again when the file changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};

use super::error::KeyError;
use super::key::{KeyAlgorithm, is_for, read};

/// The file is looked at so often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The keys of a set that are for one algorithm.
#[derive(Debug)]
pub(super) struct JwksFile {
    path: PathBuf,
    algorithm: KeyAlgorithm,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    looked_at: Instant,
    mark: Option<Mark>,
    keys: Vec<(Option<String>, DecodingKey)>,
}

/// Another one, and the file is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    length: u64,
    changed_at: (i64, i64),
}

fn mark(path: &Path) -> Option<Mark> {
    let found = std::fs::metadata(path).ok()?;
    Some(Mark {
        inode: found.ino(),
        length: found.len(),
        changed_at: (found.ctime(), found.ctime_nsec()),
    })
}

impl JwksFile {
    pub fn open(path: &Path, algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        // Before it is read: what changes meanwhile is read again.
        let mark = mark(path);
        let keys = keys(path, algorithm)?;
        Ok(Self {
            path: path.to_owned(),
            algorithm,
            seen: Mutex::new(Seen {
                looked_at: Instant::now(),
                mark,
                keys,
            }),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys as they are now, with their names. A new file that cannot be used leaves them as they were.
    pub fn keys(&self) -> Vec<(Option<String>, DecodingKey)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked_at.elapsed() >= LOOK_EVERY {
            seen.looked_at = Instant::now();
            let now = mark(&self.path);
            if now != seen.mark {
                match keys(&self.path, self.algorithm) {
                    Ok(keys) => {
                        tracing::info!(
                            "the key set {} is read again: {} keys",
                            self.path.display(),
                            keys.len()
                        );
                        seen.keys = keys;
                    }
                    Err(error) => tracing::error!("the key set stays what it was: {error}"),
                }
                seen.mark = now;
            }
        }
        seen.keys.clone()
    }
}

fn keys(
    path: &Path,
    algorithm: KeyAlgorithm,
) -> Result<Vec<(Option<String>, DecodingKey)>, KeyError> {
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
