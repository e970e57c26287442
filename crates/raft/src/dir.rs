//! The data directory: its layout, its identity, and the lock that keeps a second server out.
//!
//! ```text
//! DIR/lock                         held (flock) while a server runs
//! DIR/identity                     JSON: format, cluster id, node id, incarnation, formed, founders
//! DIR/recovery                     there while `recover` is under way
//! DIR/group-0/log/                 RocksDB: votes and log entries, every write synced
//! DIR/group-0/seal                 what the log acknowledged, to tell damage from a torn tail
//! DIR/group-0/state/current        names the generation in use
//! DIR/group-0/state/GENERATION/    RocksDB: the replicated state
//! DIR/group-0/snapshots/T-N-INDEX/ copies of the state, each with its manifest
//! DIR/group-0/staging/             what is being built or received; emptied at start
//! DIR/restoring/                   while a snapshot file is restored; the identity comes last
//! ```
//!
//! A directory whose node was once a member and that misses a part is refused, never filled up with
//! an empty one: a node that lost its log could vote twice.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use memorygate_core::format::Formats;
use serde::{Deserialize, Serialize};

use crate::{durable, transport::Peer};

/// The layout that this program reads and writes.
pub const FORMAT: u32 = 1;

/// The one Raft group there is, so far.
pub(crate) const GROUP: u64 = 0;

const IDENTITY: &str = "identity";
pub(crate) const LOCK: &str = "lock";
pub(crate) const RESTORING: &str = "restoring";

/// Says why this replica must not serve any more, if so.
const CONDEMNED: &str = "condemned";

/// There while a recovery is under way, see `recover`.
pub(crate) const RECOVERY: &str = "recovery";

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

/// What is stored of a node: who it is, and with whom it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    cluster_id: ClusterId,
    node_id: u64,
    incarnation: u64,
    formed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    founders: Vec<Peer>,
    /// Whether the state came from a snapshot file, and begins a cluster of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    restored: bool,
}

impl Stored {
    fn identity(&self) -> Identity {
        Identity {
            format: self.format,
            cluster_id: self.cluster_id,
            node_id: self.node_id,
            incarnation: self.incarnation,
            formed: self.formed,
        }
    }
}

/// Why a data directory cannot be used.
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
        "data directory {} was being restored, and that did not end: run `memorygate restore` again",
        path.display()
    )]
    HalfRestored { path: PathBuf },
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
    #[error(
        "data directory {} is out of service: {reason}: keep a copy if the others may be wrong, then \
         empty it and let the node join as a new member", path.display()
    )]
    Condemned { path: PathBuf, reason: String },
    #[error(
        "{} is of a cluster that writes its log in format {format}, this program reads {formats}: \
         start a version of it that reads that", path.display()
    )]
    LogFormat {
        path: PathBuf,
        format: u8,
        formats: Formats,
    },
    #[error(
        "data directory {} is in the middle of a recovery: repeat \
         `memorygate recover --force-new-cluster`", path.display()
    )]
    Recovering { path: PathBuf },
    #[error(transparent)]
    Settings(#[from] crate::settings::Invalid),
    /// The machine refused something; the data may be whole.
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

/// Keeps other servers out of a data directory until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

/// A data directory that this process alone uses.
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    /// The members that its cluster begins with; empty until that is agreed, or for a node that
    /// joins later.
    founders: Vec<Peer>,
    is_restored: bool,
    lock: Arc<Lock>,
}

