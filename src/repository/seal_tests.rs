//! What a sealed block says is true, and blocks that cannot be proven are not sealed.

use bytes::Bytes;
use proptest::prelude::*;

use super::testing::{
    CONTROL, DELETE_HORIZON, TRANSACTIONAL, TestBatch, concatenated, noise, sealed, source,
};
use super::*;
use crate::record::{
    Compression, LeaderEpoch, Offset, PartitionId, ProducerId, Timestamp, TopicId,
};

#[test]
fn a_header_tells_what_the_batches_are() {
    let mut first = TestBatch::new(100, 3, b"value");
    first.base_timestamp = 5_000;
    first.leader_epoch = 7;
    let mut second = TestBatch::new(110, 2, b"a longer value than the others have");
    second.base_timestamp = 4_000;
    second.last_offset_delta = 9;
    let third = TestBatch::marker(130, 42, false);
    let block = sealed(6, &[first, second, third], Compression::None);
    let header = &block.header;
    assert_eq!(
        (header.topic_id, header.partition),
        (source(6).topic_id, PartitionId(6))
    );
    assert_eq!(
        (header.base_offset, header.last_offset),
        (Offset(100), Offset(130))
    );
    assert_eq!(
        (header.batches, header.records, header.control_records),
        (3, 5, 1)
    );
    assert_eq!(header.min_timestamp, Timestamp(4_000));
    assert_eq!(header.max_timestamp, Timestamp(1_795_000_000_000));
    assert_eq!(header.leader_epoch, LeaderEpoch(7));
    assert_eq!(header.flags, BlockFlags(1 | 2 | 4));
    assert_eq!(header.compression, Compression::None);
    assert_eq!(header.stored_len as usize, block.stored.len());
    assert_eq!(header.raw_len, header.stored_len);
    assert_eq!(header.stored_crc32, crc32fast::hash(&block.stored));
}

#[test]
fn a_block_tells_its_first_and_its_last_batch() {
    let batches = [0, 10, 20].map(|base| TestBatch::new(base, 3, &base.to_be_bytes()));
    let block = sealed(0, &batches, Compression::Gzip);
    let raw = concatenated(&batches);
    let told: Vec<BatchEvidence> = crate::record::batches(&raw)
        .map(|batch| BatchEvidence::from(&batch.unwrap()))
        .collect();
    assert_eq!((block.first_batch, block.last_batch), (told[0], told[2]));
    assert_eq!(
        (told[2].base_offset, told[2].last_offset),
        (Offset(20), Offset(22))
    );
    assert_eq!(told[2].end_offset(), Offset(23));
    assert_ne!(told[0].crc32c, told[2].crc32c);
}

#[test]
fn a_delete_horizon_is_not_taken_for_the_oldest_time() {
    let mut batch = TestBatch::new(0, 1, b"");
    batch.attributes |= DELETE_HORIZON;
    let header = sealed(0, &[TestBatch::new(10, 1, b"")], Compression::None).header;
    assert_eq!(header.min_timestamp, Timestamp(1_795_000_000_000));
    let header = sealed(0, &[batch, TestBatch::new(10, 1, b"")], Compression::None).header;
    assert_eq!(header.min_timestamp, Timestamp(-1));
}

