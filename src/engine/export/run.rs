//! Carries a plan out: partitions on several threads, each published when it is whole.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::engine::{EngineError, Progress};
use crate::memory::RunMemory;
use crate::record::Offset;
use crate::repository::{Completion, Repository, TopicIndex};

use super::ExportFormat;
use super::checkpoint::{LOG_START, LogStarts};
use super::directory::Directory;
use super::jsonl::LineWriter;
use super::plan::{ExportPlan, PartitionExport, TopicExport};
use super::read::{PartitionSource, Stopped, problem_of};
use super::report::{Damage, ExportReport, ExportedPartition, ExportedTopic, Written};
use super::segments::LogWriter;

/// The file of a partition's lines, until it gets its name.
const LINES: &str = "lines";

/// Carries a plan out. A plan with refusals is not begun; damage is reported, not an error.
pub fn apply(
    repository: &Repository,
    plan: &ExportPlan,
    memory: &RunMemory,
    progress: &dyn Progress,
) -> Result<ExportReport, EngineError> {
    plan.refuse()?;
    repository.read_locked("export", || {
        apply_locked(repository, plan, memory, progress)
    })
}

fn apply_locked(
    repository: &Repository,
    plan: &ExportPlan,
    memory: &RunMemory,
    progress: &dyn Progress,
) -> Result<ExportReport, EngineError> {
    let clock = Instant::now();
    progress.planned(plan.records());
    let directory = Directory::create(&plan.out)?;
    let run = Run {
        repository,
        plan,
        directory: &directory,
        memory,
        progress,
    };
    let mut topics = Vec::with_capacity(plan.topics.len());
    for topic in &plan.topics {
        topics.push(run.topic(topic)?);
    }
    let log_start_offset_checkpoint = run.write_log_starts(&topics)?;
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let is_whole = |part: &ExportedPartition| part.damage.is_none() && part.gaps.is_empty();
    Ok(ExportReport {
        backup_id: plan.backup_id,
        status: Completion::unless(!partitions().all(is_whole)),
        format: plan.format,
        out: plan.out.clone(),
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        total_messages: partitions().map(|part| part.written.records).sum(),
        total_size_bytes: partitions().map(|part| part.written.bytes).sum(),
        log_start_offset_checkpoint,
        checksum_validated: true,
        topics,
    })
}

struct Run<'a> {
    repository: &'a Repository,
    plan: &'a ExportPlan,
    directory: &'a Directory,
    memory: &'a RunMemory,
    progress: &'a dyn Progress,
}

impl Run<'_> {
    /// Exports the partitions of one topic, as many at once as there are cores.
    fn topic(&self, topic: &TopicExport) -> Result<ExportedTopic, EngineError> {
        let index = match topic
            .index
            .as_ref()
            .map(|index| self.repository.index(index))
        {
            None => Ok(TopicIndex::default()),
            Some(Ok(index)) => Ok(index),
            Some(Err(error)) => Err(problem_of(error)?),
        };
        let queue = Mutex::new(topic.partitions.iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let stop = || {
            queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .by_ref()
                .for_each(drop)
        };
        let work = || -> Result<Vec<ExportedPartition>, EngineError> {
            let mut exported = Vec::new();
            while let Some(partition) = next() {
                let result = self.partition(topic, partition, &index);
                exported.push(result.inspect_err(|_| stop())?);
            }
            Ok(exported)
        };
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let mut partitions = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..cores.min(topic.partitions.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let mut all = Vec::new();
            for worker in workers {
                let done = worker.join();
                all.extend(done.map_err(|_| EngineError::Lost("an exporting thread"))??);
            }
            Ok::<_, EngineError>(all)
        })?;
        partitions.sort_by_key(|exported| exported.partition);
        Ok(ExportedTopic {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions,
        })
    }

    fn partition(
        &self,
        topic: &TopicExport,
        partition: &PartitionExport,
        index: &Result<TopicIndex, String>,
    ) -> Result<ExportedPartition, EngineError> {
        let written = match index {
            Err(problem) => Err(Stopped::Damaged(Box::new(Damage {
                problem: problem.clone(),
                pack: None,
                topic: topic.topic.clone(),
                partition: partition.partition,
                first_offset: partition.start_offset,
                last_offset: Offset(partition.end_offset.0 - 1),
            }))),
            Ok(index) => self.write(&PartitionSource {
                repository: self.repository,
                topic,
                partition,
                index,
                memory: self.memory,
            }),
        };
        let (path, written, damage) = match written {
            Ok((path, written)) => (Some(path), written, None),
            Err(Stopped::Damaged(damage)) => (None, Written::default(), Some(*damage)),
            Err(Stopped::Failed(error)) => return Err(error),
        };
        Ok(ExportedPartition {
            partition: partition.partition,
            path,
            start_offset: partition.start_offset,
            end_offset: partition.end_offset,
            written,
            gaps: partition.gaps.clone(),
            damage,
        })
    }

    fn write(&self, source: &PartitionSource<'_>) -> Result<(PathBuf, Written), Stopped> {
        let PartitionExport {
            partition,
            ref name,
            start_offset: start,
            end_offset: end,
            ..
        } = *source.partition;
        let unfinished = self.directory.begin()?;
        match self.plan.format {
            ExportFormat::Log => {
                let mut log = LogWriter::new(&unfinished, self.plan.segment_bytes, start, end);
                source.read(&mut log, self.progress)?;
                let written = log.finish(source.topic.topic_id)?;
                Ok((unfinished.publish(name)?, written))
            }
            ExportFormat::Jsonl => {
                let uncommitted = source.uncommitted()?;
                let file = unfinished.create(LINES)?;
                let mut lines = LineWriter::new(file, partition, start, end, uncommitted);
                source.read(&mut lines, self.progress)?;
                let written = lines.finish()?;
                Ok((unfinished.publish_file(LINES, name)?, written))
            }
        }
    }

    /// Tells where logs start within their first batch, beside what the file tells of others.
    fn write_log_starts(&self, topics: &[ExportedTopic]) -> Result<Option<PathBuf>, EngineError> {
        let hidden = topics.iter().flat_map(|topic| {
            let within = |part: &&ExportedPartition| {
                let log = part.written.log;
                log.is_some_and(|log| log.first_segment < part.start_offset)
            };
            let partitions = topic.partitions.iter().filter(within);
            partitions.map(|part| (&topic.topic, part.partition, part.start_offset))
        });
        let mut hidden = hidden.peekable();
        if hidden.peek().is_none() {
            return Ok(None);
        }
        let text = Directory::read(&self.plan.out, LOG_START)?;
        let mut starts = LogStarts::parse(&text)?;
        for (topic, partition, start) in hidden {
            starts.insert(topic, partition, start);
        }
        self.directory
            .replace(LOG_START, starts.to_text().as_bytes())?;
        Ok(Some(self.plan.out.join(LOG_START)))
    }
}
