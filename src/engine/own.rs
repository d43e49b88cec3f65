//! What kafkeep keeps for itself in a cluster: the progress of mirrors. It is never the user's.
//!
//! A mirror commits offsets of its source to a group of its target, `kafkeep.NAME`, whose topics are the target's. To everybody
//! else these offsets mean nothing: a backup leaves them out, a restore does not set them, a drain check does not judge them, and
//! a mirror with groups does not translate them.
//!
//! A commit is the progress of a mirror when its group's name begins with [`PREFIX`] and its metadata is a mirror's note. A group
//! of a user may begin with `kafkeep.` too: without such notes it is like any other.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::kafka::GroupOffsets;

use super::groups::{GroupState, GroupsState};
use super::refusal::{Advice, Part, Refusal};

/// What the names of mirrors' groups, and their transactional ids, begin with.
pub(super) const PREFIX: &str = "kafkeep.";

/// What every version of kafkeep has written beside the offsets that its mirrors commit.
#[derive(Deserialize)]
struct AnyNote {
    #[serde(rename = "v")]
    _version: u32,
    #[serde(rename = "cluster_id")]
    _cluster_id: String,
    #[serde(rename = "topic_id")]
    _topic_id: String,
    #[serde(rename = "producers")]
    _producers: Vec<IgnoredAny>,
}

/// Whether an offset that `group` has committed with this metadata is the progress of a mirror.
pub(super) fn is_progress(group: &str, metadata: &str) -> bool {
    group.starts_with(PREFIX) && serde_json::from_str::<AnyNote>(metadata).is_ok()
}

/// Why nothing is committed to a user's group where the target has a mirror's of the same name.
pub(super) const TAKEN: &str = "a mirror keeps its progress under this name in the target: give the mirror another name, or leave the group out";

/// What to say of a group that holds nothing but a mirror's progress, and was asked for by its name.
pub(super) fn refusal(group: &str) -> Refusal {
    let why = format!(
        "group {group} holds the progress of a mirror, as offsets of its source: it is kafkeep's own, so leave it out"
    );
    let refusal = Refusal::new(why).of(Part::Group, group);
    refusal.advise(Advice::LookAtMirrors)
}

impl GroupOffsets {
    /// Whether any of it is the progress of a mirror.
    pub(super) fn has_progress(&self, group: &str) -> bool {
        let mut committed = self.offsets.values();
        committed.any(|committed| is_progress(group, &committed.metadata))
    }

    /// Takes the progress of a mirror out of what `group` has committed; whether nothing is left then that is a user's.
    pub(super) fn leave_out_progress(&mut self, group: &str) -> bool {
        let before = self.offsets.len();
        self.offsets
            .retain(|_, committed| !is_progress(group, &committed.metadata));
        self.offsets.is_empty() && before > 0
    }
}

impl GroupsState {
    /// Takes the progress of mirrors out of what a backup holds, where earlier versions put it; the groups that held nothing else.
    pub(super) fn leave_out_progress(&mut self) -> BTreeSet<String> {
        let own = self
            .groups
            .extract_if(.., GroupState::leave_out_progress)
            .map(|group| group.group);
        own.collect()
    }
}

impl GroupState {
    fn leave_out_progress(&mut self) -> bool {
        let before = self.offsets();
        for topic in &mut self.topics {
            topic
                .partitions
                .retain(|committed| !is_progress(&self.group, &committed.metadata));
        }
        self.topics.retain(|topic| !topic.partitions.is_empty());
        self.topics.is_empty() && before > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_NOTE: &str =
        r#"{"v":1,"cluster_id":"prod","topic_id":"AAAAAAAAAAAAAAAAAAAAAA","producers":[7]}"#;

    #[test]
    fn progress_is_known_by_the_groups_name_and_the_note_beside_the_offset() {
        assert!(is_progress("kafkeep.dr", OLD_NOTE));
        let newer = OLD_NOTE.replace("\"v\":1", "\"v\":2,\"more\":{\"x\":[1]}");
        assert!(is_progress("kafkeep.dr", &newer));
        for (group, metadata) in [
            ("billing", OLD_NOTE),
            ("kafkeep", OLD_NOTE),
            ("kafkeep.dr", ""),
            ("kafkeep.dr", "{\"v\":1}"),
            ("kafkeep.dr", "a note"),
        ] {
            assert!(!is_progress(group, metadata), "{group} {metadata}");
        }
    }
}
