//! Asks the leaders whether the log still holds what a chain ends with, and what interrupted runs had sealed last.
//!
//! ```text
//! batch     the batch at the seam, read again and compared                     -> Same, Another, or in doubt
//! lineage   Fetch with the batch's leader epoch from its end on (KIP-595)      -> Another, or as before
//! start     the first batch of the log, where the cluster knows no topic ids   -> for the plan to compare
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use crate::engine::EngineError;
use crate::engine::rate::RateLimiter;
use crate::engine::reader::{
    self, Cursor, Expects, Flow, PARTITION_BYTES, Reading, Sink, Step, Wish,
};
use crate::kafka::{ErrorCode, FetchedPartition, IsolationLevel, KafkaError, TopicPartition};
use crate::record::{BatchRef, LeaderEpoch, Offset, RecordError, batches};
use crate::repository::{BackupId, BatchEvidence};

use super::means::Means;
use super::seams::{SeamVerdict, compare};

/// How often in a row a leader may answer with nothing where a cleaned log need not have anything any more. An answer is
/// empty, too, when others of the same request filled it.
const EMPTY_ANSWERS: u32 = 100;

/// Who holds what is in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// The chain that is to be continued.
    Chain,
    /// An interrupted run.
    Run(BackupId),
}

/// What a log is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub holder: Holder,
    /// The last batch that is held; without one, the leaders' epochs alone decide.
    pub batch: Option<BatchEvidence>,
    /// The epoch of what is held last; none where the log knows none.
    pub epoch: Option<LeaderEpoch>,
    /// One past what is held.
    pub end: Offset,
    /// Bytes of the largest batch that is held, about.
    pub largest: u64,
    /// Whether the log's first batch is wanted, too.
    pub wants_start: bool,
}

/// What came of a question.
#[derive(Debug)]
pub(super) struct Answer {
    pub verdict: SeamVerdict,
    /// The first batch of the log, where that was wanted and there is one.
    pub start: Option<Bytes>,
}

/// Answers by who holds what of which partition.
pub(super) type Answers = BTreeMap<(TopicPartition, Holder), Answer>;

/// The questions about one partition, which are asked one after the other.
pub(super) struct Inquiry {
    questions: VecDeque<Question>,
    stage: Stage,
    /// What the stages before said about the first of the questions.
    verdict: Option<SeamVerdict>,
    log_start: Offset,
    may_be_cleaned: bool,
    empty_answers: u32,
    answers: Vec<(Holder, Answer)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Batch,
    Lineage,
    Start,
}

impl Inquiry {
    /// Asks all `questions` of a log that starts at `log_start`.
    pub fn new(questions: Vec<Question>, log_start: Offset, may_be_cleaned: bool) -> Self {
        let mut inquiry = Self {
            questions: questions.into(),
            stage: Stage::Batch,
            verdict: None,
            log_start,
            may_be_cleaned,
            empty_answers: 0,
            answers: Vec::new(),
        };
        inquiry.skip();
        inquiry
    }

    /// Goes on to a stage at which there is something to be asked.
    fn skip(&mut self) {
        while let Some(question) = self.questions.front() {
            let behind_start = question
                .batch
                .is_some_and(|batch| batch.last_offset < self.log_start);
            match (self.stage, question.batch, question.epoch) {
                (Stage::Batch, Some(_), _) if behind_start => self.settle(SeamVerdict::Gone, None),
                (Stage::Batch, None, _) => {
                    self.verdict = Some(SeamVerdict::Unseen);
                    self.stage = Stage::Lineage;
                }
                (Stage::Lineage, _, None) => self.after_lineage(),
                _ => return,
            }
        }
    }

    fn settle(&mut self, verdict: SeamVerdict, start: Option<Bytes>) {
        if let Some(question) = self.questions.pop_front() {
            self.answers
                .push((question.holder, Answer { verdict, start }));
        }
        (self.stage, self.verdict, self.empty_answers) = (Stage::Batch, None, 0);
    }

    /// Takes in what comparing the batch at the seam has come to.
    fn compared(&mut self, verdict: SeamVerdict) {
        let reaches_end = self.questions.front().is_some_and(|question| {
            question.batch.map(|batch| batch.end_offset()) == Some(question.end)
        });
        self.empty_answers = 0;
        match verdict {
            SeamVerdict::Another(_) | SeamVerdict::Gone => self.settle(verdict, None),
            SeamVerdict::Same if reaches_end => {
                self.verdict = Some(verdict);
                self.after_lineage();
            }
            SeamVerdict::Same | SeamVerdict::Unseen | SeamVerdict::Rewritten(_) => {
                self.verdict = Some(verdict);
                self.stage = Stage::Lineage;
            }
        }
        self.skip();
    }

    fn after_lineage(&mut self) {
        if self
            .questions
            .front()
            .is_some_and(|question| question.wants_start)
        {
            self.stage = Stage::Start;
        } else {
            self.started(None);
        }
    }

    fn started(&mut self, start: Option<Bytes>) {
        if let Some(verdict) = self.verdict.take() {
            self.settle(verdict, start);
        }
    }
}

/// The inquiry, as the reader sees it.
struct Proving {
    limiter: RateLimiter,
}

impl Proving {
    fn step(&self, cursor: &mut Cursor<Inquiry>) -> Step {
        cursor.part.skip();
        match cursor.part.questions.is_empty() {
            true => Step::Settled,
            false => Step::Moved,
        }
    }

    fn another(&self, cursor: &mut Cursor<Inquiry>, why: String) -> Step {
        cursor.part.settle(SeamVerdict::Another(why), None);
        self.step(cursor)
    }
}

