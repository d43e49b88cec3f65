//! Expressions over a record: what may be asked of it, and what their values become.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::expression::{self, Budget, CompileError, Reason, Value, scalar};
use crate::kafka::TopicPartition;
use crate::record::RecordRef;

/// What may be asked of a record.
const VARIABLES: [&str; 7] = [
    "key",
    "value",
    "headers",
    "timestamp",
    "partition",
    "offset",
    "topic",
];
/// The largest key or header that an expression may give, and the most that a transformation adds to one record, in bytes:
/// brokers take records of that size by default.
pub(super) const MOST_ADDED: usize = 1 << 20;

/// A compiled expression. Two are equal when they are written alike.
#[derive(Clone, PartialEq)]
pub struct Expression(expression::Expression);

/// Why an expression is none.
pub type InvalidExpression = CompileError;

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Expression {
    type Err = InvalidExpression;

    fn from_str(source: &str) -> Result<Self, InvalidExpression> {
        expression::Expression::compile(source, &VARIABLES).map(Self)
    }
}

/// Why an expression gave nothing over a record.
#[derive(Debug, PartialEq)]
pub(super) enum Failure {
    /// Nobody wants the value any more.
    Stopped,
    /// What is wrong; that tells nothing of what is in the record.
    Record(String),
}

impl Failure {
    /// Names what failed.
    pub fn of(self, what: &str) -> Self {
        match self {
            Self::Stopped => Self::Stopped,
            Self::Record(why) => Self::Record(format!("{what} fails: {why}")),
        }
    }
}

/// A key or a header's value; none for `null`.
pub(super) type Bytes = Option<Vec<u8>>;

/// What all evaluations of one thread share.
pub(super) struct Evaluation<'t> {
    /// Set when nobody wants the values any more.
    abandoned: &'t AtomicBool,
}

impl<'t> Evaluation<'t> {
    pub fn new(abandoned: &'t AtomicBool) -> Self {
        Self { abandoned }
    }

