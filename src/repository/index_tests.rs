//! Layers, merged in whatever way, are the concatenation of what was added.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::{Scratch, TOPIC_ID, TestBatch, sealed};
use super::*;
use crate::record::{Compression, LeaderEpoch, Offset, PartitionId, Timestamp};

fn pack(number: u128) -> PackRef {
    let id = uuid::Uuid::from_u128(number);
    PackRef {
        pack_id: PackId(id),
        length: 1 << 20,
        footer_sha256: Sha256::of(&number.to_le_bytes()),
    }
}

/// Extents with gaps between their bytes, which are never merged into one.
fn extent(pack: u32, base_offset: i64) -> Extent {
    Extent {
        pack,
        offset: 1000,
        length: 100,
        start_offset: Offset(base_offset),
        base_offset: Offset(base_offset),
        last_offset: Offset(base_offset + 4),
        batches: 2,
        records: 5,
        control_records: 0,
        raw_bytes: 300,
        min_timestamp: Timestamp(base_offset),
        max_timestamp: Timestamp(base_offset + 1),
        leader_epoch: LeaderEpoch(1),
        largest_batch: 200,
        transactional: base_offset % 2 == 0,
    }
}

/// A layer of one pack with the extents at these offsets, by partition.
fn layer(number: u128, extents: &[(i32, i64)]) -> Layer {
    let mut layer = Layer::new("orders", TOPIC_ID, "cluster");
    layer.packs.push(pack(number));
    for (partition, offset) in extents {
        layer
            .partitions
            .entry(PartitionId(*partition))
            .or_default()
            .push(extent(0, *offset));
        layer.weight += 1;
    }
    layer
}

fn depth(repository: &Repository, mut tip: Sha256) -> usize {
    let mut depth = 1;
    while let Some(parent) = repository.layer(&tip).unwrap().parent {
        depth += 1;
        tip = parent;
    }
    depth
}

/// Extents by partition with the packs that they lie in.
fn resolved(index: &TopicIndex) -> BTreeMap<PartitionId, Vec<(PackRef, Extent)>> {
    let resolve = |extent: &Extent| {
        (
            index.packs[extent.pack as usize].clone(),
            Extent {
                pack: 0,
                ..extent.clone()
            },
        )
    };
    index
        .partitions
        .iter()
        .map(|(partition, extents)| (*partition, extents.iter().map(resolve).collect()))
        .collect()
}

#[test]
fn five_hundred_small_layers_stay_a_short_chain() {
    let scratch = Scratch::new();
    let mut tip = None;
    for run in 0..500 {
        let layer = layer(run, &[(0, run as i64 * 10), (1, run as i64 * 10)]);
        tip = Some(
            scratch
                .repository
                .extend_index(tip.as_ref(), layer)
                .unwrap(),
        );
    }
    let tip = tip.unwrap();
    assert!(depth(&scratch.repository, tip) <= 10);
    let index = scratch.repository.index(&tip).unwrap();
    assert_eq!(index.packs.len(), 500);
    assert_eq!(index.partitions[&PartitionId(1)].len(), 500);
}

#[test]
fn ever_smaller_layers_do_not_make_a_long_chain() {
    let scratch = Scratch::new();
    let (mut tip, mut offset) = (None, 0);
    for size in (1..60).rev() {
        let extents: Vec<(i32, i64)> = (0..size).map(|index| (0, offset + index * 10)).collect();
        offset += size * 10;
        tip = Some(
            scratch
                .repository
                .extend_index(tip.as_ref(), layer(size as u128, &extents))
                .unwrap(),
        );
    }
    assert!(depth(&scratch.repository, tip.unwrap()) <= 12);
}

#[test]
fn an_empty_layer_changes_nothing() {
    let scratch = Scratch::new();
    let tip = scratch
        .repository
        .extend_index(None, layer(1, &[(0, 0)]))
        .unwrap();
    let empty = Layer::new("orders", TOPIC_ID, "cluster");
    assert_eq!(
        scratch.repository.extend_index(Some(&tip), empty).unwrap(),
        tip
    );
}

#[test]
fn layers_that_do_not_follow_are_refused() {
    let scratch = Scratch::new();
    let repository = &scratch.repository;
    let tip = repository
        .extend_index(None, layer(1, &[(0, 100)]))
        .unwrap();
    for offset in [100, 96, 104, 0] {
        let refused = repository.extend_index(Some(&tip), layer(2, &[(0, offset)]));
        assert!(
            matches!(refused, Err(RepositoryError::UnfitIndex { .. })),
            "{offset}"
        );
    }
    let mut other_topic = layer(2, &[(0, 200)]);
    other_topic.topic = "payments".to_owned();
    assert!(matches!(
        repository.extend_index(Some(&tip), other_topic),
        Err(RepositoryError::UnfitIndex { .. })
    ));
    let mut other_pack = layer(1, &[(0, 200)]);
    other_pack.packs[0].length += 1;
    assert!(matches!(
        repository.extend_index(Some(&tip), other_pack),
        Err(RepositoryError::UnfitIndex { .. })
    ));
    let missing = Sha256::of(b"missing");
    assert!(
        repository
            .extend_index(Some(&missing), layer(2, &[(0, 200)]))
            .unwrap_err()
            .is_missing()
    );
}

