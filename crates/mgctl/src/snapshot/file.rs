//! What can be known of a snapshot file without reading what is in it: how it begins, and that its last
//! 32 bytes are the SHA-256 of all before them.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// What a snapshot file begins with.
const MAGIC: &[u8; 8] = b"\x89MGSNAP\n";

/// SHA-256.
const TRAILER_BYTES: usize = 32;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

#[derive(Debug, Serialize)]
pub(super) struct Checked {
    pub(super) bytes: u64,
    /// Of the whole file but the digest at its end, in hexadecimal digits.
    pub(super) sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("read {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{what} is no snapshot: it begins otherwise; fetch it with `mgctl snapshot save`")]
    NoSnapshot { what: String },
    #[error(
        "{what} is damaged or cut off: its {bytes} bytes have SHA-256 {actual}, its end says \
         {expected}; fetch it again with `mgctl snapshot save`, or use an older one"
    )]
    Damaged {
        what: String,
        bytes: u64,
        expected: String,
        actual: String,
    },
}

/// Takes the bytes of a snapshot file as they come.
pub(super) struct Checker {
    hash: Sha256,
    /// The last bytes so far: they may be the digest.
    held: Vec<u8>,
    start: Vec<u8>,
    bytes: u64,
}

impl Checker {
    pub(super) fn new() -> Self {
        Self {
            hash: Sha256::new(),
            held: Vec::new(),
            start: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let missing = MAGIC.len() - self.start.len();
        self.start.extend(chunk.iter().take(missing));
        self.held.extend_from_slice(chunk);
        let certain = self.held.len().saturating_sub(TRAILER_BYTES);
        self.hash.update(&self.held[..certain]);
        self.held.drain(..certain);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether that was a whole snapshot file; `what` is what to call it.
    pub(super) fn finish(self, what: &str) -> Result<Checked, Error> {
        let what = what.to_owned();
        if self.start != MAGIC {
            return Err(Error::NoSnapshot { what });
        }
        let actual = hexadecimal(&self.hash.finalize());
        let expected = hexadecimal(&self.held);
        if actual != expected {
            return Err(Error::Damaged {
                what,
                bytes: self.bytes,
                expected,
                actual,
            });
        }
        Ok(Checked {
            bytes: self.bytes,
            sha256: actual,
        })
    }
}

/// Reads a file as a whole.
pub(super) fn check(path: &Path) -> Result<Checked, Error> {
    let shown = path.display().to_string();
    let read = || {
        let mut file = File::open(path)?;
        let mut checker = Checker::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(checker),
                count => checker.add(&chunk[..count]),
            }
        }
    };
    let checker: Checker = read().map_err(|source| Error::Io {
        path: shown.clone(),
        source,
    })?;
    checker.finish(&shown)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(content: &[u8]) -> Vec<u8> {
        let mut file = [&MAGIC[..], content].concat();
        file.extend(Sha256::digest(&file));
        file
    }

    fn check(file: &[u8], chunk: usize) -> Result<Checked, Error> {
        let mut checker = Checker::new();
        file.chunks(chunk).for_each(|chunk| checker.add(chunk));
        checker.finish("x")
    }

    #[test]
    fn what_is_no_snapshot_is_told_from_what_is_damaged() {
        assert!(matches!(check(b"", 1), Err(Error::NoSnapshot { .. })));
        assert!(matches!(check(b"{}", 1), Err(Error::NoSnapshot { .. })));
        assert!(matches!(check(MAGIC, 1), Err(Error::Damaged { .. })));
        let missing = super::check(Path::new("/nonexistent/file"));
        assert!(matches!(missing, Err(Error::Io { .. })));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_and_any_cut_is_noticed(
            content in proptest::collection::vec(any::<u8>(), 0..200),
            chunk in 1..100_usize,
            at in any::<proptest::sample::Index>(),
            bit in 0..8,
        ) {
            let file = snapshot(&content);
            prop_assert_eq!(check(&file, chunk).unwrap().bytes, file.len() as u64);
            let at = at.index(file.len());
            prop_assert!(check(&file[..at], chunk).is_err());
            let mut flipped = file.clone();
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(check(&flipped, chunk).is_err());
            prop_assert!(check(&[&file[..], b"x"].concat(), chunk).is_err());
        }
    }
}
