//! Topics in which brokers keep their own state. What a client writes there breaks groups or transactions, so no verb does.

use crate::kafka::Metadata;

use super::refusal::{Part, Refusal};

/// `org.apache.kafka.common.internals.Topic`. A cluster that has not used one yet does not list it, and would create it like any other.
const RESERVED: [&str; 4] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
];

/// Whether a name is one of Kafka's own in every cluster.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Why nothing is written to the topic `name` of this cluster: it is one of Kafka's own, by its name or by what the cluster says.
pub(super) fn refuse_target(name: &str, cluster: &Metadata) -> Option<Refusal> {
    let known = cluster.topics.get(name);
    if !is_reserved(name) && !known.is_some_and(|topic| topic.is_internal) {
        return None;
    }
    let why = format!(
        "topic {name} is one of Kafka's internal topics, in which brokers keep their own state: choose another target"
    );
    Some(Refusal::new(why).of(Part::TargetTopic, name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kafka::{BrokerId, TopicMetadata};
    use crate::record::TopicId;

    #[test]
    fn internal_topics_are_known_by_name_and_by_what_the_cluster_says() {
        let topic = |is_internal| TopicMetadata {
            topic_id: TopicId::default(),
            is_internal,
            error: None,
            partitions: BTreeMap::new(),
        };
        let topics = [("own", true), ("orders", false)];
        let topics = topics.map(|(name, is_internal)| (name.to_owned(), topic(is_internal)));
        let cluster = Metadata {
            cluster_id: "c".to_owned(),
            controller: BrokerId(0),
            brokers: BTreeMap::new(),
            topics: topics.into(),
        };
        let is_refused = |name| refuse_target(name, &cluster).is_some();
        assert!(RESERVED.into_iter().all(is_refused));
        assert!(is_refused("own"));
        assert!(!is_refused("orders") && !is_refused("__not_there"));
    }
}
