//! LZ4 frames. Kafka's consumers read exactly one and demand its end; so does this.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// One frame of independent blocks of 64 KiB: Java's `Lz4BlockInputStream` reads no blocks that depend on others.
pub(super) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Appends what the frame holds to `out`, but at most `bound` bytes.
pub(super) fn decompress(bytes: &[u8], bound: u64, out: &mut Vec<u8>) -> io::Result<()> {
    let mut decoder = FrameDecoder::new(bytes.chain(CutOff)).take(bound);
    decoder.read_to_end(out)?;
    let reached_bound = decoder.limit() == 0;
    let (behind, _) = decoder.get_ref().get_ref().get_ref();
    if behind.is_empty() || reached_bound {
        Ok(())
    } else {
        Err(malformed("bytes behind the frame"))
    }
}

/// What lies behind the bytes of a frame. The decoder takes an end where a block should begin for the frame's.
struct CutOff;

impl Read for CutOff {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(malformed("the frame is cut off"))
    }
}

fn malformed(detail: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}
