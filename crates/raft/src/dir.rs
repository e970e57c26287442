//! The data directory: its layout, its identity, and the lock that keeps a second server out.
//!
//! ```text
//! DIR/lock                    held (flock) while a server runs
//! DIR/identity                JSON: format, cluster id, node id, incarnation, formed
//! DIR/log/                    RocksDB: votes and log entries, every write synced
//! DIR/seal                    what the log last acknowledged, to tell damage from a torn tail
//! DIR/state/current           names the generation in use
//! DIR/state/GENERATION/       RocksDB: the replicated state
//! DIR/snapshots/INDEX-TERM/   checkpoints of the state, each with its manifest
//! DIR/staging/                what is being built or received; emptied at start
//! ```
//!
//! The identity is written once, and last of all when a directory is made: a directory that was
//! formed and misses a part is refused, never filled up with an empty one, since a node that lost
//! its log could vote twice.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The layout that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Names a cluster: 128 random bits, shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(pub u128);

impl ClusterId {
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is not a cluster id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster id {actual:?} is not 32 hexadecimal digits")]
pub struct ParseClusterIdError {
    pub actual: String,
}

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex
            .then(|| u128::from_str_radix(text, 16).ok().map(Self))
            .flatten()
            .ok_or_else(|| ParseClusterIdError {
                actual: text.chars().take(80).collect(),
            })
    }
}

impl TryFrom<String> for ClusterId {
    type Error = ParseClusterIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

/// Who this node is. Stored once, and shown at every call between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Layout of the data directory.
    pub format: u32,
    pub cluster_id: ClusterId,
    /// Random: a node that lost its disk is a new node.
    pub node_id: u64,
    /// Random, made with the directory: tells two directories that claim one node id apart.
    pub incarnation: u64,
    /// Whether the node has been a member of its cluster. From then on it never forms one again.
    pub formed: bool,
}

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory {} is in use by another server", path.display())]
    Locked { path: PathBuf },
    #[error(
        "data directory {} has format {actual}, this program reads up to {FORMAT}: start a newer \
         version of it", path.display()
    )]
    NewerFormat { path: PathBuf, actual: u32 },
    #[error(
        "data directory {} belongs to cluster {actual}, expected {expected}: check the path and \
         the expected_cluster_id setting", path.display()
    )]
    OtherCluster {
        path: PathBuf,
        actual: ClusterId,
        expected: ClusterId,
    },
    #[error(
        "data directory {} holds {found:?} and no identity: it is not a data directory, choose \
         an empty one", path.display()
    )]
    Foreign { path: PathBuf, found: String },
    #[error(
        "data directory {} misses {missing}: restore it from a snapshot, or empty it and let the \
         node join as a new member", path.display()
    )]
    Incomplete {
        path: PathBuf,
        missing: &'static str,
    },
    #[error(
        "{} is corrupt: {reason}: check the disk, then restore this node from a snapshot, or empty \
         its data directory and let it join as a new member", path.display()
    )]
    Corrupt { path: PathBuf, reason: String },
    #[error(transparent)]
    Settings(#[from] crate::settings::Invalid),
    #[error("{action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
