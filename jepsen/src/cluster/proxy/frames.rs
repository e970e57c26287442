//! HTTP/2 as a row of frames, so that the proxy can hold back one call's data while another's passes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a client says before its first frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER_BYTES: usize = 9;

/// Larger frames are not HTTP/2 as our nodes speak it.
const FRAME_BYTES_MAX: usize = 1 << 24;

const DATA: u8 = 0;

/// One frame with its header, or the preface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// The stream that it belongs to; 0 for the connection as a whole.
    pub(super) stream: u32,
    is_data: bool,
}

impl Frame {
    /// Whether another stream's frames may overtake it: the headers' compression ties all headers
    /// of a connection to their order, data is tied to its own stream alone.
    pub(super) fn can_wait(&self) -> bool {
        self.is_data && self.stream != 0
    }
}

/// Reads the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    expects_preface: bool,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn of_client(reader: R) -> Self {
        Self {
            reader,
            expects_preface: true,
        }
    }

    pub(super) fn of_server(reader: R) -> Self {
        Self {
            reader,
            expects_preface: false,
        }
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        if std::mem::take(&mut self.expects_preface) {
            let mut bytes = vec![0; PREFACE.len()];
            self.reader.read_exact(&mut bytes).await?;
            if bytes != PREFACE {
                let message = "a client that does not speak HTTP/2";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            return Ok(Some(Frame {
                bytes,
                stream: 0,
                is_data: false,
            }));
        }
        let mut bytes = vec![0; HEADER_BYTES];
        match self.reader.read_exact(&mut bytes).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length =
            usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        assert!(length < FRAME_BYTES_MAX, "a length has 24 bits");
        let is_data = bytes[3] == DATA;
        let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
        bytes.resize(HEADER_BYTES + length, 0);
        self.reader.read_exact(&mut bytes[HEADER_BYTES..]).await?;
        Ok(Some(Frame {
            bytes,
            stream,
            is_data,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_one_by_one() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend([0, 0, 2, 0, 1, 0, 0, 0, 5, b'h', b'i']);
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        let mut frames = Frames::of_client(&bytes[..]);
        assert!(!frames.next().await.unwrap().unwrap().can_wait());
        let data = frames.next().await.unwrap().unwrap();
        assert_eq!(
            (data.stream, data.can_wait(), data.bytes.len()),
            (5, true, 11)
        );
        let settings = frames.next().await.unwrap().unwrap();
        assert_eq!((settings.stream, settings.can_wait()), (0, false));
        assert_eq!(frames.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_not_http_2_is_refused() {
        let mut frames = Frames::of_client(&b"GET / HTTP/1.1\r\nhost: somewhere\r\n\r\n"[..]);
        assert!(frames.next().await.is_err());
    }
}
