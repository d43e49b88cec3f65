//! What the HTTP API is asked, and what it answers: bodies, their bounds, and what they mean to the engine. Nothing of HTTP.
//!
//! ```text
//! body ── read ──> Request ── within bounds ──> Order ── the daemon carries it out ──> report ──> Answer
//! ```
//!
//! A field that the documents of the API know has their name, default and meaning here; what is added to them is optional.

mod answer;
mod backups;
mod body;
mod bounds;
mod integers;
mod order;
mod problem;
mod request;

pub use answer::{
    Answer, BackedUpPartition, BackupAnswer, DrainAnswer, DrainedPartition, MigrationAnswer,
    RestoreAnswer, RestoredPartition, ValidationAnswer, ValidationFinding,
};
pub use backups::{
    BackedUpTopic, BackupDetails, BackupMetrics, BackupPage, BackupSummary, DeletedBackup,
    LISTED_TOPICS,
};
pub use body::read;
pub use order::{
    BackupOrder, DrainOrder, MigrateOrder, Order, OrderKind, RestoreOrder, ValidateOrder,
};
pub use problem::{Details, Problem, ProblemKind};
pub use request::{
    BackupRequest, DrainRequest, MessageTransformation, MigrateRequest, RequestedOffset,
    RestoreRequest, ValidateRequest,
};
