//! Why a member or a cluster is not well, and what to do about it.

use std::fmt;

use memorygate_core::time::TimeMs;
use memorygate_proto::v1;

use crate::time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// A member's disk is below its reserve: the whole cluster refuses writes. Goes by itself.
    DiskFull,
    /// A file of a member is damaged; it is out of service.
    Corrupt,
    /// A member's disk refused a write or a sync; it is out of service.
    StorageFailed,
    /// A member's state differs from the others' at one position.
    Diverged,
}

impl AlarmKind {
    pub const ALL: [Self; 4] = [
        Self::DiskFull,
        Self::Corrupt,
        Self::StorageFailed,
        Self::Diverged,
    ];

    /// A word for tables, command lines and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::Corrupt => "corrupt",
            Self::StorageFailed => "storage_failed",
            Self::Diverged => "diverged",
        }
    }

    pub(super) fn to_wire(self) -> v1::AlarmKind {
        match self {
            Self::DiskFull => v1::AlarmKind::DiskFull,
            Self::Corrupt => v1::AlarmKind::Corrupt,
            Self::StorageFailed => v1::AlarmKind::StorageFailed,
            Self::Diverged => v1::AlarmKind::Diverged,
        }
    }

    fn from_wire(wire: i32) -> Option<Self> {
        match v1::AlarmKind::try_from(wire).ok()? {
            v1::AlarmKind::Unspecified => None,
            v1::AlarmKind::DiskFull => Some(Self::DiskFull),
            v1::AlarmKind::Corrupt => Some(Self::Corrupt),
            v1::AlarmKind::StorageFailed => Some(Self::StorageFailed),
            v1::AlarmKind::Diverged => Some(Self::Diverged),
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// 16 hexadecimal digits.
    pub node_id: String,
    /// `None` if it is one that this version does not know.
    pub kind: Option<AlarmKind>,
    /// What happened, with the file or the numbers.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    pub since: Option<TimeMs>,
}

impl Alarm {
    pub(super) fn all_from_wire(wire: Vec<v1::ClusterAlarm>) -> Result<Vec<Self>, String> {
        wire.into_iter().map(Self::from_wire).collect()
    }

    fn from_wire(wire: v1::ClusterAlarm) -> Result<Self, String> {
        Ok(Self {
            node_id: wire.node_id,
            kind: AlarmKind::from_wire(wire.kind),
            reason: wire.reason,
            remedy: wire.remedy,
            since: wire
                .since
                .map(time::from_wire)
                .transpose()
                .map_err(|e| format!("since: {e}"))?,
        })
    }
}
