//! `MEMBERSHIP`: the last applied membership of the cluster.
//!
//! The value is JSON as openraft writes it.

use super::tag;
use crate::types::StoredMembership;

pub(crate) const KEY: [u8; 1] = [tag::MEMBERSHIP];

pub(crate) fn encode(membership: &StoredMembership) -> Vec<u8> {
    serde_json::to_vec(membership).expect("numbers and texts are always JSON")
}

pub(crate) fn decode(bytes: &[u8]) -> Result<StoredMembership, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::{LeaderId, LogId, Membership, Node};

    #[test]
    fn the_bytes_never_change() {
        let log_id = LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 2,
            },
            index: 3,
        };
        let node = Node {
            address: "a:1".to_owned(),
        };
        let nodes = BTreeMap::from([(2, node)]);
        let members = Membership::new(vec![[2].into()], nodes).unwrap();
        let membership = StoredMembership::new(Some(log_id), members);
        let bytes = encode(&membership);
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"log_id":{"leader_id":{"term":1,"node_id":2},"index":3},"membership":{"configs":[[2]],"nodes":{"2":{"address":"a:1"}}}}"#
        );
        assert_eq!(decode(&bytes), Ok(membership));
        assert!(decode(b"[]").is_err());
        assert_eq!(KEY, [0x41]);
    }
}
