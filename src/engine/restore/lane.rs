//! Writes prepared batches: idempotent, acks=all, up to five requests in flight on a connection.
//!
//! A lane owns its target partitions for the whole restore, whoever leads them. Batches of one partition are
//! sent in order, one a request (a broker refuses more); what fails in passing is sent again in order, with
//! the same sequence numbers, when nothing of that partition is in flight any more: a broker recognises a
//! repeat of the last five batches and answers with their first offset (KIP-98).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, FutureExt, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use crate::engine::rate::RateLimiter;
use crate::engine::{EngineError, Progress};
use crate::kafka::{
    BrokerId, Client, Connection, ErrorCode, KafkaError, ProduceBatch, ProduceRequest,
    ProducedPartition, ProducerIdentity, Topics,
};
use crate::record::{ProducerStamp, Timestamp};
use crate::repository::Repository;

use super::landmarks::Landmark;
use super::plan::RestorePlan;
use super::prepare::{Outgoing, Preparer, Window};
use super::read::{Lanes, Loaded, Reader};
use super::read_back::{Found, Span, read_back};
use super::report::Skipped;
use super::settle::{Outcome, Written};
use super::stream::{IN_FLIGHT, Stream};
use super::target::{self, TargetPartition};
use super::{Means, RestoreOptions};

/// More connections to a broker gain nothing (measured: 1 to 4 reach the same, bound by the broker).
const LANES: usize = 4;
/// Batches below this size are within every sensible limit of a request.
const LARGE: usize = 1 << 20;

/// Reads, prepares and produces everything that the plan wants.
pub(super) async fn produce_all(
    means: &Means<'_>,
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    options: &RestoreOptions,
    producer: ProducerIdentity,
    progress: &Arc<dyn Progress>,
) -> Result<Outcome, EngineError> {
    let client = means.client;
    let targets = target::ready(client, plan, producer).await?;
    let mut found = find_what_is_there(means, &targets).await?;
    let stamps = targets.iter().map(|target| ProducerStamp {
        producer_id: target.producer.producer_id,
        producer_epoch: target.producer.producer_epoch,
        base_sequence: 0,
    });
    let window = Window {
        from: options.from.map(timestamp),
        until: options.until.map(timestamp),
    };
    let preparer = Preparer::new(stamps.collect(), window);

    let count = LANES.min(targets.len()).max(1);
    let limiter = Arc::new(RateLimiter::new(options.rate_limit));
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let of_target: Vec<usize> = (0..targets.len()).map(|target| target % count).collect();
    let lanes = Lanes {
        of_target,
        senders,
        memory: means.memory.clone(),
    };
    let first_targets = first_targets(plan);
    let reading = {
        let (repository, plan, progress) =
            (Arc::clone(repository), plan.clone(), Arc::clone(progress));
        tokio::task::spawn_blocking(move || {
            read(
                &repository,
                &plan,
                &first_targets,
                preparer,
                lanes,
                &*progress,
            )
        })
    };
    let running = receivers.into_iter().enumerate().map(|(number, incoming)| {
        let mine = targets
            .iter()
            .enumerate()
            .filter(|(target, _)| target % count == number)
            .map(|(number, target)| {
                let found = found.remove(&number);
                (number, Stream::new(target.clone(), found, options.check))
            });
        Lane::new(client, mine.collect(), incoming, Arc::clone(&limiter)).run()
    });
    // A lane's error comes first: the reader only notices that the lane is gone.
    let written = try_join_all(running).await?;
    let LeftOut { skipped, landmarks } = reading
        .await
        .map_err(|_| EngineError::Lost("the reading thread"))??;
    let mut written: BTreeMap<usize, Written> = written.into_iter().flatten().collect();
    for (target, landmark) in landmarks {
        if let Some(written) = written.get_mut(&target) {
            written.positions.ended(landmark, written.end());
        }
    }
    let written = (0..targets.len())
        .filter_map(|target| written.remove(&target))
        .collect();
    Ok(Outcome { written, skipped })
}

fn timestamp(time: chrono::DateTime<chrono::Utc>) -> Timestamp {
    Timestamp(time.timestamp_millis())
}

