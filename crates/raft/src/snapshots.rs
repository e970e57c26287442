//! Snapshots: copies of the state on disk, each with a manifest that vouches for every byte.
//!
//! ```text
//! checkpoint ──▶ DIR/staging/… ── metadata read from the copy, files hashed, synced ──▶ manifest
//!                                                                                          │
//! DIR/snapshots/T-N-INDEX/ ◀────────────────────────────────────────────── atomic rename ──┘
//! ```
//!
//! A snapshot holds no vote and no log. It says which entries it covers by what it contains, not by
//! what was intended when it was begun, because entries are applied meanwhile. Before one is
//! installed every file is hashed again.

pub(crate) mod manifest;
pub(crate) mod transfer;
pub(crate) mod turns;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use self::manifest::{Manifest, Part};
use crate::{
    dir::{self, ClusterId, OpenError},
    durable,
    failpoint::Failpoints,
    fatal::Alarm,
    kv,
    observer::Observer,
    rocks::{self, Memory, Mode, Store},
    state::{State, local},
    types,
};

/// Bytes hashed at a time.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;

/// The snapshots of one node.
pub(crate) struct Snapshots {
    root: PathBuf,
    staging: PathBuf,
    cluster_id: ClusterId,
    kept: usize,
    memory: Memory,
    /// Complete snapshots, oldest first.
    complete: Mutex<Vec<Arc<SnapshotFiles>>>,
    /// Built on this node's own account, to be handed to openraft when it asks next.
    prepared: Mutex<Option<Arc<SnapshotFiles>>>,
    next_staged: AtomicU64,
    observer: Arc<dyn Observer>,
    failpoints: Failpoints,
}

/// A snapshot on disk. One that was superseded is removed with its last user.
#[derive(Debug)]
pub(crate) struct SnapshotFiles {
    path: PathBuf,
    manifest: Manifest,
    is_superseded: AtomicBool,
}

