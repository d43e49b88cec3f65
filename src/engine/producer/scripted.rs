//! Brokers that do what a test tells them, request by request.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::future::FutureExt;
use tokio::sync::oneshot;

use crate::kafka::{
    BrokerId, ErrorCode, KafkaError, Metadata, PartitionMetadata, ProduceBatch, ProduceRequest,
    ProducedPartition, ProducerIdentity, Retry, TopicMetadata, TopicPartition,
};
use crate::record::{
    HEADER_LEN, LeaderEpoch, Offset, PartitionId, ProducerId, ProducerStamp, Timestamp, TopicId,
};

use super::brokers::{Brokers, PendingAnswer};
use super::{Batch, PartitionIndex, Producer, TargetLeader};

pub const IDENTITY: ProducerIdentity = ProducerIdentity {
    producer_id: ProducerId(7),
    producer_epoch: 3,
};

/// A request that waits for the test's answer.
pub struct Asked {
    pub broker: BrokerId,
    pub connection: u64,
    pub request: ProduceRequest,
    answer: oneshot::Sender<Result<Vec<ProducedPartition>, KafkaError>>,
}

impl Asked {
    /// Topic, partition and base sequence of each batch.
    pub fn batches(&self) -> Vec<(String, i32)> {
        let batches = self.request.batches.iter();
        let name = |batch: &ProduceBatch| batch.key.to_string();
        batches
            .map(|batch| (name(batch), sequence(batch)))
            .collect()
    }

    /// Acknowledges all batches: each lies at the offset that is its sequence number.
    pub fn acknowledge(self) {
        let offsets = self.request.batches.iter();
        let offsets = offsets.map(|batch| Ok(Offset(sequence(batch).into())));
        let offsets = offsets.collect();
        self.answer_each(offsets);
    }

    /// Answers for each batch with its offset, or with an error.
    pub fn answer_each(self, answers: Vec<Result<Offset, ErrorCode>>) {
        let batches = self.request.batches.iter().zip(answers);
        let produced = batches.map(|(batch, answer)| produced(batch, answer));
        self.answer.send(Ok(produced.collect())).ok();
    }

    /// Refuses all batches.
    pub fn refuse(self, code: ErrorCode) {
        let answers = vec![Err(code); self.request.batches.len()];
        self.answer_each(answers);
    }

    /// The connection breaks.
    pub fn disconnect(self) {
        self.answer.send(Err(disconnected())).ok();
    }
}

#[derive(Clone, Default)]
pub struct ScriptedBrokers(Arc<Mutex<Script>>);

#[derive(Default)]
pub struct Script {
    pub asked: VecDeque<Asked>,
    pub connections: u64,
    /// The topics of each question for leaders.
    pub questions: Vec<Vec<String>>,
    pub leaders: BTreeMap<TopicPartition, (BrokerId, LeaderEpoch)>,
}

impl ScriptedBrokers {
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// The next request, which must have been sent.
    pub fn asked(&self) -> Asked {
        self.script().asked.pop_front().expect("a request")
    }
}

impl Brokers for ScriptedBrokers {
    type Connection = (BrokerId, u64);

    fn retry(&self) -> Retry {
        Retry::default()
    }

    async fn connect(&self, broker: BrokerId) -> Result<Self::Connection, KafkaError> {
        let mut script = self.script();
        script.connections += 1;
        Ok((broker, script.connections))
    }

    async fn produce(
        &self,
        connection: &Self::Connection,
        request: ProduceRequest,
    ) -> Result<PendingAnswer, KafkaError> {
        let (answer, pending) = oneshot::channel();
        self.script().asked.push_back(Asked {
            broker: connection.0,
            connection: connection.1,
            request,
            answer,
        });
        Ok(pending
            .map(|answer| answer.unwrap_or_else(|_| Err(disconnected())))
            .boxed())
    }

    async fn metadata(&self, topics: &[String]) -> Result<Metadata, KafkaError> {
        let mut script = self.script();
        script.questions.push(topics.to_vec());
        let leaders = script.leaders.iter();
        let wanted = leaders.filter(|(key, _)| topics.contains(&key.topic));
        let wanted = wanted.map(|(key, (leader, epoch))| (key.clone(), Some(*leader), *epoch));
        Ok(metadata(wanted))
    }
}

pub fn metadata(
    leaders: impl Iterator<Item = (TopicPartition, Option<BrokerId>, LeaderEpoch)>,
) -> Metadata {
    let mut topics: BTreeMap<String, TopicMetadata> = BTreeMap::new();
    for (key, leader, leader_epoch) in leaders {
        let topic = topics.entry(key.topic).or_insert(TopicMetadata {
            topic_id: TopicId::default(),
            is_internal: false,
            partitions: BTreeMap::new(),
            error: None,
        });
        let partition = PartitionMetadata {
            leader,
            leader_epoch,
            replicas: Vec::new(),
            error: None,
        };
        topic.partitions.insert(key.partition, partition);
    }
    Metadata {
        cluster_id: String::new(),
        controller: BrokerId(0),
        brokers: BTreeMap::new(),
        topics,
    }
}

pub fn disconnected() -> KafkaError {
    KafkaError::Disconnected {
        address: "k:9092".into(),
        what: "Produce",
        hint: "",
        source: io::ErrorKind::BrokenPipe.into(),
    }
}

pub fn produced(batch: &ProduceBatch, answer: Result<Offset, ErrorCode>) -> ProducedPartition {
    ProducedPartition {
        key: Arc::clone(&batch.key),
        error: answer.err(),
        error_message: None,
        base_offset: answer.unwrap_or(Offset(-1)),
        log_append_time: Timestamp(-1),
    }
}

pub fn sequence(batch: &ProduceBatch) -> i32 {
    crate::record::stamp_of_header(&batch.header).base_sequence
}

pub fn header(stamp: ProducerStamp) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[43..51].copy_from_slice(&stamp.producer_id.0.to_be_bytes());
    header[51..53].copy_from_slice(&stamp.producer_epoch.to_be_bytes());
    header[53..57].copy_from_slice(&stamp.base_sequence.to_be_bytes());
    header
}

pub fn key(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: topic.into(),
        partition: PartitionId(partition),
    }
}

pub fn led_by(key: TopicPartition, leader: BrokerId) -> TargetLeader {
    TargetLeader {
        key,
        leader,
        leader_epoch: LeaderEpoch(5),
    }
}

/// Enqueues a batch of as many records as `records`, with `note`.
pub fn enqueue<B: Brokers, N>(
    producer: &mut Producer<B, N>,
    partition: PartitionIndex,
    records: u32,
    payload: Bytes,
    note: N,
) {
    let batch = Batch {
        header: header(producer.stamp(partition)),
        payload,
        records,
        expected_offset: None,
        note,
    };
    producer.enqueue(partition, batch).unwrap();
}
