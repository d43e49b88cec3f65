//! What the fuzzer throws bytes at. `tests/fuzz_targets.rs` throws the seeds, so that nothing here goes stale.
//!
//! Each function says whether the bytes were believed, which the seeds must be. Checksums and digests are forged where
//! random bytes would never pass them: what lies behind must be safe by itself.

mod forgery;
mod memory;

use bytes::Bytes;
use kafkeep::expression::{Budget, COST, Expression, MEMORY, Value};
use kafkeep::record::{
    self, BatchRef, Compression, HEADER_LEN, Numbering, Offset, PartitionId, ProducerStamp,
    Rebuild, RecordError, Timestamp, TopicId,
};
use kafkeep::repository::{BlockSource, SealedBlock};

pub use forgery::{footer, index, manifest, seeds};

/// The most that a batch may decompress to here.
const LIMIT: usize = 1 << 20;

/// Bytes as a broker would send them, walked, opened and sealed as a backup does; then again with a right checksum.
pub fn batches(bytes: &[u8]) -> bool {
    let believed = walked(bytes);
    walked(&resealed(bytes)) || believed
}

fn walked(bytes: &[u8]) -> bool {
    let mut found = record::batches(bytes);
    let mut sound = 0;
    for batch in found.by_ref() {
        let Ok(batch) = batch else { break };
        batch.control_type().ok();
        sound += usize::from(is_read_whole(&batch, LIMIT).is_ok());
    }
    assert!(found.consumed() <= bytes.len());
    let source = BlockSource {
        topic_id: TopicId([7; 16]),
        partition: PartitionId(0),
    };
    SealedBlock::seal(&source, Bytes::copy_from_slice(bytes), Compression::Zstd).ok();
    sound > 0
}

fn is_read_whole(batch: &BatchRef<'_>, limit: usize) -> Result<(), RecordError> {
    batch.verify_crc()?;
    let opened = batch.open(limit)?;
    let mut count = 0;
    for record in opened.records() {
        let record = record?;
        assert!((batch.base_offset()..batch.next_offset()).contains(&record.offset));
        assert_eq!(record.headers.iter().count(), record.headers.len());
        count += 1;
    }
    assert_eq!(count, batch.record_count());
    Ok(())
}

/// A batch, rebuilt as the four bytes behind it say, and stamped.
pub fn rebuild(bytes: &[u8]) -> bool {
    let sealed = resealed(bytes);
    let Ok((batch, rest)) = BatchRef::parse(&sealed) else {
        return false;
    };
    let [flags, from, until, time, ..] = [rest, &[0; 4]].concat()[..] else {
        return false;
    };
    let bound = |delta: u8| Offset(batch.base_offset().0.saturating_add(delta.into()));
    let keeps_all = flags & 0b110_0000 == 0;
    let options = Rebuild {
        offsets: (flags & 0b10_0000 != 0).then(|| bound(from)..bound(until)),
        timestamps: (flags & 0b100_0000 != 0).then(|| {
            (
                Some(Timestamp(batch.max_timestamp().0.wrapping_sub(time.into()))),
                None,
            )
        }),
        drop_keys: flags & 1 != 0,
        drop_headers: flags & 2 != 0,
        numbering: if flags & 4 == 0 {
            Numbering::Keep
        } else {
            Numbering::Renumber
        },
    };
    record::restamp(&batch, &ProducerStamp::NONE).ok();
    let readable = is_read_whole(&batch, LIMIT);
    match record::rebuild(&batch, &options, LIMIT) {
        Ok(Some(rebuilt)) => {
            let (rebuilt, behind) =
                BatchRef::parse(&rebuilt).expect("a rebuilt batch has a header");
            assert!(behind.is_empty());
            // Deltas may have become longer.
            is_read_whole(&rebuilt, 4 * LIMIT).expect("a rebuilt batch is sound");
            assert!(!keeps_all || rebuilt.record_count() == batch.record_count());
            assert!(options.numbering == Numbering::Keep || !rebuilt.has_holes());
        }
        Ok(None) => assert!(!keeps_all || batch.record_count() == 0),
        Err(_) => assert!(readable.is_err(), "what can be read can be rebuilt"),
    }
    readable.is_ok()
}

/// The first byte chooses the codec.
pub fn decompress(bytes: &[u8]) -> bool {
    let Some((codec, bytes)) = bytes.split_first() else {
        return false;
    };
    let codec = Compression::ALL[usize::from(*codec) % 5];
    let out = record::decompress(codec, bytes, LIMIT);
    out.is_ok_and(|out| {
        assert!(out.len() <= LIMIT);
        let again = record::compress(codec, &out).expect("memory");
        assert_eq!(record::decompress(codec, &again, LIMIT).as_ref(), Ok(&out));
        true
    })
}

/// The same bytes with the message format and the checksum that a batch at their front would have.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < HEADER_LEN {
        return bytes;
    }
    bytes[16] = 2;
    let end = BatchRef::parse(&bytes).map_or(bytes.len(), |(batch, _)| batch.len());
    let length = i32::try_from(end - 12).expect("inputs are short");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    if let Ok((batch, _)) = BatchRef::parse(&bytes)
        && let Err(RecordError::WrongCrc { found, .. }) = batch.verify_crc()
    {
        bytes[17..21].copy_from_slice(&found.to_be_bytes());
    }
    bytes
}

/// An expression up to the first zero byte, evaluated over the bytes behind it as a record's value.
pub fn expression(bytes: &[u8]) -> bool {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let (source, value) = bytes.split_at(end);
    let Ok(source) = std::str::from_utf8(source) else {
        return false;
    };
    let names = ["value", "headers", "offset"];
    let Ok(expression) = Expression::compile(source, &names) else {
        return false;
    };
    let value = value.get(1..);
    let variables = |place: usize, budget: &Budget<'_>| match place {
        0 => Value::text_or_bytes(value, budget),
        1 => Value::named(value.map(|value| (value, Some(value))).into_iter(), budget),
        _ => Ok(Value::Int(7)),
    };
    let budget = Budget::new(&|| false);
    if let Err(error) = expression.evaluate(&variables, &budget) {
        assert!(error.to_string().len() < 200, "{error}");
    }
    assert!(budget.spent() <= COST && budget.made() <= MEMORY);
    true
}
