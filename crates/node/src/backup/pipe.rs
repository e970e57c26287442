//! Bytes between code that blocks and code that must not, a bounded number of them on their way.

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks on their way to code that must not block, at most.
const CHUNKS_MAX: usize = 4;

/// Chunks on their way to code that blocks, at most. They are as large as their source makes them.
const AHEAD_MAX: usize = 1;

/// Bytes of a chunk that was written, at most.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// For a writer that blocks and a reader that awaits. A reader that is gone is an error of the
/// writer; a writer that is gone ends the chunks.
pub fn to_async() -> (Blocking, Receiver<Bytes>) {
    let (chunks, receiver) = channel(CHUNKS_MAX);
    let buffer = BytesMut::with_capacity(CHUNK_BYTES);
    (Blocking { chunks, buffer }, receiver)
}

/// The writing end.
pub struct Blocking {
    chunks: Sender<Bytes>,
    buffer: BytesMut,
}

impl Write for Blocking {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.buffer.len();
        let taken = data.len().min(room);
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let next = BytesMut::with_capacity(CHUNK_BYTES);
        let chunk = std::mem::replace(&mut self.buffer, next).freeze();
        let sent = self.chunks.blocking_send(chunk);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more"))
    }
}

/// For a source of `bytes` that awaits and a reader that blocks. A reader that is gone closes the
/// channel; a source that is gone too early is an error of the reader, and not an end.
pub fn to_blocking(bytes: u64) -> (Sender<io::Result<Bytes>>, Chunks) {
    let (sender, chunks) = channel(AHEAD_MAX);
    let chunks = Chunks {
        chunks,
        rest: Bytes::new(),
        left: bytes,
    };
    (sender, chunks)
}

/// The reading end.
pub struct Chunks {
    chunks: Receiver<io::Result<Bytes>>,
    rest: Bytes,
    /// Of the whole, what was not received yet.
    left: u64,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if self.left == 0 {
                return Ok(0);
            }
            let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the source is gone");
            self.rest = self.chunks.blocking_recv().ok_or_else(ended)??;
            self.left = self.left.saturating_sub(self.rest.len() as u64);
        }
        let taken = into.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_stops_early_is_an_error_and_no_end() {
        let (sender, mut chunks) = to_blocking(5);
        sender.try_send(Ok(Bytes::from_static(b"abc"))).unwrap();
        let mut read = [0; 2];
        chunks.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"ab");
        assert_eq!(chunks.read(&mut read).unwrap(), 1);
        sender.try_send(Ok(Bytes::from_static(b"de"))).unwrap();
        drop(sender);
        let mut rest = Vec::new();
        chunks.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"de");
        let (sender, mut chunks) = to_blocking(5);
        sender.try_send(Ok(Bytes::from_static(b"abc"))).unwrap();
        drop(sender);
        let error = chunks.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
