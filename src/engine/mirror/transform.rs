//! The record path: batches are opened, each record is judged and changed, and what stays is put into batches of the same
//! compression, by where they go. They go through the same transactions as batches that stay sealed.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::engine::extents::OPEN_LIMIT;
use crate::kafka::TopicPartition;
use crate::record::{
    BatchBuilder, BatchRef, Compression, Offset, PartitionId, RecordError, RecordRef,
    partition_for_key,
};
use crate::words::words;

use super::expression::{Bytes, Evaluation, Expression, Failure, MOST_ADDED};
use super::ready::{Destination, Ready, Skipped};

/// Names the clusters that a record came through, one header each, so that it does not go in circles.
pub(super) const ORIGIN: &[u8] = b"kafkeep-origin";
/// What a dead letter's headers say of where it was, and of why it was not copied.
const DEAD_LETTER_TOPIC: &[u8] = b"kafkeep-topic";
const DEAD_LETTER_PARTITION: &[u8] = b"kafkeep-partition";
const DEAD_LETTER_OFFSET: &[u8] = b"kafkeep-offset";
const DEAD_LETTER_ERROR: &[u8] = b"kafkeep-error";
/// A batch that has grown larger is finished when the one from which it grew is read.
const KEPT_OPEN: usize = 1 << 20;
/// The most that is added to records before what they became goes on to the writer, in bytes: the rest of an answer is
/// transformed afterwards.
pub(super) const ADDED_AT_ONCE: usize = 4 << 20;
/// More of an error is of no use.
const LONGEST_ERROR: usize = 1000;

/// How records change on their way. Every expression sees the record as it is in the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transform {
    /// Only records that satisfy it.
    pub filter: Option<Expression>,
    /// Headers that every record gets.
    pub headers: Vec<(String, String)>,
    /// Headers whose values are computed: text, bytes, a number, true or false; null is no header.
    pub header_expressions: Vec<(String, Expression)>,
    /// The new key: text, bytes, or null for none. The record goes to the partition where Kafka's default partitioner puts that
    /// key; without a key it stays where it is.
    pub key_transformation: Option<Expression>,
    /// What becomes of a record over which an expression fails.
    pub on_error: OnError,
    /// The topic of the target for dead letters.
    pub dead_letter_topic: Option<String>,
}

impl Transform {
    /// Whether it changes nothing, so that batches may stay sealed.
    pub fn is_identity(&self) -> bool {
        !self.evaluates() && self.headers.is_empty()
    }

    /// Whether it has expressions.
    pub(super) fn evaluates(&self) -> bool {
        self.filter.is_some()
            || !self.header_expressions.is_empty()
            || self.key_transformation.is_some()
    }
}

words! {
    /// What becomes of a record over which an expression fails.
    pub enum OnError {
        /// Its partition stands still.
        Fail = "fail",
        /// It is left out, and counted.
        Skip = "skip",
        /// It goes to the topic for dead letters, with headers that say where it was and why.
        DeadLetter = "dead_letter" | "dead-letter",
    }
    default Fail
}

/// Why a batch could not be transformed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransformError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("at offset {offset} {why}; mend it, or set on_error to skip or dead_letter")]
    Expression { offset: Offset, why: String },
    #[error("it was stopped")]
    Stopped,
}

/// A transformation, and between what.
pub(super) struct Route {
    pub transform: Transform,
    pub source_id: String,
    pub target_id: String,
    /// How many partitions the targets have, by topic of the source.
    pub partitions: BTreeMap<String, u32>,
}

/// One partition's records on their way from one cluster to another.
pub(super) struct Transformer<'a> {
    route: &'a Route,
    evaluation: &'a Evaluation<'a>,
    partition: &'a TopicPartition,
    growing: BTreeMap<Destination, Growing>,
    ready: Vec<Ready>,
    /// The largest batch so far, opened: its topic takes batches of that size.
    largest: usize,
    /// Bytes that were added to records.
    added: usize,
    /// For headers.
    scratch: Vec<u8>,
}

