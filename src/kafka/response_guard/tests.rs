use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    AddOffsetsToTxnResponse, AddPartitionsToTxnResponse, ApiVersionsResponse,
    ConsumerGroupDescribeResponse, CreatePartitionsResponse, CreateTopicsResponse,
    DeleteTopicsResponse, DescribeConfigsResponse, DescribeGroupsResponse, DescribeLogDirsResponse,
    DescribeProducersResponse, EndTxnResponse, FetchResponse, FindCoordinatorResponse,
    IncrementalAlterConfigsResponse, InitProducerIdResponse, ListGroupsResponse,
    ListOffsetsResponse, MetadataResponse, OffsetCommitResponse, OffsetFetchResponse,
    ProduceResponse, SaslAuthenticateResponse, SaslHandshakeResponse, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Encodable, Message};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::definition::{Field, Kind};
use super::walk::check;
use super::*;

/// Runs a test for every answer that we decode, in every version.
macro_rules! for_every_answer {
    ($test:ident($($argument:expr),*)) => {
        $test::<ApiVersionsResponse>($($argument),*);
        $test::<SaslHandshakeResponse>($($argument),*);
        $test::<SaslAuthenticateResponse>($($argument),*);
        $test::<MetadataResponse>($($argument),*);
        $test::<FetchResponse>($($argument),*);
        $test::<ListOffsetsResponse>($($argument),*);
        $test::<ProduceResponse>($($argument),*);
        $test::<InitProducerIdResponse>($($argument),*);
        $test::<DescribeConfigsResponse>($($argument),*);
        $test::<IncrementalAlterConfigsResponse>($($argument),*);
        $test::<CreateTopicsResponse>($($argument),*);
        $test::<DeleteTopicsResponse>($($argument),*);
        $test::<FindCoordinatorResponse>($($argument),*);
        $test::<ListGroupsResponse>($($argument),*);
        $test::<DescribeGroupsResponse>($($argument),*);
        $test::<DescribeProducersResponse>($($argument),*);
        $test::<DescribeLogDirsResponse>($($argument),*);
        $test::<CreatePartitionsResponse>($($argument),*);
        $test::<AddPartitionsToTxnResponse>($($argument),*);
        $test::<AddOffsetsToTxnResponse>($($argument),*);
        $test::<EndTxnResponse>($($argument),*);
        $test::<TxnOffsetCommitResponse>($($argument),*);
        $test::<ConsumerGroupDescribeResponse>($($argument),*);
        $test::<OffsetFetchResponse>($($argument),*);
        $test::<OffsetCommitResponse>($($argument),*);
    };
}

fn versions<T: Message>() -> std::ops::RangeInclusive<i16> {
    T::VERSIONS.min..=T::VERSIONS.max
}

/// Bytes of a shape, at random; with fields of the future among them.
struct Writer {
    random: StdRng,
    flexible: bool,
    version: i16,
    out: BytesMut,
}

impl Writer {
    fn write(shape: &Shape, version: i16, seed: u64) -> BytesMut {
        let mut writer = Self {
            random: StdRng::seed_from_u64(seed),
            flexible: version >= shape.flexible,
            version,
            out: BytesMut::new(),
        };
        writer.fields(shape.fields);
        writer.out
    }

    fn varint(out: &mut BytesMut, mut value: usize) {
        while value >= 0x80 {
            out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        out.put_u8(value as u8);
    }

    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let (tagged, plain): (Vec<_>, Vec<_>) = fields
            .iter()
            .filter(|field| field.is_in(version))
            .partition(|field| field.tag.is_some());
        for field in plain {
            self.kind(field.kind);
        }
        if !self.flexible {
            return;
        }
        let mut section = Vec::new();
        for field in tagged {
            if self.random.random() {
                let outer = std::mem::take(&mut self.out);
                self.kind(field.kind);
                section.push((field.tag.unwrap(), std::mem::replace(&mut self.out, outer)));
            }
        }
        if self.random.random_bool(0.2) {
            section.push((77, BytesMut::from(&b"of the future"[..])));
        }
        Self::varint(&mut self.out, section.len());
        for (tag, content) in section {
            Self::varint(&mut self.out, tag as usize);
            Self::varint(&mut self.out, content.len());
            self.out.put(content);
        }
    }

