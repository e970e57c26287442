//! Snapshot files of a cluster's state, and the store in which a node keeps them.

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;

use crate::{position::Position, time};

/// A snapshot file: the whole state of a cluster at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// File name in the backup store.
    pub name: String,
    pub position: Position,
    pub created_at: Option<TimeMs>,
    pub bytes: u64,
    /// Of the state in it: 64 hexadecimal digits.
    pub state_hash: String,
    pub memories: u64,
}

/// The snapshot files of a backup store, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    pub snapshots: Vec<Snapshot>,
    /// Where they lie: a directory or a URL.
    pub store: String,
}

/// A snapshot file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSnapshot {
    pub snapshot: Snapshot,
    /// Where it lies: a directory or a URL.
    pub store: String,
}

impl Snapshot {
    pub(super) fn from_wire(wire: Option<v1::SnapshotDescription>) -> Result<Self, String> {
        let wire = wire.ok_or("snapshot is missing")?;
        Ok(Self {
            name: wire.name,
            position: Position::from_wire(wire.position)?,
            created_at: wire
                .created_at
                .map(time::from_wire)
                .transpose()
                .map_err(|e| format!("created_at: {e}"))?,
            bytes: wire.bytes,
            state_hash: wire.state_hash,
            memories: wire.memories,
        })
    }
}

impl Snapshots {
    pub(super) fn from_wire(wire: v1::ListSnapshotsResponse) -> Result<Self, String> {
        Ok(Self {
            snapshots: wire
                .snapshots
                .into_iter()
                .map(|snapshot| Snapshot::from_wire(Some(snapshot)))
                .collect::<Result<_, _>>()?,
            store: wire.store,
        })
    }
}

impl CreatedSnapshot {
    pub(super) fn from_wire(wire: v1::CreateSnapshotResponse) -> Result<Self, String> {
        Ok(Self {
            snapshot: Snapshot::from_wire(wire.snapshot)?,
            store: wire.store,
        })
    }
}