/// A batch that is being filled.
struct Growing {
    builder: BatchBuilder,
    compression: Compression,
    /// Bytes that the records did not have in the source.
    added: usize,
    stretches: Vec<(Offset, u32)>,
    records: u32,
}

/// What is to become of a record.
enum Judged {
    Kept(Changed),
    Filtered,
    Returning,
    /// Why.
    Failed(Failure),
}

/// What is new of a record.
#[derive(Default)]
struct Changed {
    /// None when it keeps its key.
    key: Option<Bytes>,
    headers: Vec<(usize, Vec<u8>)>,
}

impl<'a> Transformer<'a> {
    pub fn new(
        route: &'a Route,
        evaluation: &'a Evaluation<'a>,
        partition: &'a TopicPartition,
    ) -> Self {
        Self {
            route,
            evaluation,
            partition,
            growing: BTreeMap::new(),
            ready: Vec::new(),
            largest: 0,
            added: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes the records of `batch` in `wanted`, until `most` bytes are added to records or few more: then the first offset that
    /// was not taken.
    pub fn take(
        &mut self,
        batch: &BatchRef<'_>,
        wanted: &Range<Offset>,
        most: usize,
        skipped: &mut Skipped,
    ) -> Result<Option<Offset>, TransformError> {
        batch.verify_crc()?;
        let compression = batch.attributes().compression;
        let opened = batch.open(OPEN_LIMIT)?;
        self.largest = self.largest.max(opened.size());
        for record in opened.records() {
            let record = record?;
            if !wanted.contains(&record.offset) {
                continue;
            }
            if self.added >= most {
                return Ok(Some(record.offset));
            }
            if self.evaluation.is_stopped() {
                return Err(TransformError::Stopped);
            }
            match self.judge(&record) {
                Judged::Kept(changed) => self.keep(&record, &changed, compression)?,
                Judged::Filtered => skipped.filtered += 1,
                Judged::Returning => skipped.returning += 1,
                Judged::Failed(Failure::Stopped) => return Err(TransformError::Stopped),
                Judged::Failed(Failure::Record(why)) => match self.route.transform.on_error {
                    OnError::Skip => skipped.errors += 1,
                    OnError::DeadLetter => {
                        skipped.dead_letters += 1;
                        self.bury(&record, &why, compression)?;
                    }
                    OnError::Fail => {
                        let offset = record.offset;
                        return Err(TransformError::Expression { offset, why });
                    }
                },
            }
        }
        self.finish_large()?;
        Ok(None)
    }

    /// Bytes that were added to records.
    pub fn added(&self) -> usize {
        self.added
    }

    /// Large batches are not kept while others are opened: only what is compressed counts against the budget.
    fn finish_large(&mut self) -> Result<(), TransformError> {
        let is_large = |_: &Destination, growing: &mut Growing| growing.builder.size() > KEPT_OPEN;
        for (destination, growing) in self.growing.extract_if(.., is_large) {
            self.ready.extend(growing.finish(destination)?);
        }
        Ok(())
    }

    /// All batches, those of one destination in the source's order.
    pub fn finish(mut self) -> Result<Vec<Ready>, TransformError> {
        for (destination, growing) in std::mem::take(&mut self.growing) {
            self.ready.extend(growing.finish(destination)?);
        }
        Ok(self.ready)
    }

    fn judge(&self, record: &RecordRef<'_>) -> Judged {
        let returns = |(name, value): (&[u8], Option<&[u8]>)| {
            name == ORIGIN && value == Some(self.route.target_id.as_bytes())
        };
        if record.headers.iter().any(returns) {
            return Judged::Returning;
        }
        match self.changed(record) {
            Ok(Some(changed)) => Judged::Kept(changed),
            Ok(None) => Judged::Filtered,
            Err(why) => Judged::Failed(why),
        }
    }

    /// What is new of a record; none when it is not copied.
    fn changed(&self, record: &RecordRef<'_>) -> Result<Option<Changed>, Failure> {
        let Transform {
            filter,
            key_transformation,
            header_expressions,
            headers,
            ..
        } = &self.route.transform;
        let (evaluation, partition) = (self.evaluation, self.partition);
        if let Some(filter) = filter {
            let holds = evaluation.holds(filter, partition, record);
            if !holds.map_err(|why| why.of("the filter"))? {
                return Ok(None);
            }
        }
        let mut changed = Changed::default();
        if let Some(expression) = key_transformation {
            let key = evaluation.key(expression, partition, record);
            changed.key = Some(key.map_err(|why| why.of("the key transformation"))?);
        }
        let literal = headers.iter().map(|(name, value)| name.len() + value.len());
        let key = changed.key.iter().flatten().map(Vec::len);
        let mut added: usize = literal.chain(key).sum();
        for (place, (name, expression)) in header_expressions.iter().enumerate() {
            let value = evaluation.header(expression, partition, record);
            let value = value.map_err(|why| why.of(&format!("the header {name}")))?;
            added += value.as_ref().map_or(0, |value| name.len() + value.len());
            if added > MOST_ADDED {
                break;
            }
            changed.headers.extend(value.map(|value| (place, value)));
        }
        if added > MOST_ADDED {
            let why = format!("a record gets more than {MOST_ADDED} bytes of headers and key");
            return Err(Failure::Record(why));
        }
        Ok(Some(changed))
    }

    fn keep(
        &mut self,
        record: &RecordRef<'_>,
        changed: &Changed,
        compression: Compression,
    ) -> Result<(), RecordError> {
        let route = self.route;
        let literal = route.transform.headers.iter();
        let literal = literal.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let computed = changed.headers.iter().filter_map(|(place, value)| {
            let (name, _) = route.transform.header_expressions.get(*place)?;
            Some((name.as_bytes(), value.as_slice()))
        });
        let origin = (ORIGIN, route.source_id.as_bytes());
        let key = match &changed.key {
            Some(key) => key.as_deref(),
            None => record.key,
        };
        let destination = match &changed.key {
            Some(key) => Destination::Partition(self.partition_for(key.as_deref())),
            None => Destination::Same,
        };
        let headers = literal.chain(computed).chain([origin]);
        self.push(destination, record, key, headers, compression)
    }

    /// Where a record with a new key goes; without one it stays where it is.
    fn partition_for(&self, key: Option<&[u8]>) -> PartitionId {
        let partitions = self.route.partitions.get(&self.partition.topic).copied();
        match key {
            Some(key) => partition_for_key(key, partitions.unwrap_or(1)),
            None => self.partition.partition,
        }
    }

    fn bury(
        &mut self,
        record: &RecordRef<'_>,
        why: &str,
        compression: Compression,
    ) -> Result<(), RecordError> {
        let partition = self.partition.partition.to_string();
        let offset = record.offset.to_string();
        let why = why.get(..why.floor_char_boundary(LONGEST_ERROR));
        let headers = [
            (DEAD_LETTER_TOPIC, self.partition.topic.as_bytes()),
            (DEAD_LETTER_PARTITION, partition.as_bytes()),
            (DEAD_LETTER_OFFSET, offset.as_bytes()),
            (DEAD_LETTER_ERROR, why.unwrap_or_default().as_bytes()),
            (ORIGIN, self.route.source_id.as_bytes()),
        ];
        let (destination, key) = (Destination::DeadLetter, record.key);
        self.push(destination, record, key, headers.into_iter(), compression)
    }

    /// Puts a record into the batch that goes to `destination`. That batch gets no larger than batches of the source are, but for
    /// what is added to its records: the target takes those.
    fn push<'h>(
        &mut self,
        destination: Destination,
        record: &RecordRef<'_>,
        key: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], &'h [u8])>,
        compression: Compression,
    ) -> Result<(), RecordError> {
        self.scratch.clear();
        let headers = record.headers.with(headers, &mut self.scratch);
        let is_full = self.growing.get(&destination).is_some_and(|growing| {
            growing.compression != compression
                || growing.original_size() + record.largest_size() > self.largest
                || growing.added > MOST_ADDED
        });
        if is_full && let Some(full) = self.growing.remove(&destination) {
            self.ready.extend(full.finish(destination)?);
        }
        let growing = self
            .growing
            .entry(destination)
            .or_insert_with(|| Growing::new(compression));
        let length = |key: Option<&[u8]>| key.map_or(0, <[u8]>::len);
        let added = (headers.size() - record.headers.size())
            + length(key).saturating_sub(length(record.key));
        growing.added += added;
        self.added += added;
        growing
            .builder
            .push_parts(record.timestamp, key, record.value, headers);
        growing.is_of(record.offset);
        Ok(())
    }
}

