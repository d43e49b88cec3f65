//! Keys: each is bound to one algorithm.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::DecodingKey;

use crate::kafka::Secret;

use super::algorithm::{KeyAlgorithm, bytes, is_for, read};
use super::error::KeyError;
use super::jwks::JwksFile;

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
    Public(PathBuf, DecodingKey),
    Set(Arc<JwksFile>),
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

    /// A public key in a PEM file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds no public key for the algorithm. A private key is refused: who verifies needs none.
    pub fn public(name: &str, algorithm: KeyAlgorithm, path: &Path) -> Result<Self, KeyError> {
        let pem = read(path)?;
        if String::from_utf8_lossy(&pem).contains("PRIVATE KEY-----") {
            let message = format!(
                "{} holds a private key, which is for those who make tokens: give the public one (openssl pkey -pubout)",
                path.display()
            );
            return Err(KeyError::Unusable(message));
        }
        let key = match algorithm {
            KeyAlgorithm::Rs256 => DecodingKey::from_rsa_pem(&pem),
            KeyAlgorithm::Es256 => DecodingKey::from_ec_pem(&pem),
            KeyAlgorithm::EdDsa => DecodingKey::from_ed_pem(&pem),
            KeyAlgorithm::Hs256 => {
                let message = "HS256 goes by a shared secret, not by a public key";
                return Err(KeyError::Unusable(message.to_owned()));
            }
        };
        let unusable = || {
            let message = format!(
                "{} holds no public key for {} in PEM",
                path.display(),
                algorithm.name()
            );
            KeyError::Unusable(message)
        };
        let key = key.map_err(|_| unusable())?;
        if !is_for(&key, algorithm) {
            return Err(unusable());
        }
        Ok(Self {
            name: name.to_owned(),
            algorithm,
            material: Material::Public(path.to_owned(), key),
        })
    }

    /// A key set (RFC 7517) in a file, which is read again when it changes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds no key for the algorithm.
    pub fn set(name: &str, algorithm: KeyAlgorithm, path: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            name: name.to_owned(),
            algorithm,
            material: Material::Set(Arc::new(JwksFile::open(path, algorithm)?)),
        })
    }
}

/// Configurations are compared: the same are those that would be read alike.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.material, &other.material) {
            (Material::Secret(own), Material::Secret(other)) => own == other,
            (Material::Public(path, own), Material::Public(other_path, other)) => {
                path == other_path && bytes(own) == bytes(other)
            }
            (Material::Set(own), Material::Set(other)) => own.path() == other.path(),
            _ => false,
        };
        same && self.name == other.name && self.algorithm == other.algorithm
    }
}
