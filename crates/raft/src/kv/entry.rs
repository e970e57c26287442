//! `ENTRY index`: one log entry.
//!
//! ```text
//! version u8 = 1 │ kind u8 │ term u64 │ node u64 │ index u64 │ length u32 │ payload │ crc32c u32
//! ```
//!
//! Numbers are big endian. The checksum is of all bytes before it, so a flipped bit is found even
//! when it happened above the disk. Kind 0 is blank and has no payload, 1 is an encoded command, 2
//! is a membership as openraft's JSON.

use bytes::Bytes;
use openraft::EntryPayload;

use super::{
    order::{Malformed, Reader, Writer},
    tag,
};
use crate::types::{Entry, LeaderId, LogId, Proposal};

const VERSION: u8 = 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Version, kind, term, node, index, length.
const HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 4;
const CHECKSUM_BYTES: usize = 4;

pub(crate) fn encode_key(index: u64) -> Vec<u8> {
    Writer::new(tag::ENTRY).u64(index).finish()
}

pub(crate) fn decode_key(bytes: &[u8]) -> Result<u64, Malformed> {
    let mut reader = Reader::new(bytes, tag::ENTRY)?;
    let index = reader.u64()?;
    reader.finish(index)
}

/// About the bytes that [`encode`] makes, without making them.
pub(crate) fn estimated_bytes(entry: &Entry) -> u64 {
    let payload = match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Membership(_) => 256,
    };
    (HEADER_BYTES + payload + CHECKSUM_BYTES) as u64
}

pub(crate) fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(&mut bytes, entry);
    bytes
}

/// Appends the entry's bytes to what is there.
pub(crate) fn encode_into(bytes: &mut Vec<u8>, entry: &Entry) {
    let membership;
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, [].as_slice()),
        EntryPayload::Normal(proposal) => (COMMAND, proposal.0.as_ref()),
        EntryPayload::Membership(members) => {
            membership = serde_json::to_vec(members).expect("numbers and texts are always JSON");
            (MEMBERSHIP, membership.as_slice())
        }
    };
    let length = u32::try_from(payload.len()).expect("a command has at most 8 MiB");
    let LogId {
        leader_id: LeaderId { term, node_id },
        index,
    } = entry.log_id;
    let start = bytes.len();
    bytes.reserve(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    bytes.push(VERSION);
    bytes.push(kind);
    for number in [term, node_id, index] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    let checksum = crc32c::crc32c(&bytes[start..]);
    bytes.extend(checksum.to_be_bytes());
}

/// Why stored bytes are not the log entry that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("log entry {index} has checksum {actual:08x}, expected {expected:08x}")]
    Checksum {
        index: u64,
        actual: u32,
        expected: u32,
    },
    #[error("log entry {index} is malformed: {reason}")]
    Malformed { index: u64, reason: String },
    /// Intact, and written by a newer program.
    #[error("log entry {index} has format version {actual}, this program reads {VERSION}")]
    Version { index: u64, actual: u8 },
    #[error("log entry {index} is of unknown kind {actual}")]
    Kind { index: u64, actual: u8 },
}

/// Reads the entry that is stored under `index`.
pub(crate) fn decode(index: u64, bytes: &[u8]) -> Result<Entry, Unreadable> {
    decode_with(index, bytes, Bytes::copy_from_slice)
}

/// The same for bytes that stay in memory as long as the entry does: a command is a part of them.
pub(crate) fn decode_shared(index: u64, bytes: &Bytes) -> Result<Entry, Unreadable> {
    decode_with(index, bytes, |command| bytes.slice_ref(command))
}