    /// Whether nobody wants the values any more.
    pub fn is_stopped(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Whether a record satisfies an expression.
    pub fn holds(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<bool, Failure> {
        self.evaluate(expression, partition, record, |value| match value {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("it is {}, not true or false", other.type_name())),
        })
    }

    /// A key: text or bytes; null is none.
    pub fn key(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<Bytes, Failure> {
        self.evaluate(expression, partition, record, |value| match bytes(&value) {
            Some(bytes) => bounded(bytes),
            None => Err(format!(
                "it is {}, not text, bytes or null: string(…) makes text of a number",
                value.type_name()
            )),
        })
    }

    /// The value of a header: as a key, or a number, true or false as text.
    pub fn header(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
    ) -> Result<Bytes, Failure> {
        self.evaluate(expression, partition, record, |value| {
            let as_text = || Some(Some(Cow::Owned(scalar(&value)?.into_bytes())));
            match bytes(&value).or_else(as_text) {
                Some(bytes) => bounded(bytes),
                None => Err(format!(
                    "it is {}, not text, bytes, a number, true, false or null",
                    value.type_name()
                )),
            }
        })
    }

    fn evaluate<T>(
        &self,
        expression: &Expression,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
        become_of: impl FnOnce(Value<'_>) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let is_stopped = || self.is_stopped();
        let budget = Budget::new(&is_stopped);
        let variables =
            |place: usize, budget: &Budget<'_>| variable(place, partition, record, budget);
        let value = expression.0.evaluate(&variables, &budget);
        let value = value.map_err(|error| match error.reason {
            Reason::Stopped => Failure::Stopped,
            _ => Failure::Record(error.to_string()),
        })?;
        become_of(value).map_err(Failure::Record)
    }
}

/// A variable of a record, which is borrowed.
fn variable<'r>(
    place: usize,
    partition: &'r TopicPartition,
    record: &RecordRef<'r>,
    budget: &Budget<'_>,
) -> Result<Value<'r>, Reason> {
    match VARIABLES.get(place).copied() {
        Some("key") => Value::text_or_bytes(record.key, budget),
        Some("value") => Value::text_or_bytes(record.value, budget),
        Some("headers") => Value::named(record.headers.iter(), budget),
        Some("timestamp") => Ok(Value::Int(record.timestamp.0)),
        Some("partition") => Ok(Value::Int(partition.partition.0.into())),
        Some("offset") => Ok(Value::Int(record.offset.0)),
        _ => Value::text_or_bytes(Some(partition.topic.as_bytes()), budget),
    }
}

/// What a text or bytes hold, and null does not; none for anything else.
fn bytes<'v>(value: &'v Value<'_>) -> Option<Option<Cow<'v, [u8]>>> {
    match value {
        Value::Null => Some(None),
        Value::Text(text) => Some(Some(Cow::Borrowed(text.as_bytes()))),
        Value::Bytes(bytes) => Some(Some(Cow::Borrowed(bytes))),
        _ => None,
    }
}

fn bounded(bytes: Option<Cow<'_, [u8]>>) -> Result<Bytes, String> {
    match bytes {
        Some(bytes) if bytes.len() > MOST_ADDED => Err(format!(
            "it gives {} bytes, and {MOST_ADDED} are the most",
            bytes.len()
        )),
        bytes => Ok(bytes.map(Cow::into_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, BatchRef, Compression, Headers, PartitionId, Timestamp};

    /// What is asked of a record of this value, with three headers.
    fn of_record<T>(
        value: Option<&[u8]>,
        ask: impl FnOnce(&Evaluation<'_>, &TopicPartition, &RecordRef<'_>) -> T,
    ) -> T {
        let mut room = Vec::new();
        let headers: [(&[u8], &[u8]); 3] = [
            (b"kind", b"order"),
            (b"\xff\xfe", b"first"),
            (b"\xff\xfd", b"second"),
        ];
        let headers = Headers::default().with(headers.into_iter(), &mut room);
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push_parts(Timestamp(1234), Some(b"key-1"), value, headers);
        let bytes = builder.finish().unwrap().unwrap();
        let (batch, _) = BatchRef::parse(&bytes).unwrap();
        let opened = batch.open(20 << 20).unwrap();
        let record = opened.records().next().unwrap().unwrap();
        let partition = TopicPartition {
            topic: "orders.eu".to_owned(),
            partition: PartitionId(3),
        };
        ask(
            &Evaluation::new(&AtomicBool::new(false)),
            &partition,
            &record,
        )
    }

    fn said(source: &str, value: Option<&[u8]>) -> Result<bool, Failure> {
        let expression = source.parse().unwrap();
        of_record(value, |on, partition, record| {
            on.holds(&expression, partition, record)
        })
    }

    #[test]
    fn everything_of_a_record_can_be_asked_for() {
        let value = br#"{"amount": 120, "to": {"country": "DE"}, "items": [{"id": 3}]}"#;
        for source in [
            "value.contains('amount')",
            "key == 'key-1' && headers.kind == 'order'",
            "timestamp == 1234 && partition == 3 && offset == 0",
            "topic.startsWith('orders.')",
            "json(value).amount > 100 && json(value).to.country == 'DE'",
            "value.matches('^[{].*DE')",
            "!('other' in headers)",
            "[1,2].exists(x, x == 1)",
            "json(value).items.exists(i, i.id == 3)",
            "json(value).items.map(i, i.id).all(id, id > 2)",
        ] {
            assert_eq!(said(source, Some(value)), Ok(true), "{source}");
        }
        assert_eq!(said("value.contains('nothing')", Some(value)), Ok(false));
        assert_eq!(said("value == null", None), Ok(true));
        assert_eq!(said("size(value) == 2", Some(b"\xff\xfe")), Ok(true));
    }

    /// Each example of the page is `EXPRESSION → VALUE`, over the record that the page names.
    #[test]
    fn the_page_of_expressions_is_right() {
        let page = include_str!("../../../docs/expressions.md");
        let (_, value) = page.split_once("with the value `").unwrap();
        let (value, _) = value.split_once('`').unwrap();
        let examples = page.lines().filter_map(|line| line.split_once(" → "));
        let mut count = 0;
        for (source, expected) in examples {
            let source = format!("({}) == ({expected})", source.trim());
            assert_eq!(said(&source, Some(value.as_bytes())), Ok(true), "{source}");
            count += 1;
        }
        assert!(count > 10, "{count}");
        let bounds = [
            expression::LONGEST.to_string(),
            expression::NESTING.to_string(),
            expression::DEPTH.to_string(),
            expression::NODES.to_string(),
            expression::COST.to_string(),
            format!("{} MiB", expression::LARGEST_PATTERN >> 20),
            format!("{} MiB", expression::ALL_PATTERNS >> 20),
            format!("{} MiB", expression::MEMORY >> 20),
            format!("{} MiB", MOST_ADDED >> 20),
        ];
        let (_, told) = page.split_once("## Bounds").unwrap();
        let told = told.replace(',', "");
        for bound in bounds {
            assert!(
                told.contains(&format!("| {bound}")) || told.contains(&format!(" {bound} ")),
                "{bound}"
            );
        }
    }

    #[test]
    fn headers_whose_names_are_no_text_stay_apart() {
        for source in [
            "size(headers) == 3",
            r"headers[b'\xff\xfe'] == 'first'",
            r"headers[b'\xff\xfd'] == 'second'",
        ] {
            assert_eq!(said(source, None), Ok(true), "{source}");
        }
    }

    #[test]
    fn what_fails_over_a_record_is_an_error_that_tells_nothing_of_it() {
        for (source, value) in [
            ("json(value).amount > 1", Some(&b"secret-0"[..])),
            ("json(value).amount > 1", Some(b"{\"secret-0\": 1}")),
            ("value > 1", Some(b"secret-0")),
            ("value + 1 == value", Some(b"secret-0")),
            ("headers.kind < 1", Some(b"secret-0")),
            ("value.contains('x')", None),
            ("offset / 0 == 1", None),
            ("value", Some(b"secret-0")),
        ] {
            match said(source, value) {
                Err(Failure::Record(why)) => {
                    assert!(
                        !why.contains("secret") && !why.contains("order"),
                        "{source}: {why}"
                    );
                    assert!(why.len() < 200, "{source}: {why}");
                }
                other => panic!("{source}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_key_or_a_header_is_no_larger_than_a_record_may_be() {
        let value = vec![b'x'; MOST_ADDED];
        for (source, fits) in [("value", true), ("value + 'x'", false)] {
            let expression = source.parse().unwrap();
            let (key, header) = of_record(Some(&value), |on, partition, record| {
                let key = on.key(&expression, partition, record);
                (key, on.header(&expression, partition, record))
            });
            assert_eq!((key.is_ok(), header.is_ok()), (fits, fits), "{source}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told() {
        let wrong = |source: &str| source.parse::<Expression>().unwrap_err();
        assert!(wrong("value.contains(").message.contains("wrong at 1:16:"));
        let unknown = wrong("valu == 'x'");
        assert!(unknown.message.contains("a record has no `valu`"));
        assert!(unknown.help.contains("key, value, headers"));
        let sum = format!("{} > 0", vec!["1"; 1400].join("+"));
        assert!(wrong(&sum).message.contains("too deep"));
    }

    #[test]
    fn an_evaluation_that_nobody_waits_for_ends() {
        let ones = vec!["1"; 900].join(",");
        let source = format!("[{ones}].all(a, [{ones}].all(b, a == b))");
        let expression: Expression = source.parse().unwrap();
        let abandoned = AtomicBool::new(false);
        let began = std::time::Instant::now();
        let ended = of_record(None, |_, partition, record| {
            std::thread::scope(|scope| {
                let partition = partition.clone();
                scope.spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    abandoned.store(true, Ordering::Relaxed);
                });
                let on = Evaluation::new(&abandoned);
                loop {
                    let holds = on.holds(&expression, &partition, record);
                    if holds != Ok(true) {
                        return holds;
                    }
                }
            })
        });
        assert_eq!(ended, Err(Failure::Stopped));
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    }
}
