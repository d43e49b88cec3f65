//! Compresses and decompresses with the five codecs that brokers accept. Blocks of a repository use the same framings.

use std::io::{Read, Write};

use super::{Compression, RecordError, lz4, snappy};

impl Compression {
    /// The codec of a batch with these attributes.
    pub fn from_attributes(attributes: i16) -> Result<Self, RecordError> {
        let id = (attributes & 0x07) as u8;
        Self::ALL
            .into_iter()
            .find(|codec| codec.id() == id)
            .ok_or(RecordError::UnknownCodec(id))
    }
}

/// Decompresses; fails before more than `limit` bytes are held.
///
/// Takes what Kafka's own consumers take: gzip of several members, snappy with and without xerial's framing, one LZ4
/// frame, zstd of several frames with a window of at most 128 MiB.
pub fn decompress(codec: Compression, bytes: &[u8], limit: usize) -> Result<Vec<u8>, RecordError> {
    let likely = bytes.len().saturating_mul(3).min(limit).min(1 << 20);
    decompress_into(codec, bytes, limit, Vec::with_capacity(likely))
}

/// [`decompress`] into an empty buffer, which need not grow when it has room for `limit`.
pub(super) fn decompress_into(
    codec: Compression,
    bytes: &[u8],
    limit: usize,
    out: Vec<u8>,
) -> Result<Vec<u8>, RecordError> {
    match codec {
        Compression::None if bytes.len() > limit => Err(RecordError::TooLarge { codec, limit }),
        Compression::None => Ok(bytes.to_vec()),
        Compression::Snappy => snappy::decompress(bytes, limit, out),
        Compression::Gzip => bounded(codec, limit, out, |bound, out| {
            let decoder = flate2::read::MultiGzDecoder::new(bytes);
            decoder.take(bound).read_to_end(out).map(drop)
        }),
        Compression::Lz4 => bounded(codec, limit, out, |bound, out| {
            lz4::decompress(bytes, bound, out)
        }),
        Compression::Zstd => bounded(codec, limit, out, |bound, out| {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.take(bound).read_to_end(out).map(drop)
        }),
    }
}

fn undecodable(codec: Compression, error: &std::io::Error) -> RecordError {
    RecordError::Undecodable {
        codec,
        detail: error.to_string(),
    }
}

/// What `read` appends, given the most bytes that it may: one more than the limit tells "just as much" from "more".
fn bounded(
    codec: Compression,
    limit: usize,
    mut out: Vec<u8>,
    read: impl FnOnce(u64, &mut Vec<u8>) -> std::io::Result<()>,
) -> Result<Vec<u8>, RecordError> {
    read((limit as u64).saturating_add(1), &mut out).map_err(|error| undecodable(codec, &error))?;
    if out.len() > limit {
        Err(RecordError::TooLarge { codec, limit })
    } else {
        Ok(out)
    }
}

/// Compresses at the codec's fastest sensible level: gzip 1, zstd 1.
pub fn compress(codec: Compression, bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    let failed = |error: std::io::Error| undecodable(codec, &error);
    match codec {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let out = Vec::with_capacity(bytes.len() / 3 + 64);
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
            encoder.write_all(bytes).map_err(failed)?;
            encoder.finish().map_err(failed)
        }
        Compression::Snappy => snappy::compress(bytes),
        Compression::Lz4 => lz4::compress(bytes).map_err(failed),
        Compression::Zstd => ZSTD.with_borrow_mut(|context| match context {
            Some(context) => context.compress(bytes).map_err(failed),
            None => zstd::bulk::compress(bytes, ZSTD_LEVEL).map_err(failed),
        }),
    }
}

const ZSTD_LEVEL: i32 = 1;

thread_local! {
    /// A context takes longer to make than a block to compress.
    static ZSTD: std::cell::RefCell<Option<zstd::bulk::Compressor<'static>>> =
        std::cell::RefCell::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok());
}
