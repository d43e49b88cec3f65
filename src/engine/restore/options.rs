//! What a restore is asked for.

use chrono::{DateTime, Utc};

use crate::engine::rate::RateLimit;
use crate::engine::renames::Renames;
use crate::engine::settings::SettingsChoice;
use crate::engine::topics::TopicPatterns;
use crate::memory::MemoryBudget;
use crate::record::PartitionId;
use crate::words::words;

use super::configuration::{TopicConfigSource, Wanted};

/// Which groups of the backup get their offsets in the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupChoice {
    /// None: no group is touched.
    #[default]
    None,
    /// All that the backup holds.
    All,
    /// These.
    Named(Vec<String>),
}

words! {
    /// What to do where a target topic exists.
    pub enum IfExists {
        /// Refuse the restore before anything is created.
        Fail = "fail",
        /// Write behind what is there.
        Append = "append",
    }
    default Fail
}

words! {
    /// How offsets of the source relate to those of the target.
    pub enum Offsets {
        /// Records get new offsets, dense, behind what is there.
        Mapped = "mapped",
        /// Records keep their offsets; refused where that cannot be.
        Exact = "exact",
    }
    default Mapped
}

/// What to restore, and how.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Which of the backup's topics.
    pub topics: TopicPatterns,
    /// What they are to be called.
    pub renames: Renames,
    /// Only these source partitions.
    pub partitions: Option<Vec<PartitionId>>,
    /// Only records with this timestamp or a later one.
    pub from: Option<DateTime<Utc>>,
    /// Only records with an earlier timestamp.
    pub until: Option<DateTime<Utc>>,
    /// Another number of partitions: records go where their key's hash puts them.
    pub partition_count: Option<u32>,
    /// Another replication factor.
    pub replication_factor: Option<i16>,
    /// What becomes of offsets.
    pub offsets: Offsets,
    /// Where settings come from.
    pub topic_config: TopicConfigSource,
    /// What else there is to say of settings.
    pub settings: SettingsChoice,
    /// Whether the source's retention is set again at the end, though it may delete old records at once.
    pub retention: bool,
    /// What to do where a target topic exists.
    pub if_exists: IfExists,
    /// Whether an interrupted restore is not gone on with: the target is taken as it is.
    pub forget_unfinished: bool,
    /// Whether what is sound is restored, and the restore finished, though a part is damaged.
    pub allow_damage: bool,
    /// Whether everything is read back afterwards, and compared with what was sent.
    pub check: bool,
    /// Which consumer groups' offsets to set, translated to where their records went.
    pub groups: GroupChoice,
    /// How fast to write at most.
    pub rate_limit: Option<RateLimit>,
    /// The memory for batches, which all runs share.
    pub memory: MemoryBudget,
}

impl RestoreOptions {
    /// What is wanted of settings.
    pub(super) fn wanted_settings(&self) -> Wanted<'_> {
        Wanted {
            from: self.topic_config,
            overrides: &self.settings.overrides,
            retention: self.retention,
        }
    }
}
