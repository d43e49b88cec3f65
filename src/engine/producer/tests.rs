//! One situation each, with answers in the order that the test wants.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt;

use super::scripted::{Asked, IDENTITY, ScriptedBrokers, enqueue, header, key, led_by};
use super::*;
use crate::kafka::Retry;
use crate::record::{LeaderEpoch, Offset};

type TestProducer = Producer<ScriptedBrokers, u32>;

const ONE: BrokerId = BrokerId(1);
const TWO: BrokerId = BrokerId(2);

/// A producer for partitions of `orders`, which broker 1 leads, and its brokers.
fn producer(partitions: usize, mode: Mode) -> (TestProducer, ScriptedBrokers) {
    let brokers = ScriptedBrokers::default();
    let mut producer = Producer::new(brokers.clone(), mode, None);
    for partition in 0..partitions {
        let key = key("orders", partition as i32);
        brokers
            .script()
            .leaders
            .insert(key.clone(), (ONE, LeaderEpoch(5)));
        producer.add_partition(led_by(key, ONE), IDENTITY, 0);
    }
    (producer, brokers)
}

fn transactional() -> Mode {
    Mode::Transactional { id: "t".into() }
}

/// Enqueues a batch of one record, whose note is its number.
fn push(producer: &mut TestProducer, partition: usize, note: u32) {
    let partition = PartitionIndex(partition);
    let payload = Bytes::from_static(b"payload");
    enqueue(producer, partition, 1, payload, note);
}

/// Sends all that can be sent, over connections that are opened first.
async fn send(producer: &mut TestProducer) {
    producer.send().await.unwrap();
    while producer.next().now_or_never().flatten().is_some() {
        producer.send().await.unwrap();
    }
}

/// The notes of the batches that the next event acknowledges.
async fn next(producer: &mut TestProducer) -> Vec<u32> {
    let acknowledged = producer.next().await.unwrap().unwrap();
    acknowledged.into_iter().map(|batch| batch.note).collect()
}

