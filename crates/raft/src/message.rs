//! What members say to each other, as bytes.
//!
//! ```text
//! small messages    version u8 = 1 │ JSON
//! append            version u8 = 1 │ length u32 │ JSON head │ (length u32 │ log entry)*
//! ```
//!
//! A log entry has the bytes that it is stored with, checksum included, so that what was damaged on
//! the way is found before it is stored. Numbers are big endian. A field that is added to a JSON
//! message needs a default; anything else needs a new version.

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    handle::{Applied, ProposeError},
    kv,
    types::{LogId, TypeConfig, Vote},
};

const VERSION: u8 = 1;

const LENGTH_BYTES: usize = 4;

const APPLIED: u8 = 0;
const NOT_APPLIED: u8 = 1;

/// Bytes that are not the message expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {reason}")]
pub(crate) struct Malformed {
    pub(crate) reason: String,
}

impl Malformed {
    fn new(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

/// A small message.
pub(crate) fn encode(message: &impl Serialize) -> Bytes {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, message).expect("numbers and texts are always JSON");
    bytes.into()
}

pub(crate) fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, Malformed> {
    serde_json::from_slice(body(bytes)?).map_err(Malformed::new)
}

fn body(bytes: &[u8]) -> Result<&[u8], Malformed> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((version, _)) => Err(Malformed::new(format!(
            "it has version {version}, this program reads {VERSION}"
        ))),
        None => Err(Malformed::new("it is empty")),
    }
}

/// All of an append but its entries.
#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: Vote,
    previous: Option<LogId>,
    committed: Option<LogId>,
    entries: usize,
}

pub(crate) fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> Bytes {
    let head = AppendHead {
        vote: request.vote,
        previous: request.prev_log_id,
        committed: request.leader_commit,
        entries: request.entries.len(),
    };
    let head = serde_json::to_vec(&head).expect("numbers are always JSON");
    let entries: u64 = request.entries.iter().map(kv::entry::estimated_bytes).sum();
    let room = 1 + LENGTH_BYTES * (1 + request.entries.len()) + head.len();
    let mut bytes = Vec::with_capacity(room + usize::try_from(entries).unwrap_or(0));
    bytes.push(VERSION);
    put(&mut bytes, &head);
    for entry in &request.entries {
        // The length is known once the entry stands there.
        let at = bytes.len();
        bytes.extend([0; LENGTH_BYTES]);
        kv::entry::encode_into(&mut bytes, entry);
        let length = length(bytes.len() - at - LENGTH_BYTES);
        bytes[at..at + LENGTH_BYTES].copy_from_slice(&length);
    }
    bytes.into()
}

/// The commands in it are parts of `bytes`.
pub(crate) fn decode_append(bytes: &Bytes) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    let mut rest = body(bytes)?;
    let head: AppendHead = serde_json::from_slice(take(&mut rest)?).map_err(Malformed::new)?;
    let mut index = head.previous.map_or(0, |previous| previous.index + 1);
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let entry = bytes.slice_ref(take(&mut rest)?);
        let entry = kv::entry::decode_shared(index, &entry).map_err(Malformed::new)?;
        entries.push(entry);
        index += 1;
    }
    if entries.len() != head.entries {
        return Err(Malformed::new(format!(
            "it has {} entries, expected {}",
            entries.len(),
            head.entries
        )));
    }
    Ok(AppendEntriesRequest {
        vote: head.vote,
        prev_log_id: head.previous,
        entries,
        leader_commit: head.committed,
    })
}

/// The answer to a proposal: its position and reply, or why it has none.
///
/// ```text
/// version u8 = 1 │ 0 │ index u64 │ reply as CBOR
/// version u8 = 1 │ 1 │ JSON
/// ```
pub(crate) fn encode_proposed(proposed: &Result<Applied, ProposeError>) -> Bytes {
    let mut bytes = vec![VERSION];
    match proposed {
        Ok(Applied { index, reply }) => {
            bytes.push(APPLIED);
            bytes.extend(index.to_be_bytes());
            minicbor::encode(reply, &mut bytes).expect("writing to a vector cannot fail");
        }
        Err(error) => {
            bytes.push(NOT_APPLIED);
            serde_json::to_writer(&mut bytes, error).expect("numbers and texts are always JSON");
        }
    }
    bytes.into()
}

