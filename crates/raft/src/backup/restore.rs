//! From a snapshot file to a data directory that begins a cluster of its own.
//!
//! ```text
//! DIR/restoring/          while it lasts; a directory with it and without an identity is refused
//! file ── every byte checked ──▶ DIR/restoring/group-0/state/ ── made the new cluster's, rows hashed
//!                                     │
//!                 DIR/group-0/ ◀── rename ── then DIR/identity ── then DIR/restoring is removed
//! ```
//!
//! The cluster id, the node id and the incarnation are new: positions of the old cluster and its
//! members are refused by the new one. The log goes on at the position of the snapshot, because what
//! was answered to whom is remembered by positions; it begins in term 0, which no leader ever had.
//! The only member is the node that serves first, under the address that it is told then.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write as _},
    path::{Path, PathBuf},
};

use memorygate_core::format::Formats;

use super::{CHUNK_BYTES, Manifest, Part, ReadError, read};
use crate::{
    dir::{self, ClusterId, Identity, OpenError},
    disk::{FreeSpace, StorageFull},
    durable,
    failpoint::Failpoints,
    settings::Settings,
    state::{self, generation},
};

/// Where to restore to.
pub struct Restore<'a> {
    /// The data directory: empty or not there yet.
    pub dir: &'a Path,
    /// The cluster that the snapshot must be of, if it matters.
    pub expected: Option<ClusterId>,
    pub disk: &'a dyn FreeSpace,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Of the new cluster.
    pub identity: Identity,
    pub manifest: Manifest,
}

/// Why nothing was restored. The directory is as it was, or is refused until a restore succeeds.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "data directory {} is not empty, it holds {found:?}: choose an empty one, or remove what \
         is there if nobody needs it", path.display()
    )]
    NotEmpty { path: PathBuf, found: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("snapshot is of cluster {actual}, expected {expected}: choose another file")]
    OtherCluster {
        actual: ClusterId,
        expected: ClusterId,
    },
    #[error(
        "snapshot is of group {actual}, expected {}: use a newer version",
        dir::GROUP
    )]
    OtherGroup { actual: u64 },
    #[error("no room for a state of {bytes} bytes: {full}")]
    NoRoom { bytes: u64, full: StorageFull },
    #[error("rows have state hash {actual}, the snapshot says {expected}: use another snapshot")]
    OtherState { actual: String, expected: String },
    #[error("snapshot holds the state after position {actual}, its manifest says {expected}")]
    OtherPosition { actual: u64, expected: u64 },
    #[error(
        "snapshot is of a cluster that writes its log in format {format}, this program reads \
         {formats}: restore it with a version that reads that"
    )]
    LogFormat { format: u8, formats: Formats },
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Restores the snapshot file that `from` reads. The whole of it is verified before anything of it is
/// installed. It blocks; killed half-way, it can be run again.
pub fn restore(from: &mut dyn Read, to: &Restore<'_>) -> Result<Restored, RestoreError> {
    restore_with(from, to, Formats::OWN, &Failpoints::default())
}

pub(crate) fn restore_with(
    from: &mut dyn Read,
    to: &Restore<'_>,
    formats: Formats,
    failpoints: &Failpoints,
) -> Result<Restored, RestoreError> {
    let path = to.dir;
    refuse_used(path)?;
    fs::create_dir_all(path).map_err(|error| OpenError::io("create", path, error))?;
    let _lock = dir::lock(path)?;
    // Another restore may have come first.
    refuse_used(path)?;
    let staging = path.join(dir::RESTORING);
    let staged = stage(from, to, &staging, formats, failpoints);
    let (identity, manifest) = match staged {
        Ok(staged) => staged,
        Err(error) => {
            // If it cannot be removed, the directory is refused until a restore succeeds.
            let _ = durable::remove_dir(&staging);
            return Err(error);
        }
    };
    let io = |action| move |error| OpenError::io(action, path, error);
    failpoints
        .hit("restore: before the rename")
        .and_then(|()| {
            durable::rename(
                &staging.join(dir::group_name()),
                &path.join(dir::group_name()),
            )
        })
        .and_then(|()| failpoints.hit("restore: after the rename"))
        .map_err(io("install the state in"))?;
    dir::write_restored(path, &identity)?;
    failpoints
        .hit("restore: after the identity")
        .and_then(|()| durable::remove_dir(&staging))
        .and_then(|()| durable::sync_dir(path))
        .map_err(io("finish"))?;
    Ok(Restored { identity, manifest })
}

