//! Which settings of a source's topic its target has too.

use std::collections::BTreeMap;

use crate::engine::settings::Settings;
use crate::kafka::{ConfigEntry, ConfigSource};

/// Settings to change by name; `None` goes back to the broker's default.
pub(super) type SettingChanges = BTreeMap<String, Option<String>>;

/// They would change the records' timestamps, or belong to the brokers of one cluster.
const NOT_FOLLOWED: [&str; 3] = [
    "message.timestamp.type",
    "min.insync.replicas",
    "unclean.leader.election.enable",
];
const NOT_FOLLOWED_ENDS: [&str; 1] = ["replication.throttled.replicas"];
const NOT_FOLLOWED_BEGINNINGS: [&str; 2] = ["remote.", "local.retention."];

/// What an operator had set for the topic itself, and a target follows.
pub(super) fn followed(entries: &[ConfigEntry]) -> Settings {
    let set = entries
        .iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopicConfig && !entry.is_sensitive)
        .filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?)));
    set.filter(|(name, _)| is_followed(name)).collect()
}

fn is_followed(name: &str) -> bool {
    !NOT_FOLLOWED.contains(&name)
        && !NOT_FOLLOWED_ENDS.iter().any(|end| name.ends_with(end))
        && !NOT_FOLLOWED_BEGINNINGS
            .iter()
            .any(|beginning| name.starts_with(beginning))
}

/// What is to be changed of a target's settings, so that they follow the source's. What is set on the target alone stays, unless the
/// source had it too, `before`.
pub(super) fn changes(
    source: &Settings,
    before: Option<&Settings>,
    target: &Settings,
) -> SettingChanges {
    let set = source
        .iter()
        .filter(|(name, value)| target.get(*name) != Some(value))
        .map(|(name, value)| (name.clone(), Some(value.clone())));
    let unset = before
        .into_iter()
        .flat_map(Settings::keys)
        .filter(|name| !source.contains_key(*name) && target.contains_key(*name))
        .map(|name| (name.clone(), None));
    set.chain(unset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings<const N: usize>(settings: [(&str, &str); N]) -> Settings {
        settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_target_follows_what_is_set_changed_and_unset_and_keeps_its_own() {
        let source = settings([("retention.ms", "1"), ("segment.ms", "2")]);
        let before = settings([("retention.ms", "0"), ("cleanup.policy", "compact")]);
        let target = settings([
            ("retention.ms", "0"),
            ("cleanup.policy", "compact"),
            ("flush.ms", "9"),
        ]);
        let changed = changes(&source, Some(&before), &target);
        let set = |value: &str| Some(value.to_owned());
        let wanted = [
            ("cleanup.policy".to_owned(), None),
            ("retention.ms".to_owned(), set("1")),
            ("segment.ms".to_owned(), set("2")),
        ];
        assert_eq!(changed, wanted.into());
        let after = settings([
            ("retention.ms", "1"),
            ("segment.ms", "2"),
            ("flush.ms", "9"),
        ]);
        assert!(changes(&source, Some(&source), &after).is_empty());
    }

    #[test]
    fn what_belongs_to_one_cluster_is_not_followed() {
        let entry = |name: &str| ConfigEntry {
            name: name.to_owned(),
            value: Some("1".to_owned()),
            source: ConfigSource::DynamicTopicConfig,
            is_sensitive: false,
            is_read_only: false,
        };
        let names = [
            "retention.ms",
            "min.insync.replicas",
            "message.timestamp.type",
            "leader.replication.throttled.replicas",
            "remote.storage.enable",
        ];
        assert_eq!(
            followed(&names.map(entry)),
            settings([("retention.ms", "1")])
        );
    }
}