    fn length(&mut self, length: usize, wide: bool) {
        if self.flexible {
            Self::varint(&mut self.out, length + 1);
        } else if wide {
            self.out.put_i32(length as i32);
        } else {
            self.out.put_i16(length as i16);
        }
    }

    fn kind(&mut self, kind: Kind) {
        let few = self.random.random_range(0..4);
        match kind {
            Kind::Fixed(size) => (0..size).for_each(|_| self.out.put_u8(self.random.random())),
            Kind::Text => {
                let length = few * 50;
                self.length(length, false);
                self.out.put_bytes(b'x', length);
            }
            Kind::Bytes => {
                self.length(few, true);
                self.out.put_bytes(0xfe, few);
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::Array(element) => {
                self.length(few, true);
                (0..few).for_each(|_| self.kind(*element));
            }
        }
    }
}

/// What the shape describes, the decoder reads to its end: neither knows a field that the other does not.
fn assert_shape_is_the_decoders<T: GuardedResponse + Message>(seed: u64) {
    for version in versions::<T>() {
        let bytes = Writer::write(&T::SHAPE, version, seed);
        let name = std::any::type_name::<T>();
        let rest = check(&T::SHAPE, &bytes, version);
        assert_eq!(rest, Ok(&[][..]), "{name} v{version}");
        let mut bytes = bytes.freeze();
        let decoded = T::decode(&mut bytes, version);
        assert!(decoded.is_ok(), "{name} v{version}: {:?}", decoded.err());
        assert!(!bytes.has_remaining(), "{name} v{version}");
    }
}

/// What the encoder writes has the shape.
fn assert_shape_is_the_encoders<T: GuardedResponse + Message + Encodable + Default>() {
    for version in versions::<T>() {
        let mut bytes = BytesMut::new();
        T::default().encode(&mut bytes, version).unwrap();
        let name = std::any::type_name::<T>();
        let rest = check(&T::SHAPE, &bytes, version);
        assert_eq!(rest, Ok(&[][..]), "{name} v{version}");
    }
}

/// What is taken for a frame that is no answer, or for one: so many times its length, and for errors.
const MULTIPLE: u64 = 32;
const ERRORS: u64 = 16 << 10;

/// Decodes as a connection does; whatever the bytes are, this does not panic, and takes little memory.
fn assert_harmless<T: GuardedResponse + Message>(bytes: &Bytes) {
    for version in versions::<T>() {
        let mut copy = bytes.clone();
        let taken = allocation_counter::measure(|| {
            if T::check(&copy, version).is_ok() {
                let decoded = T::decode(&mut copy, version);
                // Texts that are no UTF-8, and nulls where none may be, are only found now.
                drop(decoded);
            }
        });
        let limit = MULTIPLE * bytes.len() as u64 + ERRORS;
        assert!(
            taken.bytes_max <= limit,
            "{} v{version}: {} bytes for {}",
            std::any::type_name::<T>(),
            taken.bytes_max,
            bytes.len()
        );
    }
}

/// The same for an answer, some of whose bytes are changed.
fn assert_damaged_is_harmless<T: GuardedResponse + Message>(seed: u64, changes: &[(usize, u8)]) {
    let version = T::VERSIONS.min + (seed % (versions::<T>().count() as u64)) as i16;
    let mut bytes = Writer::write(&T::SHAPE, version, seed);
    for (place, byte) in changes {
        let length = bytes.len();
        bytes[place % length] = *byte;
    }
    assert_harmless::<T>(&bytes.freeze());
}

#[test]
fn shapes_are_those_of_the_encoder() {
    for_every_answer!(assert_shape_is_the_encoders());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shapes_are_those_of_the_decoder(seed: u64) {
        for_every_answer!(assert_shape_is_the_decoders(seed));
    }

    #[test]
    fn random_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        for_every_answer!(assert_harmless(&bytes));
    }

    #[test]
    fn damaged_answers_are_harmless(
        seed: u64,
        changes in prop::collection::vec((any::<usize>(), prop_oneof![Just(0xff), Just(0x7f), any::<u8>()]), 1..6),
    ) {
        for_every_answer!(assert_damaged_is_harmless(seed, &changes));
    }
}

