//! Decides which chains go on, and what interrupted runs had sealed that is still a part of the log.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::engine::blocking::in_repository;
use crate::engine::chain::Generation;
use crate::engine::reader::Cursor;
use crate::engine::refusal::Refusal;
use crate::engine::topic_configuration::TopicConfiguration;
use crate::engine::transactions::OpenTransactions;
use crate::kafka::TopicPartition;
use crate::record::{LeaderEpoch, Offset};
use crate::repository::{BackupId, PartitionEntry, Repository};

use super::adopt::Adoptable;
use super::held_batch::{evidence, front, held_at};
use super::means::Means;
use super::plan::{PartitionPlan, TopicPlan, gap};
use super::prove::{Answer, Answers, Holder, Inquiry, Question, prove};
use super::seams::{SeamVerdict, Survivors, compare, survivors};

/// Proves chains, and what interrupted runs had sealed, at the leaders; begins new chains where the log is another one, and
/// adopts what is a part of it. `forked` tells how often logs were found to be rewritten while this run read them.
pub(super) async fn go_on(
    means: &Means<'_>,
    cluster_id: &str,
    topics: Vec<TopicPlan>,
    adoptable: &mut Adoptable,
    forked: &BTreeMap<Generation, u32>,
    warnings: &mut Vec<Refusal>,
) -> Result<Vec<TopicPlan>, EngineError> {
    let asked = topics.iter().flat_map(|topic| {
        let again = forked.contains_key(&topic.generation(cluster_id));
        inquiries(topic, cluster_id, adoptable, again)
    });
    let answers = prove(means, asked.collect()).await?;
    let judge = in_repository(
        means.repository,
        "the thread that judges the chains",
        |repository| {
            let broken = broken_chains(repository, &topics, &answers)?;
            Ok::<_, EngineError>((topics, answers, broken))
        },
    );
    let (mut topics, answers, mut broken) = judge.await?;
    let refuted = answers
        .iter()
        .filter_map(|((key, holder), answer)| match holder {
            Holder::Run(run) if matches!(answer.verdict, SeamVerdict::Another(_)) => {
                Some((key, *run))
            }
            _ => None,
        });
    let refuted: Vec<(&TopicPartition, BackupId)> = refuted.collect();
    for (place, topic) in topics.iter_mut().enumerate() {
        if let Some(why) = broken.remove(&place) {
            topic.restart(why);
        }
        let generation = topic.generation(cluster_id);
        for (key, run) in refuted.iter().filter(|(key, _)| key.topic == topic.topic) {
            adoptable.refute(&generation, key.partition, *run);
        }
        match forked.get(&generation) {
            Some(1) if topic.chain_restarted.is_none() => warnings.push(format!(
                "topic {} was rewritten while it was read (unclean leader election): what was read of it is read again",
                topic.topic
            ).into()),
            Some(2..) => continue,
            _ => {}
        }
        topic.adopt(adoptable, &generation, &answers);
    }
    Ok(topics)
}

/// What the logs of a topic are to be asked. With `again`, nothing is taken for proven.
fn inquiries(
    topic: &TopicPlan,
    cluster_id: &str,
    adoptable: &Adoptable,
    again: bool,
) -> Vec<Cursor<Inquiry>> {
    let generation = topic.generation(cluster_id);
    let may_be_cleaned = topic.configuration.may_clean();
    let mut cursors = Vec::new();
    for partition in &topic.partitions {
        let entry = topic.entry(partition.partition);
        let held = entry.map(|entry| entry.end_offset);
        let sealed = adoptable.sealed(&generation, partition.partition).iter();
        let runs = sealed.filter_map(|run| {
            let (batch, last) = (run.last_batch, run.extents.last()?);
            let end = last.extent.end_offset();
            // Beyond the log's end it is not there, and what the chain holds is not wanted twice.
            (end <= partition.end && Some(end) > held).then(|| Question {
                holder: Holder::Run(run.run_id),
                batch: Some(batch),
                epoch: known(batch.leader_epoch),
                end,
                largest: run
                    .extents
                    .iter()
                    .map(|sealed| u64::from(sealed.extent.largest_batch))
                    .max()
                    .unwrap_or_default(),
                wants_start: false,
            })
        });
        let runs: Vec<Question> = runs.collect();
        let must_ask = again || !runs.is_empty() || topic.topic_id.is_zero();
        let chain = entry.and_then(|entry| chain_question(topic, partition, entry, must_ask));
        let questions: Vec<Question> = chain.into_iter().chain(runs).collect();
        if !questions.is_empty() {
            let key = topic.key(partition.partition);
            let inquiry = Inquiry::new(questions, partition.start, may_be_cleaned);
            cursors.push(Cursor {
                topic_id: topic.topic_id,
                leader: Some(partition.leader),
                leader_epoch: Some(partition.leader_epoch),
                ..Cursor::new(key, partition.start, inquiry)
            });
        }
    }
    cursors
}

