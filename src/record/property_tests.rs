//! What holds for every batch: any records, any cut, any damage.

use proptest::prelude::*;

use super::stamp::put;
use super::varint::{read_varint, read_varlong, write_varlong};
use super::*;

const LIMIT: usize = 1 << 20;

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..5000usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(-1),
        Just(0),
        Just(i64::MAX),
        1_700_000_000_000..1_700_000_009_000_i64,
        any::<i64>()
    ]
}

/// Keys from a small set, so that they repeat.
fn headers() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
    let key = prop_oneof![
        Just(vec![]),
        Just(b"same".to_vec()),
        Just(vec![0xff, 0xfe]),
        bytes()
    ];
    prop::collection::vec((key, prop::option::of(bytes())), 0..4)
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    let parts = (
        timestamp(),
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        headers(),
    );
    prop::collection::vec(parts, 1..12).prop_map(|parts| {
        let numbered = parts.into_iter().enumerate();
        numbered
            .map(|(place, (timestamp, key, value, headers))| Owned {
                offset: place as i64,
                timestamp,
                key,
                value,
                headers,
            })
            .collect()
    })
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.as_slice())
}

fn encoded(headers: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in headers {
        write_varlong(key.len() as i64, &mut out);
        out.extend_from_slice(key);
        match value {
            Some(value) => {
                write_varlong(value.len() as i64, &mut out);
                out.extend_from_slice(value);
            }
            None => write_varlong(-1, &mut out),
        }
    }
    out
}

fn build(codec: Compression, records: &[Owned]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        let encoded = encoded(&record.headers);
        builder.push_parts(
            Timestamp(record.timestamp),
            record.key.as_deref(),
            record.value.as_deref(),
            Headers::of_parts(record.headers.len(), &encoded),
        );
    }
    builder.finish().unwrap().unwrap().to_vec()
}

fn read(bytes: &[u8]) -> Result<Vec<Owned>, RecordError> {
    let (batch, _) = BatchRef::parse(bytes)?;
    batch.verify_crc()?;
    let opened = batch.open(LIMIT)?;
    let records = opened.records();
    records
        .map(|record| {
            let record = record?;
            let headers = record.headers.iter();
            Ok(Owned {
                offset: record.offset.0,
                timestamp: record.timestamp.0,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers
                    .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
                    .collect(),
            })
        })
        .collect()
}

/// Gives `batch` the CRC32C that its bytes have: what a hostile producer would send.
fn resealed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Lays the batch at `base` in a log, of a transaction, and so that it looks compacted: it ends `behind` offsets later.
fn as_stored(mut batch: Vec<u8>, base: i64, behind: i32) -> Vec<u8> {
    let mut header: [u8; HEADER_LEN] = batch[..HEADER_LEN].try_into().unwrap();
    let attributes = i16::from_be_bytes([header[21], header[22]]) | 0x10;
    let delta = i32::from_be_bytes([header[23], header[24], header[25], header[26]]);
    put(&mut header, 0, base.to_be_bytes());
    put(&mut header, 12, 5_i32.to_be_bytes());
    put(&mut header, 21, attributes.to_be_bytes());
    put(&mut header, 23, (delta + behind).to_be_bytes());
    put(&mut header, 43, 4711_i64.to_be_bytes());
    batch[..HEADER_LEN].copy_from_slice(&header);
    resealed(batch)
}

