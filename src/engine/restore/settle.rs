//! After the last acknowledgement: the target's log is compared with what was sent, the settings that had to
//! wait and the groups' offsets are set, and the report is made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::watchdog::Wait;
use crate::engine::{EngineError, settings};
use crate::kafka::Client;
use crate::record::Offset;
use crate::repository::{Completion, Repository};

use super::RestoreOptions;
use super::commit;
use super::interrupted;
use super::means::Means;
use super::outcome::{Outcome, Written};
use super::plan::{RestorePlan, TopicAction};
use super::read_back::{Span, read_back};
use super::report::{RestoreReport, RestoredGroup, RestoredPartition, RestoredTopic};
use super::set_aside::set_aside;
use super::target::{self, TargetPartition};

pub(super) async fn settle(
    means: &Means<'_>,
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    outcome: Outcome,
    options: &RestoreOptions,
    clock: Instant,
) -> Result<RestoreReport, EngineError> {
    let check = options.check;
    let (client, watchdog) = (means.client, means.watchdog);
    let comparing = async {
        compare_ends(client, plan, &outcome).await?;
        compare_starts(client, plan, &outcome).await
    };
    let wait = Wait::Target("to tell where its logs begin and end");
    watchdog.step(wait, comparing).await?;
    if check {
        compare_content(means, &outcome).await?;
    }
    // Else the same restore goes on when what is damaged is there again.
    if !outcome.damaged.is_empty() && !options.allow_damage {
        return Ok(RestoreReport {
            is_unfinished: true,
            ..report(plan, outcome, Vec::new(), check, clock)
        });
    }
    let groups = commit::commit(means, plan, &outcome).await;
    // Under its final settings a topic may lose records: nothing is compared any more.
    let wait = Wait::Repository("to note that all is written");
    let noting = interrupted::note_written(repository, plan);
    watchdog.step(wait, noting).await?;
    let afterwards = plan.afterwards();
    let changing = settings::change(client, &afterwards);
    let wait = Wait::Target("to take the final settings");
    let refused_settings = watchdog.step(wait, changing).await?;
    let report = report(plan, outcome, groups, check, clock);
    Ok(RestoreReport {
        status: match refused_settings.is_empty() {
            true => report.status,
            false => Completion::Incomplete,
        },
        refused_settings,
        set_aside: set_aside(plan, &client.bootstrap_servers()),
        ..report
    })
}

