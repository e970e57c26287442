//! Whether the members of a cluster hold the same state.

use std::collections::BTreeMap;

use memorygate_proto::v1;

use crate::position::Position;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The position that all hashed.
    pub position: Position,
    pub members: Vec<MemberDigest>,
    /// Whether every member answered, and all alike.
    pub is_equal: bool,
    /// Namespaces whose digests differ between members that answered.
    pub different_namespaces: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDigest {
    pub node_id: String,
    /// What it found, or why it did not answer.
    pub digest: Result<Digest, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// 64 hexadecimal digits: of all rows, read from the disk.
    pub state_hash: String,
    /// Whether that is what the member had counted while applying.
    pub matches_own_count: bool,
    /// By namespace, 64 hexadecimal digits.
    pub namespaces: BTreeMap<String, String>,
    pub rows: u64,
}

impl Verification {
    pub(super) fn from_wire(wire: v1::VerifyResponse) -> Result<Self, String> {
        let member = |m: v1::MemberDigest| MemberDigest {
            node_id: m.node_id,
            digest: if m.unreachable.is_empty() {
                Ok(Digest {
                    state_hash: m.state_hash,
                    matches_own_count: m.matches_own_count,
                    namespaces: m.namespaces,
                    rows: m.rows,
                })
            } else {
                Err(m.unreachable)
            },
        };
        Ok(Self {
            position: Position::from_wire(wire.position)?,
            members: wire.members.into_iter().map(member).collect(),
            is_equal: wire.is_equal,
            different_namespaces: wire.different_namespaces,
        })
    }
}