fn known(epoch: LeaderEpoch) -> Option<LeaderEpoch> {
    (epoch.0 >= 0).then_some(epoch)
}

/// What is to be asked about a chain before it goes on: nothing where the log has lost all that the chain holds, and where
/// nothing is new under the leader that wrote the last of it.
fn chain_question(
    topic: &TopicPlan,
    partition: &PartitionPlan,
    entry: &PartitionEntry,
    must_ask: bool,
) -> Option<Question> {
    let batch = entry.last_batch;
    let epoch = batch.map_or(entry.leader_epoch, |batch| batch.leader_epoch);
    let is_settled = partition.end == entry.end_offset && epoch == partition.leader_epoch;
    let has_nothing = entry.end_offset <= partition.start
        || batch.is_none() && known(epoch).is_none()
        || entry.end_offset == Offset(0);
    if has_nothing || is_settled && !must_ask {
        return None;
    }
    Some(Question {
        holder: Holder::Chain,
        batch,
        epoch: known(epoch),
        end: entry.end_offset,
        largest: entry.largest_batch.into(),
        wants_start: topic.topic_id.is_zero(),
    })
}

/// Why chains cannot go on, by the topic's place in the plan.
fn broken_chains(
    repository: &Repository,
    topics: &[TopicPlan],
    answers: &Answers,
) -> Result<BTreeMap<usize, String>, EngineError> {
    let mut broken = BTreeMap::new();
    for (place, topic) in topics.iter().enumerate() {
        for partition in &topic.partitions {
            let key = (topic.key(partition.partition), Holder::Chain);
            let Some((answer, entry)) = answers
                .get(&key)
                .and_then(|answer| Some((answer, topic.entry(partition.partition)?)))
            else {
                continue;
            };
            if let Some(why) = why_broken(repository, topic, entry, answer)? {
                let number = partition.partition;
                broken.insert(place, format!("partition {number} is another log: {why}"));
                break;
            }
        }
    }
    Ok(broken)
}

/// Whether what an interrupted run had sealed is a part of the log.
fn is_adoptable(topic: &TopicPlan, verdict: &SeamVerdict) -> bool {
    match verdict {
        SeamVerdict::Same => true,
        SeamVerdict::Rewritten(_) => topic.configuration.may_clean() && !topic.topic_id.is_zero(),
        SeamVerdict::Unseen | SeamVerdict::Gone | SeamVerdict::Another(_) => false,
    }
}

fn why_broken(
    repository: &Repository,
    topic: &TopicPlan,
    entry: &PartitionEntry,
    answer: &Answer,
) -> Result<Option<String>, EngineError> {
    let has_id = !topic.topic_id.is_zero();
    Ok(match &answer.verdict {
        SeamVerdict::Another(why) => Some(why.clone()),
        SeamVerdict::Same if has_id => None,
        SeamVerdict::Same => begins_otherwise(repository, topic, entry, answer)?,
        SeamVerdict::Gone if has_id => None,
        SeamVerdict::Gone => Some("it starts behind all that the chain holds".to_owned()),
        // For want of evidence alone no chain starts again.
        SeamVerdict::Unseen => None,
        SeamVerdict::Rewritten(why) => {
            if !topic.may_have_been_cleaned(repository)? {
                Some(why.clone())
            } else if has_id || survive(repository, topic, entry, answer)? {
                None
            } else {
                Some(format!("{why}, and no record that the chain holds is left"))
            }
        }
    })
}

