//! One budget of memory for record batches, shared by all runs of a process.
//!
//! The rules, each of which a test holds:
//!
//! 1. Nobody waits for memory while holding memory that others wait for. A worker with a request on its way takes a second
//!    reservation only with [`RunMemory::try_reserve`].
//! 2. A request for more than is available gets less, down to [`SMALLEST_REQUEST`]. A broker answers any request with at
//!    least one whole batch.
//! 3. An answer or a batch that does not fit takes the one slot for oversize batches, beyond the budget. There is one such
//!    batch at a time.
//! 4. Waiting is fair: runs take turns, and within a run the longest waiting is first. A run gets memory only while it holds
//!    at most [`SHARE`] times as much as stays free, so a run whose sink is stuck never takes what another run needs.
//!
//! The peak of a process is therefore the budget, twice the largest batch (as it came, and as it is written), and what the
//! process needs for itself.

mod budget;
mod buffers;
mod reservation;
#[cfg(test)]
mod tests;
mod waiting;

pub use budget::{
    DEFAULT_BUDGET, MemoryBudget, RunMemory, SHARE, SMALLEST_BUDGET, SMALLEST_REQUEST,
};
pub use reservation::Reservation;
