//! What a running verb tells of itself while it runs.

/// Receives the advance of a run. Called from several threads, often: implementations are cheap.
pub trait Progress: Send + Sync {
    /// The run knows how much is ahead, in offsets (an upper bound of its records).
    fn planned(&self, offsets: u64) {
        let _ = offsets;
    }

    /// `offsets` more are done, of `bytes` as Kafka holds them.
    fn advanced(&self, offsets: u64, bytes: u64) {
        let _ = (offsets, bytes);
    }
}

/// Progress that nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