/// Without topic ids, another topic may end with the very same batch: it must begin like the chain, too.
fn begins_otherwise(
    repository: &Repository,
    topic: &TopicPlan,
    entry: &PartitionEntry,
    answer: &Answer,
) -> Result<Option<String>, EngineError> {
    let (Some(held), Some(found)) = (entry.first_batch, evidence(answer.start.as_ref())?) else {
        return Ok(None);
    };
    if found.base_offset > held.base_offset {
        return Ok(None);
    }
    Ok(match compare(&held, Some(&found)) {
        SeamVerdict::Another(why) => Some(why),
        SeamVerdict::Rewritten(why) if !topic.may_have_been_cleaned(repository)? => Some(why),
        _ => None,
    })
}

/// Whether records at the start of the log are among those that the chain holds there: what is left where the cleaner has
/// rewritten the batch at the chain's end, and no topic id tells one topic from another.
fn survive(
    repository: &Repository,
    topic: &TopicPlan,
    entry: &PartitionEntry,
    answer: &Answer,
) -> Result<bool, EngineError> {
    let index = topic.chain.as_ref().and_then(|chain| chain.index);
    let (Some(start), Some(index)) = (answer.start.as_ref(), index) else {
        return Ok(false);
    };
    let Some(found) = evidence(Some(start))? else {
        return Ok(false);
    };
    if entry.first_batch == Some(found) {
        return Ok(true);
    }
    let index = repository.index(&index)?;
    let held = match held_at(repository, &index, entry.partition, found.last_offset) {
        Err(error) if error.is_damage() => return Ok(false),
        held => held?,
    };
    let (Some(held), Some(start)) = (front(held.as_ref())?, front(Some(start))?) else {
        return Ok(false);
    };
    Ok(match compare(&(&held).into(), Some(&found)) {
        SeamVerdict::Same => true,
        SeamVerdict::Rewritten(_) => survivors(&start, &held)? == Survivors::Same,
        _ => false,
    })
}

impl TopicPlan {
    /// Begins a new chain instead of going on with the one that there was.
    fn restart(&mut self, why: String) {
        self.chain = None;
        self.chain_restarted = Some(why);
        for partition in &mut self.partitions {
            partition.resume = partition.start;
            partition.resume_epoch = None;
            partition.gaps.clear();
            partition.open = OpenTransactions::default();
        }
    }

    /// Continues behind what interrupted runs had sealed, where it was proven to be a part of the log.
    fn adopt(&mut self, adoptable: &Adoptable, generation: &Generation, answers: &Answers) {
        for slot in 0..self.partitions.len() {
            let Some(partition) = self.partitions.get(slot) else {
                continue;
            };
            let is_proven = |run: &BackupId| {
                let asked = (self.key(partition.partition), Holder::Run(*run));
                let answer = answers.get(&asked);
                answer.is_some_and(|answer| is_adoptable(self, &answer.verdict))
            };
            let adopted = adoptable.continuing(
                generation,
                partition.partition,
                is_proven,
                self.held(partition),
                partition.start,
                partition.end,
            );
            let Some(partition) = self.partitions.get_mut(slot) else {
                continue;
            };
            partition.adopted = adopted;
            let Some(last) = partition.adopted.last() else {
                continue;
            };
            let held = last.extent.end_offset();
            partition.resume = held.max(partition.start);
            partition.gaps = gap(Some(held), partition.start).into_iter().collect();
            partition.resume_epoch = Some(last.extent.leader_epoch)
                .filter(|epoch| partition.gaps.is_empty() && epoch.0 >= 0);
            adoptable.follow(
                generation,
                partition.partition,
                &partition.adopted,
                &mut partition.open,
            );
        }
    }

    /// Whether the cleaner works on the topic, or did when the chain's last backup was made.
    fn may_have_been_cleaned(&self, repository: &Repository) -> Result<bool, EngineError> {
        if self.configuration.may_clean() {
            return Ok(true);
        }
        let Some(chain) = &self.chain else {
            return Ok(false);
        };
        match repository.state::<TopicConfiguration>(&chain.configuration) {
            Err(error) if error.is_damage() => Ok(true),
            earlier => Ok(earlier?.may_clean()),
        }
    }
}
