//! Whatever happens to the bytes of a repository is noticed, and said in the right words.

use std::fs;

use bytes::Bytes;

use super::testing::{Scratch, TestBatch, concatenated, noise, sealed, source, storage};
use super::*;
use crate::record::Compression;

fn small_pack(scratch: &Scratch) -> PackRef {
    let transactional = [
        TestBatch::new(7, 2, b"t").transactional(9),
        TestBatch::marker(9, 9, true),
    ];
    scratch.pack(&[
        sealed(0, &[TestBatch::new(5, 2, b"first")], Compression::None),
        sealed(
            1,
            &[TestBatch::new(0, 30, b"the same again and again")],
            Compression::Zstd,
        ),
        sealed(0, &transactional, Compression::None),
    ])
}

fn read_entirely(repository: &Repository, pack: &PackRef) -> Result<Vec<Block>, RepositoryError> {
    let reader = repository.open_pack(pack)?;
    let blocks: Vec<Block> = reader
        .blocks(reader.block_range())
        .collect::<Result<_, _>>()?;
    blocks.iter().try_for_each(Block::verify)?;
    Ok(blocks)
}

#[test]
fn a_pack_gives_back_what_was_put_in() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    assert_eq!(
        fs::metadata(scratch.path_of(&pack)).unwrap().len(),
        pack.length
    );
    let reader = scratch.repository.open_pack(&pack).unwrap();
    assert_eq!(reader.footer().topics.len(), 1);
    assert_eq!(reader.footer().transactions.len(), 2);
    let blocks = read_entirely(&scratch.repository, &pack).unwrap();
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|block| &*block.topic == "orders"));
    assert_eq!(
        blocks[0].raw,
        concatenated(&[TestBatch::new(5, 2, b"first")])
    );
    assert_eq!(
        blocks[1].raw,
        concatenated(&[TestBatch::new(0, 30, b"the same again and again")])
    );
    assert_eq!(blocks[1].header.compression, Compression::Zstd);
    assert_eq!(blocks[2].header.records, 2);
    assert_eq!(blocks[2].header.control_records, 1);
}

#[test]
fn every_flipped_bit_of_a_pack_is_found() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    let path = scratch.path_of(&pack);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &damaged).unwrap();
        let found = read_entirely(&scratch.repository, &pack);
        assert!(
            matches!(found, Err(RepositoryError::PackDamaged { pack: found, .. }) if found == pack.pack_id),
            "bit {bit} of {}: {found:?}",
            whole.len() * 8
        );
    }
}

#[test]
fn a_pack_cut_at_any_length_is_truncated_and_a_longer_one_damaged() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    let path = scratch.path_of(&pack);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = scratch.repository.open_pack(&pack).unwrap_err();
        assert!(
            matches!(error, RepositoryError::PackTruncated { found, expected, .. }
                if found == length as u64 && expected == pack.length),
            "{error:?}"
        );
    }
    fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(
        scratch.repository.open_pack(&pack),
        Err(RepositoryError::PackDamaged { .. })
    ));
}

#[test]
fn a_pack_that_is_not_there_is_missing() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    fs::remove_file(scratch.path_of(&pack)).unwrap();
    assert!(matches!(
        scratch.repository.open_pack(&pack),
        Err(RepositoryError::PackMissing { .. })
    ));
}

#[test]
fn swapped_packs_are_foreign() {
    let scratch = Scratch::new();
    let first = small_pack(&scratch);
    let second = scratch.pack(&[sealed(
        0,
        &[TestBatch::new(5, 9, b"longer")],
        Compression::None,
    )]);
    let third = small_pack(&scratch);
    fs::copy(scratch.path_of(&second), scratch.path_of(&first)).unwrap();
    fs::copy(scratch.path_of(&third), scratch.path_of(&second)).unwrap();
    for (pack, other) in [(&first, &second), (&second, &third)] {
        let error = scratch.repository.open_pack(pack).unwrap_err();
        assert!(
            matches!(error, RepositoryError::PackForeign { pack: expected, found_pack, .. }
                if expected == pack.pack_id && found_pack == other.pack_id),
            "{error:?}"
        );
    }
}

#[test]
fn packs_of_another_repository_are_foreign() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let pack = small_pack(&other);
    let path = scratch.path_of(&pack);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(other.path_of(&pack), path).unwrap();
    let error = scratch.repository.open_pack(&pack).unwrap_err();
    let foreign = other.repository.id();
    assert!(
        matches!(error, RepositoryError::PackForeign { found_repository, .. } if found_repository == foreign),
        "{error:?}"
    );
}

#[test]
fn links_and_fifos_are_not_packs() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    let path = scratch.path_of(&pack);
    let elsewhere = scratch.directory.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(matches!(
        scratch.repository.open_pack(&pack),
        Err(RepositoryError::ObjectDamaged { .. })
    ));
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(
        scratch.repository.open_pack(&pack),
        Err(RepositoryError::ObjectDamaged { .. })
    ));
    let shelf = path.parent().unwrap();
    fs::remove_dir_all(shelf).unwrap();
    std::os::unix::fs::symlink("/", shelf).unwrap();
    assert!(matches!(
        scratch.repository.open_pack(&pack),
        Err(RepositoryError::ObjectDamaged { .. })
    ));
}