/// Makes a state of the snapshot that could be served, beside its place.
fn stage(
    from: &mut dyn Read,
    to: &Restore<'_>,
    staging: &Path,
    formats: Formats,
    failpoints: &Failpoints,
) -> Result<(Identity, Manifest), RestoreError> {
    let installed = to.dir.join(dir::group_name());
    let root = staging.join(dir::group_name()).join("state");
    let parts = generation::first_dir(&root);
    let io = |error| OpenError::io("restore into", staging, error);
    // What an earlier attempt left. The new mark comes first: without it and without an identity the
    // directory would look like somebody's.
    fs::create_dir_all(staging)
        .and_then(|()| durable::sync_dir(to.dir))
        .and_then(|()| durable::remove_dir(&installed))
        .and_then(|()| durable::remove_dir(&staging.join(dir::group_name())))
        .and_then(|()| fs::create_dir_all(&parts))
        .and_then(|()| failpoints.hit("restore: before the parts"))
        .map_err(io)?;
    let mut unpack = Into {
        dir: &parts,
        to,
        refused: None,
        file: None,
    };
    let manifest = read::read(from, &mut unpack);
    if let Some(refused) = unpack.refused {
        return Err(refused);
    }
    let manifest = manifest?;
    durable::sync_tree(&parts)
        .and_then(|()| failpoints.hit("restore: after the parts"))
        .map_err(io)?;
    let identity = Identity {
        format: dir::FORMAT,
        cluster_id: ClusterId::random(),
        node_id: rand::random(),
        incarnation: rand::random(),
        formed: false,
    };
    let found = state::make_restored(&parts, identity.cluster_id, &Settings::default())?;
    if found.position != manifest.position {
        return Err(RestoreError::OtherPosition {
            actual: found.position,
            expected: manifest.position,
        });
    }
    if found.state_hash != manifest.state_hash {
        return Err(RestoreError::OtherState {
            actual: found.state_hash,
            expected: manifest.state_hash,
        });
    }
    // The new cluster goes on in the format of the old one, which is in the rows.
    if !formats.reads(found.log_format) {
        return Err(RestoreError::LogFormat {
            format: found.log_format,
            formats,
        });
    }
    durable::sync_tree(&parts)
        .and_then(|()| generation::point_to_first(&root))
        .and_then(|()| durable::sync_dir(&root))
        .and_then(|()| durable::sync_dir(&staging.join(dir::group_name())))
        .map_err(io)?;
    Ok((identity, manifest))
}

/// A directory with anything in it but what an interrupted restore left is not restored into.
fn refuse_used(path: &Path) -> Result<(), RestoreError> {
    let list = |error| OpenError::io("list", path, error);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(list)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(list)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    let group = dir::group_name();
    let was_restoring = names.iter().any(|name| name == dir::RESTORING);
    let mut left = vec![dir::LOCK, "identity.new", "lost+found"];
    if was_restoring {
        left.extend([dir::RESTORING, group.as_str()]);
    }
    match names.iter().find(|name| !left.contains(&name.as_str())) {
        Some(found) => Err(RestoreError::NotEmpty {
            path: path.to_owned(),
            found: found.clone(),
        }),
        None => Ok(()),
    }
}

/// Writes parts into a directory.
struct Into<'a> {
    dir: &'a Path,
    to: &'a Restore<'a>,
    /// Why the snapshot is not wanted, if it is not.
    refused: Option<RestoreError>,
    file: Option<BufWriter<File>>,
}

impl Into<'_> {
    fn check(&self, manifest: &Manifest) -> Result<(), RestoreError> {
        if let Some(expected) = self.to.expected
            && expected != manifest.cluster_id
        {
            return Err(RestoreError::OtherCluster {
                actual: manifest.cluster_id,
                expected,
            });
        }
        if manifest.group != dir::GROUP {
            return Err(RestoreError::OtherGroup {
                actual: manifest.group,
            });
        }
        let bytes = manifest.part_bytes();
        let free_bytes = self.to.disk.free_bytes(self.dir);
        let free_bytes = free_bytes.map_err(|error| OpenError::io("look at", self.dir, error))?;
        if free_bytes < bytes {
            let full = StorageFull {
                free_bytes,
                reserve_bytes: bytes,
            };
            return Err(RestoreError::NoRoom { bytes, full });
        }
        Ok(())
    }
}

impl read::Unpack for Into<'_> {
    fn manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.check(manifest).map_err(|refused| {
            self.refused = Some(refused);
            io::Error::other("it is refused")
        })
    }

    fn begin(&mut self, part: &Part) -> io::Result<()> {
        let file = File::create_new(self.dir.join(&part.name))?;
        self.file = Some(BufWriter::with_capacity(CHUNK_BYTES, file));
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().expect("a part has begun");
        file.write_all(data)
    }

    fn end(&mut self) -> io::Result<()> {
        let mut file = self.file.take().expect("a part has begun");
        file.flush()
    }
}
