//! The identity of a memory: 128 bits of SHA-256 over a canonical form of what was learned.
//!
//! ```text
//! "memorygate/key/v1\0"
//! then for each of namespace, scope kind, scope owner, domain, canonical content:
//!     length in bytes as u32 big endian, UTF-8 bytes
//! ```
//!
//! Canonical content: CRLF and CR become LF, spaces and tabs at the end of lines are dropped, and so
//! are blank lines at the start and the end. Nothing else: letter case and inner spacing can carry
//! meaning in a log line, and Unicode normalisation would tie keys to a version of its tables.

use std::{borrow::Cow, fmt, str::FromStr};

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::{
    name::{Domain, Namespace},
    scope::Scope,
};

/// 128 bits, shown as 32 lower-case hexadecimal digits. Ordered by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Key(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

impl Key {
    /// The key of a lesson. The same four values always give the same key, on every version of
    /// MemoryGate.
    pub fn of(namespace: &Namespace, scope: &Scope, domain: &Domain, content: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"memorygate/key/v1\0");
        let content = canonical(content);
        let fields = [
            namespace.as_str(),
            scope.kind(),
            scope.owner(),
            domain.as_str(),
            &content,
        ];
        for field in fields {
            let length = u32::try_from(field.len()).expect("fields are bounded far below 4 GiB");
            hash.update(length.to_be_bytes());
            hash.update(field.as_bytes());
        }
        let digest = hash.finalize();
        Self(*digest.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    }
}

/// The canonical form of a content, as the module's documentation states it.
pub fn canonical(content: &str) -> Cow<'_, str> {
    if is_canonical(content) {
        return Cow::Borrowed(content);
    }
    let unix = content.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = unix
        .split('\n')
        .map(|l| l.trim_end_matches([' ', '\t']))
        .collect();
    let Some(first) = lines.iter().position(|l| !l.is_empty()) else {
        return Cow::Borrowed("");
    };
    let last = lines.iter().rposition(|l| !l.is_empty()).unwrap_or(first);
    Cow::Owned(lines[first..=last].join("\n"))
}

/// Whether nothing is left of a content in its canonical form.
pub fn is_blank(content: &str) -> bool {
    content
        .bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whether a content is known to be its own canonical form, as most are: no line ends with a blank or a
/// CR, and the first and the last have something in them.
fn is_canonical(content: &str) -> bool {
    let bytes = content.as_bytes();
    let ends_well = |line_end: u8| !matches!(line_end, b' ' | b'\t' | b'\r' | b'\n');
    bytes.first().is_some_and(|first| *first != b'\n')
        && bytes.last().copied().is_some_and(ends_well)
        && !bytes.contains(&b'\r')
        && bytes
            .windows(2)
            .all(|pair| pair[1] != b'\n' || !matches!(pair[0], b' ' | b'\t'))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {actual:?} is not 32 hexadecimal digits")]
pub struct ParseError {
    pub actual: String,
}

impl FromStr for Key {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        hex::<16>(text).map(Self).ok_or_else(|| ParseError {
            actual: text.chars().take(80).collect(),
        })
    }
}

/// Exactly `2 * N` hexadecimal digits as `N` bytes.
pub(crate) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(namespace: &str, scope: &Scope, domain: &str, content: &str) -> String {
        let namespace = Namespace::parse(namespace).unwrap();
        Key::of(&namespace, scope, &Domain::parse(domain).unwrap(), content).to_string()
    }

    /// Frozen: keys are identities in users' data, so this value may never change. It was
    /// computed from the module's description by another program.
    #[test]
    fn the_key_of_a_lesson_never_changes() {
        assert_eq!(
            key(
                "default",
                &Scope::Shared,
                "infrastructure",
                "OOMKilled: raise the limit"
            ),
            "66541ebd5b84bf539b4f6fddf8690923"
        );
    }

    #[test]
    fn only_trailing_blanks_and_line_ends_are_equal() {
        let k = |content: &str| key("n", &Scope::Shared, "d", content);
        assert_eq!(k("a\nb"), k("\n \na \t\r\nb\r\n\r\n"));
        assert_ne!(k("a b"), k("a  b"));
        assert_ne!(k("a"), k(" a"));
        assert_ne!(k("a"), k("A"));
        assert_eq!(canonical(" \r\n\t"), "");
    }

    proptest! {
        #[test]
        fn what_is_said_to_be_canonical_or_blank_is(content in "[ \t\r\nab]{0,8}") {
            let canonical = canonical(&content).into_owned();
            // A line before it has to be taken away, so this goes the long way.
            let long_way = super::canonical(&format!("\n{content}")).into_owned();
            prop_assert_eq!(&canonical, &long_way);
            prop_assert_eq!(is_blank(&content), canonical.is_empty());
        }
    }

    #[test]
    fn every_field_is_part_of_the_identity() {
        let agent = |n: &str| Scope::Agent(crate::name::Name::parse(n).unwrap());
        let team = |n: &str| Scope::Team(crate::name::Name::parse(n).unwrap());
        let keys = [
            key("n", &Scope::Shared, "d", "x"),
            key("m", &Scope::Shared, "d", "x"),
            key("n", &agent("a"), "d", "x"),
            key("n", &team("a"), "d", "x"),
            key("n", &agent("b"), "d", "x"),
            key("n", &Scope::Shared, "e", "x"),
            key("n", &Scope::Shared, "dx", ""),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn a_key_is_read_back_from_its_text() {
        let text = "00112233445566778899aabbccddeeff";
        assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        for bad in [
            "",
            "0",
            &text[1..],
            "0011223344556677 899aabbccddeeff",
            "+0112233445566778899aabbccddeeff",
        ] {
            assert!(bad.parse::<Key>().is_err(), "{bad:?}");
        }
    }
}
