//! Under which settings a restored topic is created, and which of them wait until its records are there.

use std::collections::BTreeMap;

use crate::engine::settings::Settings;
use crate::engine::topic_configuration::TopicConfiguration;
use crate::kafka::ConfigSource;
use crate::words::words;

use super::content::Judged;

words! {
    /// Where the settings of a topic that is created come from.
    pub enum TopicConfigSource {
        /// What was set for the source's topic.
        Source = "source",
        /// The target's defaults.
        Target = "target",
    }
    default Source
}

/// Settings to change by name; `None` goes back to the broker's default.
pub type SettingChanges = BTreeMap<String, Option<String>>;

/// A topic's settings in the two steps of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SettingsPlan {
    /// While records are written: nothing may delete, roll, recompress or refuse them.
    pub during: Settings,
    /// Set at the end.
    pub afterwards: SettingChanges,
    /// What stays -1 until an operator puts it back: what it is to be then, none for the default.
    pub set_aside: SettingChanges,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Old records must outlive the broker's next retention check; their bytes must not be recompressed, and
/// neither old nor future timestamps refused.
const SAFE: [(&str, &str); 6] = [
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("message.timestamp.type", "CreateTime"),
    // Segments roll on the records' time: years of records would make a segment each (Integer.MAX_VALUE is not the bound).
    ("segment.ms", "9223372036854775807"),
];
const RETENTION: [&str; 2] = ["retention.ms", "retention.bytes"];
/// Timestamps are bounded by two names since Kafka 3.6, by one before.
pub(super) const TIMESTAMP_BOUNDS: [&str; 2] = [
    "message.timestamp.before.max.ms",
    "message.timestamp.after.max.ms",
];
pub(super) const TIMESTAMP_BOUND_BEFORE_3_6: &str = "message.timestamp.difference.max.ms";
/// A broker adds nothing to a batch, but one that is rebuilt may compress a little worse than it did.
const REBUILD_MARGIN: u64 = 64 << 10;
/// Kafka's default of `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: u64 = 1_048_588;
const FOREVER: &str = "9223372036854775807";

/// Whether records could be lost, changed or refused without this setting.
pub(super) fn is_essential(name: &str, value: &str) -> bool {
    SAFE.contains(&(name, value)) || TIMESTAMP_BOUNDS.contains(&name) && value == FOREVER
}

/// What the operator wants of settings.
pub(super) struct Wanted<'a> {
    /// Where they come from.
    pub from: TopicConfigSource,
    /// Those that come from nowhere else.
    pub overrides: &'a Settings,
    /// Whether retention is set again at the end.
    pub retention: bool,
}

impl Wanted<'_> {
    /// What a topic is to be set to.
    pub fn of(&self, source: &TopicConfiguration) -> Settings {
        let mut set = match self.from {
            TopicConfigSource::Source => set_on_topic(source),
            TopicConfigSource::Target => Settings::new(),
        };
        set.extend(self.overrides.clone());
        set
    }

    /// Of what a topic is to be set to, what it is not. Retention counts only where it is to be set again.
    pub fn differing(&self, source: &TopicConfiguration, existing: &Settings) -> SettingChanges {
        let mut wanted = self.of(source);
        wanted.retain(|name, value| {
            let is_wanted = self.retention || !RETENTION.contains(&name.as_str());
            is_wanted && existing.get(name) != Some(value)
        });
        let changes = wanted.into_iter().map(|(name, value)| (name, Some(value)));
        changes.collect()
    }
}

/// Plans the settings of a topic whose largest stored batch has `largest_batch` bytes.
pub(super) fn settings(
    source: &TopicConfiguration,
    wanted: &Wanted<'_>,
    largest_batch: u32,
    replication_factor: i16,
) -> SettingsPlan {
    let mut plan = SettingsPlan::default();
    let set = wanted.of(source);
    plan.during = set.clone();
    for (name, value) in SAFE {
        plan.during.insert(name.to_owned(), value.to_owned());
    }
    for name in TIMESTAMP_BOUNDS {
        plan.during.insert(name.to_owned(), FOREVER.to_owned());
    }
    plan.during.remove(TIMESTAMP_BOUND_BEFORE_3_6);
    fit_largest_batch(&mut plan, &set, largest_batch);
    drop_unreachable_min_insync(&mut plan, replication_factor);
    for name in [
        "cleanup.policy",
        "compression.type",
        "message.timestamp.type",
        "segment.ms",
    ]
    .iter()
    .chain(&TIMESTAMP_BOUNDS)
    {
        plan.afterwards
            .insert((*name).to_owned(), set.get(*name).cloned());
    }
    plan_retention(&mut plan, &set, wanted.retention);
    plan
}

