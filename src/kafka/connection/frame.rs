//! Frames: a length, then so many bytes. What a broker claims is believed only as far as it delivers.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::memory::Reservation;

/// This much memory is taken at once for a length that is only claimed, and for which none was reserved.
const AT_ONCE: usize = 1 << 20;
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
    /// The connection ended, or the system refused to read.
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
    length: [u8; 4],
    /// How much of `length` is there already.
    begun: usize,
}

impl Frames {
    /// What comes on a stream.
    pub fn new(stream: ReadHalf) -> Self {
        Self {
            stream,
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
    ///
    /// Where `memory` covers less than the frame, it is exchanged for what does before anything more is read. The broker is
    /// not silent meanwhile: nobody reads. `unwanted` resolves when nobody waits for the frame any more.
    pub async fn next(
        &mut self,
        patience: Duration,
        memory: Option<Reservation>,
        unwanted: impl Future<Output = ()>,
    ) -> Result<Bytes, FrameError> {
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
        let memory = match memory {
            Some(memory) => Some(tokio::select! {
                biased;
                memory = memory.exchange(length as u64) => memory,
                () = unwanted => return Err(aborted().into()),
            }),
            None => None,
        };
        let mut buffer = match &memory {
            Some(memory) => memory.buffer(length),
            None => Vec::with_capacity(length.min(AT_ONCE)),
        };
        let mut limited = (&mut self.stream).take(length as u64);
        while buffer.len() < length {
            grow(&mut buffer, length);
            let read = tokio::time::timeout(patience, limited.read_buf(&mut buffer));
            if read.await.map_err(silence)?? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(match memory {
            Some(memory) => memory.hold(buffer),
            None => buffer.into(),
        })
    }
}

fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Makes room as bytes come, so that a length that was only claimed costs nothing: at most as much again as is there.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() == buffer.capacity() {
        let more = (length - buffer.len()).min(buffer.len().max(AT_ONCE));
        buffer.reserve_exact(more);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::memory::{MemoryBudget, SMALLEST_BUDGET};

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(bytes: &[u8]) -> Frames {
        let stream = std::io::Cursor::new(bytes.to_vec());
        Frames::new(Box::new(stream))
    }

    async fn next(frames: &mut Frames) -> Result<Bytes, FrameError> {
        frames.next(SECOND, None, pending()).await
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
            let frame = next(&mut frames).await.unwrap();
            assert_eq!(frame.len(), *size);
            assert!(frame.iter().all(|byte| *byte == number as u8));
        }
        assert!(matches!(
            next(&mut frames).await,
            Err(FrameError::Broken(_))
        ));
    }

    #[tokio::test]
    async fn impossible_lengths_are_told_by_their_bytes() {
        for length in [i32::MIN, -1, 0, 3, (LARGEST_FRAME + 1) as i32, i32::MAX] {
            let error = next(&mut frames(&framed(length, &[0; 8])))
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
        let mut buffer: Vec<u8> = Vec::with_capacity(AT_ONCE);
        while buffer.len() < LARGEST_FRAME / 4 {
            grow(&mut buffer, LARGEST_FRAME);
            assert!(buffer.capacity() <= (2 * buffer.len()).max(AT_ONCE));
            buffer.resize(buffer.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn half_a_frame_is_a_broken_connection() {
        for bytes in [&framed(100, &[1; 99])[..], &[0, 0], &[]] {
            let error = next(&mut frames(bytes)).await.unwrap_err();
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
        let error = frames.next(7 * SECOND, None, pending()).await.unwrap_err();
        assert!(matches!(error, FrameError::Silence(after) if after == 7 * SECOND));
    }

    /// A frame of `size` bytes while an oversize batch of somebody else is in memory.
    async fn frame_beside_an_oversize_one(
        size: usize,
    ) -> (Frames, crate::memory::RunMemory, Reservation) {
        let bytes = framed(size as i32, &vec![7; size]);
        let memory = MemoryBudget::new(SMALLEST_BUDGET).run();
        let other = memory.another().reserve_whole(2 * SMALLEST_BUDGET).await;
        (frames(&bytes), memory, other)
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_beyond_its_reservation_waits_for_the_slot_and_not_for_the_broker() {
        let size = SMALLEST_BUDGET as usize;
        let (mut frames, memory, other) = frame_beside_an_oversize_one(size).await;
        let reserved = memory.reserve(1 << 20).await;
        let reading = frames.next(SECOND, Some(reserved), pending());
        let mut reading = std::pin::pin!(reading);
        let waited = tokio::time::timeout(100 * SECOND, &mut reading).await;
        assert!(waited.is_err(), "there is one slot");
        assert_eq!(memory.usage(), (0, 0), "what was reserved is given back");
        drop(other);
        let frame = reading.await.unwrap();
        assert_eq!(frame.len(), size);
        let next = memory.another();
        let waiting = tokio::time::timeout(SECOND, next.reserve_whole(2 * SMALLEST_BUDGET));
        assert!(waiting.await.is_err(), "the frame holds the slot");
        drop(frame);
        next.reserve_whole(2 * SMALLEST_BUDGET).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_nobody_wants_any_more_does_not_wait_for_memory() {
        let (mut frames, memory, _other) =
            frame_beside_an_oversize_one(SMALLEST_BUDGET as usize).await;
        let reserved = memory.reserve(1 << 20).await;
        let unwanted = tokio::time::sleep(3 * SECOND);
        let error = frames.next(SECOND, Some(reserved), unwanted).await;
        assert!(matches!(error, Err(FrameError::Broken(_))));
        assert_eq!(memory.usage(), (0, 0));
    }

    #[tokio::test]
    async fn a_frame_holds_no_more_than_it_has_bytes() {
        let size = 700 << 10;
        let bytes = framed(size, &vec![7; size as usize]);
        let memory = MemoryBudget::new(SMALLEST_BUDGET).run();
        let reserved = memory.reserve(3 << 20).await;
        let frame = frames(&bytes).next(SECOND, Some(reserved), pending()).await;
        let frame = frame.unwrap();
        let (held, _) = memory.usage();
        assert!((frame.len() as u64..=1 << 20).contains(&held), "{held}");
        let part = frame.slice(5..6);
        drop(frame);
        assert_eq!(memory.usage().0, held);
        drop(part);
        assert_eq!(memory.usage(), (0, 0));
    }
}
