//! The verbs: one folder or file each, as *plan, then apply*.
//!
//! A plan is a value that can be printed (`--dry-run`); applying it reports to a small [`Progress`]
//! and returns a report value. The engine knows nothing of HTTP, TOML, schedules or metrics.

pub mod backup;
pub mod backup_filter;
mod blocking;
pub mod chain;
mod claims;
pub mod drain;
mod error;
pub mod expire;
pub mod export;
mod extents;
pub mod groups;
pub mod held_backups;
pub mod internal_topics;
pub mod mirror;
mod open_transactions;
mod own;
mod producer;
mod progress;
pub mod rate;
pub mod reader;
pub mod refusal;
pub mod renames;
pub mod restore;
pub mod settings;
pub mod size;
pub mod topic_configuration;
pub mod topics;
pub mod transactions;
mod unreferenced;
pub mod verify;
pub mod watchdog;

pub use blocking::blocking;
pub use error::EngineError;
pub use progress::{NoProgress, Progress};
/// Tells a running verb to stop: it ends with [`EngineError::Stopped`] as soon as that loses nothing that was done.
pub use tokio_util::sync::CancellationToken as Stop;
