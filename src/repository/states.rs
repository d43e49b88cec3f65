//! What is not records: topic configurations and groups' offsets today; ACLs, users and quotas have their place here too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::objects::Kind;
use super::{Repository, RepositoryError, Sha256};

pub(super) const STATES: Kind = Kind {
    directory: "states",
    stored_limit: 64 << 20,
    text_limit: 256 << 20,
};

impl Repository {
    /// Stores a state as JSON. The same state twice is stored once.
    pub fn put_state<T: Serialize>(&self, state: &T) -> Result<Sha256, RepositoryError> {
        STATES.put(self.storage(), state)
    }

    /// The state of this digest.
    pub fn state<T: DeserializeOwned>(&self, digest: &Sha256) -> Result<T, RepositoryError> {
        STATES.get(self.storage(), digest)
    }
}