/// Sends the first batch of partition 0, and has it acknowledged.
async fn begin(producer: &mut TestProducer, brokers: &ScriptedBrokers) {
    push(producer, 0, 0);
    send(producer).await;
    brokers.asked().acknowledge();
    assert_eq!(next(producer).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_returned_in_the_order_of_the_partition() {
    let (mut producer, brokers) = producer(1, Mode::Idempotent);
    begin(&mut producer, &brokers).await;
    push(&mut producer, 0, 1);
    push(&mut producer, 0, 2);
    send(&mut producer).await;
    let (first, second) = (brokers.asked(), brokers.asked());
    second.acknowledge();
    assert_eq!(next(&mut producer).await, [0; 0]);
    first.acknowledge();
    assert_eq!(next(&mut producer).await, [1, 2]);
    assert!(producer.is_idle());
}

/// A payload that can be counted.
struct Holder(Arc<[u8; 100]>);

impl AsRef<[u8]> for Holder {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_given_back_with_the_acknowledgement_in_whatever_order() {
    let (mut producer, brokers) = producer(1, transactional());
    let memory = Arc::new([7; 100]);
    for note in [1, 2] {
        let held = Bytes::from_owner(Holder(Arc::clone(&memory)));
        enqueue(&mut producer, PartitionIndex(0), 1, held, note);
    }
    send(&mut producer).await;
    let (first, second) = (brokers.asked(), brokers.asked());
    second.acknowledge();
    next(&mut producer).await;
    assert_eq!(Arc::strong_count(&memory), 2);
    first.acknowledge();
    next(&mut producer).await;
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[tokio::test(start_paused = true)]
async fn the_second_batch_waits_until_the_broker_knows_the_producer() {
    let (mut producer, brokers) = producer(1, Mode::Idempotent);
    for note in 0..10 {
        push(&mut producer, 0, note);
    }
    send(&mut producer).await;
    let first = brokers.asked();
    assert!(brokers.script().asked.is_empty());
    first.acknowledge();
    next(&mut producer).await;
    send(&mut producer).await;
    let sequences: Vec<_> = brokers.script().asked.iter().map(Asked::batches).collect();
    let expected = (1..6).map(|sequence| vec![("orders-0".to_owned(), sequence)]);
    assert_eq!(sequences, expected.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_leader_has_five_requests_in_flight_with_one_batch_of_a_partition_each() {
    let (mut producer, brokers) = producer(3, transactional());
    for note in 0..30 {
        push(&mut producer, note as usize % 3, note);
    }
    send(&mut producer).await;
    let script = brokers.script();
    assert_eq!((script.asked.len(), script.connections), (5, 1));
    for (sequence, asked) in script.asked.iter().enumerate() {
        let each = (0..3).map(|partition| (format!("orders-{partition}"), sequence as i32));
        assert_eq!(asked.batches(), each.collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_take_turns_when_not_all_fit_into_a_request() {
    let (mut producer, brokers) = producer(4, transactional());
    let payload = Bytes::from(vec![0; REQUEST_BYTES as usize / 2 - 100]);
    for round in 0..2 {
        for partition in (0..4).map(PartitionIndex) {
            enqueue(&mut producer, partition, 1, payload.clone(), round);
        }
    }
    send(&mut producer).await;
    let asked: Vec<_> = brokers.script().asked.iter().map(Asked::batches).collect();
    let batch = |partition: i32, sequence| (format!("orders-{partition}"), sequence);
    let expected = [
        [batch(0, 0), batch(1, 0)],
        [batch(2, 0), batch(3, 0)],
        [batch(0, 1), batch(1, 1)],
        [batch(2, 1), batch(3, 1)],
    ];
    assert_eq!(asked, expected);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_repeated_in_order_when_nothing_of_it_is_in_flight() {
    let (mut producer, brokers) = producer(1, Mode::Idempotent);
    begin(&mut producer, &brokers).await;
    for note in 1..4 {
        push(&mut producer, 0, note);
    }
    send(&mut producer).await;
    let (first, second, third) = (brokers.asked(), brokers.asked(), brokers.asked());
    first.refuse(ErrorCode::NotEnoughReplicas);
    second.refuse(ErrorCode::OutOfOrderSequenceNumber);
    next(&mut producer).await;
    next(&mut producer).await;
    send(&mut producer).await;
    assert!(brokers.script().asked.is_empty());
    third.refuse(ErrorCode::OutOfOrderSequenceNumber);
    next(&mut producer).await;
    producer.send().await.unwrap();
    next(&mut producer).await;
    send(&mut producer).await;
    for sequence in 1..4 {
        let asked = brokers.asked();
        assert_eq!(asked.batches(), [("orders-0".to_owned(), sequence)]);
        asked.acknowledge();
        assert_eq!(next(&mut producer).await, [sequence as u32]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_out_of_order_is_repeated_even_when_its_answer_is_handled_first() {
    let (mut producer, brokers) = producer(1, Mode::Idempotent);
    begin(&mut producer, &brokers).await;
    push(&mut producer, 0, 1);
    push(&mut producer, 0, 2);
    send(&mut producer).await;
    let (first, second) = (brokers.asked(), brokers.asked());
    second.refuse(ErrorCode::OutOfOrderSequenceNumber);
    next(&mut producer).await;
    first.refuse(ErrorCode::NotEnoughReplicas);
    next(&mut producer).await;
    producer.send().await.unwrap();
    next(&mut producer).await;
    send(&mut producer).await;
    assert_eq!(brokers.script().asked.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_with_the_failure_in_front_not_with_the_batch_behind_it() {
    let (mut producer, brokers) = producer(1, transactional());
    push(&mut producer, 0, 1);
    push(&mut producer, 0, 2);
    send(&mut producer).await;
    let (first, second) = (brokers.asked(), brokers.asked());
    second.refuse(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(next(&mut producer).await, [0; 0]);
    first.refuse(ErrorCode::NotEnoughReplicas);
    let error = producer.next().await.unwrap().unwrap_err();
    assert!(EngineError::from(error).is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_told_with_the_callers_note() {
    for mode in [Mode::Idempotent, transactional()] {
        let (mut producer, brokers) = producer(1, mode);
        push(&mut producer, 0, 42);
        send(&mut producer).await;
        brokers.asked().refuse(ErrorCode::MessageTooLarge);
        let error = producer.next().await.unwrap().unwrap_err();
        assert!(
            matches!(error, ProduceError::Refused { note: 42, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_at_another_offset_than_the_expected_one_has_diverged() {
    let (mut producer, brokers) = producer(1, Mode::Idempotent);
    for (note, expected) in [(0, 100), (1, 101)] {
        let batch = Batch {
            header: header(producer.stamp(PartitionIndex(0))),
            payload: Bytes::new(),
            records: 1,
            expected_offset: Some(Offset(expected)),
            note,
        };
        producer.enqueue(PartitionIndex(0), batch).unwrap();
    }
    send(&mut producer).await;
    brokers.asked().answer_each(vec![Ok(Offset(100))]);
    assert_eq!(next(&mut producer).await, [0]);
    send(&mut producer).await;
    brokers.asked().answer_each(vec![Ok(Offset(102))]);
    let error = producer.next().await.unwrap().unwrap_err();
    let is_diverged = matches!(
        error,
        ProduceError::Diverged {
            expected: Offset(101),
            found: Offset(102),
            ..
        }
    );
    assert!(is_diverged, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_producer_goes_on_with_the_identity_and_the_sequence_number_it_is_given() {
    let mut producer: TestProducer =
        Producer::new(ScriptedBrokers::default(), Mode::Idempotent, None);
    let target = led_by(key("orders", 0), ONE);
    let partition = producer.add_partition(target, IDENTITY, 500);
    producer.skip(partition, 20);
    let stamp = ProducerStamp {
        producer_id: IDENTITY.producer_id,
        producer_epoch: IDENTITY.producer_epoch,
        base_sequence: 520,
    };
    assert_eq!(producer.stamp(partition), stamp);
    let batch = |stamp| Batch {
        header: header(stamp),
        payload: Bytes::new(),
        records: 1,
        expected_offset: None,
        note: 0,
    };
    let wrong = ProducerStamp {
        base_sequence: 521,
        ..stamp
    };
    producer.enqueue(partition, batch(wrong)).unwrap_err();
    producer.enqueue(partition, batch(stamp)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn leaders_are_looked_for_only_where_needed_and_epochs_never_go_back() {
    let (mut producer, brokers) = producer(2, Mode::Idempotent);
    let other = key("other", 0);
    producer.add_partition(led_by(other, TWO), IDENTITY, 0);
    {
        // Partition 0 has moved; what is said of partition 1 is old.
        let leaders = &mut brokers.script().leaders;
        leaders.insert(key("orders", 0), (TWO, LeaderEpoch(6)));
        leaders.insert(key("orders", 1), (TWO, LeaderEpoch(4)));
    }
    push(&mut producer, 0, 0);
    push(&mut producer, 1, 1);
    send(&mut producer).await;
    brokers.asked().refuse(ErrorCode::NotLeaderOrFollower);
    next(&mut producer).await;
    producer.send().await.unwrap();
    next(&mut producer).await;
    send(&mut producer).await;
    assert_eq!(brokers.script().questions, [["orders".to_owned()]]);
    let mut sent: Vec<_> = brokers.script().asked.drain(..).collect();
    sent.sort_by_key(|asked| asked.broker);
    let sent: Vec<_> = sent
        .iter()
        .map(|asked| (asked.broker, asked.batches()))
        .collect();
    let one = (ONE, vec![("orders-1".to_owned(), 0)]);
    let two = (TWO, vec![("orders-0".to_owned(), 0)]);
    assert_eq!(sent, [one, two]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_replaced_once_however_many_requests_it_took_along() {
    let (mut producer, brokers) = producer(2, Mode::Idempotent);
    begin(&mut producer, &brokers).await;
    push(&mut producer, 1, 0);
    push(&mut producer, 0, 1);
    send(&mut producer).await;
    push(&mut producer, 0, 2);
    send(&mut producer).await;
    let (first, second) = (brokers.asked(), brokers.asked());
    first.disconnect();
    next(&mut producer).await;
    producer.send().await.unwrap();
    next(&mut producer).await;
    send(&mut producer).await;
    let repeated = brokers.asked();
    assert_eq!(repeated.batches(), [("orders-1".to_owned(), 0)]);
    second.disconnect();
    next(&mut producer).await;
    repeated.acknowledge();
    assert_eq!(next(&mut producer).await, [0]);
    producer.send().await.unwrap();
    next(&mut producer).await;
    send(&mut producer).await;
    let asked = brokers.asked();
    assert_eq!((asked.connection, brokers.script().connections), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn time_without_anything_to_do_does_not_count_towards_the_deadline() {
    let (mut producer, brokers) = producer(1, Mode::Idempotent);
    begin(&mut producer, &brokers).await;
    let deadline = Retry::default().deadline;
    tokio::time::sleep(deadline * 2).await;
    push(&mut producer, 0, 1);
    send(&mut producer).await;
    brokers.asked().disconnect();
    next(&mut producer).await;
    producer.send().await.unwrap();
    next(&mut producer).await;
    send(&mut producer).await;
    brokers.asked().acknowledge();
    assert_eq!(next(&mut producer).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn failures_without_a_success_end_at_the_deadline_with_the_last_of_them() {
    let (mut producer, brokers) = producer(5, Mode::Idempotent);
    for partition in 0..5 {
        let (partition, payload) = (PartitionIndex(partition), Bytes::from(vec![0; 1 << 20]));
        enqueue(&mut producer, partition, 1, payload, 0);
    }
    let started = Instant::now();
    let error = loop {
        match producer.send().await {
            Ok(()) => {}
            Err(error) => break EngineError::from(error),
        }
        while let Some(asked) = { brokers.script().asked.pop_front() } {
            asked.disconnect();
        }
        next(&mut producer).await;
    };
    let text = error.to_string();
    let parts = [
        "orders-0, orders-1, orders-2 and 2 more: no progress for 12",
        "the connection ended",
        "the next batch has 1048637 bytes: is the broker's socket.request.max.bytes smaller?",
    ];
    for part in parts {
        assert!(text.contains(part), "{text}");
    }
    let deadline = Retry::default().deadline;
    assert!(started.elapsed() < deadline + Duration::from_secs(10));
}
