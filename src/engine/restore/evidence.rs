//! Whether all that a restore needs is there, before anything is created in the target.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::extents::{holes, is_needed};
use crate::engine::refusal::{Advice, Reader, Refusal};
use crate::engine::topic_configuration::TopicConfiguration;
use crate::repository::{
    Manifest, PackId, PackRef, PartitionEntry, Repository, RepositoryError, Sha256, TopicEntry,
};

use super::plan::TopicRestore;

/// Something that is missing of a topic.
pub(super) struct Missing {
    pub topic: String,
    pub problem: Refusal,
    /// Whether what comes before it can be restored all the same.
    pub may_be_left_out: bool,
}

impl Missing {
    /// Why the restore is refused.
    pub fn refusal(&self) -> Refusal {
        let Self { topic, problem, .. } = self;
        let say = |reader| {
            let problem = problem.text_for(reader);
            format!("topic {topic} cannot be restored whole: {problem}")
        };
        let refusal = Refusal::new(say(Reader::Operator)).for_callers(say(Reader::Caller));
        refusal.advise(Advice::LeaveOut {
            topic: topic.clone(),
            or_what_is_damaged: self.may_be_left_out,
        })
    }
}

/// The configurations of topics, in their order, and those that are damaged, in whose place there are empty ones.
pub(super) fn configurations(
    repository: &Repository,
    topics: Vec<(String, Sha256)>,
) -> Result<(Vec<TopicConfiguration>, Vec<Missing>), EngineError> {
    let mut configurations = Vec::with_capacity(topics.len());
    let mut missing = Vec::new();
    for (topic, state) in topics {
        match repository.state(&state) {
            Ok(configuration) => configurations.push(configuration),
            Err(error) if error.is_damage() => {
                configurations.push(TopicConfiguration::default());
                missing.push(Missing {
                    topic,
                    problem: Refusal::by(&error, |error| {
                        format!("its settings are unknown: {error}")
                    }),
                    may_be_left_out: error.is_lost_content(),
                });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((configurations, missing))
}

/// What is missing of what `topics` need, as far as indexes and the packs' places, lengths and footers tell. Blocks are
/// checked when they are read.
pub(super) fn missing(
    repository: &Repository,
    manifest: &Manifest,
    topics: &[TopicRestore],
) -> Result<Vec<Missing>, EngineError> {
    let mut packs = BTreeMap::new();
    let mut missing = Vec::new();
    for topic in topics {
        let entry = manifest
            .topics
            .iter()
            .find(|entry| entry.topic == topic.topic);
        let Some(entry) = entry else { continue };
        let wanted: Vec<&PartitionEntry> = entry
            .partitions
            .iter()
            .filter(|partition| topic.restores(partition.partition))
            .collect();
        let problems = missing_of(repository, entry, &wanted, &mut packs)?;
        missing.extend(
            problems
                .into_iter()
                .map(|(problem, may_be_left_out)| Missing {
                    topic: topic.topic.clone(),
                    problem,
                    may_be_left_out,
                }),
        );
    }
    Ok(missing)
}

/// What is wrong with an object, and whether what comes before it can be restored.
fn lost(error: &RepositoryError) -> (Refusal, bool) {
    let problem = Refusal::by(error, str::to_owned);
    (problem, error.is_lost_content())
}

/// Problems, and whether what comes before them can be restored. `packs` are those that were looked at already, each with its
/// problem.
fn missing_of(
    repository: &Repository,
    topic: &TopicEntry,
    wanted: &[&PartitionEntry],
    packs: &mut BTreeMap<PackId, Option<(Refusal, bool)>>,
) -> Result<Vec<(Refusal, bool)>, EngineError> {
    let index = match topic.index.as_ref().map(|index| repository.index(index)) {
        None => Default::default(),
        Some(Ok(index)) => index,
        Some(Err(error)) if error.is_damage() => {
            return Ok(vec![lost(&error)]);
        }
        Some(Err(error)) => return Err(error.into()),
    };
    let mut problems = Vec::new();
    let mut needed: BTreeMap<PackId, &PackRef> = BTreeMap::new();
    for entry in wanted {
        let extents = index.partitions.get(&entry.partition);
        let extents = extents.map(Vec::as_slice).unwrap_or_default();
        let bounds = (entry.start_offset, entry.end_offset);
        for hole in holes(extents, bounds, &entry.gaps) {
            let problem = format!(
                "offsets {} to {} of partition {} are in no extent",
                hole.start,
                hole.end.0 - 1,
                entry.partition
            );
            problems.push((problem.into(), false));
        }
        let here = extents
            .iter()
            .filter(|extent| is_needed(extent, entry.start_offset, entry.end_offset))
            .filter_map(|extent| index.packs.get(extent.pack as usize));
        needed.extend(here.map(|pack| (pack.pack_id, pack)));
    }
    for (id, pack) in needed {
        let problem = match packs.get(&id) {
            Some(known) => known.clone(),
            None => match repository.open_pack(pack) {
                Ok(_) => None,
                Err(error) if error.is_damage() => Some(lost(&error)),
                Err(error) => return Err(error.into()),
            },
        };
        problems.extend(problem.clone());
        packs.insert(id, problem);
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_of_the_api_are_not_told_where_the_repository_lies() {
        let (problem, may_be_left_out) = lost(&RepositoryError::ObjectMissing {
            name: "indexes/1".to_owned(),
            location: "/srv/backups".to_owned(),
        });
        let missing = Missing {
            topic: "orders".to_owned(),
            problem,
            may_be_left_out,
        };
        let refusal = missing.refusal();
        assert!(refusal.to_string().contains("/srv/backups"), "{refusal}");
        let told = refusal.text_for(Reader::Caller);
        assert!(told.contains("indexes/1 is missing;"), "{told}");
    }
}
