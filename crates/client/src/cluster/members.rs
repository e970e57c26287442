//! Who belongs to a cluster.

use memorygate_proto::v1;

use crate::position::parse_cluster_id;

/// The members and who leads, as one node knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// As in [`Position::cluster_id`](crate::Position::cluster_id).
    pub cluster_id: u128,
    /// Of the leader that this node follows, or of the election that it takes part in.
    pub term: u64,
    /// In the order of their peer addresses.
    pub members: Vec<Member>,
    /// The node that answered: 16 hexadecimal digits.
    pub node_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// 16 hexadecimal digits.
    pub node_id: String,
    /// HOST:PORT where other members reach it.
    pub peer_address: String,
    /// HOST:PORT where clients reach it; empty while the node that answered has not heard it.
    pub client_address: String,
    /// A member without a vote is a learner: it receives the log and serves reads.
    pub is_voter: bool,
    pub is_leader: bool,
    /// Whether it takes no writes, because it is about to be stopped.
    pub is_draining: bool,
}

impl Members {
    /// The member that leads, if this node knows one.
    pub fn leader(&self) -> Option<&Member> {
        self.members.iter().find(|m| m.is_leader)
    }

    pub(crate) fn from_wire(wire: v1::MembersResponse) -> Result<Self, String> {
        Ok(Self {
            cluster_id: parse_cluster_id(&wire.cluster_id)
                .ok_or_else(|| format!("cluster id {:?}", wire.cluster_id))?,
            term: wire.term,
            members: wire.members.into_iter().map(Member::from_wire).collect(),
            node_id: wire.node_id,
        })
    }
}

impl Member {
    pub(crate) fn from_wire(wire: v1::ClusterMember) -> Self {
        Self {
            node_id: wire.node_id,
            peer_address: wire.peer_address,
            client_address: wire.client_address,
            is_voter: wire.is_voter,
            is_leader: wire.is_leader,
            is_draining: wire.is_draining,
        }
    }
}