impl Growing {
    fn new(compression: Compression) -> Self {
        Self {
            builder: BatchBuilder::new(compression),
            compression,
            added: 0,
            stretches: Vec::new(),
            records: 0,
        }
    }

    fn original_size(&self) -> usize {
        self.builder.size().saturating_sub(self.added)
    }

    /// The record that was put into it last had this offset.
    fn is_of(&mut self, offset: Offset) {
        self.records += 1;
        match self.stretches.last_mut() {
            Some((first, count)) if first.0 + i64::from(*count) == offset.0 => *count += 1,
            _ => self.stretches.push((offset, 1)),
        }
    }

    fn finish(self, destination: Destination) -> Result<Option<Ready>, RecordError> {
        let bytes = self.builder.finish()?;
        Ok(bytes.map(|bytes| Ready {
            bytes,
            records: self.records,
            stretches: self.stretches,
            destination,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Headers, Timestamp};

    const TOPIC: &str = "orders";

    fn batch(values: &[&str], base: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        for value in values {
            let value = Some(value.as_bytes());
            builder.push_parts(Timestamp(5), Some(b"old"), value, Headers::default());
        }
        let mut bytes = builder.finish().unwrap().unwrap().to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes
    }

    /// What becomes of batches of these values in partition 2 of a topic whose target has 6 partitions.
    fn transformed(
        transform: Transform,
        batches: &[Vec<u8>],
    ) -> Result<(Vec<Ready>, Skipped), TransformError> {
        let route = Route {
            transform,
            source_id: "here".to_owned(),
            target_id: "there".to_owned(),
            partitions: [(TOPIC.to_owned(), 6)].into(),
        };
        let partition = TopicPartition {
            topic: TOPIC.to_owned(),
            partition: PartitionId(2),
        };
        let abandoned = std::sync::atomic::AtomicBool::new(false);
        let evaluation = Evaluation::new(&abandoned);
        let mut transformer = Transformer::new(&route, &evaluation, &partition);
        let mut skipped = Skipped::default();
        for batch in batches {
            let (view, _) = BatchRef::parse(batch).unwrap();
            let wanted = Offset(0)..Offset(1000);
            let left = transformer.take(&view, &wanted, usize::MAX, &mut skipped)?;
            assert_eq!(left, None);
        }
        Ok((transformer.finish()?, skipped))
    }

    type Seen = (Option<String>, String, Vec<(String, String)>);

    fn records(ready: &Ready) -> Vec<Seen> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (view, _) = BatchRef::parse(&ready.bytes).unwrap();
        let opened = view.open(1 << 20).unwrap();
        let records = opened.records().map(|record| {
            let record = record.unwrap();
            let headers = record.headers.iter();
            let headers = headers.map(|(name, value)| (text(name), text(value.unwrap())));
            (
                record.key.map(text),
                text(record.value.unwrap()),
                headers.collect(),
            )
        });
        records.collect()
    }

    fn expression(source: &str) -> Option<Expression> {
        Some(source.parse().unwrap())
    }

    #[test]
    fn a_record_goes_where_its_new_key_puts_it_and_without_one_it_stays() {
        let transform = Transform {
            key_transformation: expression(
                "value == 'none' ? null : value.startsWith('a') ? 'a' : 'b'",
            ),
            ..Transform::default()
        };
        let values = ["a1", "b1", "none", "a2"];
        let (ready, _) = transformed(transform, &[batch(&values, 10)]).unwrap_or_default();
        let mut seen = BTreeMap::new();
        for ready in &ready {
            for (key, value, _) in records(ready) {
                let expected = key
                    .as_deref()
                    .map_or(PartitionId(2), |key| partition_for_key(key.as_bytes(), 6));
                assert_eq!(
                    ready.destination,
                    Destination::Partition(expected),
                    "{value}"
                );
                seen.entry(key).or_insert_with(Vec::new).push(value);
            }
        }
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let wanted: [(Option<String>, Vec<String>); 3] = [
            (None, texts(&["none"])),
            (Some("a".to_owned()), texts(&["a1", "a2"])),
            (Some("b".to_owned()), texts(&["b1"])),
        ];
        assert_eq!(seen, wanted.into());
    }

    #[test]
    fn headers_are_computed_and_null_is_none() {
        let header = |name: &str, source: &str| (name.to_owned(), source.parse().unwrap());
        let transform = Transform {
            headers: vec![("env".to_owned(), "prod".to_owned())],
            header_expressions: vec![
                header("size", "size(value)"),
                header("big", "size(value) > 100"),
                header("missing", "null"),
                header("old-key", "key"),
            ],
            ..Transform::default()
        };
        let (ready, _) = transformed(transform, &[batch(&["abc"], 0)]).unwrap();
        let [(key, _, headers)] = records(&ready[0]).try_into().unwrap();
        let headers: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let wanted = [
            ("env", "prod"),
            ("size", "3"),
            ("big", "false"),
            ("old-key", "old"),
            ("kafkeep-origin", "here"),
        ];
        assert_eq!(
            (headers.as_slice(), key.as_deref()),
            (&wanted[..], Some("old"))
        );
    }

    #[test]
    fn a_record_over_which_an_expression_fails_ends_it_or_is_left_out_or_becomes_a_dead_letter() {
        let of = |on_error| Transform {
            filter: expression("json(value).n > 1"),
            on_error,
            dead_letter_topic: Some("dead".to_owned()),
            ..Transform::default()
        };
        let batches = [batch(&[r#"{"n":2}"#, "poison", r#"{"n":1}"#], 7)];
        let failed = transformed(of(OnError::Fail), &batches)
            .unwrap_err()
            .to_string();
        assert!(failed.contains("the filter fails"), "{failed}");
        assert!(failed.contains("offset 8"), "{failed}");
        let (ready, skipped) = transformed(of(OnError::Skip), &batches).unwrap();
        assert_eq!((ready.len(), skipped.errors, skipped.filtered), (1, 1, 1));
        let (ready, skipped) = transformed(of(OnError::DeadLetter), &batches).unwrap();
        assert_eq!((ready.len(), skipped.dead_letters), (2, 1));
        let dead = ready
            .iter()
            .find(|ready| ready.destination == Destination::DeadLetter);
        let [(key, value, headers)] = records(dead.unwrap()).try_into().unwrap();
        assert_eq!((key.as_deref(), value.as_str()), (Some("old"), "poison"));
        let said: BTreeMap<String, String> = headers.into_iter().collect();
        assert_eq!(said["kafkeep-topic"], TOPIC);
        assert_eq!(said["kafkeep-partition"], "2");
        assert_eq!(said["kafkeep-offset"], "8");
        assert!(
            said["kafkeep-error"].contains("the filter fails"),
            "{said:?}"
        );
    }

    #[test]
    fn records_that_get_much_go_on_in_small_batches_a_part_at_a_time() {
        let transform = Transform {
            header_expressions: vec![("copy".to_owned(), "value + value".parse().unwrap())],
            ..Transform::default()
        };
        let route = Route {
            transform,
            source_id: "here".to_owned(),
            target_id: "there".to_owned(),
            partitions: BTreeMap::new(),
        };
        let partition = TopicPartition {
            topic: TOPIC.to_owned(),
            partition: PartitionId(2),
        };
        let value = "x".repeat(MOST_ADDED / 5);
        let batch = batch(&[value.as_str(); 40], 0);
        let (view, _) = BatchRef::parse(&batch).unwrap();
        let abandoned = std::sync::atomic::AtomicBool::new(false);
        let evaluation = Evaluation::new(&abandoned);
        let (mut from, mut offsets, mut parts) = (Offset(0), Vec::new(), 0);
        loop {
            let mut transformer = Transformer::new(&route, &evaluation, &partition);
            let (wanted, mut skipped) = (from..Offset(40), Skipped::default());
            let taken = transformer.take(&view, &wanted, ADDED_AT_ONCE, &mut skipped);
            let left_from = taken.unwrap();
            assert!(transformer.added() < ADDED_AT_ONCE + MOST_ADDED);
            let ready = transformer.finish().unwrap();
            for ready in &ready {
                let added = ready.records as usize * value.len() * 2;
                assert!(added < 2 * MOST_ADDED + value.len(), "{added}");
                offsets.extend(
                    ready.stretches.iter().flat_map(|(first, count)| {
                        (0..i64::from(*count)).map(|more| first.0 + more)
                    }),
                );
            }
            parts += 1;
            match left_from {
                Some(left_from) => from = left_from,
                None => break,
            }
        }
        assert_eq!(offsets, (0..40).collect::<Vec<_>>());
        assert!((4..=5).contains(&parts), "{parts}");
    }

    #[test]
    fn a_record_that_gets_too_much_is_an_error_of_that_record() {
        let header = |name: &str| (name.to_owned(), "value + value + value".parse().unwrap());
        let transform = Transform {
            header_expressions: vec![header("one"), header("two")],
            on_error: OnError::Skip,
            ..Transform::default()
        };
        let value = "x".repeat(MOST_ADDED / 5);
        let batches = [batch(&["small", &value, "small"], 0)];
        let (ready, skipped) = transformed(transform, &batches).unwrap();
        assert_eq!((ready[0].records, skipped.errors), (2, 1));
    }

    #[test]
    fn a_dead_letter_tells_nothing_of_the_record_but_the_record() {
        let transform = Transform {
            filter: expression("json(value).n > 1"),
            on_error: OnError::DeadLetter,
            dead_letter_topic: Some("dead".to_owned()),
            ..Transform::default()
        };
        let value = r#"{"n": "secret-0"} "#;
        let (ready, _) = transformed(transform, &[batch(&[value, "secret-1"], 0)]).unwrap();
        let dead: Vec<Seen> = ready.iter().flat_map(records).collect();
        assert_eq!(dead.len(), 2);
        for (_, _, headers) in dead {
            let (_, why) = headers
                .iter()
                .find(|(name, _)| name == "kafkeep-error")
                .unwrap();
            assert!(!why.contains("secret") && why.len() < 200, "{why}");
        }
    }

    #[test]
    fn what_is_left_of_many_batches_is_put_together_but_no_larger_than_they_are() {
        let value = "x".repeat(100);
        let values: Vec<&str> = vec![&value; 10];
        let batches: Vec<Vec<u8>> = (0..10).map(|n| batch(&values, n * 10)).collect();
        let one_of_ten = Transform {
            filter: expression("offset % 10 == 3"),
            ..Transform::default()
        };
        let (ready, skipped) = transformed(one_of_ten, &batches).unwrap();
        assert_eq!((ready.len(), skipped.filtered), (2, 90));
        let stretches = ready.iter().flat_map(|ready| ready.stretches.iter());
        let wanted: Vec<(Offset, u32)> = (0..10).map(|n| (Offset(n * 10 + 3), 1)).collect();
        assert_eq!(stretches.copied().collect::<Vec<_>>(), wanted);
        let all = Transform {
            headers: vec![("h".to_owned(), "v".to_owned())],
            ..Transform::default()
        };
        let (ready, _) = transformed(all, &batches).unwrap();
        assert!((10..=12).contains(&ready.len()), "{}", ready.len());
        let records: u32 = ready.iter().map(|ready| ready.records).sum();
        assert_eq!(records, 100);
    }
}