/// Reads back all that was written, and compares it with what was sent.
async fn compare_content(means: &Means<'_>, outcome: &Outcome) -> Result<(), EngineError> {
    let spans = outcome.written.iter().map(|written| {
        let target = &written.target;
        let (start, end) = written.offsets.unwrap_or((target.start, target.start));
        Span::of(target, start..end)
    });
    let found = read_back(means, spans.collect()).await?;
    let mut different = Vec::new();
    for (written, found) in outcome.written.iter().zip(found) {
        let sent = written.content.as_ref();
        let sent = sent.map(|sent| (sent.records(), sent.digest()));
        let there = (found.content.records(), found.content.digest());
        if sent.is_some_and(|sent| sent != there) {
            let (records, key) = (written.records, &written.target.key);
            different.push(format!("{key} ({} of {records} records found)", there.0));
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(EngineError::refused(format!(
        "what was read back is not what was sent: {}; delete the topics and restore again",
        different.join(", ")
    )))
}

/// In a topic that this restore created, the log must hold as many offsets as records were restored, and end with them.
async fn compare_ends(
    client: &Client,
    plan: &RestorePlan,
    outcome: &Outcome,
) -> Result<(), EngineError> {
    let created: Vec<&str> = plan
        .topics
        .iter()
        .filter(|topic| topic.action != TopicAction::Append)
        .map(|topic| topic.target_topic.as_str())
        .collect();
    let ours: Vec<&Written> = outcome
        .written
        .iter()
        .filter(|written| created.contains(&written.target.key.topic.as_str()))
        .collect();
    let ends = target::ends(
        client,
        ours.iter()
            .map(|written| written.target.key.clone())
            .collect(),
    )
    .await?;
    for written in ours {
        let TargetPartition { key, start, .. } = &written.target;
        // Every record has one offset, and nothing else has any.
        let expected = Offset(start.0.saturating_add_unsigned(written.records));
        if ends.get(key) != Some(&expected) || written.end() != expected {
            let found = ends
                .get(key)
                .map_or_else(|| "nowhere".to_owned(), ToString::to_string);
            return Err(EngineError::refused(format!(
                "{key} ends at {found} and not at {expected}: somebody else wrote to it during the restore; delete the topic and restore again"
            )));
        }
    }
    Ok(())
}

/// All that was written is still there: no retention, and nobody, has deleted from its beginning meanwhile.
async fn compare_starts(
    client: &Client,
    plan: &RestorePlan,
    outcome: &Outcome,
) -> Result<(), EngineError> {
    let written = outcome.written.iter();
    let written = written.filter_map(|written| Some((&written.target.key, written.offsets?)));
    let written: Vec<_> = written.collect();
    let keys = written.iter().map(|(key, _)| (*key).clone()).collect();
    let starts = target::starts(client, keys).await?;
    for (key, (start, end)) in written {
        let Some(log_start) = starts.get(key).filter(|log_start| **log_start > start) else {
            continue;
        };
        let gone = log_start.0.min(end.0) - start.0;
        let was_there = plan
            .topics
            .iter()
            .any(|topic| topic.target_topic == key.topic && topic.action == TopicAction::Append);
        let advice = match was_there {
            true => "raise the topic's retention, and restore under another name",
            false => "look for what deletes there, delete the topic and restore again",
        };
        return Err(EngineError::refused(format!(
            "{key} begins at {log_start} now, so that {gone} of the offsets restored from {start} on are deleted already: {advice}"
        )));
    }
    Ok(())
}

fn report(
    plan: &RestorePlan,
    outcome: Outcome,
    groups: Vec<RestoredGroup>,
    check: bool,
    clock: Instant,
) -> RestoreReport {
    let messages_restored = outcome.written.iter().map(|written| written.records).sum();
    let messages_found = outcome.written.iter().map(|it| it.found_records).sum();
    let total_size_bytes = outcome.written.iter().map(|written| written.bytes).sum();
    let mut by_topic: BTreeMap<String, Vec<RestoredPartition>> = BTreeMap::new();
    for written in outcome.written {
        let (start_offset, end_offset) = written
            .offsets
            .unwrap_or((written.target.start, written.target.start));
        by_topic
            .entry(written.target.key.topic)
            .or_default()
            .push(RestoredPartition {
                partition: written.target.key.partition,
                records: written.records,
                found_records: written.found_records,
                start_offset,
                end_offset,
            });
    }
    let topics = plan
        .topics
        .iter()
        .zip(outcome.skipped)
        .map(|(topic, skipped)| RestoredTopic {
            topic: topic.topic.clone(),
            target_topic: topic.target_topic.clone(),
            created: topic.action != TopicAction::Append,
            partitions: by_topic.remove(&topic.target_topic).unwrap_or_default(),
            skipped,
            notes: topic.notes.clone(),
        });
    RestoreReport {
        backup_id: plan.backup_id,
        cluster_id: plan.cluster_id.clone(),
        status: Completion::unless(
            groups.iter().any(RestoredGroup::is_refused) || !outcome.damaged.is_empty(),
        ),
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        topics: topics.collect(),
        finished: plan.finished.clone(),
        messages_restored,
        messages_found,
        total_size_bytes,
        offsets: plan.offsets,
        groups,
        checksum_validated: outcome.damaged.is_empty(),
        damaged: outcome.damaged,
        read_back: check,
        refused_settings: Vec::new(),
        set_aside: Vec::new(),
        is_unfinished: false,
    }
}
