//! Produce: raw record batches, whose payload is written to the socket from where it lies.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::{self, ProduceResponse};
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::quote::quote;
use crate::record::{HEADER_LEN, Offset, Timestamp};

use super::connection::PendingAnswer;
use super::coordinates::AskedPartitions;
use super::{Connection, ErrorCode, KafkaError, TopicPartition};

/// Batches to append, at most one a partition.
#[derive(Debug, Clone)]
pub struct ProduceRequest {
    /// The name of the transactional producer that they are of.
    pub transactional_id: Option<String>,
    /// Whose acknowledgement counts: -1 for all in-sync replicas.
    pub acks: i16,
    /// How long the broker may wait for them.
    pub timeout: Duration,
    /// The batches. A partition that comes twice would lose one of them, so it must not.
    pub batches: Vec<ProduceBatch>,
}

/// A batch to append.
#[derive(Debug, Clone)]
pub struct ProduceBatch {
    /// Topic and number of its partition.
    pub key: Arc<TopicPartition>,
    /// The batch's header, stamped for the target.
    pub header: [u8; HEADER_LEN],
    /// The rest of the batch.
    pub payload: Bytes,
}

/// What a broker answered for one partition.
#[derive(Debug, Clone)]
pub struct ProducedPartition {
    /// Topic and number, as they were asked for.
    pub key: Arc<TopicPartition>,
    /// Why the batch was not appended.
    pub error: Option<ErrorCode>,
    /// What the broker says to it.
    pub error_message: Option<String>,
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// When it was appended, under LogAppendTime.
    pub log_append_time: Timestamp,
}

/// Later versions name topics by id; this one is known to every broker until further notice.
const NEWEST: i16 = 12;
/// From that one on a transactional batch means the newer protocol of transactions (KIP-890).
const NEWEST_IN_TRANSACTION: i16 = 11;
/// From here on lengths are compact and fields may be tagged.
const FLEXIBLE: i16 = 9;

/// An answer that is still to come.
#[derive(Debug)]
pub struct PendingProduce {
    answer: PendingAnswer,
    connection: Connection,
    version: i16,
    asked: AskedPartitions,
}

impl Connection {
    /// Sends batches; await the returned value's [`PendingProduce::receive`].
    pub async fn start_produce(
        &self,
        request: ProduceRequest,
    ) -> Result<PendingProduce, KafkaError> {
        let newest = match request.transactional_id {
            None => NEWEST,
            Some(_) => NEWEST_IN_TRANSACTION,
        };
        let version = self.version::<messages::ProduceRequest>(newest)?;
        let mut head = BytesMut::with_capacity(256);
        self.header::<messages::ProduceRequest>(version)
            .encode(&mut head, messages::ProduceRequest::header_version(version))
            .map_err(|error| self.malformed("Produce", error))?;
        let batches = request.batches.iter();
        let asked = batches.map(|batch| Arc::clone(&batch.key)).collect();
        let chunks = encode(head, request, version >= FLEXIBLE);
        let answer = self
            .send_chunks::<messages::ProduceRequest>(chunks, None)
            .await?;
        Ok(PendingProduce {
            answer,
            connection: self.clone(),
            version,
            asked,
        })
    }
}

/// The request in chunks, so that payloads are not copied: transactional id, acks, timeout, topics of partitions.
fn encode(mut head: BytesMut, mut request: ProduceRequest, flexible: bool) -> Vec<Bytes> {
    let by_topic = |a: &ProduceBatch, b: &ProduceBatch| a.key.topic.cmp(&b.key.topic);
    request.batches.sort_by(by_topic);
    let topics = || request.batches.chunk_by(|a, b| by_topic(a, b).is_eq());
    let mut chunks = Vec::new();
    match (&request.transactional_id, flexible) {
        (None, true) => head.put_u8(0),
        (None, false) => head.put_i16(-1),
        (Some(id), _) => put_string(&mut head, id, flexible),
    }
    head.put_i16(request.acks);
    head.put_i32(i32::try_from(request.timeout.as_millis()).unwrap_or(i32::MAX));
    put_count(&mut head, topics().count(), flexible);
    for batches in topics() {
        let name = batches.first().map(|batch| batch.key.topic.as_str());
        put_string(&mut head, name.unwrap_or_default(), flexible);
        put_count(&mut head, batches.len(), flexible);
        for batch in batches {
            head.put_i32(batch.key.partition.0);
            let length = HEADER_LEN + batch.payload.len();
            if flexible {
                put_varint(&mut head, length + 1);
            } else {
                head.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
            }
            head.put_slice(&batch.header);
            chunks.push(std::mem::take(&mut head).freeze());
            chunks.push(batch.payload.clone());
            if flexible {
                head.put_u8(0);
            }
        }
        if flexible {
            head.put_u8(0);
        }
    }
    if flexible {
        head.put_u8(0);
    }
    if !head.is_empty() {
        chunks.push(head.freeze());
    }
    chunks
}

fn put_string(out: &mut BytesMut, text: &str, flexible: bool) {
    if flexible {
        put_varint(out, text.len() + 1);
    } else {
        out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    }
    out.put_slice(text.as_bytes());
}

fn put_count(out: &mut BytesMut, count: usize, flexible: bool) {
    if flexible {
        put_varint(out, count + 1)
    } else {
        out.put_i32(i32::try_from(count).unwrap_or(i32::MAX))
    }
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

impl PendingProduce {
    /// Waits for the acknowledgement: what it says of partitions that were asked for.
    pub async fn receive(self) -> Result<Vec<ProducedPartition>, KafkaError> {
        let bytes = self.answer.receive().await?;
        let response: ProduceResponse = self.connection.decode("Produce", bytes, self.version)?;
        let mut produced = Vec::new();
        for topic in response.responses {
            let mut asked = self.asked.of_topic(topic.name.to_string());
            for partition in topic.partition_responses {
                let Some(key) = asked(partition.index) else {
                    continue;
                };
                produced.push(ProducedPartition {
                    key,
                    error: partition.error_code.err(),
                    error_message: partition.error_message.map(quote),
                    base_offset: Offset(partition.base_offset),
                    log_append_time: Timestamp(partition.log_append_time_ms),
                });
            }
        }
        Ok(produced)
    }
}
