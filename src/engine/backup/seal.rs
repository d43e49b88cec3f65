//! Checks and compresses what was fetched, on threads, in the order in which it came.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::engine::EngineError;
use crate::engine::blocking::blocking;
use crate::engine::extents::OPEN_LIMIT;
use crate::record::{
    Compression, Offset, PartitionId, Rebuild, RecordError, TopicId, batches, rebuild,
};
use crate::repository::{BlockSource, RepositoryError, SealedBlock};

use super::failures::Failures;
use super::walk::Piece;

/// A piece on its way from the fetcher to the pack.
pub(super) struct Chunk {
    /// The partition's place in the run's table.
    pub slot: usize,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its topic's id.
    pub topic_id: TopicId,
    /// Its partition.
    pub partition: PartitionId,
    /// The batches, which hold their memory.
    pub piece: Piece,
}

/// A checked and compressed piece.
pub(super) struct SealedChunk {
    /// The partition's place in the run's table.
    pub slot: usize,
    /// Its topic.
    pub topic: Arc<str>,
    /// Where the reader stood.
    pub start: Offset,
    /// Records outside the backup's bounds.
    pub outside: u64,
    /// The block.
    pub block: SealedBlock,
    /// What it was made of: its memory counts until the block is stored.
    _raw: Bytes,
}

/// How blocks are made of what was fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealing {
    /// For batches that the producer did not compress.
    pub compression: Compression,
    /// Leave the keys out.
    pub drop_keys: bool,
    /// Leave the headers out.
    pub drop_headers: bool,
}

/// Seals chunks on as many threads as there are cores and passes them on in their order, until the
/// channel closes. A chunk that is not what Kafka promises fails its topic.
pub(super) async fn seal_all(
    chunks: mpsc::Receiver<Chunk>,
    sealing: Sealing,
    sealed: mpsc::Sender<SealedChunk>,
    failures: &Failures,
) -> Result<(), EngineError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let chunks = stream::unfold(chunks, |mut chunks| async move {
        chunks.recv().await.map(|chunk| (chunk, chunks))
    });
    let blocks = chunks
        .map(|chunk| async move {
            let topic = Arc::clone(&chunk.topic);
            let sealed = blocking("a sealing thread", move || seal(chunk, sealing)).await;
            (topic, sealed)
        })
        .buffered(threads + 1);
    let mut blocks = pin!(blocks);
    while let Some((topic, block)) = blocks.next().await {
        let block = match block {
            Err(error @ EngineError::Batch { .. }) => {
                failures.note(&topic, error);
                continue;
            }
            block => block?,
        };
        if sealed.send(block).await.is_err() {
            // The storing thread has failed and says why itself.
            break;
        }
    }
    Ok(())
}

fn seal(chunk: Chunk, sealing: Sealing) -> Result<SealedChunk, EngineError> {
    let Chunk {
        slot,
        topic,
        topic_id,
        partition,
        piece,
    } = chunk;
    let Piece {
        start,
        raw,
        outside,
    } = piece;
    let batch_error = |source: RecordError| EngineError::Batch {
        topic: topic.to_string(),
        partition,
        offset: start,
        source,
    };
    let _raw = raw.clone();
    let raw = if sealing.drop_keys || sealing.drop_headers {
        without_parts(&raw, sealing).map_err(batch_error)?
    } else {
        raw
    };
    let source = BlockSource {
        topic_id,
        partition,
    };
    let block =
        SealedBlock::seal(&source, raw, sealing.compression).map_err(|error| match error {
            RepositoryError::Batch(source) => batch_error(source),
            other => other.into(),
        })?;
    Ok(SealedChunk {
        slot,
        topic,
        start,
        outside,
        block,
        _raw,
    })
}

/// The same batches without their keys or headers; control batches stay as they are.
fn without_parts(raw: &Bytes, sealing: Sealing) -> Result<Bytes, RecordError> {
    let options = Rebuild {
        drop_keys: sealing.drop_keys,
        drop_headers: sealing.drop_headers,
        ..Rebuild::default()
    };
    let mut kept = BytesMut::with_capacity(raw.len());
    for batch in batches(raw) {
        let batch = batch?;
        if batch.attributes().is_control || batch.record_count() == 0 {
            kept.extend_from_slice(batch.as_bytes());
        } else if let Some(rebuilt) = rebuild(&batch, &options, OPEN_LIMIT)? {
            kept.extend_from_slice(&rebuilt);
        }
    }
    Ok(kept.freeze())
}
