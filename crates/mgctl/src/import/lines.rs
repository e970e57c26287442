//! Lines of a file: numbered, bounded, and digested as they are read, so that a later run can tell
//! whether the part that it skips is still the same.

use std::io::{self, BufRead};

use memorygate_client::record::LINE_BYTES_MAX;
use sha2::{Digest as _, Sha256};

/// One line, without its end.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// Cut off behind the longest allowed length, so that a file without line ends fits in memory;
    /// such a line is refused by the parser.
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Lines<R> {
    source: R,
    number: u64,
    bytes: u64,
    digest: Sha256,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            number: 0,
            bytes: 0,
            digest: Sha256::new(),
        }
    }

    /// The next line; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut ended = false;
        let mut any = false;
        while !ended {
            let chunk = self.source.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|b| *b == b'\n');
            let taken = end.map_or(chunk.len(), |at| at + 1);
            let content = &chunk[..end.unwrap_or(taken)];
            let room = (LINE_BYTES_MAX + 1).saturating_sub(line.len());
            line.extend_from_slice(&content[..content.len().min(room)]);
            self.digest.update(&chunk[..taken]);
            self.bytes += taken as u64;
            ended = end.is_some();
            self.source.consume(taken);
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            // A byte order mark, as some editors write it.
            line.drain(..3);
        }
        Ok(Some(Line {
            number: self.number,
            bytes: line,
        }))
    }

    /// Lines read so far.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of everything read so far, in hexadecimal digits.
    pub(super) fn digest(&self) -> String {
        let digest = self.digest.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(text: &[u8], buffer: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, text));
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.number, line.bytes));
        }
        assert_eq!(lines.bytes(), text.len() as u64);
        all
    }

    #[test]
    fn lines_are_the_same_however_they_are_buffered() {
        let text = b"\xef\xbb\xbfone\n\ntwo\r\nthree";
        let expected = [
            (1, b"one".to_vec()),
            (2, b"".to_vec()),
            (3, b"two\r".to_vec()),
            (4, b"three".to_vec()),
        ];
        for buffer in [1, 2, 3, 100] {
            assert_eq!(read(text, buffer), expected);
        }
        assert!(read(b"", 8).is_empty());
    }

    #[test]
    fn an_endless_line_takes_bounded_memory() {
        let text = vec![b'x'; 3 * LINE_BYTES_MAX];
        let lines = read(&text, 4096);
        assert_eq!(lines[0].1.len(), LINE_BYTES_MAX + 1);
    }
}