impl DataDir {
    /// Opens a data directory, or makes an empty directory one.
    pub fn open(path: &Path, expected: Option<ClusterId>) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(|error| OpenError::io("create", path, error))?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        let stored = match read_identity(path)? {
            Some(stored) => stored,
            // An empty directory where there should be data is most likely not mounted.
            None if expected.is_some() => {
                return Err(OpenError::Incomplete {
                    path: path.to_owned(),
                    missing: "its identity, and expected_cluster_id is set",
                });
            }
            None => {
                let stored = Stored {
                    format: FORMAT,
                    cluster_id: ClusterId::random(),
                    node_id: rand::random(),
                    incarnation: rand::random(),
                    formed: false,
                    founders: Vec::new(),
                    restored: false,
                };
                #[cfg(feature = "planted-bugs")]
                let stored = match crate::planted::kept_identity(path) {
                    Some((node_id, incarnation)) => Stored {
                        node_id,
                        incarnation,
                        ..stored
                    },
                    None => stored,
                };
                write_identity(path, &stored)?;
                stored
            }
        };
        check_identity(path, &stored.identity(), expected)?;
        if path.join(RECOVERY).exists() {
            return Err(OpenError::Recovering {
                path: path.to_owned(),
            });
        }
        refuse_condemned(path)?;
        Self::with_group(path, stored, lock)
    }

    /// Opens a data directory that is there.
    pub(crate) fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let Some(stored) = read_identity(path)? else {
            refuse_half_restored(path)?;
            return Err(OpenError::Incomplete {
                path: path.to_owned(),
                missing: "its identity",
            });
        };
        let lock = lock(path)?;
        check_identity(path, &stored.identity(), None)?;
        Self::with_group(path, stored, lock)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The members that the cluster begins with, this one among them; empty until that is agreed.
    pub fn founders(&self) -> &[Peer] {
        &self.founders
    }

    /// Whether this node has never served yet what was restored from a snapshot file: it begins a
    /// cluster of its own with it.
    pub fn is_restored(&self) -> bool {
        self.is_restored && !self.identity.formed
    }

    /// Makes this node one of a cluster that is about to be formed, or, without founders, one that
    /// joins a cluster which is there. It survives a crash; a node that was a member is refused.
    pub fn belong(&mut self, cluster_id: ClusterId, founders: &[Peer]) -> Result<(), OpenError> {
        if self.identity.formed && self.identity.cluster_id != cluster_id {
            return Err(OpenError::OtherCluster {
                path: self.path.clone(),
                actual: self.identity.cluster_id,
                expected: cluster_id,
            });
        }
        self.identity.cluster_id = cluster_id;
        self.founders = founders.to_vec();
        self.write()
    }

    /// Gives the directory to another node, of another cluster.
    pub(crate) fn become_another(
        &mut self,
        identity: &Identity,
        founders: &[Peer],
    ) -> Result<(), OpenError> {
        self.identity = *identity;
        self.founders = founders.to_vec();
        self.write()
    }

    pub(crate) fn lock(&self) -> Arc<Lock> {
        self.lock.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the one group lives.
    pub(crate) fn group(&self) -> PathBuf {
        self.path.join(group_name())
    }

    /// Notes that the node is a member of its cluster now.
    pub(crate) fn set_formed(&mut self) -> Result<(), OpenError> {
        self.identity.formed = true;
        self.write()
    }

    fn write(&self) -> Result<(), OpenError> {
        let Identity {
            format,
            cluster_id,
            node_id,
            incarnation,
            formed,
        } = self.identity;
        let stored = Stored {
            format,
            cluster_id,
            node_id,
            incarnation,
            formed,
            founders: self.founders.clone(),
            restored: self.is_restored,
        };
        write_identity(&self.path, &stored)
    }

    fn with_group(path: &Path, stored: Stored, lock: Lock) -> Result<Self, OpenError> {
        let identity = stored.identity();
        let dir = Self {
            path: path.to_owned(),
            identity,
            founders: stored.founders,
            is_restored: stored.restored,
            lock: Arc::new(lock),
        };
        let restoring = path.join(RESTORING);
        // A restore that was interrupted in its last step was complete.
        durable::remove_dir(&restoring)
            .map_err(|error| OpenError::io("remove", &restoring, error))?;
        let group = dir.group();
        if !group.exists() {
            if identity.formed {
                return Err(OpenError::Incomplete {
                    path: group,
                    missing: "the log and the state",
                });
            }
            fs::create_dir(&group)
                .and_then(|()| durable::sync_dir(path))
                .map_err(|error| OpenError::io("create", &group, error))?;
        }
        Ok(dir)
    }
}

