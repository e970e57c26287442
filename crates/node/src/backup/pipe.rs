//! Bytes from code that blocks to code that must not, a bounded number of them on their way.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Chunks on their way, at most.
const CHUNKS_MAX: usize = 4;

/// Bytes of a chunk, at most.
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