#[test]
fn transactions_are_noted_where_they_begin_and_end() {
    let batches = [
        TestBatch::new(0, 2, b"").transactional(1),
        TestBatch::new(2, 1, b"").transactional(2),
        TestBatch::new(3, 1, b"").transactional(1),
        TestBatch::marker(4, 1, true),
        TestBatch::new(5, 1, b""),
        TestBatch::new(6, 1, b"").transactional(1),
        TestBatch::marker(7, 2, false),
        TestBatch::marker(8, 3, false),
    ];
    let events: Vec<_> = sealed(0, &batches, Compression::None)
        .transactions
        .iter()
        .map(|event| (event.kind, event.producer_id.0, event.offset.0))
        .collect();
    use TransactionEventKind::{Abort, Begin, Commit};
    let expected = [
        (Begin, 1, 0),
        (Begin, 2, 2),
        (Commit, 1, 4),
        (Begin, 1, 6),
        (Abort, 2, 7),
        (Abort, 3, 8),
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_pack_says_once_that_a_transaction_began() {
    let scratch = super::testing::Scratch::new();
    let pack = scratch.pack(&[
        sealed(
            0,
            &[TestBatch::new(0, 1, b"").transactional(1)],
            Compression::None,
        ),
        sealed(
            1,
            &[TestBatch::new(0, 1, b"").transactional(1)],
            Compression::None,
        ),
        sealed(
            0,
            &[TestBatch::new(1, 1, b"").transactional(1)],
            Compression::None,
        ),
        sealed(0, &[TestBatch::marker(2, 1, true)], Compression::None),
        sealed(
            0,
            &[TestBatch::new(3, 1, b"").transactional(1)],
            Compression::None,
        ),
    ]);
    let reader = scratch.repository.open_pack(&pack).unwrap();
    let events: Vec<_> = reader
        .footer()
        .transactions
        .iter()
        .map(|transaction| (transaction.event.partition.0, transaction.event.offset.0))
        .collect();
    assert_eq!(events, [(0, 0), (1, 0), (0, 2), (0, 3)]);
}

#[test]
fn bytes_are_not_copied_when_they_are_stored_as_they_are() {
    let compressed = TestBatch::new(0, 50, b"value").compressed(Compression::Lz4);
    let noisy = TestBatch::new(0, 1, &noise(10_000, 1));
    for (batch, compression) in [
        (compressed.clone(), Compression::None),
        (compressed, Compression::Zstd),
        (noisy.clone(), Compression::Zstd),
        (noisy, Compression::None),
    ] {
        let raw = concatenated(&[batch]);
        let block = SealedBlock::seal(&source(0), raw.clone(), compression).unwrap();
        assert_eq!(block.stored.as_ptr(), raw.as_ptr());
        assert_eq!(block.header.compression, Compression::None);
        assert_eq!(block.header.stored_crc32, crc32fast::hash(&raw));
    }
}

#[test]
fn markers_among_compressed_batches_do_not_get_them_compressed_twice() {
    let compressed = TestBatch::new(0, 50, b"value")
        .compressed(Compression::Lz4)
        .transactional(1);
    let block = sealed(
        0,
        &[compressed, TestBatch::marker(50, 1, true)],
        Compression::Zstd,
    );
    assert_eq!(block.header.compression, Compression::None);
}

#[test]
fn every_codec_gives_the_batches_back() {
    let scratch = super::testing::Scratch::new();
    let raw = concatenated(&[TestBatch::new(0, 200, b"the same again and again")]);
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let blocks = codecs.map(|codec| SealedBlock::seal(&source(0), raw.clone(), codec).unwrap());
    for (block, codec) in blocks.iter().zip(codecs) {
        assert_eq!(block.header.compression, codec);
        assert_eq!(block.stored.len() < raw.len(), codec != Compression::None);
    }
    let pack = scratch.pack(&blocks);
    let reader = scratch.repository.open_pack(&pack).unwrap();
    for block in reader.blocks(reader.block_range()) {
        let block = block.unwrap();
        assert_eq!(block.raw, raw);
        block.verify().unwrap();
    }
}

#[test]
fn a_block_that_is_not_what_its_header_says_is_found_by_walking_it() {
    let scratch = super::testing::Scratch::new();
    let mut block = sealed(0, &[TestBatch::new(0, 2, b"value")], Compression::None);
    block.header.records = 3;
    let pack = scratch.pack(&[block]);
    let reader = scratch.repository.open_pack(&pack).unwrap();
    let block = reader.blocks(reader.block_range()).next().unwrap().unwrap();
    assert!(matches!(
        block.verify(),
        Err(RepositoryError::UnfitBatches { .. })
    ));
}

#[test]
fn bytes_that_are_not_whole_proven_ascending_batches_are_not_sealed() {
    let good = concatenated(&[
        TestBatch::new(0, 2, b"value"),
        TestBatch::new(2, 2, b"value"),
    ]);
    let seal =
        |raw: &[u8]| SealedBlock::seal(&source(0), Bytes::copy_from_slice(raw), Compression::None);
    assert!(seal(&good).is_ok());
    assert!(seal(&[]).is_err());
    assert!(seal(&good[..good.len() - 1]).is_err());
    assert!(seal(&[&good[..], &[0]].concat()).is_err());
    let length = good.len() / 2;
    assert!(
        seal(&[&good[length..], &good[..length]].concat()).is_err(),
        "descending"
    );
    assert!(
        seal(&[&good[..length], &good[..length]].concat()).is_err(),
        "repeated"
    );
    // The base offset and the leader epoch lie outside the producer's sum.
    for bit in (8 * 21)..length * 8 {
        let mut damaged = good.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(seal(&damaged).is_err(), "bit {bit}");
    }
    let negative = BlockSource {
        partition: PartitionId(-1),
        ..source(0)
    };
    assert!(SealedBlock::seal(&negative, good, Compression::None).is_err());
}

fn any_header() -> impl Strategy<Value = BlockHeader> {
    let offsets = (0..i64::MAX, 0..i64::MAX).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let lengths = (1..=BLOCK_RAW_LIMIT).prop_flat_map(|raw| (Just(raw), 1..=raw, 0..=raw));
    let codec = proptest::sample::select(vec![
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ]);
    let counts = (1..u32::MAX, any::<u32>(), any::<u32>());
    let times = (any::<i64>(), any::<i64>());
    let rest = (
        any::<[u8; 16]>(),
        0..i32::MAX,
        any::<i32>(),
        0..8_u16,
        codec,
        any::<u32>(),
    );
    (offsets, lengths, counts, times, rest).prop_map(|(offsets, lengths, counts, times, rest)| {
        BlockHeader {
            topic_id: TopicId(rest.0),
            partition: PartitionId(rest.1),
            base_offset: Offset(offsets.0),
            last_offset: Offset(offsets.1),
            batches: counts.0,
            records: counts.1,
            control_records: counts.2,
            min_timestamp: Timestamp(times.0),
            max_timestamp: Timestamp(times.1),
            leader_epoch: LeaderEpoch(rest.2),
            flags: BlockFlags(rest.3),
            compression: rest.4,
            stored_len: if rest.4 == Compression::None {
                lengths.0
            } else {
                lengths.1
            },
            raw_len: lengths.0,
            largest_batch: lengths.2,
            stored_crc32: rest.5,
        }
    })
}

proptest! {
    #[test]
    fn block_headers_are_read_back_as_written_and_no_bit_is_free(header in any_header(), bit in 0..128_usize * 8) {
        let mut bytes = header.encode();
        prop_assert_eq!(BlockHeader::decode(&bytes), Ok(header));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(BlockHeader::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_sealed_or_refused_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        let sealed = SealedBlock::seal(&source(0), Bytes::from(raw), Compression::None);
        prop_assert!(sealed.is_err(), "no producer wrote that");
    }

    #[test]
    fn events_follow_a_simple_model(steps in proptest::collection::vec((0..4_i64, 0..3_u8), 1..40)) {
        let mut open = std::collections::BTreeSet::new();
        let mut expected = Vec::new();
        let mut batches = Vec::new();
        for (offset, (producer, step)) in steps.into_iter().enumerate() {
            let offset = offset as i64;
            batches.push(match step {
                0 => TestBatch::new(offset, 1, b"").transactional(producer),
                commit => TestBatch::marker(offset, producer, commit == 1),
            });
            let news = if step == 0 { open.insert(producer) } else { open.remove(&producer); true };
            if news {
                expected.push((ProducerId(producer), Offset(offset)));
            }
        }
        prop_assert!(batches.iter().all(|batch| batch.attributes & (TRANSACTIONAL | CONTROL) != 0));
        let block = sealed(0, &batches, Compression::None);
        let found: Vec<_> = block.transactions.iter().map(|event| (event.producer_id, event.offset)).collect();
        prop_assert_eq!(found, expected);
    }
}
