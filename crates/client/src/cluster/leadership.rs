//! Who leads a cluster, and which of its nodes is about to be stopped.

use memorygate_proto::v1;

/// What a transfer of leadership came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Node id of the leader now.
    pub leader: String,
    pub term: u64,
}

/// What draining a node, or resuming it, came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    pub node_id: String,
    pub is_draining: bool,
    /// Writes that it had taken and has not answered yet; at 0 it can be stopped.
    pub writes_in_flight: u64,
    /// Node id of the leader now, if one is known.
    pub leader: Option<String>,
}

impl Leadership {
    pub(super) fn from_wire(wire: v1::TransferLeaderResponse) -> Self {
        Self {
            leader: wire.leader,
            term: wire.term,
        }
    }
}

impl Drained {
    pub(super) fn from_wire(wire: v1::DrainResponse) -> Self {
        Self {
            node_id: wire.node_id,
            is_draining: wire.is_draining,
            writes_in_flight: wire.writes_in_flight,
            leader: Some(wire.leader).filter(|leader| !leader.is_empty()),
        }
    }
}
