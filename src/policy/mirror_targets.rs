//! Two mirrors that write one topic would mix their records.
//!
//! It is told where names and patterns show it: what regular expressions choose shows only when they meet a name.

use std::collections::BTreeMap;

use crate::engine::topics::{Candidate, TopicPattern};

use super::kinds::Named;
use super::mirror_policy::MirrorPolicy;
use super::reader::Reader;
use super::source::Place;

/// Mirrors, by their places in the list, with an earlier one that writes the same topic.
type Clashes = BTreeMap<usize, (usize, String)>;

/// Tells of mirrors that write what an earlier one writes.
pub(super) fn check(mirrors: &Named<MirrorPolicy>, reader: &mut Reader) {
    let (places, mirrors): (Vec<Place>, Vec<&MirrorPolicy>) = mirrors
        .0
        .iter()
        .filter_map(|entry| Some((entry.name.place, entry.value.as_ref()?)))
        .unzip();
    let mut clashes = written_alike(&mirrors);
    for (index, clash) in named_and_matched(&mirrors) {
        clashes.entry(index).or_insert(clash);
    }
    for (index, (earlier, topic)) in clashes {
        let (Some(place), Some(mirror)) = (places.get(index), mirrors.get(index)) else {
            continue;
        };
        let Some(other) = places.get(earlier) else {
            continue;
        };
        reader.conflict(
            *place,
            format!(
                "this mirror writes `{topic}` in `{}`, as another one does",
                mirror.target
            ),
            "give one of them other topics, another target or another rename",
            (*other, "the other one"),
        );
    }
}

fn inclusions(mirror: &MirrorPolicy) -> impl Iterator<Item = &TopicPattern> {
    mirror
        .topics
        .iter()
        .filter(|pattern| !pattern.is_exclusion())
}

/// Names and patterns that are the same once they are renamed.
fn written_alike(mirrors: &[&MirrorPolicy]) -> Clashes {
    let mut first: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let mut clashes = Clashes::new();
    for (index, mirror) in mirrors.iter().enumerate() {
        for pattern in inclusions(mirror) {
            let written = mirror.rename.apply(&pattern.to_string());
            let key = (mirror.target.as_str(), written.clone());
            let earlier = *first.entry(key).or_insert(index);
            if earlier != index {
                clashes.entry(index).or_insert((earlier, written));
            }
        }
    }
    clashes
}

/// Names that one mirror has, and a pattern of another one chooses, both with the same rename.
fn named_and_matched(mirrors: &[&MirrorPolicy]) -> Clashes {
    let mut named: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (index, mirror) in mirrors.iter().enumerate() {
        for name in inclusions(mirror).filter_map(TopicPattern::literal) {
            named.entry((&mirror.target, name)).or_default().push(index);
        }
    }
    let mut clashes = Clashes::new();
    for (index, mirror) in mirrors.iter().enumerate() {
        for prefix in inclusions(mirror).map(TopicPattern::prefix) {
            let target = mirror.target.as_str();
            let candidates = named
                .range((target, prefix)..)
                .take_while(|((at, name), _)| *at == target && name.starts_with(prefix));
            for (&(_, name), writers) in candidates {
                let is_other = |other: &&usize| {
                    let rename = mirrors.get(**other).map(|other| &other.rename);
                    **other != index && rename == Some(&mirror.rename)
                };
                let is_internal = false;
                let is_chosen = mirror.topics.chooses(Candidate { name, is_internal });
                if let (Some(&other), true) = (writers.iter().find(is_other), is_chosen) {
                    let (first, second) = (index.min(other), index.max(other));
                    let written = mirror.rename.apply(name);
                    clashes.entry(second).or_insert((first, written));
                }
            }
        }
    }
    clashes
}
