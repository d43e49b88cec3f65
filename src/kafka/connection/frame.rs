//! Frames: a length, then so many bytes. What a broker claims is believed only as far as it delivers.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::buffers::Buffers;

/// The largest answer that is believed: above what any broker is configured to send.
pub(super) const LARGEST_FRAME: usize = 256 << 20;

pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Writes one request: its chunks, which begin with a request header, whose correlation id is filled in. Payloads are
/// written from where they lie.
pub(super) async fn write_frame(
    stream: &mut WriteHalf,
    chunks: &[Bytes],
    correlation_id: i32,
) -> io::Result<()> {
    let length: usize = chunks.iter().map(Bytes::len).sum();
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let first = chunks.first().map(Bytes::as_ref).unwrap_or_default();
    let mut head = BytesMut::with_capacity(4 + first.len());
    head.extend_from_slice(&length.to_be_bytes());
    head.extend_from_slice(first);
    if let Some(place) = head.get_mut(8..12) {
        place.copy_from_slice(&correlation_id.to_be_bytes());
    }
    let rest = chunks.iter().skip(1).filter(|chunk| !chunk.is_empty());
    let mut buffers = Chunks(
        std::iter::once(head.freeze())
            .chain(rest.cloned())
            .collect(),
    );
    while buffers.has_remaining() {
        if stream.write_buf(&mut buffers).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    stream.flush().await
}

/// Several chunks, none empty, as one buffer: written vectored.
struct Chunks(VecDeque<Bytes>);

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map(Bytes::as_ref).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.0) {
            *slice = io::IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.0.pop_front();
        }
    }
}

/// Why there is no frame.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The connection broke.
    Broken(io::Error),
    /// Nothing came for so long.
    Silence(Duration),
    /// A length that no answer has; these are its four bytes.
    Length([u8; 4]),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// The frames that a broker sends.
pub(super) struct Frames {
    stream: ReadHalf,
    buffers: Buffers,
    length: [u8; 4],
    /// How much of `length` is there already.
    begun: usize,
}

impl Frames {
    /// What comes on a stream.
    pub fn new(stream: ReadHalf) -> Self {
        Self {
            stream,
            buffers: Buffers::default(),
            length: [0; 4],
            begun: 0,
        }
    }

    /// Waits for the first bytes of a frame. Cancelling it loses none.
    pub async fn begin(&mut self) -> io::Result<()> {
        let rest = self.length.get_mut(self.begun..).unwrap_or_default();
        match self.stream.read(rest).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.begun += read;
                Ok(())
            }
        }
    }

    /// The next frame, without its length. `patience` is how long may pass without a byte.
    pub async fn next(&mut self, patience: Duration) -> Result<Bytes, FrameError> {
        let silence = |_| FrameError::Silence(patience);
        while self.begun < self.length.len() {
            tokio::time::timeout(patience, self.begin())
                .await
                .map_err(silence)??;
        }
        self.begun = 0;
        let length = usize::try_from(i32::from_be_bytes(self.length))
            .ok()
            .filter(|length| (4..=LARGEST_FRAME).contains(length))
            .ok_or(FrameError::Length(self.length))?;
        let mut buffer = self.buffers.take(length);
        let mut limited = (&mut self.stream).take(length as u64);
        while buffer.len() < length {
            grow(&mut buffer, length);
            let read = tokio::time::timeout(patience, limited.read_buf(&mut buffer));
            if read.await.map_err(silence)?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(self.buffers.share(buffer))
    }
}

/// Makes room as bytes come, so that a length that was only claimed costs nothing: at most as much again as is there.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() == buffer.capacity() {
        let more = (length - buffer.len()).min(buffer.len().max(Buffers::AT_ONCE));
        buffer.reserve_exact(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(bytes: &[u8]) -> Frames {
        let stream = std::io::Cursor::new(bytes.to_vec());
        Frames::new(Box::new(stream))
    }

    fn framed(length: i32, body: &[u8]) -> Vec<u8> {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn frames_of_every_size_come_whole_and_in_order() {
        let mut bytes = Vec::new();
        let sizes = [4_usize, 5, 1 << 10, (1 << 20) + 1, 5 << 20, 4];
        for (number, size) in sizes.iter().enumerate() {
            bytes.extend(framed(*size as i32, &vec![number as u8; *size]));
        }
        let mut frames = frames(&bytes);
        for (number, size) in sizes.iter().enumerate() {
            let frame = frames.next(SECOND).await.unwrap();
            assert_eq!(frame.len(), *size);
            assert!(frame.iter().all(|byte| *byte == number as u8));
        }
        assert!(matches!(
            frames.next(SECOND).await,
            Err(FrameError::Broken(_))
        ));
    }

    #[tokio::test]
    async fn impossible_lengths_are_told_by_their_bytes() {
        for length in [i32::MIN, -1, 0, 3, (LARGEST_FRAME + 1) as i32, i32::MAX] {
            let error = frames(&framed(length, &[0; 8]))
                .next(SECOND)
                .await
                .unwrap_err();
            assert!(
                matches!(error, FrameError::Length(bytes) if bytes == length.to_be_bytes()),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory_before_its_bytes_come() {
        let mut buffer = Buffers::default().take(LARGEST_FRAME);
        assert!(buffer.capacity() <= Buffers::AT_ONCE);
        while buffer.len() < LARGEST_FRAME / 4 {
            grow(&mut buffer, LARGEST_FRAME);
            assert!(buffer.capacity() <= (2 * buffer.len()).max(Buffers::AT_ONCE));
            buffer.resize(buffer.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn half_a_frame_is_a_broken_connection() {
        for bytes in [&framed(100, &[1; 99])[..], &[0, 0], &[]] {
            let error = frames(bytes).next(SECOND).await.unwrap_err();
            assert!(
                matches!(&error, FrameError::Broken(source) if source.kind() == io::ErrorKind::UnexpectedEof),
                "{error:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_in_the_middle_of_a_frame_ends_it() {
        let (broker, ours) = tokio::io::duplex(64);
        let mut frames = Frames::new(Box::new(ours));
        let mut broker = broker;
        broker.write_all(&framed(100, &[1; 10])).await.unwrap();
        let error = frames.next(7 * SECOND).await.unwrap_err();
        assert!(matches!(error, FrameError::Silence(after) if after == 7 * SECOND));
    }
}
