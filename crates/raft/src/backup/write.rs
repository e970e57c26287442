//! Writing a snapshot file, from the copies of the state that a replica keeps anyway.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read as _, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use memorygate_core::{
    state::{self, NamespaceInfo, ReadError},
    time::TimeMs,
};
use sha2::{Digest as _, Sha256};

use super::{CHUNK_BYTES, Manifest};
use crate::{
    dir::OpenError,
    disk::{FreeSpace, StorageFull},
    durable,
    fatal::Alarm,
    handle::{Handle, SnapshotError},
    kv::{Family, tag},
    rocks::{Kind, Memory, Mode, Scan, Store},
    settings::Settings,
    snapshots::{SnapshotFiles, remove_traces},
    state::rows::Rows,
};

/// A snapshot that is ready to be written as one file. Its parts stay on disk as long as it lives.
#[derive(Clone, Debug)]
pub struct Backup {
    files: Arc<SnapshotFiles>,
    manifest: Manifest,
}

/// Why there is no file. What was there under its name stays.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("no room for a snapshot of {bytes} bytes: {full}")]
    NoRoom { bytes: u64, full: StorageFull },
    #[error("write snapshot {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Handle {
    /// Makes a snapshot of the state as it is now or later, beside running writes, on any node.
    /// `now` is what the file says of when it was made.
    pub async fn backup(&self, now: TimeMs) -> Result<Backup, SnapshotError> {
        let files = self.build_snapshot().await?;
        let describe = move || Backup::of(files, now);
        let described = tokio::task::spawn_blocking(describe).await;
        let failed = |reason: String| SnapshotError::Failed { reason };
        described
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }
}

impl Backup {
    fn of(files: Arc<SnapshotFiles>, now: TimeMs) -> Result<Self, OpenError> {
        let memory = Memory::new(&Settings::default());
        let path = files.path();
        let store = Store::open(Kind::State, Mode::ReadOnly, path, &memory, Alarm::new())?;
        let counted = count(&store);
        drop(store);
        // RocksDB notes that it was there; that is no part of the snapshot.
        remove_traces(path).map_err(|error| OpenError::io("clean", path, error))?;
        let (log_time, memories) = counted.map_err(|error| OpenError::corrupt(path, error))?;
        let manifest = Manifest::new(files.manifest(), log_time.0, memories, now.0);
        Ok(Self { files, manifest })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the file's bytes and returns their SHA-256 without the trailer, as it stands in it. It
    /// blocks, and holds a megabyte in memory. Parts that are not what they were when the snapshot
    /// was made end it with [`io::ErrorKind::InvalidData`].
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<[u8; 32]> {
        let mut whole = Sha256::new();
        let head = self.manifest.head();
        whole.update(&head);
        out.write_all(&head)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        for part in &self.manifest.parts {
            let path = self.files.path().join(&part.name);
            let mut file = File::open(&path)?;
            let (mut hash, mut bytes) = (Sha256::new(), 0);
            loop {
                let read = file.read(&mut chunk)?;
                if read == 0 {
                    break;
                }
                let data = &chunk[..read];
                bytes += read as u64;
                hash.update(data);
                whole.update(data);
                out.write_all(data)?;
            }
            let sha256 = format!("{:x}", hash.finalize());
            if (bytes, &sha256) != (part.bytes, &part.sha256) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} has {bytes} bytes with SHA-256 {sha256}, expected {} with {}: check the \
                         disk",
                        path.display(),
                        part.bytes,
                        part.sha256
                    ),
                ));
            }
        }
        let digest: [u8; 32] = whole.finalize().into();
        out.write_all(&digest)?;
        out.flush()?;
        Ok(digest)
    }

    /// Writes the file at `path`: under another name first, synced, then renamed, so that under its
    /// own it is whole or not there. It leaves `reserve_bytes` of the disk free, and blocks.
    pub fn save(
        &self,
        path: &Path,
        disk: &dyn FreeSpace,
        reserve_bytes: u64,
    ) -> Result<(), SaveError> {
        let io = |source| SaveError::Io {
            path: path.to_owned(),
            source,
        };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let bytes = self.manifest.file_bytes();
        let free_bytes = disk.free_bytes(parent).map_err(io)?;
        let needed = bytes.saturating_add(reserve_bytes);
        if free_bytes < needed {
            let full = StorageFull {
                free_bytes,
                reserve_bytes: needed,
            };
            return Err(SaveError::NoRoom { bytes, full });
        }
        let unfinished = unfinished(path);
        let written = self.write_new(&unfinished).and_then(|()| {
            fs::rename(&unfinished, path)?;
            durable::sync_dir(parent)
        });
        if written.is_err() {
            // The disk may be what failed; the next attempt writes over it.
            let _ = fs::remove_file(&unfinished);
        }
        written.map_err(io)
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, File::create(path)?);
        self.write_to(&mut out)?;
        out.into_inner()?.sync_all()
    }
}

/// The name that a file has until it is whole.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    path.with_file_name(name)
}

/// The time in the log, and how many memories there are.
fn count(store: &Store) -> Result<(TimeMs, u64), ReadError> {
    let rows = Rows::new(store, None);
    let range = (&[tag::NAMESPACE][..], &[tag::NAMESPACE + 1][..]);
    let mut memories = 0;
    rows.visit(Family::Rows, range, Scan::forward(None), |key, value| {
        let info: NamespaceInfo = state::decode(&key, value)?;
        memories += info.stored();
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((state::clock(&rows)?, memories))
}