pub(crate) fn decode_proposed(bytes: &[u8]) -> Result<Result<Applied, ProposeError>, Malformed> {
    match body(bytes)?.split_first() {
        Some((&APPLIED, body)) => {
            let Some((index, reply)) = body.split_first_chunk() else {
                return Err(Malformed::new("it is cut short"));
            };
            Ok(Ok(Applied {
                index: u64::from_be_bytes(*index),
                reply: minicbor::decode(reply).map_err(Malformed::new)?,
            }))
        }
        Some((&NOT_APPLIED, body)) => serde_json::from_slice(body)
            .map(Err)
            .map_err(Malformed::new),
        Some((kind, _)) => Err(Malformed::new(format!("it is of unknown kind {kind}"))),
        None => Err(Malformed::new("it is cut short")),
    }
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(length(part.len()));
    bytes.extend(part);
}

fn length(bytes: usize) -> [u8; LENGTH_BYTES] {
    let length = u32::try_from(bytes).expect("a command has at most 8 MiB");
    length.to_be_bytes()
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let cut = || Malformed::new("it is cut short");
    let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (part, after) = after.split_at_checked(length).ok_or_else(cut)?;
    *rest = after;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use memorygate_core::apply::{Outcome, Reply};
    use openraft::EntryPayload;
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Entry, LeaderId, Proposal};

    fn log_id(index: u64) -> LogId {
        LogId {
            leader_id: LeaderId {
                term: 3,
                node_id: 4,
            },
            index,
        }
    }

    fn append(previous: Option<u64>, commands: &[&[u8]]) -> AppendEntriesRequest<TypeConfig> {
        let first = previous.map_or(0, |previous| previous + 1);
        let entry = |(at, command): (u64, &&[u8])| Entry {
            log_id: log_id(at),
            payload: EntryPayload::Normal(Proposal(Bytes::copy_from_slice(command))),
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 4),
            prev_log_id: previous.map(log_id),
            entries: (first..).zip(commands).map(entry).collect(),
            leader_commit: Some(log_id(1)),
        }
    }

    #[test]
    fn an_append_is_read_back() {
        for request in [
            append(None, &[]),
            append(None, &[b"first"]),
            append(Some(7), &[b"a", b"", b"c"]),
        ] {
            let read = decode_append(&encode_append(&request)).unwrap();
            assert_eq!(read.entries, request.entries);
            assert_eq!(read.vote, request.vote);
            assert_eq!(read.prev_log_id, request.prev_log_id);
            assert_eq!(read.leader_commit, request.leader_commit);
        }
    }

    #[test]
    fn the_bytes_of_an_append_never_change() {
        let bytes = encode_append(&append(None, &[]));
        let head = r#"{"vote":{"leader_id":{"term":3,"node_id":4},"committed":true},"previous":null,"committed":{"leader_id":{"term":3,"node_id":4},"index":1},"entries":0}"#;
        let length = u32::try_from(head.len()).unwrap().to_be_bytes();
        assert_eq!(bytes, [&[1], length.as_slice(), head.as_bytes()].concat());
    }

    #[test]
    fn an_answer_to_a_proposal_is_read_back() {
        let applied = Applied {
            index: 7,
            reply: Reply {
                index: 6,
                result: Ok(Outcome::Expired { removed: 2 }),
            },
        };
        let refused = ProposeError::Overloaded {
            in_flight: 1,
            in_flight_bytes: 2,
        };
        for proposed in [Ok(applied), Err(refused)] {
            let bytes = encode_proposed(&proposed);
            assert_eq!(decode_proposed(&bytes), Ok(proposed));
            for cut in 0..bytes.len() {
                assert!(decode_proposed(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
        assert!(decode_proposed(&[1, 2]).is_err());
    }

    #[test]
    fn what_is_no_message_says_why() {
        let reason = |bytes: &[u8]| {
            decode_append(&Bytes::copy_from_slice(bytes))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(reason(&[]), "malformed message: it is empty");
        assert_eq!(
            reason(&[9]),
            "malformed message: it has version 9, this program reads 1"
        );
        assert_eq!(
            reason(&[1, 0, 0, 0, 9]),
            "malformed message: it is cut short"
        );
        let mut bytes = encode_append(&append(Some(7), &[b"a"])).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(reason(&bytes).contains("checksum"), "{}", reason(&bytes));
        assert!(decode::<u64>(b"\x01x").is_err());
        assert_eq!(decode::<u64>(&encode(&7_u64)), Ok(7));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_append_or_an_error(bytes: Vec<u8>) {
            let _ = decode_append(&bytes.into());
        }

        #[test]
        fn an_append_that_is_cut_anywhere_is_an_error(cut: prop::sample::Index) {
            let whole = encode_append(&append(Some(7), &[b"a", b"b"]));
            prop_assert!(decode_append(&whole.slice(..cut.index(whole.len()))).is_err());
        }
    }
}