proptest! {
    #[test]
    fn what_is_built_is_read(codec in codec(), records in records()) {
        let built = build(codec, &records);
        prop_assert_eq!(read(&built).unwrap(), records);
    }

    #[test]
    fn batches_one_behind_the_other_are_read_up_to_where_the_bytes_end(
        codec in codec(), first in records(), second in records(), cut in any::<prop::sample::Index>(),
    ) {
        let (first, second) = (build(codec, &first), build(codec, &second));
        let both = [first.clone(), second.clone()].concat();
        let end = cut.index(both.len() + 1);
        let mut found = batches(&both[..end]);
        let count = found.by_ref().map(Result::unwrap).count();
        let whole = [0, first.len(), both.len()].into_iter().rposition(|bound| bound <= end).unwrap();
        prop_assert_eq!(count, whole);
        prop_assert_eq!(found.consumed(), [0, first.len(), both.len()][whole]);
    }

    #[test]
    fn a_batch_cut_off_at_any_byte_is_cut_off(codec in codec(), records in records()) {
        let built = build(codec, &records);
        for end in 0..built.len() {
            let truncated = matches!(BatchRef::parse(&built[..end]), Err(RecordError::Truncated { .. }));
            prop_assert!(truncated, "at {}", end);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_under_the_checksum_is_found(
        codec in codec(), records in records(), flip in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let mut built = build(codec, &records);
        let at = 8 + flip.index(built.len() - 8);
        built[at] ^= 1_u8 << bit;
        // The leader's epoch is the broker's to change: like the base offset, it lies outside the checksum.
        if !(12..16).contains(&at) {
            let found = BatchRef::parse(&built).and_then(|(batch, _)| batch.verify_crc());
            prop_assert!(found.is_err(), "bit {} of byte {}", bit, at);
        }
    }

    #[test]
    fn hostile_records_are_refused_or_read_but_never_panic(
        count in 0..20_i32, delta in 0..40_i32, attributes in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut batch = build(Compression::None, &[plain()]);
        batch.truncate(HEADER_LEN);
        batch.extend_from_slice(&payload);
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[22] = attributes;
        batch[23..27].copy_from_slice(&delta.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        provoke(&resealed(batch));
    }

    #[test]
    fn damaged_records_with_a_right_checksum_never_panic(
        codec in codec(), records in records(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut batch = build(codec, &records);
        for (at, mask) in flips {
            let at = at.index(batch.len());
            batch[at] ^= mask;
        }
        provoke(&resealed(batch));
    }

    #[test]
    fn a_rebuilt_batch_loses_nothing_but_what_it_was_told_to(
        codec in codec(), records in records(), base in 0..1_i64 << 60, behind in 0..5_i32,
        cut in (0..14_i64, 0..14_i64), window in prop::option::of((timestamp(), timestamp())),
        drop_keys: bool, drop_headers: bool, renumber: bool,
    ) {
        let stored = as_stored(build(codec, &records), base, behind);
        let options = Rebuild {
            offsets: Some(Offset(base + cut.0)..Offset(base + cut.1)),
            timestamps: window.map(|(from, until)| (Some(Timestamp(from)), Some(Timestamp(until)))),
            drop_keys,
            drop_headers,
            numbering: if renumber { Numbering::Renumber } else { Numbering::Keep },
        };
        let mut expected: Vec<Owned> = records;
        expected.retain(|record| {
            (cut.0..cut.1).contains(&record.offset)
                && window.is_none_or(|(from, until)| (from..until).contains(&record.timestamp))
        });
        for (place, record) in expected.iter_mut().enumerate() {
            record.offset = if renumber { place as i64 } else { base + record.offset };
            if drop_keys {
                record.key = None;
            }
            if drop_headers {
                record.headers.clear();
            }
        }
        let (batch, _) = BatchRef::parse(&stored).unwrap();
        let Some(rebuilt) = rebuild(&batch, &options, LIMIT).unwrap() else {
            prop_assert!(expected.is_empty());
            return Ok(());
        };
        prop_assert_eq!(read(&rebuilt).unwrap(), expected);
        let (rebuilt, _) = BatchRef::parse(&rebuilt).unwrap();
        if renumber {
            prop_assert!(!rebuilt.has_holes());
            prop_assert_eq!(rebuilt.producer_id(), ProducerId(-1));
        } else {
            prop_assert_eq!(rebuilt.attributes(), batch.attributes());
            prop_assert_eq!((rebuilt.base_offset(), rebuilt.last_offset()), (batch.base_offset(), batch.last_offset()));
            prop_assert_eq!(rebuilt.producer_id(), batch.producer_id());
        }
    }

    #[test]
    fn a_stamped_batch_has_the_same_records(codec in codec(), records in records(), base in 0..1_i64 << 60, sequence in 0..i32::MAX) {
        let stored = as_stored(build(codec, &records), base, 0);
        let (batch, _) = BatchRef::parse(&stored).unwrap();
        let stamp = ProducerStamp { producer_id: ProducerId(1), producer_epoch: 2, base_sequence: sequence };
        let stamped = [&restamp(&batch, &stamp).unwrap()[..], batch.payload()].concat();
        prop_assert_eq!(read(&stamped).unwrap(), records);
    }

    #[test]
    fn varints_cut_off_or_too_long_are_refused(value: i64) {
        let mut encoded = Vec::new();
        write_varlong(value, &mut encoded);
        for end in 0..encoded.len() {
            prop_assert_eq!(read_varlong(&mut &encoded[..end]), None);
        }
        prop_assert_eq!(read_varint(&mut &encoded[..]), i32::try_from(value).ok());
    }
}

fn plain() -> Owned {
    Owned {
        offset: 0,
        timestamp: 0,
        key: None,
        value: None,
        headers: vec![],
    }
}

/// Does everything to a batch that kafkeep does; what comes out must be sound.
fn provoke(bytes: &[u8]) {
    for batch in batches(bytes) {
        let Ok(batch) = batch else { return };
        batch.control_type().ok();
        restamp(&batch, &ProducerStamp::NONE).ok();
        for numbering in [Numbering::Keep, Numbering::Renumber] {
            let options = Rebuild {
                numbering,
                ..Rebuild::default()
            };
            if let Ok(Some(rebuilt)) = rebuild(&batch, &options, LIMIT) {
                assert_eq!(read(&rebuilt).unwrap().len(), batch.record_count() as usize);
            }
        }
    }
}

#[test]
fn more_records_than_bytes_are_refused_without_memory_for_them() {
    let mut batch = build(Compression::None, &[plain()]);
    for (at, field) in [(23, i32::MAX - 1), (57, i32::MAX)] {
        batch[at..at + 4].copy_from_slice(&field.to_be_bytes());
    }
    let found = read(&resealed(batch));
    assert!(
        matches!(found, Err(RecordError::MalformedRecord { .. })),
        "{found:?}"
    );
}