/// What an operator had set for the topic itself.
fn set_on_topic(source: &TopicConfiguration) -> Settings {
    source
        .entries
        .iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopicConfig)
        .filter(|entry| !entry.is_sensitive && !entry.is_read_only)
        .filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?)))
        // Throttles and replica lists belong to the source's brokers.
        .filter(|(name, _)| !name.ends_with("replication.throttled.replicas"))
        .collect()
}

fn fit_largest_batch(plan: &mut SettingsPlan, set: &Settings, largest_batch: u32) {
    let needed = u64::from(largest_batch) + REBUILD_MARGIN;
    let allowed = set
        .get("max.message.bytes")
        .and_then(|value| value.parse().ok())
        .unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
    if needed > allowed {
        plan.during
            .insert("max.message.bytes".to_owned(), needed.to_string());
        plan.notes.push(format!("max.message.bytes is set to {needed}, since the largest batch has {largest_batch} bytes"));
    }
}

/// With fewer replicas than `min.insync.replicas`, nothing could be written with acks=all.
fn drop_unreachable_min_insync(plan: &mut SettingsPlan, replication_factor: i16) {
    let wanted = plan
        .during
        .get("min.insync.replicas")
        .and_then(|value| value.parse::<i16>().ok());
    if let Some(wanted) = wanted.filter(|wanted| *wanted > replication_factor) {
        plan.during.remove("min.insync.replicas");
        plan.notes.push(format!(
            "min.insync.replicas={wanted} is left out: the topic gets {replication_factor} replica(s)"
        ));
    }
}

/// Retention counts from the records' timestamps: set at once, it would delete what was just restored.
fn plan_retention(plan: &mut SettingsPlan, set: &Settings, restore: bool) {
    for name in RETENTION {
        let value = set.get(name).cloned();
        if restore {
            plan.afterwards.insert(name.to_owned(), value);
            continue;
        }
        let instead = match value.as_deref() {
            Some("-1") => continue,
            Some(value) => Some(format!("the source's {value}")),
            // By default Kafka has no limit of bytes.
            None => (name == "retention.ms").then(|| "the default".to_owned()),
        };
        if let Some(instead) = instead {
            plan.notes.push(format!("{name} stays -1 instead of {instead}, which could delete restored records at once; alter it when they may be deleted"));
        }
        plan.set_aside.insert(name.to_owned(), value);
    }
}

/// Whether the topic keeps only the last record of each key.
pub(super) fn is_compacted(settings: &Settings) -> bool {
    settings
        .get("cleanup.policy")
        .is_some_and(|policy| policy.contains("compact"))
}

/// How records written under these settings compare with those that were sent.
pub(super) fn judged_under(settings: &Settings) -> Judged {
    let is = |name: &str, usual: &str| settings.get(name).is_none_or(|value| value == usual);
    let timestamps = is("message.timestamp.type", "CreateTime");
    if timestamps && is("compression.type", "producer") {
        Judged::Batches
    } else {
        Judged::Records { timestamps }
    }
}