#[test]
fn a_later_pack_format_is_said_to_be_one() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    let path = scratch.path_of(&pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let sum = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = scratch.repository.open_pack(&pack).unwrap_err();
    assert!(
        matches!(
            error,
            RepositoryError::NewerFormat {
                found: 2,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn ranges_that_cut_blocks_are_refused() {
    let scratch = Scratch::new();
    let pack = small_pack(&scratch);
    let reader = scratch.repository.open_pack(&pack).unwrap();
    let all = reader.block_range();
    let second = reader.footer().blocks[1].place;
    assert_eq!(
        reader
            .read_blocks(second.offset..second.end())
            .unwrap()
            .len(),
        1
    );
    assert_eq!(reader.read_blocks(second.offset..all.end).unwrap().len(), 2);
    for range in [
        all.start + 1..all.end,
        all.start..all.end - 1,
        all.start..all.end + 1,
        0..u64::MAX,
        second.offset..second.offset + 1,
    ] {
        assert!(reader.read_blocks(range.clone()).is_err(), "{range:?}");
        assert!(reader.blocks(range).any(|block| block.is_err()));
    }
}

#[test]
fn long_packs_recycle_buffers_and_are_read_in_pieces_and_in_order() {
    let scratch = Scratch::new();
    let block = |index: i64| {
        let batch = TestBatch::new(index * 10, 1, &noise(700_000, index as u64));
        SealedBlock::seal(&source(0), Bytes::from(batch.encode()), Compression::None).unwrap()
    };
    let blocks: Vec<SealedBlock> = (0..48).map(block).collect();
    let pack = scratch.pack(&blocks);
    let reader = scratch.repository.open_pack(&pack).unwrap();
    let read: Vec<Block> = reader
        .blocks(reader.block_range())
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(read.len(), blocks.len());
    for (read, block) in read.iter().zip(&blocks) {
        assert_eq!(read.raw, block.stored);
        assert_eq!(read.header, block.header);
    }
}

#[test]
fn an_unfinished_pack_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let mut writer = scratch.repository.pack_writer().unwrap();
    writer
        .append(
            "orders",
            &sealed(
                0,
                &[TestBatch::new(0, 1, &noise(6 << 20, 1))],
                Compression::None,
            ),
        )
        .unwrap();
    drop(writer);
    assert!(scratch.repository.packs().unwrap().is_empty());
    assert_eq!(
        fs::read_dir(scratch.directory.path().join(".tmp"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn foreign_and_damaged_states_are_found() {
    let scratch = Scratch::new();
    let state = vec!["cleanup.policy".to_owned(), "compact".to_owned()];
    let digest = scratch.repository.put_state(&state).unwrap();
    assert_eq!(scratch.repository.put_state(&state).unwrap(), digest);
    assert_eq!(
        scratch.repository.state::<Vec<String>>(&digest).unwrap(),
        state
    );
    let path = scratch
        .directory
        .path()
        .join(format!("states/{digest}.json.zst"));
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, damaged).unwrap();
        assert!(matches!(
            scratch.repository.state::<Vec<String>>(&digest),
            Err(RepositoryError::ObjectDamaged { .. })
        ));
    }
    // A new backup must not build on a damaged one that has the right name.
    assert!(matches!(
        scratch.repository.put_state(&state),
        Err(RepositoryError::ObjectDamaged { .. })
    ));
    fs::remove_file(&path).unwrap();
    assert!(
        scratch
            .repository
            .state::<Vec<String>>(&digest)
            .unwrap_err()
            .is_missing()
    );
}

#[test]
fn a_repository_is_told_from_other_directories() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let not_one = |result: Result<Repository, RepositoryError>| {
        matches!(result, Err(RepositoryError::NotARepository { .. }))
    };
    assert!(not_one(Repository::open(storage(path))));
    let repository = Repository::open_or_init(storage(path)).unwrap();
    assert_eq!(
        Repository::open_or_init(storage(path)).unwrap().id(),
        repository.id()
    );
    assert_eq!(
        Repository::open(storage(path)).unwrap().created_at(),
        repository.created_at()
    );
    assert!(matches!(
        Repository::init(storage(path)),
        Err(RepositoryError::AlreadyARepository { .. })
    ));
    let identity = path.join("kafkeep.json");
    let whole = fs::read(&identity).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&identity, damaged).unwrap();
        assert!(Repository::open(storage(path)).is_err(), "bit {bit}");
    }
    fs::write(path.join("else"), b"").unwrap();
    fs::remove_file(&identity).unwrap();
    assert!(not_one(Repository::open(storage(path))));
    assert!(not_one(Repository::init(storage(path))));
    assert!(not_one(Repository::open_or_init(storage(path))));
    assert!(matches!(
        DirectoryStorage::open(&path.join("else")),
        Err(RepositoryError::NotARepository { .. })
    ));
    assert!(matches!(
        DirectoryStorage::create(&path.join("else/below")),
        Err(RepositoryError::NotARepository { .. })
    ));
    assert!(matches!(
        DirectoryStorage::open(&path.join("nothing")),
        Err(RepositoryError::NotARepository { .. })
    ));
}

#[test]
fn a_pack_whose_footer_names_a_topic_like_a_path_is_damaged() {
    let scratch = Scratch::new();
    let mut writer = scratch.repository.pack_writer().unwrap();
    let block = sealed(0, &[TestBatch::new(0, 1, b"x")], Compression::None);
    writer.append("../../etc/x", &block).unwrap();
    let pack = writer.finish().unwrap();
    let error = scratch.repository.open_pack(&pack).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::PackDamaged { detail, .. } if detail.contains("as Kafka names none")),
        "{error}"
    );
}

#[test]
fn only_what_the_medium_keeps_back_is_damage() {
    use rustix::io::Errno;
    let failed = |errno| RepositoryError::system("read", "packs/x", errno);
    for errno in [Errno::IO, Errno::BADMSG, Errno::UCLEAN] {
        assert!(failed(errno).is_damage(), "{errno}");
    }
    for errno in [
        Errno::ACCESS,
        Errno::PERM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::STALE,
        Errno::NOSPC,
    ] {
        assert!(!failed(errno).is_damage(), "{errno}");
    }
}
