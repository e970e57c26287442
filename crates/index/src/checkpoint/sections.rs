//! The file's parts, each with its own checksum, and the plain numbers in them.

use std::io::{self, Read, Write};

use super::{LoadError, damaged};

/// What a section holds. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memories = 1,
    Words = 2,
    Bits = 3,
    Vectors = 4,
    End = 5,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Memories => "memories",
            Self::Words => "words",
            Self::Bits => "bits",
            Self::Vectors => "vectors",
            Self::End => "end",
        }
    }

    /// An error in a section of this kind.
    pub(crate) fn damaged(self, reason: impl Into<String>) -> LoadError {
        damaged(self.as_str(), reason)
    }
}

/// Kind, length and CRC.
const HEAD_BYTES: usize = 1 + 8 + 4;

pub(crate) fn write(file: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = (bytes.len() as u64).to_le_bytes();
    file.write_all(&[kind as u8])?;
    file.write_all(&length)?;
    file.write_all(&crc(kind as u8, length, bytes).to_le_bytes())?;
    file.write_all(bytes)
}

/// Reads the next section, which must be of this kind.
pub(crate) fn read(file: &mut impl Read, kind: Kind) -> Result<Vec<u8>, LoadError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let mut fields = Fields::of(&head);
    let fields = (|| Some((fields.take::<1>()?[0], fields.take()?, fields.take()?)))();
    let Some((actual, length, expected)) = fields else {
        return Err(kind.damaged("the file ends before it"));
    };
    // Grows with what is there, so a damaged length allocates nothing.
    let mut bytes = Vec::new();
    file.take(u64::from_le_bytes(length))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from_le_bytes(length) {
        return Err(kind.damaged("the file ends within it"));
    }
    if crc(actual, length, &bytes) != u32::from_le_bytes(expected) {
        return Err(kind.damaged("its checksum does not match"));
    }
    if actual != kind as u8 {
        return Err(kind.damaged(format!("a section of kind {actual} stands in its place")));
    }
    Ok(bytes)
}

fn crc(kind: u8, length: [u8; 8], bytes: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&[kind]), &length);
    crc32c::crc32c_append(head, bytes)
}

/// Appends a number in seven bits a byte, lowest first; all but the last byte have the highest bit
/// set (LEB128).
pub(crate) fn put_number(out: &mut Vec<u8>, number: u32) {
    let mut left = number;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Bytes that are read from the front. Everything is `None` where they end too early.
pub(crate) struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, left) = self.left.split_first_chunk()?;
        self.left = left;
        Some(*taken)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    /// What [`put_number`] wrote; `None` too for more than 32 bits.
    pub(crate) fn number(&mut self) -> Option<u32> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(number).ok();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_section_is_read_back_and_no_other() {
        let mut file = Vec::new();
        write(&mut file, Kind::Bits, b"abc").unwrap();
        assert_eq!(read(&mut file.as_slice(), Kind::Bits).unwrap(), b"abc");
        let check = |file: &[u8], kind| read(&mut &*file, kind).unwrap_err().to_string();
        assert_eq!(
            check(&file, Kind::Words),
            "index checkpoint is damaged in words: a section of kind 3 stands in its place"
        );
        assert_eq!(
            check(&file[..5], Kind::Bits),
            "index checkpoint is damaged in bits: the file ends before it"
        );
        assert_eq!(
            check(&file[..15], Kind::Bits),
            "index checkpoint is damaged in bits: the file ends within it"
        );
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(
                read(&mut damaged.as_slice(), Kind::Bits).is_err(),
                "byte {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(numbers in prop::collection::vec(any::<u32>(), 0..20)) {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| put_number(&mut bytes, *number));
            let mut fields = Fields::of(&bytes);
            for number in numbers {
                prop_assert_eq!(fields.number(), Some(number));
            }
            prop_assert!(fields.is_empty());
            prop_assert_eq!(fields.number(), None);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut fields = Fields::of(&bytes);
            while fields.number().is_some() {}
            prop_assert_eq!(Fields::of(&[0xff; 6]).number(), None);
        }
    }
}
