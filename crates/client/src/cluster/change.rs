//! Changes of who belongs to a cluster.

use memorygate_proto::v1::{self, change_member_request::Change as Wire};

/// One change of membership. Node ids are 16 hexadecimal digits, peer addresses HOST:PORT. What is
/// so already is no error, so a change whose outcome is unknown can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The node that waits at this peer address becomes a learner.
    Add {
        peer_address: String,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        node_id: String,
    },
    /// A voter becomes a learner.
    Demote {
        node_id: String,
    },
    Remove {
        node_id: String,
    },
    /// A node that waits to be added takes the place of a member that is gone.
    Replace {
        old_node_id: String,
        peer_address: String,
    },
}

impl Change {
    pub(super) fn to_wire(&self) -> v1::ChangeMemberRequest {
        let change = match self.clone() {
            Self::Add { peer_address } => Wire::Add(v1::NewMember { peer_address }),
            Self::Promote { node_id } => Wire::Promote(node_id),
            Self::Demote { node_id } => Wire::Demote(node_id),
            Self::Remove { node_id } => Wire::Remove(node_id),
            Self::Replace {
                old_node_id,
                peer_address,
            } => Wire::Replace(v1::ReplaceMember {
                old: old_node_id,
                peer_address,
            }),
        };
        v1::ChangeMemberRequest {
            change: Some(change),
        }
    }
}