/// What an interrupted restore wrote, by the target partition's place in the table. Nobody else may have written since.
async fn find_what_is_there(
    means: &Means<'_>,
    targets: &[TargetPartition],
) -> Result<BTreeMap<usize, Found>, EngineError> {
    let begun = |target: &&TargetPartition| target.end != target.start;
    let spans = targets.iter().filter(begun);
    let spans = spans.map(|target| Span::of(target, target.start..target.end));
    let mut all = read_back(means, spans.collect()).await?.into_iter();
    let mut by_target = BTreeMap::new();
    for (number, target) in targets
        .iter()
        .enumerate()
        .filter(|(_, target)| begun(target))
    {
        let found = all.next().ok_or(EngineError::Lost("reading back"))?;
        let foreign = found
            .foreign
            .or((target.end < target.start).then_some(target.end));
        if let Some(offset) = foreign {
            return Err(EngineError::Refused(format!(
                "somebody else changed {} at offset {offset} since the interrupted restore wrote to it: delete the topic, or pass --forget-unfinished",
                target.key
            )));
        }
        by_target.insert(number, found);
    }
    Ok(by_target)
}

/// The place of each topic's target partition 0 in the table of all.
fn first_targets(plan: &RestorePlan) -> Vec<usize> {
    let mut next = 0;
    plan.topics
        .iter()
        .map(|topic| {
            let first = next;
            next += topic.target_partitions as usize;
            first
        })
        .collect()
}

/// What came to nothing in the target.
struct LeftOut {
    /// Records, by topic of the plan.
    skipped: Vec<Skipped>,
    /// Groups' offsets that no restored record stands for, each with its target partition.
    landmarks: Vec<(usize, Landmark)>,
}

fn read(
    repository: &Arc<Repository>,
    plan: &RestorePlan,
    first_targets: &[usize],
    mut preparer: Preparer,
    lanes: Lanes,
    progress: &dyn Progress,
) -> Result<LeftOut, EngineError> {
    let mut reader = Reader::open(repository, plan, first_targets)?;
    reader.read_all(&mut preparer, &lanes, progress)?;
    let landmarks = reader.landmarks_left();
    let mut readings = reader.readings.iter();
    let by_topic = plan.topics.iter().map(|topic| {
        readings
            .by_ref()
            .take(topic.partitions.len())
            .fold(Skipped::default(), |sum, reading| {
                let skipped = reading.source.skipped;
                Skipped {
                    aborted: sum.aborted + skipped.aborted,
                    open: sum.open + skipped.open,
                    control: sum.control + skipped.control,
                    cut: sum.cut + skipped.cut,
                }
            })
    });
    Ok(LeftOut {
        skipped: by_topic.collect(),
        landmarks,
    })
}

/// An answer with what it was for: the broker, and target and number of each batch.
type Answer = (
    BrokerId,
    Vec<(usize, u64)>,
    Result<Vec<ProducedPartition>, KafkaError>,
);

struct Lane<'a> {
    client: &'a Client,
    streams: BTreeMap<usize, Stream>,
    incoming: mpsc::UnboundedReceiver<Loaded>,
    limiter: Arc<RateLimiter>,
    connections: BTreeMap<BrokerId, Connection>,
    requests: BTreeMap<BrokerId, usize>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    moved_at: Instant,
    attempts: u32,
    last_error: Option<KafkaError>,
}

impl<'a> Lane<'a> {
    fn new(
        client: &'a Client,
        streams: BTreeMap<usize, Stream>,
        incoming: mpsc::UnboundedReceiver<Loaded>,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        Self {
            client,
            streams,
            incoming,
            limiter,
            connections: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: FuturesUnordered::new(),
            moved_at: Instant::now(),
            attempts: 0,
            last_error: None,
        }
    }

    async fn run(mut self) -> Result<Vec<(usize, Written)>, EngineError> {
        let mut open = true;
        loop {
            while let Ok(loaded) = self.incoming.try_recv() {
                self.enqueue(loaded)?;
            }
            self.send_all().await?;
            if self.answers.is_empty() && self.streams.values().any(|stream| stream.stalled) {
                self.recover().await?;
                continue;
            }
            if !open
                && self.answers.is_empty()
                && self.streams.values().all(|stream| stream.queue.is_empty())
            {
                return self.written();
            }
            tokio::select! {
                biased;
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => self.take_in(answer)?,
                loaded = self.incoming.recv(), if open => match loaded {
                    Some(loaded) => self.enqueue(loaded)?,
                    None => open = false,
                },
            }
        }
    }

