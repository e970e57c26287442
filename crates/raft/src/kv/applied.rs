//! `APPLIED`: the last applied log entry and the state's digest after it, written in the same batch.
//!
//! The value is a version byte and CBOR.

use memorygate_core::state::StateDigest;
use minicbor::{Decode, Encode};

use super::tag;
use crate::types::{LeaderId, LogId};

pub(crate) const KEY: [u8; 1] = [tag::APPLIED];

const VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// `None` before the first entry.
    pub(crate) log_id: Option<LogId>,
    pub(crate) digest: StateDigest,
}

impl Applied {
    /// Index of the last applied entry; 0 before the first, which holds no rows.
    pub(crate) fn position(&self) -> u64 {
        self.log_id.map_or(0, |log_id| log_id.index)
    }
}

#[derive(Encode, Decode)]
struct Stored {
    #[n(0)]
    term: u64,
    #[n(1)]
    node_id: u64,
    #[n(2)]
    index: u64,
    #[n(3)]
    digest: StateDigest,
}

pub(crate) fn encode(log_id: &LogId, digest: StateDigest) -> Vec<u8> {
    let LeaderId { term, node_id } = log_id.leader_id;
    let stored = Stored {
        term,
        node_id,
        index: log_id.index,
        digest,
    };
    let mut bytes = vec![VERSION];
    minicbor::encode(&stored, &mut bytes).expect("writing to a vector cannot fail");
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Applied, String> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(format!("unknown version {:?}", bytes.first()));
    };
    let stored: Stored = minicbor::decode(body).map_err(|error| error.to_string())?;
    let leader_id = LeaderId {
        term: stored.term,
        node_id: stored.node_id,
    };
    Ok(Applied {
        log_id: Some(LogId {
            leader_id,
            index: stored.index,
        }),
        digest: stored.digest,
    })
}

#[cfg(test)]
mod tests {
    use memorygate_core::state::RowKey;

    use super::*;
    use crate::kv::tests::hex;

    #[test]
    fn the_bytes_never_change() {
        let log_id = LogId {
            leader_id: LeaderId {
                term: 3,
                node_id: 0x0102,
            },
            index: 300,
        };
        let mut digest = StateDigest::default();
        digest.add(&RowKey::Clock, b"x");
        let bytes = encode(&log_id, digest);
        assert_eq!(
            hex(&bytes),
            "01840319010219012c81841b47885634e10322321bde3771a6a0f5bd721b2682dfad44fd9c2f1b17b812d233d63792"
        );
        let applied = decode(&bytes).unwrap();
        assert_eq!((applied.log_id, applied.digest), (Some(log_id), digest));
        assert_eq!(applied.position(), 300);
        assert_eq!(Applied::default().position(), 0);
        assert_eq!(decode(&[]), Err("unknown version None".to_owned()));
        assert!(decode(&[1, 0x80]).is_err());
        assert_eq!(KEY, [0x40]);
    }
}
