//! The two shapes of JSON in a repository: one readable object that carries its own SHA-256, and compressed content that is
//! named by the SHA-256 of its stored bytes.

use std::collections::BTreeMap;
use std::io::Read;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Sha256;

/// The newest format that this program reads, and the one it writes.
pub const FORMAT: u32 = 1;
/// Compressed JSON is written with a window of 2 MiB; readers need not provide more than 8 MiB (2^23).
const WINDOW_LOG_LIMIT: u32 = 23;
const LEVEL: i32 = 3;

/// Why a piece of JSON cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    Damaged(String),
    NewerFormat(u32),
}

#[derive(Deserialize)]
struct OnlyFormat {
    format: u32,
}

/// Reads JSON whose object has a `format`, which is looked at before anything else.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Unusable> {
    let damaged = |error: serde_json::Error| Unusable::Damaged(error.to_string());
    let OnlyFormat { format } = serde_json::from_slice(json).map_err(damaged)?;
    match format {
        FORMAT => serde_json::from_slice(json).map_err(damaged),
        0 => Err(Unusable::Damaged("there is no format 0".to_owned())),
        _ => Err(Unusable::NewerFormat(format)),
    }
}

/// `{"<key>": <content>, "sha256": "<of the exact text of the content>"}`, indented for people.
pub(super) fn seal<T: Serialize>(key: &str, content: &T) -> Result<Vec<u8>, serde_json::Error> {
    let text = serde_json::to_string_pretty(content)?;
    let digest = Sha256::of(text.as_bytes());
    Ok(format!("{{\n\"{key}\": {text},\n\"sha256\": \"{digest}\"\n}}\n").into_bytes())
}

/// Reads what [`seal`] wrote.
pub(super) fn unseal<T: DeserializeOwned>(key: &str, sealed: &[u8]) -> Result<T, Unusable> {
    unseal_with_digest(key, sealed).map(|(content, _)| content)
}

/// The same, with the digest that stands beside the content.
pub(super) fn unseal_with_digest<T: DeserializeOwned>(
    key: &str,
    sealed: &[u8],
) -> Result<(T, Sha256), Unusable> {
    let damaged = |error: serde_json::Error| Unusable::Damaged(error.to_string());
    let parts: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(sealed).map_err(damaged)?;
    let (Some(content), Some(digest), 2) = (parts.get(key), parts.get("sha256"), parts.len())
    else {
        return Err(Unusable::Damaged(format!(
            "it is not an object of {key:?} and \"sha256\""
        )));
    };
    let digest: Sha256 = serde_json::from_str(digest.get()).map_err(damaged)?;
    let text = content.get();
    if Sha256::of(text.as_bytes()) != digest {
        return Err(Unusable::Damaged("its SHA-256 does not match".to_owned()));
    }
    Ok((parse(text.as_bytes())?, digest))
}

/// `content` as JSON in one zstd frame.
pub(super) fn compress<T: Serialize>(content: &T) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
    let mut buffered = std::io::BufWriter::with_capacity(64 << 10, &mut encoder);
    serde_json::to_writer(&mut buffered, content)?;
    buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    encoder.finish()
}

/// The text of compressed JSON, never more than `limit` bytes of it.
pub(super) fn decompress(stored: &[u8], limit: u64) -> Result<Vec<u8>, Unusable> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut decoder = zstd::Decoder::with_buffer(stored)?;
        decoder.window_log_max(WINDOW_LOG_LIMIT)?;
        let mut text = Vec::new();
        decoder
            .take(limit.saturating_add(1))
            .read_to_end(&mut text)?;
        Ok(text)
    };
    match read() {
        Ok(text) if text.len() as u64 <= limit => Ok(text),
        Ok(_) => Err(Unusable::Damaged(format!(
            "more than {limit} bytes come out of it"
        ))),
        Err(error) => Err(Unusable::Damaged(error.to_string())),
    }
}