impl SnapshotFiles {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl Drop for SnapshotFiles {
    fn drop(&mut self) {
        if *self.is_superseded.get_mut()
            && let Err(error) = durable::remove_dir(&self.path)
        {
            warn!(%error, path = %self.path.display(), "old snapshot could not be removed");
        }
    }
}

/// Why a snapshot may not be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("snapshot {} is of cluster {actual}, expected {expected}", path.display())]
    OtherCluster {
        path: PathBuf,
        actual: ClusterId,
        expected: ClusterId,
    },
    #[error("snapshot {} has format {actual}, this program reads up to {}", path.display(), dir::FORMAT)]
    NewerFormat { path: PathBuf, actual: u32 },
    #[error("snapshot file {}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("read snapshot {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Snapshots {
    /// Finds what is there; staged leftovers are removed.
    pub(crate) fn open(
        group: &Path,
        cluster_id: ClusterId,
        kept: usize,
        memory: Memory,
        observer: Arc<dyn Observer>,
        failpoints: Failpoints,
    ) -> Result<Self, OpenError> {
        let (root, staging) = (group.join("snapshots"), group.join("staging"));
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |error| OpenError::io(action, &path, error)
        };
        durable::remove_dir(&staging).map_err(io("remove", &staging))?;
        fs::create_dir_all(&staging).map_err(io("create", &staging))?;
        fs::create_dir_all(&root).map_err(io("create", &root))?;
        let mut complete = Vec::new();
        for entry in fs::read_dir(&root).map_err(io("list", &root))? {
            let path = entry.map_err(io("list", &root))?.path();
            match Manifest::read(&path) {
                Ok(manifest) => complete.push(SnapshotFiles {
                    path,
                    manifest,
                    is_superseded: AtomicBool::new(false),
                }),
                // Not needed to go on: the next snapshot replaces it.
                Err(error) => warn!(%error, "snapshot is not readable, ignored"),
            }
        }
        complete.sort_by_key(|snapshot| snapshot.manifest.log_id);
        Ok(Self {
            root,
            staging,
            cluster_id,
            kept,
            memory,
            complete: Mutex::new(complete.into_iter().map(Arc::new).collect()),
            prepared: Mutex::new(None),
            next_staged: AtomicU64::new(0),
            observer,
            failpoints,
        })
    }

    /// The newest complete snapshot.
    pub(crate) fn latest(&self) -> Option<Arc<SnapshotFiles>> {
        lock(&self.complete).last().cloned()
    }

    /// Hands the snapshot built last to whoever asks first.
    pub(crate) fn take_prepared(&self) -> Option<Arc<SnapshotFiles>> {
        lock(&self.prepared).take()
    }

    pub(crate) fn set_prepared(&self, snapshot: Arc<SnapshotFiles>) {
        *lock(&self.prepared) = Some(snapshot);
    }

    /// An unused path to build or receive a snapshot at.
    pub(crate) fn stage(&self) -> PathBuf {
        let number = self.next_staged.fetch_add(1, Ordering::Relaxed);
        self.staging.join(format!("{number}"))
    }

    /// Copies the state as it is now. Entries may be applied meanwhile.
    pub(crate) fn build(&self, state: &State) -> io::Result<Arc<SnapshotFiles>> {
        let started = Instant::now();
        let staged = self.stage();
        let built = self.build_at(&staged, state);
        if built.is_err() {
            // What is left of it is in the way of nothing; the disk may be what failed.
            let _ = durable::remove_dir(&staged);
        }
        let snapshot = self.keep(&staged, built?)?;
        let bytes = snapshot.manifest.bytes();
        self.observer.snapshot_built(bytes, started.elapsed());
        info!(
            position = snapshot.manifest.position(),
            bytes, "snapshot built"
        );
        Ok(snapshot)
    }

    /// Checks every byte of a snapshot, and that it is of this cluster.
    pub(crate) fn verify(&self, snapshot: &SnapshotFiles) -> Result<(), VerifyError> {
        verify(snapshot.path(), snapshot.manifest(), self.cluster_id)
    }

    /// A snapshot whose files were put into a staged directory. They are not verified yet.
    pub(crate) fn received(
        &self,
        staged: &Path,
    ) -> Result<Arc<SnapshotFiles>, manifest::ReadError> {
        Ok(Arc::new(SnapshotFiles {
            path: staged.to_owned(),
            manifest: Manifest::read(staged)?,
            is_superseded: AtomicBool::new(false),
        }))
    }

    /// Keeps a verified snapshot that was received into a staged directory; one that is kept
    /// already is returned as it is.
    pub(crate) fn adopt(&self, snapshot: Arc<SnapshotFiles>) -> io::Result<Arc<SnapshotFiles>> {
        if snapshot.path.parent() == Some(&self.root) {
            return Ok(snapshot);
        }
        durable::sync_tree(&snapshot.path)?;
        self.keep(&snapshot.path, snapshot.manifest.clone())
    }

    fn build_at(&self, staged: &Path, state: &State) -> io::Result<Manifest> {
        state.checkpoint(staged)?;
        self.failpoints.hit("snapshot: after the checkpoint")?;
        let mut manifest = self.describe(staged).map_err(io::Error::other)?;
        let known = self.latest();
        for name in file_names(staged)? {
            let path = staged.join(&name);
            let part = match known
                .as_deref()
                .and_then(|known| shared(known, &name, &path))
            {
                Some(part) => part,
                None => Part::of(&path, name)?,
            };
            manifest.parts.push(part);
        }
        manifest.write(staged)?;
        durable::sync_tree(staged)?;
        self.failpoints.hit("snapshot: before the rename")?;
        Ok(manifest)
    }

    /// What a copy says of itself.
    pub(crate) fn describe(&self, path: &Path) -> Result<Manifest, OpenError> {
        let kind = rocks::Kind::State;
        let store = Store::open(kind, Mode::ReadOnly, path, &self.memory, Alarm::new())?;
        let applied = local(&store, &kv::applied::KEY, kv::applied::decode)?.unwrap_or_default();
        let membership = local(&store, &kv::membership::KEY, kv::membership::decode)?;
        Ok(Manifest {
            format: dir::FORMAT,
            group: dir::GROUP,
            cluster_id: self.cluster_id,
            log_id: applied.log_id,
            membership: membership.unwrap_or_default(),
            digest: applied.digest.to_string(),
            parts: Vec::new(),
        })
    }

    /// Moves a complete, synced snapshot to its place, and lets go of those that are too many.
    fn keep(&self, staged: &Path, manifest: Manifest) -> io::Result<Arc<SnapshotFiles>> {
        let mut complete = lock(&self.complete);
        if let Some(same) = complete
            .iter()
            .find(|s| s.manifest.log_id == manifest.log_id)
        {
            // The same entries make the same state.
            durable::remove_dir(staged)?;
            return Ok(same.clone());
        }
        let name = manifest.log_id.as_ref().map(types::display);
        let path = self.root.join(name.unwrap_or_else(|| "empty".to_owned()));
        // Something unreadable may have been left under this name.
        durable::remove_dir(&path)?;
        durable::rename(staged, &path)?;
        let snapshot = Arc::new(SnapshotFiles {
            path,
            manifest,
            is_superseded: AtomicBool::new(false),
        });
        complete.push(snapshot.clone());
        complete.sort_by_key(|snapshot| snapshot.manifest.log_id);
        let excess = complete.len().saturating_sub(self.kept);
        for old in complete.drain(..excess) {
            old.is_superseded.store(true, Ordering::Relaxed);
        }
        Ok(snapshot)
    }
}