/// Where the one group lives in its directory.
pub(crate) fn group_name() -> String {
    format!("group-{GROUP}")
}

/// Gives a directory with a restored state its identity, which makes it one that can be used.
pub(crate) fn write_restored(path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let Identity {
        format,
        cluster_id,
        node_id,
        incarnation,
        formed,
    } = *identity;
    let stored = Stored {
        format,
        cluster_id,
        node_id,
        incarnation,
        formed,
        founders: Vec::new(),
        restored: true,
    };
    write_identity(path, &stored)
}

fn refuse_half_restored(path: &Path) -> Result<(), OpenError> {
    match path.join(RESTORING).exists() {
        true => Err(OpenError::HalfRestored {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Has every later start on this directory refused. It survives a crash.
pub(crate) fn condemn(path: &Path, reason: &str) -> io::Result<()> {
    durable::replace(&path.join(CONDEMNED), reason.as_bytes())
}

fn refuse_condemned(path: &Path) -> Result<(), OpenError> {
    let name = path.join(CONDEMNED);
    match fs::read(&name) {
        Ok(reason) => Err(OpenError::Condemned {
            path: path.to_owned(),
            reason: String::from_utf8_lossy(&reason).into_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::io("read", &name, error)),
    }
}

/// A directory with anything else in it and no identity is somebody's.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    if path.join(IDENTITY).exists() {
        return Ok(());
    }
    refuse_half_restored(path)?;
    let list = |error| OpenError::io("list", path, error);
    for entry in fs::read_dir(path).map_err(list)? {
        let found = entry.map_err(list)?.file_name();
        let found = found.to_string_lossy();
        // A start that was interrupted leaves the former, a new file system the latter.
        if ![LOCK, "identity.new", "lost+found"].contains(&found.as_ref()) {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                found: found.into_owned(),
            });
        }
    }
    Ok(())
}

pub(crate) fn lock(path: &Path) -> Result<Lock, OpenError> {
    let name = path.join(LOCK);
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = options
        .open(&name)
        .map_err(|error| OpenError::io("open", &name, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(OpenError::io("lock", &name, error)),
    }
}

fn read_identity(path: &Path) -> Result<Option<Stored>, OpenError> {
    /// What every format has.
    #[derive(Deserialize)]
    struct AnyFormat {
        format: u32,
    }
    let name = path.join(IDENTITY);
    let bytes = match fs::read(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| OpenError::io("read", &name, error))?,
    };
    let corrupt = |error: serde_json::Error| OpenError::corrupt(&name, error);
    let AnyFormat { format } = serde_json::from_slice(&bytes).map_err(corrupt)?;
    if format > FORMAT {
        return Err(OpenError::NewerFormat {
            path: path.to_owned(),
            actual: format,
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

fn check_identity(
    path: &Path,
    identity: &Identity,
    expected: Option<ClusterId>,
) -> Result<(), OpenError> {
    match expected {
        Some(expected) if expected != identity.cluster_id => Err(OpenError::OtherCluster {
            path: path.to_owned(),
            actual: identity.cluster_id,
            expected,
        }),
        Some(_) | None => Ok(()),
    }
}

fn write_identity(path: &Path, stored: &Stored) -> Result<(), OpenError> {
    let name = path.join(IDENTITY);
    let mut text = serde_json::to_string_pretty(stored).expect("numbers are always JSON");
    text.push('\n');
    durable::replace(&name, text.as_bytes()).map_err(|error| OpenError::io("write", &name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity_text(path: &Path) -> String {
        fs::read_to_string(path.join(IDENTITY)).unwrap()
    }

    fn refusal(path: &Path, expected: Option<ClusterId>) -> String {
        let error = DataDir::open(path, expected).err().unwrap();
        error
            .to_string()
            .replace(&path.display().to_string(), "DIR")
    }

    #[test]
    fn an_identity_is_made_once_and_its_bytes_never_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let first = *DataDir::open(&path, None).unwrap().identity();
        let again = *DataDir::open(&path, None).unwrap().identity();
        assert_eq!(first, again);
        let mut fixed = Stored {
            format: 1,
            cluster_id: ClusterId(0xcd),
            node_id: 2,
            incarnation: 3,
            formed: true,
            founders: Vec::new(),
            restored: false,
        };
        write_identity(&path, &fixed).unwrap();
        let expected = concat!(
            "{\n  \"format\": 1,\n",
            "  \"cluster_id\": \"000000000000000000000000000000cd\",\n",
            "  \"node_id\": 2,\n  \"incarnation\": 3,\n  \"formed\": true\n}\n",
        );
        assert_eq!(identity_text(&path), expected);
        assert_eq!(read_identity(&path).unwrap().as_ref(), Some(&fixed));
        fixed.founders = vec![Peer {
            node_id: 2,
            address: "a:1".to_owned(),
        }];
        write_identity(&path, &fixed).unwrap();
        assert_eq!(read_identity(&path).unwrap(), Some(fixed));
    }

    #[test]
    fn a_second_server_is_kept_out() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), None).unwrap();
        assert_eq!(
            refusal(dir.path(), None),
            "data directory DIR is in use by another server"
        );
        let existing = DataDir::open_existing(dir.path()).err().unwrap();
        assert!(matches!(existing, OpenError::Locked { .. }));
        drop(first);
        assert!(DataDir::open(dir.path(), None).is_ok());
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join("photo.jpg"), b"x").unwrap();
        assert_eq!(
            refusal(dir.path(), None),
            "data directory DIR holds \"photo.jpg\" and no identity: it is not a data directory, \
             choose an empty one"
        );
        assert!(!dir.path().join(LOCK).exists(), "nothing was changed");
        fs::remove_file(dir.path().join("photo.jpg")).unwrap();
        assert!(DataDir::open(dir.path(), None).is_ok());
        let empty = tempfile::tempdir().unwrap();
        let error = DataDir::open_existing(empty.path()).err().unwrap();
        assert!(matches!(error, OpenError::Incomplete { .. }), "{error}");
    }

    #[test]
    fn another_cluster_a_newer_format_and_damage_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = refusal(dir.path(), Some(ClusterId(1)));
        assert!(empty.contains("misses its identity"), "{empty}");
        let actual = DataDir::open(dir.path(), None)
            .unwrap()
            .identity()
            .cluster_id;
        assert!(DataDir::open(dir.path(), Some(actual)).is_ok());
        assert_eq!(
            refusal(dir.path(), Some(ClusterId(1))),
            format!(
                "data directory DIR belongs to cluster {actual}, expected {}: check the path and \
                 the expected_cluster_id setting",
                ClusterId(1)
            )
        );
        let newer = r#"{"format": 2, "something": "new"}"#;
        fs::write(dir.path().join(IDENTITY), newer).unwrap();
        assert_eq!(
            refusal(dir.path(), None),
            "data directory DIR has format 2, this program reads up to 1: start a newer version of it"
        );
        fs::write(dir.path().join(IDENTITY), "{").unwrap();
        let corrupt = refusal(dir.path(), None);
        assert!(corrupt.starts_with("DIR/identity is corrupt"), "{corrupt}");
    }

    #[test]
    fn a_member_that_lost_its_data_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut data = DataDir::open(dir.path(), None).unwrap();
        data.set_formed().unwrap();
        let group = data.group();
        drop(data);
        assert!(DataDir::open(dir.path(), None).is_ok());
        fs::remove_dir(group).unwrap();
        let lost = refusal(dir.path(), None);
        assert!(lost.contains("misses the log and the state"), "{lost}");
    }

    #[test]
    fn a_cluster_id_is_read_back_from_its_text() {
        let id = ClusterId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "+0000000000000000000000000000000", "xyz"] {
            let error = bad.parse::<ClusterId>().unwrap_err();
            assert!(error.to_string().contains("is not 32 hexadecimal digits"));
        }
    }
}