#[test]
fn a_count_that_cannot_be_true_takes_no_memory() {
    // Metadata v9: throttle time, then an array of brokers that claims 2³¹ of them.
    let flexible = Bytes::from_static(&[0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x08, 1, 2, 3]);
    // The same in v8, whose counts are of four bytes.
    let fixed = Bytes::from_static(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
    for (version, bytes) in [(9, flexible), (8, fixed)] {
        let problem = MetadataResponse::check(&bytes, version).unwrap_err();
        assert!(problem.starts_with("brokers: 214748364"), "{problem}");
        assert!(problem.ends_with("bytes"), "{problem}");
        assert_harmless::<MetadataResponse>(&bytes);
    }
}

#[test]
fn a_count_that_just_cannot_be_true_is_refused_at_any_depth() {
    // ListOffsets v1: one topic, whose partitions take 22 bytes each; two are claimed, one and a half are there.
    let mut bytes = BytesMut::new();
    bytes.put_i32(1);
    bytes.put_i16(1);
    bytes.put_u8(b't');
    bytes.put_i32(2);
    bytes.put_bytes(0, 33);
    let problem = ListOffsetsResponse::check(&bytes, 1).unwrap_err();
    assert_eq!(
        problem,
        "topics: partitions: 2 entries cannot be in 33 bytes"
    );
}

#[test]
fn a_tagged_field_ends_where_it_says() {
    // ApiVersions v3: no error, no keys, throttle time; then finalized_features_epoch in 7, 8 and 9 bytes.
    for (size, fits) in [(7_u8, false), (8, true), (9, false)] {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[0, 0, 1, 0, 0, 0, 0, 1, 1, size]);
        bytes.put_bytes(0, size.into());
        assert_eq!(
            ApiVersionsResponse::check(&bytes, 3).is_ok(),
            fits,
            "{size}"
        );
    }
}

#[test]
fn fields_of_the_future_are_skipped_but_not_without_end() {
    let frame = |count: usize| {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[0, 0, 1, 0, 0, 0, 0]);
        Writer::varint(&mut bytes, count);
        (0..count).for_each(|_| bytes.put_slice(&[99, 0]));
        bytes
    };
    ApiVersionsResponse::check(&frame(1_000), 3).unwrap();
    ApiVersionsResponse::check(&frame(1 << 18), 3).unwrap_err();
}

#[test]
fn the_decoder_alone_would_believe_any_count() {
    // When this fails, the decoder has learnt to check, and the guard may go.
    let mut bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3]);
    let taken = allocation_counter::measure(|| {
        MetadataResponse::decode(&mut bytes, 8).unwrap_err();
    });
    assert!(taken.bytes_max > 64 << 20, "{}", taken.bytes_max);
}

#[test]
fn the_smallest_entries_take_but_a_small_multiple_of_their_bytes() {
    let many = 100_000;
    // DescribeConfigs v1: one resource with one setting, whose synonyms have no name, no value and a source.
    let mut synonyms = BytesMut::new();
    synonyms.put_slice(&[0; 4]);
    synonyms.put_i32(1);
    synonyms.put_slice(&[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    synonyms.put_i32(many);
    (0..many).for_each(|_| synonyms.put_slice(&[0, 0, 0xff, 0xff, 1]));
    // Fetch v4: topics without a name or a partition.
    let mut topics = BytesMut::new();
    topics.put_i32(0);
    topics.put_i32(many);
    (0..many).for_each(|_| topics.put_slice(&[0; 6]));
    // Fetch v12: a partition with aborted transactions, each with a field of the future.
    let mut aborted = BytesMut::new();
    aborted.put_slice(&[0; 10]);
    aborted.put_slice(&[2, 2, b't', 2]);
    aborted.put_slice(&[0; 30]);
    Writer::varint(&mut aborted, many as usize + 1);
    for _ in 0..many {
        aborted.put_slice(&[0; 16]);
        aborted.put_slice(&[1, 99, 0]);
    }
    aborted.put_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);

    DescribeConfigsResponse::check(&synonyms, 1).unwrap();
    assert_harmless::<DescribeConfigsResponse>(&synonyms.freeze());
    FetchResponse::check(&topics, 4).unwrap();
    assert_harmless::<FetchResponse>(&topics.freeze());
    FetchResponse::check(&aborted, 12).unwrap();
    assert_harmless::<FetchResponse>(&aborted.freeze());
}
