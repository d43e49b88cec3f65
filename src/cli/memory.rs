//! `--memory`

use clap::Args;

use crate::engine::size::Size;
use crate::memory::{MemoryBudget, SMALLEST_BUDGET};

use super::CliError;

/// How much memory a command may use for record batches.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    /// Memory for record batches, at least 4MiB; the process needs 60MiB more, and twice the largest batch
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    memory: Size,
}

impl MemoryArgs {
    /// The budget.
    ///
    /// # Errors
    ///
    /// A usage error below [`SMALLEST_BUDGET`].
    pub fn budget(&self) -> Result<MemoryBudget, CliError> {
        if self.memory.0 < SMALLEST_BUDGET {
            let least = SMALLEST_BUDGET >> 20;
            let why = format!("--memory {}: give {least}MiB or more", self.memory);
            return Err(CliError::Usage(why));
        }
        Ok(MemoryBudget::new(self.memory.0))
    }
}
