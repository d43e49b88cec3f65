//! What the parts of a backup share.

use std::sync::Arc;

use crate::engine::Progress;
use crate::engine::watchdog::Watchdog;
use crate::kafka::Client;
use crate::memory::RunMemory;
use crate::repository::Repository;

use super::BackupOptions;

/// The means of one run.
pub(super) struct Means<'a> {
    /// The cluster.
    pub client: &'a Client,
    /// Where the backup goes.
    pub repository: &'a Arc<Repository>,
    /// What was asked for.
    pub options: &'a BackupOptions,
    /// Memory for what is read.
    pub memory: &'a RunMemory,
    /// The run's watchdog.
    pub watchdog: &'a Watchdog,
    /// Who is told.
    pub progress: &'a Arc<dyn Progress>,
}
