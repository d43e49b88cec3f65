//! What a backup is asked for.

use crate::engine::Stop;
use crate::engine::groups::GroupSelection;
use crate::engine::rate::RateLimit;
use crate::engine::topics::TopicPatterns;
use crate::memory::MemoryBudget;
use crate::record::Compression;
use crate::repository::{PACK_TARGET, Selection};

use super::space_limit::SpaceLimit;

/// What to back up, and how.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The topics.
    pub topics: TopicPatterns,
    /// Whether patterns that match nothing are fine.
    pub allow_empty: bool,
    /// The codec for blocks whose batches the producer did not compress.
    pub compression: Compression,
    /// How fast to read at most.
    pub rate_limit: Option<RateLimit>,
    /// Set for a one-off backup of a part, which neither continues nor starts a chain.
    pub selection: Option<Selection>,
    /// The consumer groups whose committed offsets go with the topics.
    pub groups: GroupSelection,
    /// The policy that this is a run of.
    pub policy: Option<String>,
    /// The source's name in the configuration, for the manifest.
    pub cluster_name: Option<String>,
    /// Bytes at which a pack is sealed, and safe should the run be interrupted.
    pub pack_size: u64,
    /// The memory for fetched batches, which all runs share.
    pub memory: MemoryBudget,
    /// What it may add to the repository.
    pub room: Option<SpaceLimit>,
    /// Ends the run early: what was copied is sealed first, for the next run to go on behind.
    pub stop: Stop,
}

impl BackupOptions {
    /// Everything of `topics`, with the documented defaults.
    pub fn new(topics: TopicPatterns) -> Self {
        Self {
            topics,
            allow_empty: false,
            compression: Compression::Gzip,
            rate_limit: None,
            selection: None,
            groups: GroupSelection::default(),
            policy: None,
            cluster_name: None,
            pack_size: PACK_TARGET,
            memory: MemoryBudget::default(),
            room: None,
            stop: Stop::new(),
        }
    }
}
