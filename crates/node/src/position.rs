//! Where in which log something stands.

use memorygate_raft::ClusterId;

/// The Raft group; there is one for now.
pub const GROUP: u32 = 0;

/// A position token as a caller holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub cluster_id: ClusterId,
    pub group: u32,
    pub index: u64,
}
