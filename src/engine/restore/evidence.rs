//! Whether the packs that a restore needs are there, before anything is created in the target.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::repository::{PackId, Repository};

use super::plan::TopicRestore;

/// What is wrong with the packs that `topics` need, as far as their places, lengths and footers tell. Their blocks are
/// checked when they are read.
pub(super) fn missing(
    repository: &Repository,
    topics: &[TopicRestore],
) -> Result<Vec<String>, EngineError> {
    let mut checked: BTreeMap<PackId, Option<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for topic in topics {
        let Some(index) = &topic.index else { continue };
        let index = match repository.index(index) {
            Ok(index) => index,
            Err(error) if error.is_damage() => {
                missing.push(refusal(&topic.topic, &error.to_string()));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut needed: Vec<_> = topic
            .partitions
            .iter()
            .flat_map(|wanted| {
                let extents = index
                    .partitions
                    .get(&wanted.partition)
                    .into_iter()
                    .flatten();
                extents
                    .filter(|extent| {
                        extent.last_offset >= wanted.start_offset
                            && extent.base_offset < wanted.end_offset
                    })
                    .filter_map(|extent| index.packs.get(extent.pack as usize))
            })
            .collect();
        needed.sort_by_key(|pack| pack.pack_id);
        needed.dedup_by_key(|pack| pack.pack_id);
        for pack in needed {
            let problem = match checked.get(&pack.pack_id) {
                Some(known) => known.clone(),
                None => match repository.open_pack(pack) {
                    Ok(_) => None,
                    Err(error) if error.is_damage() => Some(error.to_string()),
                    Err(error) => return Err(error.into()),
                },
            };
            missing.extend(problem.iter().map(|problem| refusal(&topic.topic, problem)));
            checked.insert(pack.pack_id, problem);
        }
    }
    Ok(missing)
}

fn refusal(topic: &str, problem: &str) -> String {
    format!(
        "topic {topic} cannot be read: {problem}; choose another backup, or leave the topic out (verify says what is touched)"
    )
}
