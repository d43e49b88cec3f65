//! What an export is going to do: a value to be printed, or applied.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::engine::EngineError;
use crate::engine::held_backups::require_topics;
use crate::record::{Offset, PartitionId, TopicId, is_topic_name};
use crate::repository::{BackupId, Gap, Manifest, PartitionEntry, Repository, Sha256, TopicEntry};

use super::directory::{Directory, is_free, taken};
use super::{ExportFormat, ExportOptions, checkpoint};

/// The longest name of a file, in bytes, on the file systems that brokers run on.
const LONGEST_NAME: usize = 255;

/// An export, before it happens.
#[derive(Debug, Clone, Serialize)]
pub struct ExportPlan {
    /// The backup exported from.
    pub backup_id: BackupId,
    /// What is written.
    pub format: ExportFormat,
    /// Where to.
    pub out: PathBuf,
    /// By topic.
    pub topics: Vec<TopicExport>,
    /// Why this plan cannot be applied; empty when it can.
    pub refused: Vec<String>,
    #[serde(skip)]
    pub(super) segment_bytes: u32,
}

/// One topic of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct TopicExport {
    /// Its name.
    pub topic: String,
    /// Its id; zero where the cluster knew none.
    pub topic_id: TopicId,
    /// Its partitions.
    pub partitions: Vec<PartitionExport>,
    #[serde(skip)]
    pub(super) index: Option<Sha256>,
}

/// One partition of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionExport {
    /// Its number.
    pub partition: PartitionId,
    /// The name that it gets below the export's directory.
    pub name: String,
    /// The first offset of the backup.
    pub start_offset: Offset,
    /// The first offset beyond it.
    pub end_offset: Offset,
    /// Records in the backup, those of aborted and open transactions included.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Offsets that the backup does not hold.
    pub gaps: Vec<Gap>,
}

impl ExportPlan {
    fn partitions(&self) -> impl Iterator<Item = &PartitionExport> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// Records that will be read.
    pub fn records(&self) -> u64 {
        self.partitions().map(|partition| partition.records).sum()
    }

    /// Bytes of batches that will be read.
    pub fn bytes(&self) -> u64 {
        self.partitions().map(|partition| partition.bytes).sum()
    }

    pub(super) fn refuse(&self) -> Result<(), EngineError> {
        if self.refused.is_empty() {
            Ok(())
        } else {
            Err(EngineError::refused(self.refused.join("; ")))
        }
    }
}

/// Plans an export; nothing is written.
pub fn plan(
    repository: &Repository,
    backup_id: &BackupId,
    options: &ExportOptions,
) -> Result<ExportPlan, EngineError> {
    let manifest = repository.manifest(backup_id)?;
    require_topics(repository, &manifest, &options.topics)?;
    plan_manifest(&manifest, options)
}

pub(super) fn plan_manifest(
    manifest: &Manifest,
    options: &ExportOptions,
) -> Result<ExportPlan, EngineError> {
    let mut refused = Vec::new();
    let topics: Vec<TopicExport> = options
        .topics
        .choose_of(manifest)?
        .into_iter()
        .map(|topic| plan_topic(topic, options, &mut refused))
        .collect();
    refuse_targets(&topics, options, &mut refused);
    Ok(ExportPlan {
        backup_id: manifest.backup_id,
        format: options.format,
        out: options.out.clone(),
        topics,
        refused,
        segment_bytes: options.segment_bytes,
    })
}

fn plan_topic(
    topic: &TopicEntry,
    options: &ExportOptions,
    refused: &mut Vec<String>,
) -> TopicExport {
    if !is_topic_name(&topic.topic) {
        refused.push(format!(
            "{:?} is not a name that Kafka gives a topic, so nothing is written under it",
            topic.topic
        ));
    }
    let has = |wanted: &&PartitionId| !topic.partitions.iter().any(|p| p.partition == **wanted);
    for missing in options.partitions.iter().filter(has) {
        refused.push(format!(
            "the backup of topic {} has no partition {missing}",
            topic.topic
        ));
    }
    let wanted = |entry: &&PartitionEntry| {
        options.partitions.is_empty() || options.partitions.contains(&entry.partition)
    };
    let partitions = topic.partitions.iter().filter(wanted);
    TopicExport {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|entry| plan_partition(&topic.topic, entry, options.format, refused))
            .collect(),
        index: topic.index,
    }
}

fn plan_partition(
    topic: &str,
    entry: &PartitionEntry,
    format: ExportFormat,
    refused: &mut Vec<String>,
) -> PartitionExport {
    let number = entry.partition;
    let (start, end) = (entry.start_offset, entry.end_offset);
    if number.0 < 0 || start.0 < 0 || start > end {
        refused.push(format!(
            "the backup's bounds of {topic:?}, partition {number}, offsets {start} to {end}, are impossible"
        ));
    }
    let extension = match format {
        ExportFormat::Log => "",
        ExportFormat::Jsonl => ".jsonl",
    };
    PartitionExport {
        partition: number,
        name: format!("{topic}-{number}{extension}"),
        start_offset: start,
        end_offset: end,
        records: entry.records,
        bytes: entry.bytes,
        gaps: entry.gaps.clone(),
    }
}

fn refuse_targets(topics: &[TopicExport], options: &ExportOptions, refused: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    // A name that was refused is not even looked at.
    for topic in topics.iter().filter(|topic| is_topic_name(&topic.topic)) {
        for PartitionExport { name, .. } in &topic.partitions {
            let target = options.out.join(name);
            if name.len() > LONGEST_NAME {
                refused.push(format!(
                    "{name} is longer than the {LONGEST_NAME} bytes that a file's name may have"
                ));
            } else if !seen.insert(name) {
                refused.push(format!("the backup holds {name} twice"));
            } else if !is_free(&target, options.format == ExportFormat::Log) {
                refused.push(taken(&target));
            }
        }
    }
    if options.format == ExportFormat::Log
        && let Err(error) = Directory::read(&options.out, checkpoint::LOG_START)
            .and_then(|text| checkpoint::LogStarts::parse(&text))
    {
        refused.push(error.to_string());
    }
}
