//! Encodings of key fields whose byte order is the order of the values.
//!
//! | field | bytes |
//! | --- | --- |
//! | unsigned number | big endian |
//! | signed number | big endian, sign bit flipped |
//! | name | its UTF-8 and a zero byte, which no name holds |
//! | scope | 0, or 1 (team) or 2 (agent) and the name |
//! | key, nonce | as they are |

use memorygate_core::{
    key::Key,
    name::{Name, Namespace},
    scope::Scope,
    time::TimeMs,
};

/// Bytes that are no key of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("storage key {bytes:02x?} is malformed: {reason}")]
pub(crate) struct Malformed {
    bytes: Vec<u8>,
    reason: &'static str,
}

impl Malformed {
    pub(crate) fn new(bytes: &[u8], reason: &'static str) -> Self {
        Self {
            bytes: bytes.to_vec(),
            reason,
        }
    }
}

const SHARED: u8 = 0;
const TEAM: u8 = 1;
const AGENT: u8 = 2;

const SIGN: u64 = 1 << 63;

/// Writes one key.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(crate) fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn time(self, time: TimeMs) -> Self {
        self.u64(time.0.cast_unsigned() ^ SIGN)
    }

    pub(crate) fn namespace(self, name: &Namespace) -> Self {
        self.text(name.as_str())
    }

    pub(crate) fn name(self, name: &Name) -> Self {
        self.text(name.as_str())
    }

    pub(crate) fn scope(mut self, scope: &Scope) -> Self {
        match scope {
            Scope::Shared => {
                self.0.push(SHARED);
                self
            }
            Scope::Team(name) => {
                self.0.push(TEAM);
                self.name(name)
            }
            Scope::Agent(name) => {
                self.0.push(AGENT);
                self.name(name)
            }
        }
    }

    pub(crate) fn key(self, key: Key) -> Self {
        self.bytes(&key.0)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn text(mut self, text: &str) -> Self {
        debug_assert!(
            !text.bytes().any(|byte| byte == 0),
            "names hold no zero byte"
        );
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }
}

/// Reads one key, field by field.
pub(crate) struct Reader<'a> {
    all: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], tag: u8) -> Result<Self, Malformed> {
        match bytes.split_first() {
            Some((first, rest)) if *first == tag => Ok(Self { all: bytes, rest }),
            Some(_) | None => Err(Malformed::new(bytes, "another tag")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn time(&mut self) -> Result<TimeMs, Malformed> {
        Ok(TimeMs((self.u64()? ^ SIGN).cast_signed()))
    }

    pub(crate) fn namespace(&mut self) -> Result<Namespace, Malformed> {
        let text = self.text()?;
        Namespace::parse(text).map_err(|_| self.malformed("bad namespace"))
    }

    pub(crate) fn name(&mut self) -> Result<Name, Malformed> {
        let text = self.text()?;
        Name::parse(text).map_err(|_| self.malformed("bad name"))
    }

    pub(crate) fn scope(&mut self) -> Result<Scope, Malformed> {
        let [kind] = self.array()?;
        match kind {
            SHARED => Ok(Scope::Shared),
            TEAM => self.name().map(Scope::Team),
            AGENT => self.name().map(Scope::Agent),
            _ => Err(self.malformed("unknown scope")),
        }
    }

    pub(crate) fn key(&mut self) -> Result<Key, Malformed> {
        self.array().map(Key)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((field, rest)) = self.rest.split_first_chunk() else {
            return Err(self.malformed("too short"));
        };
        self.rest = rest;
        Ok(*field)
    }

    /// Every byte must have been read.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Malformed> {
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(self.malformed("too long"))
        }
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let Some(end) = self.rest.iter().position(|byte| *byte == 0) else {
            return Err(self.malformed("name without an end"));
        };
        let (text, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        str::from_utf8(text).map_err(|_| self.malformed("name is not UTF-8"))
    }

    fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed::new(self.all, reason)
    }
}

/// The first key after all that start with `prefix`; none if there is no such key.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

/// The first key after `key` itself.
pub(crate) fn after_key(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_its_successor() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xff, 0xff]), None);
        assert_eq!(after_key(vec![1, 2]), vec![1, 2, 0]);
    }

    #[test]
    fn what_is_malformed_says_why() {
        let reason = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes, 1).unwrap();
            reader.scope().unwrap_err().to_string()
        };
        assert_eq!(
            reason(&[1, 9]),
            "storage key [01, 09] is malformed: unknown scope"
        );
        assert_eq!(
            reason(&[1, 1, 0xff, 0]),
            "storage key [01, 01, ff, 00] is malformed: name is not UTF-8"
        );
        assert_eq!(
            reason(&[1, 1, b'a']),
            "storage key [01, 01, 61] is malformed: name without an end"
        );
        assert_eq!(
            reason(&[1, 1, 7, 0]),
            "storage key [01, 01, 07, 00] is malformed: bad name"
        );
        let namespace = Reader::new(&[1, b'A', 0], 1).unwrap().namespace();
        assert!(
            namespace
                .unwrap_err()
                .to_string()
                .ends_with("bad namespace")
        );
    }
}
