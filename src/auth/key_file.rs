//! Public keys in a file, one in PEM or a key set (RFC 7517), read again when the file changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};

use super::algorithm::{KeyAlgorithm, is_for, read};
use super::error::KeyError;
use super::renewed::Renewed;

/// The keys of a file that are for one algorithm, with their names.
pub(super) type Keys = Vec<(Option<String>, DecodingKey)>;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One public key.
    Pem,
    /// A key set, of which those keys are used that are for the algorithm. It says which keys there are: one that is empty
    /// takes all of them back.
    Set,
}

/// A file with public keys for one algorithm.
#[derive(Debug)]
pub(super) struct KeyFile {
    /// As the key is called in the configuration.
    name: String,
    path: PathBuf,
    form: Form,
    algorithm: KeyAlgorithm,
    /// How long its keys are used after it has become unreadable or wrong.
    keep_for: Duration,
    keys: Renewed<Keys>,
}

/// Two are the same where the same would be read.
impl PartialEq for KeyFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.form == other.form && self.keep_for == other.keep_for
    }
}

impl KeyFile {
    pub fn open(
        name: &str,
        path: &Path,
        form: Form,
        algorithm: KeyAlgorithm,
        keep_for: Duration,
    ) -> Result<Self, KeyError> {
        let keys = Renewed::open(&[path], || {
            let bytes = read(path)?;
            let keys = keys(path, &bytes, name, form, algorithm)?;
            match keys.is_empty() && !is_empty_set(&bytes) {
                true => {
                    let message = format!("{} holds no key for {algorithm}", path.display());
                    Err(KeyError::Unusable(message))
                }
                false => Ok(keys),
            }
        })?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            form,
            algorithm,
            keep_for,
            keys,
        })
    }

    /// Whether it is time to [look](Self::look) at the file.
    pub fn is_due(&self) -> bool {
        self.keys.is_due()
    }

    /// Reads the file again where it has changed.
    pub fn look(&self) {
        let (name, keep_for) = (&self.name, humantime::format_duration(self.keep_for));
        let what = format!("key {name} of the API, for {keep_for} at most,");
        self.keys.look(&what, || {
            let bytes = read(&self.path)?;
            let keys = keys(&self.path, &bytes, name, self.form, self.algorithm)?;
            let (path, count) = (self.path.display(), keys.len());
            tracing::info!("key {name} of the API is read again from {path}: {count} keys");
            Ok::<_, KeyError>(keys)
        });
    }

    /// Whether the keys are what is in the file.
    pub fn is_readable(&self) -> bool {
        self.keys.failing_for().is_none()
    }

    /// The keys as they are known; none once the file has been unusable for longer than they are kept.
    pub fn keys(&self) -> Keys {
        match self.keys.failing_for() {
            Some(failing) if failing >= self.keep_for => Keys::new(),
            _ => self.keys.value(),
        }
    }
}

fn keys(
    path: &Path,
    bytes: &[u8],
    name: &str,
    form: Form,
    algorithm: KeyAlgorithm,
) -> Result<Keys, KeyError> {
    match form {
        Form::Pem => Ok(vec![(Some(name.to_owned()), pem(path, bytes, algorithm)?)]),
        Form::Set => set(path, bytes, algorithm),
    }
}

fn pem(path: &Path, pem: &[u8], algorithm: KeyAlgorithm) -> Result<DecodingKey, KeyError> {
    if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") {
        let message = format!(
            "{} holds a private key, which is for those who make tokens: give the public one (openssl pkey -pubout)",
            path.display()
        );
        return Err(KeyError::Unusable(message));
    }
    let key = match algorithm {
        KeyAlgorithm::Rs256 => DecodingKey::from_rsa_pem(pem),
        KeyAlgorithm::Es256 => DecodingKey::from_ec_pem(pem),
        KeyAlgorithm::EdDsa => DecodingKey::from_ed_pem(pem),
        KeyAlgorithm::Hs256 => {
            let message = "HS256 goes by a shared secret, not by a public key";
            return Err(KeyError::Unusable(message.to_owned()));
        }
    };
    key.ok()
        .filter(|key| is_for(key, algorithm))
        .ok_or_else(|| {
            let message = format!(
                "{} holds no public key for {algorithm} in PEM",
                path.display()
            );
            KeyError::Unusable(message)
        })
}

fn set(path: &Path, json: &[u8], algorithm: KeyAlgorithm) -> Result<Keys, KeyError> {
    let set: JwkSet = serde_json::from_slice(json).map_err(|error| {
        // Where, and not what: it may be another file than was meant.
        let (path, line, column) = (path.display(), error.line(), error.column());
        let message = format!("{path} is no key set (RFC 7517): line {line}, column {column}");
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
    Ok(keys.collect())
}

/// One that holds no key at all takes all keys back; one with other keys is a mistake where a daemon begins with it.
fn is_empty_set(json: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(json)
        .is_ok_and(|set| set["keys"].as_array().is_some_and(Vec::is_empty))
}
