//! Which keys go with which algorithm, and how they are read.

use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

use crate::files;
use crate::words::words;

use super::error::KeyError;

/// Public keys and key sets are small.
const FILE_LIMIT: u64 = 1 << 20;

words! {
    /// What a key is for.
    pub enum KeyAlgorithm {
        /// HMAC with SHA-256, by a shared secret.
        Hs256 = "HS256",
        /// RSA PKCS #1 v1.5 with SHA-256, by a public key of 2048 to 8192 bits.
        Rs256 = "RS256",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

impl KeyAlgorithm {
    pub(super) fn of_tokens(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::Rs256 => Algorithm::RS256,
            Self::Es256 => Algorithm::ES256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// The parts that tell two keys of one algorithm apart.
pub(super) fn bytes(key: &DecodingKey) -> (&[u8], &[u8]) {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => (bytes, &[]),
        DecodingKeyKind::RsaModulusExponent { n, e } => (n, e),
    }
}

/// Whether a public key has the shape that its algorithm wants: the point of P-256, or of Ed25519.
pub(super) fn is_for(key: &DecodingKey, algorithm: KeyAlgorithm) -> bool {
    let (first, _) = bytes(key);
    let shape = match algorithm {
        KeyAlgorithm::Hs256 => false,
        KeyAlgorithm::Rs256 => first.len() >= 256,
        KeyAlgorithm::Es256 => first.len() == 65,
        KeyAlgorithm::EdDsa => first.len() == 32,
    };
    shape && key.family() == algorithm.of_tokens().family()
}

/// Reads a file with a key, or with a set of them.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    files::read(path, FILE_LIMIT).map_err(|source| KeyError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