#[test]
fn layers_that_cannot_be_are_not_stored() {
    let scratch = Scratch::new();
    let good = layer(1, &[(0, 0), (0, 10)]);
    assert!(scratch.repository.put_layer(&good).is_ok());
    let with = |change: &dyn Fn(&mut Layer)| {
        let mut layer = good.clone();
        change(&mut layer);
        scratch.repository.put_layer(&layer)
    };
    assert!(with(&|layer| layer.weight = 3).is_err());
    assert!(with(&|layer| layer.packs.clear()).is_err());
    assert!(with(&|layer| layer.packs[0].length = 1100).is_err());
    assert!(with(&|layer| layer.partitions.get_mut(&PartitionId(0)).unwrap().reverse()).is_err());
    assert!(
        with(&|layer| layer.partitions.get_mut(&PartitionId(0)).unwrap()[0].length = u64::MAX)
            .is_err()
    );
    assert!(
        with(&|layer| layer.partitions.get_mut(&PartitionId(0)).unwrap()[0].offset = 0).is_err()
    );
    assert!(
        with(
            &|layer| layer.partitions.get_mut(&PartitionId(0)).unwrap()[1].last_offset = Offset(3)
        )
        .is_err()
    );
}

#[test]
fn blocks_that_follow_one_another_become_one_extent() {
    let scratch = Scratch::new();
    let blocks = [
        sealed(0, &[TestBatch::new(0, 3, b"value")], Compression::None),
        sealed(
            0,
            &[TestBatch::new(3, 2, b"value").transactional(1)],
            Compression::None,
        ),
        sealed(1, &[TestBatch::new(7, 1, b"value")], Compression::None),
        sealed(0, &[TestBatch::new(5, 1, b"value")], Compression::None),
    ];
    let mut writer = scratch.repository.pack_writer().unwrap();
    let places = blocks
        .each_ref()
        .map(|block| writer.append("orders", block).unwrap());
    let pack = writer.finish().unwrap();
    let mut layer = Layer::new("orders", TOPIC_ID, "cluster");
    for (place, block) in places.into_iter().zip(&blocks) {
        let header = &block.header;
        let extent = Extent::of_block(0, place, header.base_offset, header);
        layer.push(header.partition, &pack, extent).unwrap();
    }
    let tip = scratch.repository.extend_index(None, layer).unwrap();
    let index = scratch.repository.index(&tip).unwrap();
    let extents = &index.partitions[&PartitionId(0)];
    assert_eq!((index.packs.len(), extents.len()), (1, 2));
    assert_eq!(
        (extents[0].base_offset, extents[0].last_offset),
        (Offset(0), Offset(4))
    );
    assert_eq!(
        (
            extents[0].records,
            extents[0].batches,
            extents[0].transactional
        ),
        (5, 2, true)
    );
    assert_eq!(extents[0].length, places[0].len + places[1].len);
    let reader = scratch.repository.open_pack(&pack).unwrap();
    let read = reader
        .read_blocks(extents[0].offset..extents[0].end())
        .unwrap();
    assert_eq!(read.len(), 2);
}

#[test]
fn pushing_a_block_that_goes_back_is_refused() {
    let scratch = Scratch::new();
    let header = sealed(0, &[TestBatch::new(5, 3, b"value")], Compression::None).header;
    let place = BlockPlace {
        offset: 64,
        len: header.len(),
    };
    let mut layer = Layer::new("orders", TOPIC_ID, "cluster");
    let extent = Extent::of_block(0, place, header.base_offset, &header);
    layer
        .push(PartitionId(0), &pack(1), extent.clone())
        .unwrap();
    assert!(layer.push(PartitionId(0), &pack(1), extent).is_err());
    assert!(scratch.repository.put_layer(&layer).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_flattened_index_is_the_plain_concatenation(
        runs in proptest::collection::vec(proptest::collection::vec((0..3_i32, 1..50_i64), 0..12), 1..30)
    ) {
        let scratch = Scratch::new();
        let mut next = BTreeMap::from([(0, 0), (1, 0), (2, 0)]);
        let mut expected: BTreeMap<PartitionId, Vec<(PackRef, Extent)>> = BTreeMap::new();
        let (mut tip, mut total) = (None, 0_usize);
        for (number, run) in runs.iter().enumerate() {
            let extents: Vec<(i32, i64)> = run.iter().map(|(partition, gap)| {
                let offset = next[partition] + gap;
                next.insert(*partition, offset + 4);
                (*partition, offset)
            }).collect();
            for (partition, offset) in &extents {
                let resolved = (pack(number as u128), extent(0, *offset));
                expected.entry(PartitionId(*partition)).or_default().push(resolved);
            }
            total += extents.len();
            tip = Some(scratch.repository.extend_index(tip.as_ref(), layer(number as u128, &extents)).unwrap());
            let depth = depth(&scratch.repository, tip.unwrap());
            prop_assert!(depth <= 2 + total.max(1).ilog2() as usize, "{} layers of {} extents", depth, total);
        }
        let index = scratch.repository.index(&tip.unwrap()).unwrap();
        prop_assert_eq!(resolved(&index), expected);
    }
}

#[test]
fn layers_that_lead_elsewhere_or_count_too_much_are_refused() {
    let scratch = Scratch::new();
    let mut path_like = layer(1, &[(0, 0)]);
    path_like.topic = "../../etc/x".to_owned();
    let mut endless = layer(1, &[(0, 0)]);
    let Some(extents) = endless.partitions.get_mut(&PartitionId(0)) else {
        unreachable!()
    };
    extents[0].records = 1 << 48;
    let one = extents[0].clone();
    extents.extend((1..100).map(|n| Extent {
        start_offset: Offset(n * 1000),
        base_offset: Offset(n * 1000),
        last_offset: Offset(n * 1000),
        ..one.clone()
    }));
    endless.weight = 100;
    for forged in [path_like, endless] {
        let refused = scratch.repository.put_layer(&forged);
        assert!(
            matches!(refused, Err(RepositoryError::UnfitIndex { .. })),
            "{refused:?}"
        );
    }
}