/// Checks every byte of a snapshot, and that it is of the cluster expected.
pub(crate) fn verify(
    path: &Path,
    manifest: &Manifest,
    expected: ClusterId,
) -> Result<(), VerifyError> {
    let path = path.to_owned();
    if manifest.format > dir::FORMAT {
        return Err(VerifyError::NewerFormat {
            path,
            actual: manifest.format,
        });
    }
    if manifest.cluster_id != expected {
        return Err(VerifyError::OtherCluster {
            path,
            actual: manifest.cluster_id,
            expected,
        });
    }
    for part in &manifest.parts {
        let file = path.join(&part.name);
        let actual = match Part::of(&file, part.name.clone()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VerifyError::Io {
                    path: file,
                    source: error,
                });
            }
            Err(_) => {
                return Err(VerifyError::Damaged {
                    path: file,
                    reason: "it is missing".to_owned(),
                });
            }
            Ok(actual) => actual,
        };
        if actual != *part {
            return Err(VerifyError::Damaged {
                path: file,
                reason: format!(
                    "it has {} bytes with SHA-256 {}, expected {} with {}",
                    actual.bytes, actual.sha256, part.bytes, part.sha256
                ),
            });
        }
    }
    Ok(())
}

/// The known description of a file that is the same file as one of an earlier snapshot. Tables
/// never change once written.
fn shared(known: &SnapshotFiles, name: &str, path: &Path) -> Option<Part> {
    if Path::new(name).extension()? != "sst" {
        return None;
    }
    let part = known.manifest.parts.iter().find(|p| p.name == name)?;
    let (old, new) = (
        fs::metadata(known.path.join(name)).ok()?,
        fs::metadata(path).ok()?,
    );
    let is_same = (old.dev(), old.ino(), old.len()) == (new.dev(), new.ino(), part.bytes);
    is_same.then(|| part.clone())
}

/// The files that make up the copy, in order.
fn file_names(path: &Path) -> io::Result<Vec<String>> {
    remove_traces(path)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == manifest::FILE {
            fs::remove_file(entry.path())?;
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes RocksDB's own log of its doings, which is no part of a copy.
pub(crate) fn remove_traces(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "LOCK" || name.starts_with("LOG") {
            match fs::remove_file(entry.path()) {
                // Another look at the same copy was first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
    }
    Ok(())
}

impl Part {
    /// Hashes a file.
    fn of(path: &Path, name: String) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; HASH_CHUNK_BYTES];
        let mut bytes = 0;
        loop {
            let read = io::Read::read(&mut file, &mut chunk)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            bytes += read as u64;
        }
        Ok(Self {
            name,
            bytes,
            sha256: format!("{:x}", hash.finalize()),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