    fn written(self) -> Result<Vec<(usize, Written)>, EngineError> {
        self.streams
            .into_iter()
            .map(|(number, stream)| Ok((number, stream.written()?)))
            .collect()
    }

    fn enqueue(&mut self, loaded: Loaded) -> Result<(), EngineError> {
        match self.streams.get_mut(&loaded.batch.target) {
            Some(stream) => stream.enqueue(loaded),
            None => Ok(()),
        }
    }

    /// Sends as long as some leader may have another request.
    async fn send_all(&mut self) -> Result<(), EngineError> {
        let leaders: BTreeSet<BrokerId> = self
            .streams
            .values()
            .filter(|stream| !stream.stalled && !stream.queue.is_empty())
            .map(|stream| stream.leader)
            .collect();
        for leader in leaders {
            while self.requests.get(&leader).copied().unwrap_or(0) < IN_FLIGHT
                && self.send(leader).await?
            {}
        }
        Ok(())
    }

    /// Sends one request with the next batch of every partition that `leader` leads; false when there is none.
    async fn send(&mut self, leader: BrokerId) -> Result<bool, EngineError> {
        let mut batches = Vec::new();
        let mut sent = Vec::new();
        let (mut bytes, mut records) = (0, 0);
        for (number, stream) in &mut self.streams {
            if stream.leader != leader
                || stream.stalled
                || stream.in_flight.len() >= stream.window()
            {
                continue;
            }
            let Some((position, loaded)) = stream.queue.pop_front() else {
                continue;
            };
            batches.push(produce_batch(stream, &loaded.batch));
            bytes += loaded.batch.payload.len() as u64;
            records += u64::from(loaded.batch.records);
            sent.push((*number, position));
            stream.in_flight.insert(position, loaded);
        }
        if sent.is_empty() {
            return Ok(false);
        }
        self.limiter.moved(bytes, records).await;
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            // Sooner than we would give the broker up.
            timeout: self.client.retry().patience() / 2,
            batches,
        };
        let pending = match self.connection(leader).await {
            Ok(connection) => connection.start_produce(request).await,
            Err(error) => Err(error),
        };
        *self.requests.entry(leader).or_default() += 1;
        let answer: BoxFuture<'static, Answer> = match pending {
            Ok(pending) => pending
                .receive()
                .map(move |answer| (leader, sent, answer))
                .boxed(),
            Err(error) => std::future::ready((leader, sent, Err(error))).boxed(),
        };
        self.answers.push(answer);
        Ok(true)
    }

    async fn connection(&mut self, leader: BrokerId) -> Result<Connection, KafkaError> {
        if let Some(connection) = self.connections.get(&leader) {
            return Ok(connection.clone());
        }
        let connection = self.client.connection(leader).await?;
        self.connections.insert(leader, connection.clone());
        Ok(connection)
    }

    fn take_in(&mut self, (leader, sent, answer): Answer) -> Result<(), EngineError> {
        if let Some(requests) = self.requests.get_mut(&leader) {
            *requests = requests.saturating_sub(1);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_transient() => {
                self.connections.remove(&leader);
                self.last_error = Some(error);
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        let mut answer: BTreeMap<(String, i32), ProducedPartition> = answer
            .into_iter()
            .map(|partition| ((partition.topic.clone(), partition.partition.0), partition))
            .collect();
        for (number, position) in sent {
            let Some(stream) = self.streams.get_mut(&number) else {
                continue;
            };
            let Some(loaded) = stream.in_flight.remove(&position) else {
                continue;
            };
            let key = (
                stream.target.key.topic.clone(),
                stream.target.key.partition.0,
            );
            match answer.remove(&key) {
                None => stream.requeue(position, loaded),
                Some(ProducedPartition {
                    error: None,
                    base_offset,
                    ..
                }) => {
                    stream.acknowledged(&loaded, base_offset);
                    self.moved_at = Instant::now();
                    self.attempts = 0;
                }
                Some(refused) => {
                    let error = refused_batch(stream, &loaded, refused);
                    match error {
                        Refused::InPassing(error) => {
                            stream.requeue(position, loaded);
                            self.last_error = Some(error);
                        }
                        Refused::ForGood(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// A broker hangs up on a request that is larger than its `socket.request.max.bytes`, without a word.
    fn size_hint(&self) -> String {
        let stalled = self.streams.values().filter(|stream| stream.stalled);
        let next = stalled.filter_map(|stream| stream.queue.front());
        let largest = next.map(|(_, loaded)| loaded.batch.payload.len()).max();
        match (&self.last_error, largest) {
            (Some(KafkaError::Disconnected { .. }), Some(bytes)) if bytes >= LARGE => format!(
                "; the next batch has {bytes} bytes: is the broker's socket.request.max.bytes smaller?"
            ),
            _ => String::new(),
        }
    }

    /// Nothing is in flight and something failed: waits a little, finds the leaders anew, and goes on.
    async fn recover(&mut self) -> Result<(), EngineError> {
        let retry = self.client.retry();
        let stalled: Vec<&Stream> = self
            .streams
            .values()
            .filter(|stream| stream.stalled)
            .collect();
        let error = self
            .last_error
            .as_ref()
            .map_or_else(|| "no answer".to_owned(), ToString::to_string);
        if self.moved_at.elapsed() > retry.deadline {
            let names: Vec<String> = stalled
                .iter()
                .take(3)
                .map(|stream| stream.target.key.to_string())
                .collect();
            let hint = self.size_hint();
            return Err(EngineError::Stalled {
                what: names.join(", "),
                seconds: self.moved_at.elapsed().as_secs(),
                last: format!("{error}{hint}"),
            });
        }
        tracing::warn!("retrying {} partitions: {error}", stalled.len());
        tokio::time::sleep(retry.backoff(self.attempts)).await;
        self.attempts += 1;
        let topics: BTreeSet<String> = self
            .streams
            .values()
            .map(|stream| stream.target.key.topic.clone())
            .collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let metadata = match self.client.metadata_now(Topics::Named(&topics)).await {
            Ok(metadata) => metadata,
            Err(error) if error.is_transient() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for stream in self.streams.values_mut() {
            let key = &stream.target.key;
            let leader = metadata
                .topics
                .get(&key.topic)
                .and_then(|topic| topic.partitions.get(&key.partition)?.leader);
            if let Some(leader) = leader {
                stream.leader = leader;
                stream.stalled = false;
            }
        }
        Ok(())
    }
}

fn produce_batch(stream: &Stream, batch: &Outgoing) -> ProduceBatch {
    ProduceBatch {
        topic: stream.target.key.topic.clone(),
        partition: stream.target.key.partition,
        header: batch.header,
        payload: batch.payload.clone(),
    }
}

enum Refused {
    InPassing(KafkaError),
    ForGood(EngineError),
}

/// What a broker's refusal of one batch means.
fn refused_batch(stream: &Stream, loaded: &Loaded, refused: ProducedPartition) -> Refused {
    let key = &stream.target.key;
    let Some(code) = refused.error else {
        return Refused::ForGood(EngineError::Lost("the answer to a batch"));
    };
    let error = KafkaError::for_topic(code, "WRITE", &key.topic);
    // A batch behind one that failed is out of order: both are sent again.
    if error.is_transient() || (code == ErrorCode::OutOfOrderSequenceNumber && stream.stalled) {
        return Refused::InPassing(error);
    }
    let said = refused
        .error_message
        .map(|message| format!(" ({message})"))
        .unwrap_or_default();
    let advice = match code {
        ErrorCode::MessageTooLarge => format!(
            ": a batch of {} bytes is more than the topic takes; raise its max.message.bytes",
            loaded.batch.payload.len() + loaded.batch.header.len()
        ),
        ErrorCode::InvalidTimestamp => {
            ": raise the topic's message.timestamp.before.max.ms and after.max.ms".to_owned()
        }
        ErrorCode::InvalidRecord => {
            ": a compacted topic takes no record without a key; restore into a new topic".to_owned()
        }
        ErrorCode::OutOfOrderSequenceNumber => {
            ": the target lost a batch that it had acknowledged; delete the topic and restore again"
                .to_owned()
        }
        _ => String::new(),
    };
    Refused::ForGood(EngineError::Refused(format!(
        "{key} refused a batch: {error}{said}{advice}"
    )))
}