/// What a topic that exists does to the records that are written to it: its settings are the operator's, and stay.
pub(super) fn notes_on_existing(settings: &Settings) -> Vec<String> {
    let get = |name: &str| settings.get(name).map(String::as_str);
    let mut notes = Vec::new();
    if is_compacted(settings) {
        notes.push("the topic is compacted: it refuses records without a key, and keeps only the last one of each".to_owned());
    }
    if let Some(retention) = get("retention.ms").filter(|value| *value != "-1")
        && get("cleanup.policy").is_none_or(|policy| policy.contains("delete"))
    {
        notes.push(format!("the topic has retention.ms={retention}, which counts from the records' timestamps: older ones may be deleted at once"));
    }
    if get("message.timestamp.type") == Some("LogAppendTime") {
        notes.push("the topic has message.timestamp.type=LogAppendTime: records get the time of the restore".to_owned());
    }
    if let Some(codec) = get("compression.type").filter(|value| *value != "producer") {
        notes.push(format!(
            "the topic has compression.type={codec}: the brokers compress batches anew"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::ConfigEntry;

    fn source(set: &[(&str, &str)]) -> TopicConfiguration {
        let entries = set.iter().map(|(name, value)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: ConfigSource::DynamicTopicConfig,
            is_sensitive: false,
            is_read_only: false,
        });
        TopicConfiguration {
            entries: entries.collect(),
        }
    }

    fn wanted(retention: bool, overrides: &Settings) -> Wanted<'_> {
        Wanted {
            from: TopicConfigSource::Source,
            overrides,
            retention,
        }
    }

    #[test]
    fn what_the_operator_sets_counts_more_than_the_source() {
        let overrides = [("min.insync.replicas".to_owned(), "1".to_owned())].into();
        let source = source(&[("min.insync.replicas", "3"), ("segment.bytes", "1000000")]);
        let plan = settings(&source, &wanted(false, &overrides), 1, 1);
        assert_eq!(plan.during["min.insync.replicas"], "1");
        assert_eq!(plan.during["segment.bytes"], "1000000");
    }

    #[test]
    fn a_compacted_topic_becomes_compacted_only_afterwards() {
        let plan = settings(
            &source(&[("cleanup.policy", "compact")]),
            &wanted(false, &Settings::new()),
            100,
            1,
        );
        assert_eq!(plan.during["cleanup.policy"], "delete");
        assert_eq!(
            plan.afterwards["cleanup.policy"].as_deref(),
            Some("compact")
        );
    }

    #[test]
    fn retention_waits_for_the_operators_word() {
        let source = source(&[("retention.ms", "1000")]);
        let kept = settings(&source, &wanted(false, &Settings::new()), 100, 1);
        assert_eq!(kept.during["retention.ms"], "-1");
        assert!(!kept.afterwards.contains_key("retention.ms"));
        assert!(kept.notes[0].contains("alter it when they may be deleted"));
        let aside = [
            ("retention.bytes".to_owned(), None),
            ("retention.ms".to_owned(), Some("1000".to_owned())),
        ];
        assert_eq!(kept.set_aside, aside.into());
        let applied = settings(&source, &wanted(true, &Settings::new()), 100, 1);
        assert_eq!(applied.afterwards["retention.ms"].as_deref(), Some("1000"));
        assert_eq!(applied.set_aside, SettingChanges::new());
    }

    #[test]
    fn a_default_retention_is_set_aside_and_told() {
        let kept = settings(&source(&[]), &wanted(false, &Settings::new()), 100, 1);
        assert_eq!(kept.set_aside["retention.ms"], None);
        assert!(kept.notes[0].contains("retention.ms stays -1 instead of the default"));
        let forever = source(&[("retention.ms", "-1"), ("retention.bytes", "-1")]);
        let forever = settings(&forever, &wanted(false, &Settings::new()), 100, 1);
        assert_eq!(forever.set_aside, SettingChanges::new());
    }

    #[test]
    fn the_largest_batch_fits() {
        let plan = settings(&source(&[]), &wanted(false, &Settings::new()), 3 << 20, 1);
        assert_eq!(
            plan.during["max.message.bytes"],
            ((3 << 20) + (64 << 10)).to_string()
        );
    }

    #[test]
    fn min_insync_replicas_above_the_replication_factor_is_left_out() {
        let plan = settings(
            &source(&[("min.insync.replicas", "2")]),
            &wanted(false, &Settings::new()),
            1,
            1,
        );
        assert!(!plan.during.contains_key("min.insync.replicas"));
        assert!(plan.notes[0].contains("min.insync.replicas=2"));
    }
}
