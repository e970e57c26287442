//! How the rest of the node uses the replicated log.

use std::{path::PathBuf, sync::Arc};

use memorygate_core::{apply::Reply, command::Command, request::RequestId};
use tokio::sync::watch;

use crate::{dir::Identity, disk::StorageFull, fatal::Fatal, state::State};

/// A running replica. Clones share it.
#[derive(Clone)]
pub struct Handle {}

/// A proposal that was committed and applied on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its own position; a repeated request's reply names the position of the first.
    pub index: u64,
    pub reply: Reply,
}

/// Another member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node_id: u64,
    pub address: String,
}

/// Why a proposal has no answer. All but [`Self::Unknown`] mean that it *failed*: it was not
/// appended to the log and never will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node is not the leader{}", at(leader))]
    NotLeader { leader: Option<Peer> },
    #[error("{in_flight} proposals of {in_flight_bytes} bytes are in flight: retry later")]
    Overloaded {
        in_flight: usize,
        in_flight_bytes: u64,
    },
    #[error("command has {actual} bytes, expected at most {max}")]
    TooLarge { actual: usize, max: usize },
    #[error(transparent)]
    StorageFull(#[from] StorageFull),
    #[error("node is stopped: {reason}")]
    Stopped { reason: String },
    /// It was handed over and may be committed, now or later. Only a repeat under the same request
    /// id tells.
    #[error("outcome unknown: {reason}")]
    Unknown { reason: String },
}

impl ProposeError {
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// Why a linearizable read cannot be served here now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    #[error("this node is not the leader{}", at(leader))]
    NotLeader { leader: Option<Peer> },
    #[error("leadership is not confirmed by a quorum: {reason}")]
    NoQuorum { reason: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The node has stopped, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node is stopped: {reason}")]
pub struct Stopped {
    pub reason: String,
}

fn at(leader: &Option<Peer>) -> String {
    match leader {
        Some(peer) => format!(", node {:x} at {} is", peer.node_id, peer.address),
        None => ", and none is known".to_owned(),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
    Stopped,
}

/// Where this node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    pub node_id: u64,
    pub role: Role,
    pub term: u64,
    pub leader: Option<Peer>,
    /// Index of the last entry in the log.
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    /// Index of the last entry in the current snapshot; 0 without one.
    pub snapshot: u64,
    /// Index of the last entry that was purged from the log; 0 if none was.
    pub purged: u64,
    pub in_flight: usize,
    pub in_flight_bytes: u64,
    /// Since the start.
    pub log_syncs: u64,
    pub log_entries: u64,
    pub log_bytes: u64,
    pub disk_free_bytes: u64,
}

/// A snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Index of the last log entry that it holds.
    pub position: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("nothing is applied yet")]
    Empty,
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Handle {
    /// Stamps `command` with the clock, appends it to the log and waits until it is applied.
    ///
    /// An id given as `request` makes a repeat get the first answer. Acknowledged means: synced to
    /// the disks of a quorum.
    pub async fn propose(
        &self,
        _command: Command,
        _request: Option<RequestId>,
    ) -> Result<Applied, ProposeError> {
        todo!()
    }

    /// Confirms with a quorum that this node still leads, and waits until it has applied all that
    /// was committed when it was asked. What is read here after it, at the position returned or a
    /// later one, is linearizable.
    pub async fn linearizable(&self) -> Result<u64, BarrierError> {
        todo!()
    }

    /// Waits until this node has applied `position`. It has no deadline of its own.
    pub async fn wait_applied(&self, _position: u64) -> Result<(), Stopped> {
        todo!()
    }

    /// Index of the last entry applied here.
    pub fn position(&self) -> u64 {
        todo!()
    }

    pub fn state(&self) -> &State {
        todo!()
    }

    pub fn identity(&self) -> &Identity {
        todo!()
    }

    pub fn is_leader(&self) -> bool {
        todo!()
    }

    pub fn metrics(&self) -> Metrics {
        todo!()
    }

    /// Fires once, when the node must stop serving.
    pub fn fatal(&self) -> watch::Receiver<Option<Arc<Fatal>>> {
        todo!()
    }

    /// Whether writes are refused for want of room now.
    pub fn storage_full(&self) -> Option<StorageFull> {
        todo!()
    }

    /// Builds a snapshot of the state as it is now, beside the running writes.
    pub async fn snapshot_now(&self) -> Result<SnapshotInfo, SnapshotError> {
        todo!()
    }

    /// Stops in order: what is in flight ends as unknown. When this returns and every [`State`] and
    /// snapshot of it was dropped, the data directory can be opened again.
    pub async fn shutdown(&self) {
        todo!()
    }
}
