//! Reading a snapshot file once, from front to back, with every byte checked.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::{
    CHUNK_BYTES, FORMAT, HEAD_BYTES, MAGIC, MANIFEST_BYTES_MAX, Manifest, Part, TRAILER_BYTES,
};
use crate::dir;

/// Why a file is not taken for a snapshot, or for a whole one.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it is no snapshot file: it begins with {found:02x?}, expected {MAGIC:02x?}")]
    Foreign { found: Vec<u8> },
    #[error("its format is {actual}, this program reads {FORMAT}: use the version that made it")]
    OtherFormat { actual: u32 },
    #[error(
        "its data has format {actual}, this program reads up to {}: use a newer version",
        dir::FORMAT
    )]
    NewerData { actual: u32 },
    #[error("it is damaged: {reason}: use another snapshot")]
    Damaged { reason: String },
    #[error("read snapshot: {0}")]
    Io(#[source] io::Error),
    #[error("unpack snapshot: {0}")]
    Unpack(#[source] io::Error),
}

/// Takes what is read. Nothing of it may be used before the whole file was read without error.
pub(super) trait Unpack {
    fn manifest(&mut self, manifest: &Manifest) -> io::Result<()>;
    fn begin(&mut self, part: &Part) -> io::Result<()>;
    fn data(&mut self, data: &[u8]) -> io::Result<()>;
    fn end(&mut self) -> io::Result<()>;
}

/// Keeps nothing.
struct Check;

impl Unpack for Check {
    fn manifest(&mut self, _: &Manifest) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _: &Part) -> io::Result<()> {
        Ok(())
    }

    fn data(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a snapshot file as a whole and checks every digest in it. It blocks.
pub fn verify(from: &mut dyn Read) -> Result<Manifest, ReadError> {
    read(from, &mut Check)
}

/// What a snapshot file says of itself. Only its beginning is read, and no digest is checked: for a
/// list, not for a decision.
pub fn peek(from: &mut dyn Read) -> Result<Manifest, ReadError> {
    Reading::new(from).manifest()
}

/// How many bytes of a file [`peek`] may need.
pub const PEEK_BYTES_MAX: u64 = HEAD_BYTES as u64 + MANIFEST_BYTES_MAX as u64;

pub(super) fn read(from: &mut dyn Read, unpack: &mut dyn Unpack) -> Result<Manifest, ReadError> {
    let mut reading = Reading::new(from);
    let manifest = reading.manifest()?;
    unpack.manifest(&manifest).map_err(ReadError::Unpack)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    for part in &manifest.parts {
        unpack.begin(part).map_err(ReadError::Unpack)?;
        let mut hash = Sha256::new();
        let mut left = part.bytes;
        while left > 0 {
            let most = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let data = &mut chunk[..most];
            reading.exactly(data, &part.name)?;
            hash.update(&*data);
            unpack.data(data).map_err(ReadError::Unpack)?;
            left -= most as u64;
        }
        unpack.end().map_err(ReadError::Unpack)?;
        let actual = format!("{:x}", hash.finalize());
        if actual != part.sha256 {
            return Err(ReadError::Damaged {
                reason: format!(
                    "part {} has SHA-256 {actual}, expected {}",
                    part.name, part.sha256
                ),
            });
        }
    }
    reading.trailer()?;
    Ok(manifest)
}

/// A file on its way through the digest.
struct Reading<'a> {
    from: &'a mut dyn Read,
    whole: Sha256,
}

impl<'a> Reading<'a> {
    fn new(from: &'a mut dyn Read) -> Self {
        Self {
            from,
            whole: Sha256::new(),
        }
    }

    fn manifest(&mut self) -> Result<Manifest, ReadError> {
        let mut magic = [0; MAGIC.len()];
        let found = fill(self.from, &mut magic).map_err(ReadError::Io)?;
        if magic != MAGIC {
            return Err(ReadError::Foreign {
                found: magic[..found].to_vec(),
            });
        }
        self.whole.update(magic);
        let format = self.number("the format")?;
        if format != FORMAT {
            return Err(ReadError::OtherFormat { actual: format });
        }
        let length = self.number("the manifest's length")?;
        if length > MANIFEST_BYTES_MAX {
            return Err(ReadError::Damaged {
                reason: format!(
                    "its manifest has {length} bytes, expected at most {MANIFEST_BYTES_MAX}"
                ),
            });
        }
        let length = usize::try_from(length).expect("16 MiB can be counted");
        // It grows with what arrives, whatever the length claims.
        let mut body = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES.min(length)];
        while body.len() < length {
            let most = (length - body.len()).min(CHUNK_BYTES);
            self.exactly(&mut chunk[..most], "the manifest")?;
            body.extend_from_slice(&chunk[..most]);
        }
        let manifest = Manifest::parse(&body).map_err(|reason| ReadError::Damaged {
            reason: format!("manifest: {reason}"),
        })?;
        if manifest.data_format > dir::FORMAT {
            return Err(ReadError::NewerData {
                actual: manifest.data_format,
            });
        }
        Ok(manifest)
    }

    fn number(&mut self, what: &str) -> Result<u32, ReadError> {
        let mut bytes = [0; 4];
        self.exactly(&mut bytes, what)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn exactly(&mut self, into: &mut [u8], what: &str) -> Result<(), ReadError> {
        let read = fill(self.from, into).map_err(ReadError::Io)?;
        if read < into.len() {
            return Err(ReadError::Damaged {
                reason: format!("it ends in {what}"),
            });
        }
        self.whole.update(&*into);
        Ok(())
    }

    /// The digest over everything, and the end.
    fn trailer(self) -> Result<(), ReadError> {
        let actual: [u8; 32] = self.whole.finalize().into();
        // One more than there may be.
        let mut trailer = [0; TRAILER_BYTES + 1];
        let read = fill(self.from, &mut trailer).map_err(ReadError::Io)?;
        let damaged = |reason: &str| ReadError::Damaged {
            reason: reason.to_owned(),
        };
        if read < TRAILER_BYTES {
            return Err(damaged("it ends in its digest"));
        }
        if read > TRAILER_BYTES {
            return Err(damaged("something follows its end"));
        }
        if trailer[..TRAILER_BYTES] != actual {
            return Err(damaged("its digest is of other bytes"));
        }
        Ok(())
    }
}

/// Reads until the end or until `into` is full; returns how much it was.
fn fill(from: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
