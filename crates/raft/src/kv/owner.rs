//! `OWNER`: whose database this is, so that a log and a state of two nodes never meet.
//!
//! The value is JSON.

use serde::{Deserialize, Serialize};

use super::tag;
use crate::dir::ClusterId;

pub(crate) const KEY: [u8; 1] = [tag::OWNER];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owner {
    /// Layout of the rows in this database.
    pub(crate) format: u32,
    pub(crate) cluster_id: ClusterId,
    /// Of the log only: a state moves between nodes as a snapshot.
    pub(crate) node_id: Option<u64>,
    pub(crate) incarnation: Option<u64>,
}

pub(crate) fn encode(owner: &Owner) -> Vec<u8> {
    serde_json::to_vec(owner).expect("numbers and texts are always JSON")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Owner, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_never_change() {
        let owner = Owner {
            format: 1,
            cluster_id: ClusterId(0xab),
            node_id: Some(u64::MAX),
            incarnation: None,
        };
        let bytes = encode(&owner);
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"format":1,"cluster_id":"000000000000000000000000000000ab","node_id":18446744073709551615,"incarnation":null}"#
        );
        assert_eq!(decode(&bytes), Ok(owner));
        assert!(decode(b"{}").is_err());
        assert_eq!(KEY, [0x44]);
    }
}
