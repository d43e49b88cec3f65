//! What producers in other languages send, what must be refused, and how much memory that may cost.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::{Compression, RecordError, compress, decompress};

const LIMIT: usize = 1 << 20;

/// Several blocks of every codec, half of them incompressible.
fn sample() -> Vec<u8> {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..200_000)
        .map(|at| if at % 40_000 < 20_000 { noise() } else { 7 })
        .collect()
}

fn lz4(frame: FrameInfo, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn refused(codec: Compression, bytes: &[u8]) -> String {
    match decompress(codec, bytes, LIMIT) {
        Err(RecordError::Undecodable { detail, .. }) => detail,
        other => panic!("{codec}: {:?}", other.map(|bytes| bytes.len())),
    }
}

proptest! {
    #[test]
    fn what_is_compressed_decompresses(bytes in prop::collection::vec(any::<u8>(), 0..100_000), repeat in 1usize..5) {
        let bytes = bytes.repeat(repeat);
        for codec in Compression::ALL {
            let packed = compress(codec, &bytes).unwrap();
            prop_assert_eq!(&decompress(codec, &packed, bytes.len()).unwrap(), &bytes);
        }
    }

    #[test]
    fn hostile_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        for codec in Compression::ALL {
            prop_assert!(decompress(codec, &bytes, 1 << 16).map_or(true, |out| out.len() <= 1 << 16));
        }
    }

    #[test]
    fn damaged_streams_never_panic_and_keep_to_the_limit(flips in prop::collection::vec((any::<u16>(), any::<u8>()), 1..5)) {
        for codec in Compression::ALL {
            let mut packed = compress(codec, &sample()[..50_000]).unwrap();
            for (at, mask) in &flips {
                let at = usize::from(*at) % packed.len();
                packed[at] ^= mask;
            }
            prop_assert!(decompress(codec, &packed, 1 << 16).map_or(true, |out| out.len() <= 1 << 16));
        }
    }
}

#[test]
fn a_stream_cut_off_anywhere_is_an_error_or_visibly_shorter() {
    let bytes = sample();
    for codec in Compression::ALL {
        let packed = compress(codec, &bytes).unwrap();
        for end in (0..packed.len())
            .step_by(97)
            .chain(packed.len() - 40..packed.len())
        {
            if let Ok(out) = decompress(codec, &packed[..end], LIMIT) {
                // Xerial's framing and no compression have no end of their own.
                assert!(
                    matches!(codec, Compression::None | Compression::Snappy) || end == 0,
                    "{codec} at {end}"
                );
                assert!(out.len() < bytes.len() && bytes.starts_with(&out));
            }
        }
    }
}

#[test]
fn lz4_frames_of_other_clients_are_read() {
    let bytes = sample();
    let frames = [
        FrameInfo::new(),
        FrameInfo::new()
            .block_size(BlockSize::Max4MB)
            .content_checksum(true),
        FrameInfo::new()
            .block_size(BlockSize::Max256KB)
            .block_checksums(true),
        FrameInfo::new().content_size(Some(bytes.len() as u64)),
        FrameInfo::new()
            .block_mode(BlockMode::Linked)
            .block_size(BlockSize::Max64KB),
    ];
    for frame in frames {
        let packed = lz4(frame.clone(), &bytes);
        assert_eq!(
            decompress(Compression::Lz4, &packed, LIMIT).unwrap(),
            bytes,
            "{frame:?}"
        );
        for end in 0..packed.len().min(64) {
            refused(Compression::Lz4, &packed[..end]);
        }
        refused(Compression::Lz4, &packed[..packed.len() - 1]);
    }
}

#[test]
fn an_lz4_frame_without_its_end_is_cut_off_even_between_two_blocks() {
    let packed = compress(Compression::Lz4, &[7; 1000]).unwrap();
    let without_end_mark = &packed[..packed.len() - 4];
    assert!(refused(Compression::Lz4, without_end_mark).contains("cut off"));
}

#[test]
fn only_one_lz4_frame_is_read_as_in_java() {
    let large = lz4(FrameInfo::new().block_size(BlockSize::Max4MB), b"first");
    let mut two = large.clone();
    two.extend(compress(Compression::Lz4, b"second").unwrap());
    assert!(refused(Compression::Lz4, &two).contains("behind the frame"));
}

#[test]
fn snappy_is_read_without_xerials_framing_as_librdkafka_writes_it() {
    let bytes = sample();
    let raw = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, LIMIT).unwrap(), bytes);
}

#[test]
fn gzip_of_several_members_and_zstd_of_several_frames_are_read_whole() {
    for codec in [Compression::Gzip, Compression::Zstd] {
        let mut packed = compress(codec, b"first ").unwrap();
        packed.extend(compress(codec, b"second").unwrap());
        assert_eq!(decompress(codec, &packed, LIMIT).unwrap(), b"first second");
        packed.extend(b"and what is no stream");
        refused(codec, &packed);
    }
}

#[test]
fn zstd_windows_are_read_up_to_javas_limit() {
    let packed = |window_log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&sample()).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(
        decompress(Compression::Zstd, &packed(27), LIMIT).unwrap(),
        sample()
    );
    refused(Compression::Zstd, &packed(28));
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let bytes = vec![0; LIMIT];
    for codec in Compression::ALL {
        let packed = compress(codec, &bytes).unwrap();
        assert_eq!(decompress(codec, &packed, LIMIT).unwrap().len(), LIMIT);
        let limit = LIMIT - 1;
        let refused = decompress(codec, &packed, limit);
        assert_eq!(
            refused,
            Err(RecordError::TooLarge { codec, limit }),
            "{codec}"
        );
    }
}

#[test]
fn a_snappy_block_that_claims_gigabytes_gets_no_memory_for_them() {
    // The length 2^32 - 1, then one literal byte.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'x'];
    assert!(refused(Compression::Snappy, &claim).contains("impossible length"));
}
