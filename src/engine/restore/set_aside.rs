//! Settings of the source that a restore leaves aside, since they could delete what was just restored, and how to put them back.

use std::collections::BTreeMap;

use serde::Serialize;

use super::configuration::SettingChanges;
use super::plan::RestorePlan;

/// Settings that wait for an operator: topics that lack the same ones together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Topics of the target.
    pub topics: Vec<String>,
    /// What the topics have in the source; none where that is the brokers' default. In the target each is -1.
    pub settings: SettingChanges,
    /// The command of Kafka's that puts them back.
    pub put_back: String,
}

/// What a plan sets aside; `brokers` are those of the target, as HOST:PORT,….
pub(super) fn set_aside(plan: &RestorePlan, brokers: &str) -> Vec<SetAside> {
    let mut by_settings: BTreeMap<&SettingChanges, Vec<String>> = BTreeMap::new();
    for topic in plan
        .topics
        .iter()
        .filter(|topic| !topic.set_aside.is_empty())
    {
        let topics = by_settings.entry(&topic.set_aside).or_default();
        topics.push(topic.target_topic.clone());
    }
    let all = by_settings.into_iter().map(|(settings, topics)| SetAside {
        put_back: put_back(brokers, &topics, settings),
        topics,
        settings: settings.clone(),
    });
    all.collect()
}

fn put_back(brokers: &str, topics: &[String], settings: &SettingChanges) -> String {
    let (mut set, mut unset) = (Vec::new(), Vec::new());
    for (name, value) in settings {
        // A repository may say anything; what is no number would not be taken, and does not belong into a shell.
        match value.as_ref().and_then(|value| value.parse::<i64>().ok()) {
            Some(value) => set.push(format!("{name}={value}")),
            None => unset.push(name.as_str()),
        }
    }
    let mut changes = String::new();
    if !set.is_empty() {
        changes.push_str(&format!(" --add-config {}", set.join(",")));
    }
    if !unset.is_empty() {
        changes.push_str(&format!(" --delete-config {}", unset.join(",")));
    }
    let command = |topic: &str| {
        format!(
            "kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic}{changes}"
        )
    };
    match topics {
        [topic] => command(topic),
        topics => format!(
            "for topic in {}; do {}; done",
            topics.join(" "),
            command("\"$topic\"")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_puts_back_what_topics_have_in_common() {
        let settings: SettingChanges = [
            ("retention.bytes".to_owned(), None),
            ("retention.ms".to_owned(), Some("5000".to_owned())),
        ]
        .into();
        let of = |topics: &[&str]| {
            let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
            put_back("dr1:9092", &topics, &settings)
        };
        assert_eq!(
            of(&["orders"]),
            "kafka-configs.sh --bootstrap-server dr1:9092 --alter --entity-type topics --entity-name orders \
             --add-config retention.ms=5000 --delete-config retention.bytes"
        );
        assert_eq!(
            of(&["orders", "payments"]),
            "for topic in orders payments; do kafka-configs.sh --bootstrap-server dr1:9092 --alter --entity-type topics \
             --entity-name \"$topic\" --add-config retention.ms=5000 --delete-config retention.bytes; done"
        );
    }

    #[test]
    fn a_value_that_is_no_number_does_not_come_into_a_shell() {
        let settings = [("retention.ms".to_owned(), Some("$(reboot)".to_owned()))].into();
        let command = put_back("dr1:9092", &["orders".to_owned()], &settings);
        assert!(command.ends_with("--entity-name orders --delete-config retention.ms"));
    }
}
