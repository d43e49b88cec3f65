//! Snappy in the framing that Kafka uses (xerial's `SnappyOutputStream`): a header, then blocks each with its
//! length. Producers that are not Java may write a single raw block instead; both are read.

use super::{Compression, RecordError};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and compatible version, as Java's producer writes them.
const HEADER: [u8; 16] = [
    0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
];
const BLOCK: usize = 32 << 10;

fn undecodable(detail: impl ToString) -> RecordError {
    RecordError::Undecodable {
        codec: Compression::Snappy,
        detail: detail.to_string(),
    }
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let mut out = HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK)];
    for chunk in bytes.chunks(BLOCK) {
        let length = encoder.compress(chunk, &mut block).map_err(undecodable)?;
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(block.get(..length).unwrap_or_default());
    }
    Ok(out)
}

pub(super) fn decompress(
    bytes: &[u8],
    limit: usize,
    mut out: Vec<u8>,
) -> Result<Vec<u8>, RecordError> {
    if bytes.get(..8) != Some(&MAGIC[..]) {
        block(bytes, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = bytes
        .get(HEADER.len()..)
        .ok_or_else(|| undecodable("the stream header is cut off"))?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (compressed, behind) = behind
            .split_at_checked(length)
            .ok_or_else(|| undecodable("a block is cut off"))?;
        block(compressed, limit, &mut out)?;
        rest = behind;
    }
    if rest.is_empty() {
        Ok(out)
    } else {
        Err(undecodable("a block's length is cut off"))
    }
}

/// Appends what one block decompresses to.
fn block(compressed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let length = snap::raw::decompress_len(compressed).map_err(undecodable)?;
    // Snappy cannot shrink below a 64th or so: a block that claims more lies about its length.
    if length > compressed.len().saturating_mul(128) {
        return Err(undecodable("a block claims an impossible length"));
    }
    let start = out.len();
    let end = start.checked_add(length).filter(|end| *end <= limit);
    let end = end.ok_or(RecordError::TooLarge {
        codec: Compression::Snappy,
        limit,
    })?;
    out.resize(end, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let written = snap::raw::Decoder::new()
        .decompress(compressed, room)
        .map_err(undecodable)?;
    out.truncate(start + written);
    Ok(())
}
