//! What the operator writes: TOML files, read into domain types.
//!
//! The shapes of the files are private to this room; what leaves it are the types of the rooms below.

mod cluster_file;
mod configuration;
mod error;
mod secret;
mod toml_file;

pub use cluster_file::load_cluster;
pub use configuration::{Configuration, RepositoryLocation};
pub use error::PolicyError;
