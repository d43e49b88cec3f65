//! What the operator writes: TOML files, read into domain types.
//!
//! ```text
//! key, kinds  what may stand in a table, and what it takes
//! reader      a file's values with their places; all that is wrong with them
//! *_file      the shapes of the files, private to this room
//! *_policy    one domain type a kind of policy
//! checks      what no table alone can tell: names given twice, places written twice
//! ```
//!
//! What leaves the room are its domain types, [`Diagnostics`], and the [`Difference`] between two configurations.

mod api_file;
mod backup_policy;
mod checks;
mod cluster_file;
mod configuration;
mod daemon_configuration;
mod diagnostic;
mod difference;
mod drain_policy;
mod error;
mod kafkeep_file;
mod key;
mod kinds;
mod mirror_policy;
mod mirror_targets;
mod names;
mod policy_file;
mod reader;
mod schema;
mod schema_files;
mod secret;
mod section;
mod source;
mod timetable;

#[cfg(test)]
mod diagnostics_tests;
#[cfg(test)]
mod property_tests;

pub use api_file::Api;
pub use backup_policy::{BackupPolicy, Verification, WhenRemoved};
pub use cluster_file::load_cluster;
pub use configuration::Configuration;
pub use daemon_configuration::{Checked, DaemonConfiguration, Keys, RepositoryLocation};
pub use diagnostic::{Diagnostic, Diagnostics, Related, Spot};
pub use difference::{Difference, PolicyId, PolicyKind};
pub use drain_policy::DrainPolicy;
pub use error::PolicyError;
pub use kafkeep_file::{Http, HttpTls, Limits};
pub use mirror_policy::{MirrorMode, MirrorPolicy};
pub(crate) use reader::LARGEST_FILE;
pub use schema_files::{kafkeep_schema, policy_schema};