fn decode_with(
    index: u64,
    bytes: &[u8],
    command: impl FnOnce(&[u8]) -> Bytes,
) -> Result<Entry, Unreadable> {
    let malformed = |reason: &str| Unreadable::Malformed {
        index,
        reason: reason.to_owned(),
    };
    let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(malformed("too short"));
    };
    let (expected, actual) = (crc32c::crc32c(body), u32::from_be_bytes(*checksum));
    if expected != actual {
        return Err(Unreadable::Checksum {
            index,
            actual,
            expected,
        });
    }
    match body.first() {
        Some(&VERSION) => {}
        Some(&actual) => return Err(Unreadable::Version { index, actual }),
        None => return Err(malformed("empty")),
    }
    let Some((header, payload)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Err(malformed("header is too short"));
    };
    let number = |at: usize| {
        let bytes = header[at..].first_chunk().expect("the header has 30 bytes");
        u64::from_be_bytes(*bytes)
    };
    let log_id = LogId {
        leader_id: LeaderId {
            term: number(2),
            node_id: number(10),
        },
        index: number(18),
    };
    if log_id.index != index {
        return Err(malformed(&format!("it says index {}", log_id.index)));
    }
    let length = u32::from_be_bytes(*header[26..].first_chunk().expect("the header has 30 bytes"));
    if payload.len() != length as usize {
        return Err(malformed(&format!(
            "payload has {} bytes, expected {length}",
            payload.len()
        )));
    }
    let payload = match header[1] {
        BLANK if payload.is_empty() => EntryPayload::Blank,
        BLANK => return Err(malformed("blank with a payload")),
        COMMAND => EntryPayload::Normal(Proposal(command(payload))),
        MEMBERSHIP => serde_json::from_slice(payload)
            .map(EntryPayload::Membership)
            .map_err(|error| malformed(&error.to_string()))?,
        actual => return Err(Unreadable::Kind { index, actual }),
    };
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        kv::tests::hex,
        types::{Membership, Node},
    };

    fn entry(index: u64, payload: EntryPayload<Proposal, u64, Node>) -> Entry {
        let leader_id = LeaderId {
            term: 1,
            node_id: 2,
        };
        Entry {
            log_id: LogId { leader_id, index },
            payload,
        }
    }

    fn command(bytes: &[u8]) -> EntryPayload<Proposal, u64, Node> {
        EntryPayload::Normal(Proposal(Bytes::copy_from_slice(bytes)))
    }

    fn check_frozen(entry: &Entry, expected: &str) {
        let bytes = encode(entry);
        assert_eq!(hex(&bytes), expected);
        let read = decode(entry.log_id.index, &bytes).unwrap();
        assert_eq!(&read, entry);
    }

    #[test]
    fn the_bytes_never_change() {
        let head = |kind: &str| format!("01{kind}000000000000000100000000000000020000000000000003");
        check_frozen(
            &entry(3, EntryPayload::Blank),
            &format!("{}00000000d92a4027", head("00")),
        );
        check_frozen(
            &entry(3, command(b"abc")),
            &format!("{}0000000361626348339903", head("01")),
        );
        let nodes = BTreeMap::from([(2, Node::default())]);
        let members = Membership::new(vec![[2].into()], nodes).unwrap();
        let json = br#"{"configs":[[2]],"nodes":{"2":{"address":""}}}"#;
        check_frozen(
            &entry(3, EntryPayload::Membership(members)),
            &format!("{}0000002e{}bd7c9a26", head("02"), hex(json)),
        );
        assert_eq!(hex(&encode_key(258)), "800000000000000102");
        assert_eq!(decode_key(&encode_key(258)), Ok(258));
        assert!(decode_key(&[0x80, 1]).is_err());
    }

    proptest! {
        #[test]
        fn every_entry_is_read_back(index: u64, term: u64, node_id: u64, bytes: Vec<u8>) {
            let mut entry = entry(index, command(&bytes));
            entry.log_id.leader_id = LeaderId { term, node_id };
            let stored = encode(&entry);
            prop_assert_eq!(stored.len() as u64, estimated_bytes(&entry));
            prop_assert_eq!(decode_shared(index, &stored.clone().into()), Ok(entry.clone()));
            prop_assert_eq!(decode(index, &stored), Ok(entry));
        }

        #[test]
        fn every_flipped_bit_is_found(bytes: Vec<u8>, bit: prop::sample::Index) {
            let mut stored = encode(&entry(3, command(&bytes)));
            let bit = bit.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(3, &stored).is_err());
        }

        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes: Vec<u8>) {
            prop_assert!(decode(3, &bytes).is_err());
        }
    }

    #[test]
    fn intact_bytes_that_make_no_entry_say_why() {
        let reason = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = encode(&entry(3, command(b"abc")));
            bytes.truncate(bytes.len() - CHECKSUM_BYTES);
            change(&mut bytes);
            let checksum = crc32c::crc32c(&bytes);
            bytes.extend(checksum.to_be_bytes());
            decode(3, &bytes).unwrap_err().to_string()
        };
        assert_eq!(
            reason(&|bytes| bytes[0] = 2),
            "log entry 3 has format version 2, this program reads 1"
        );
        assert_eq!(
            reason(&|bytes| bytes[1] = 9),
            "log entry 3 is of unknown kind 9"
        );
        assert_eq!(
            reason(&|bytes| bytes[25] = 4),
            "log entry 3 is malformed: it says index 4"
        );
        assert_eq!(
            reason(&|bytes| bytes[1] = BLANK),
            "log entry 3 is malformed: blank with a payload"
        );
        assert_eq!(
            reason(&|bytes| bytes.push(0)),
            "log entry 3 is malformed: payload has 4 bytes, expected 3"
        );
        assert_eq!(
            reason(&|bytes| bytes.truncate(2)),
            "log entry 3 is malformed: header is too short"
        );
        assert_eq!(
            reason(&|bytes| bytes.clear()),
            "log entry 3 is malformed: empty"
        );
        assert!(reason(&|bytes| bytes[1] = MEMBERSHIP).contains("is malformed"));
    }
}
