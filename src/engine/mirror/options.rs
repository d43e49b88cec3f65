//! What a mirror is asked for.

use crate::engine::Stop;
use crate::engine::groups::GroupSelection;
use crate::engine::own::PREFIX;
use crate::engine::rate::RateLimit;
use crate::engine::renames::Renames;
use crate::engine::settings::{ExistingConfig, SettingsChoice};
use crate::engine::topics::TopicPatterns;
use crate::memory::MemoryBudget;
use crate::words::words;

use super::range::{From, Until};
use super::transform::Transform;

words! {
    /// What to do where a partition of the target holds records, and no progress of this mirror is known.
    pub enum IfExists {
        /// Leave the partition alone.
        Fail = "fail",
        /// Write behind what is there.
        Append = "append",
    }
    default Fail
}

/// What to mirror, and how.
#[derive(Debug, Clone)]
pub struct MirrorOptions {
    /// Names the mirror in the target: its group and its transactional id are `kafkeep.NAME`. Two with one name fence each other.
    pub name: String,
    /// The topics.
    pub topics: TopicPatterns,
    /// Whether patterns that match nothing are fine.
    pub allow_empty: bool,
    /// What they are called in the target.
    pub renames: Renames,
    /// How records change on their way; none when batches stay sealed.
    pub transform: Option<Transform>,
    /// How long.
    pub until: Until,
    /// Where partitions begin that were not mirrored before.
    pub from: From,
    /// How many records at most come into the target's topics, all partitions together; it ends when they are there.
    pub max_messages: Option<u64>,
    /// What is done where the target holds records, and no progress is known.
    pub if_exists: IfExists,
    /// What is wanted of topics' settings: by default those of topics that exist follow the source's.
    pub settings: SettingsChoice,
    /// The consumer groups whose offsets follow.
    pub groups: GroupSelection,
    /// How fast to read at most.
    pub rate_limit: Option<RateLimit>,
    /// The memory for batches, which all runs share.
    pub memory: MemoryBudget,
    /// Ends it behind what it has read; committed is committed.
    pub stop: Stop,
}

impl MirrorOptions {
    /// All of `topics`, to where they end now.
    pub fn new(name: &str, topics: TopicPatterns) -> Self {
        Self {
            name: name.to_owned(),
            topics,
            allow_empty: false,
            renames: Renames::default(),
            transform: None,
            until: Until::EndsAtStart,
            from: From::Earliest,
            max_messages: None,
            if_exists: IfExists::Fail,
            settings: SettingsChoice {
                existing: ExistingConfig::Apply,
                ..SettingsChoice::default()
            },
            groups: GroupSelection::None,
            rate_limit: None,
            memory: MemoryBudget::default(),
            stop: Stop::new(),
        }
    }

    /// How records change, if they do.
    pub(super) fn transform(&self) -> Option<&Transform> {
        self.transform
            .as_ref()
            .filter(|transform| !transform.is_identity())
    }

    /// Whether records get new keys.
    pub(super) fn changes_keys(&self) -> bool {
        self.transform()
            .is_some_and(|transform| transform.key_transformation.is_some())
    }

    /// The group that holds its progress, which is its transactional id too.
    pub(super) fn id(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }
}
