//! Keys: each is bound to one algorithm.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::kafka::Secret;

use super::algorithm::KeyAlgorithm;
use super::error::KeyError;
use super::key_file::{Form, KeyFile};

/// A shared secret must have as many bits as the hash (RFC 7518, section 3.2).
const LEAST_SECRET: usize = 32;
/// A key that is configured.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name, by which tokens name it (`kid`); of a set the keys in it have their own.
    pub name: String,
    /// The one algorithm under which it is used.
    pub algorithm: KeyAlgorithm,
    pub(super) material: Material,
}

#[derive(Debug, Clone)]
pub(super) enum Material {
    Secret(Secret),
    File(Arc<KeyFile>),
}

impl Key {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    ///
    /// When it has less than 32 bytes.
    pub fn shared(name: &str, secret: Secret) -> Result<Self, KeyError> {
        let length = secret.reveal().len();
        if length < LEAST_SECRET {
            let message =
                format!("the secret has {length} bytes, and HS256 needs {LEAST_SECRET} or more");
            return Err(KeyError::Unusable(message));
        }
        Ok(Self {
            name: name.to_owned(),
            algorithm: KeyAlgorithm::Hs256,
            material: Material::Secret(secret),
        })
    }

    /// Public keys in a file, which is read again when it changes: one key in PEM.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds no public key for the algorithm. A private key is refused: who verifies needs none.
    pub fn public(
        name: &str,
        algorithm: KeyAlgorithm,
        path: &Path,
        keep_for: Duration,
    ) -> Result<Self, KeyError> {
        Self::in_file(name, algorithm, path, Form::Pem, keep_for)
    }

    /// The same, with a key set (RFC 7517). An empty one takes all keys back.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds keys, but none for the algorithm.
    pub fn set(
        name: &str,
        algorithm: KeyAlgorithm,
        path: &Path,
        keep_for: Duration,
    ) -> Result<Self, KeyError> {
        Self::in_file(name, algorithm, path, Form::Set, keep_for)
    }

    fn in_file(
        name: &str,
        algorithm: KeyAlgorithm,
        path: &Path,
        form: Form,
        keep_for: Duration,
    ) -> Result<Self, KeyError> {
        let file = KeyFile::open(name, path, form, algorithm, keep_for)?;
        Ok(Self {
            name: name.to_owned(),
            algorithm,
            material: Material::File(Arc::new(file)),
        })
    }

    /// Whether what is known of it is what is in its file.
    pub fn is_readable(&self) -> bool {
        match &self.material {
            Material::Secret(_) => true,
            Material::File(file) => file.is_readable(),
        }
    }
}

/// Configurations are compared: the same are those that would be read alike.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.material, &other.material) {
            (Material::Secret(own), Material::Secret(other)) => own == other,
            (Material::File(own), Material::File(other)) => own == other,
            _ => false,
        };
        same && self.name == other.name && self.algorithm == other.algorithm
    }
}