/// The first whole batch that ends at `offset` or behind it.
fn batch_at(records: &Bytes, offset: Offset) -> Result<Option<(BatchRef<'_>, Bytes)>, RecordError> {
    let mut at = 0;
    for batch in batches(records) {
        let batch = batch?;
        let end = at + batch.len();
        if batch.last_offset() >= offset {
            return Ok(Some((batch, records.slice(at..end))));
        }
        at = end;
    }
    Ok(None)
}

impl Sink for Proving {
    type Part = Inquiry;
    /// Bytes that came.
    type Taken = u64;

    fn isolation(&self) -> IsolationLevel {
        IsolationLevel::ReadUncommitted
    }

    fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn wish(&self, cursor: &mut Cursor<Inquiry>) -> Option<Wish> {
        let inquiry = &cursor.part;
        let question = inquiry.questions.front()?;
        let max_bytes = question.largest.clamp(1, PARTITION_BYTES);
        let batch = Wish {
            max_bytes,
            expects: Expects::Records,
        };
        let known = |epoch: LeaderEpoch| (epoch.0 >= 0).then_some(epoch);
        let (next, last_epoch, wish) = match inquiry.stage {
            Stage::Batch => {
                let held = question.batch?;
                (held.last_offset, known(held.leader_epoch), batch)
            }
            Stage::Lineage => {
                let answer = Wish {
                    max_bytes: 1,
                    expects: Expects::Answer,
                };
                (question.end, question.epoch, answer)
            }
            Stage::Start => (inquiry.log_start, None, batch),
        };
        (cursor.next, cursor.last_epoch) = (next, last_epoch);
        Some(wish)
    }

    fn take(
        &self,
        cursor: &mut Cursor<Inquiry>,
        fetched: FetchedPartition,
        taken: &mut u64,
    ) -> Result<Step, EngineError> {
        *taken += fetched.records.len() as u64;
        if cursor.part.stage == Stage::Lineage {
            cursor.part.after_lineage();
            return Ok(self.step(cursor));
        }
        let found =
            batch_at(&fetched.records, cursor.next).map_err(|source| EngineError::Batch {
                topic: cursor.key.topic.clone(),
                partition: cursor.key.partition,
                offset: cursor.next,
                source,
            })?;
        let inquiry = &mut cursor.part;
        if found.is_none() {
            inquiry.empty_answers += 1;
            if !inquiry.may_be_cleaned || inquiry.empty_answers < EMPTY_ANSWERS {
                return Ok(Step::Nothing);
            }
        }
        match (inquiry.stage, inquiry.questions.front()) {
            (
                Stage::Batch,
                Some(Question {
                    batch: Some(held), ..
                }),
            ) => {
                let found = found.map(|(batch, _)| BatchEvidence::from(&batch));
                let verdict = compare(held, found.as_ref());
                inquiry.compared(verdict);
            }
            // A copy, so that the memory of the whole answer is free again.
            _ => inquiry.started(found.map(|(batch, _)| Bytes::copy_from_slice(batch.as_bytes()))),
        }
        Ok(self.step(cursor))
    }

    fn diverged(
        &self,
        cursor: &mut Cursor<Inquiry>,
        end: Offset,
        _taken: &mut u64,
    ) -> Result<Step, EngineError> {
        Ok(self.another(
            cursor,
            format!("the log was rewritten from offset {end} on (unclean leader election)"),
        ))
    }

    fn outside(
        &self,
        cursor: &mut Cursor<Inquiry>,
        log: Range<Offset>,
        _taken: &mut u64,
    ) -> Result<Step, EngineError> {
        if log.start > cursor.next {
            cursor.part.log_start = log.start;
            match cursor.part.stage {
                Stage::Batch => cursor.part.settle(SeamVerdict::Gone, None),
                Stage::Lineage => cursor.part.after_lineage(),
                Stage::Start => {}
            }
            return Ok(self.step(cursor));
        }
        if log.end < cursor.next || cursor.part.stage == Stage::Batch && log.end == cursor.next {
            let why = format!("the log ends at {}, below what is held", log.end);
            return Ok(self.another(cursor, why));
        }
        // A leader cannot tell where an epoch ended that is later than its own (`Partition.readRecords`).
        if let (Some(held), Some(now)) = (cursor.last_epoch, cursor.leader_epoch)
            && held > now
        {
            let why =
                format!("the log is at leader epoch {now}, and what is held is of epoch {held}");
            return Ok(self.another(cursor, why));
        }
        let code = ErrorCode::OffsetOutOfRange;
        let error = KafkaError::for_topic(code, "READ", &cursor.key.topic);
        Ok(Step::Elsewhere(error))
    }

    fn recreated(
        &self,
        cursor: &mut Cursor<Inquiry>,
        _taken: &mut u64,
    ) -> Result<Step, EngineError> {
        Err(EngineError::refused(format!(
            "topic {} was deleted and created again while its backup was planned; run the backup again",
            cursor.key.topic
        )))
    }

    async fn pass_on(&self, bytes: u64) -> Result<Flow, EngineError> {
        Ok(Flow::On { bytes, records: 0 })
    }
}

/// Asks all questions, and returns when all are answered.
pub(super) async fn prove(
    means: &Means<'_>,
    cursors: Vec<Cursor<Inquiry>>,
) -> Result<Answers, EngineError> {
    let proving = Proving {
        limiter: RateLimiter::new(means.options.rate_limit),
    };
    let reading = Reading {
        leaders: means.client,
        sink: &proving,
        memory: means.memory.clone(),
        watchdog: means.watchdog.clone(),
    };
    let mut answers = Answers::new();
    for cursor in reader::read(&reading, cursors).await? {
        for (holder, answer) in cursor.part.answers {
            answers.insert((TopicPartition::clone(&cursor.key), holder), answer);
        }
    }
    Ok(answers)
}
