//! What the parts of a restore share.

use crate::engine::watchdog::Watchdog;
use crate::kafka::Client;
use crate::memory::RunMemory;

/// The means of one run.
pub(super) struct Means<'a> {
    /// The target.
    pub client: &'a Client,
    /// Memory for what is read.
    pub memory: &'a RunMemory,
    /// The run's watchdog.
    pub watchdog: &'a Watchdog,
}
