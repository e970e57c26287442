//! Where snapshot files are kept: a directory, which may be a mounted share.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use memorygate_raft::{
    ClusterId, FreeSpace,
    backup::{Backup, Manifest, ReadError, read, verify, write},
};

use super::{Error, FileName};

/// Files in one place, at most.
const FILES_MAX: usize = 10_000;

/// A place for snapshot files.
pub struct Store {
    /// As it was set.
    location: String,
    path: PathBuf,
    /// Left free on the disk of the data directory.
    reserve_bytes: u64,
}

/// A file, and what tells it from another under the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub name: FileName,
    pub bytes: u64,
    modified: Duration,
}

impl Store {
    /// A directory's path or a `file://` URL.
    pub fn open(location: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Location {
            actual: location.to_owned(),
            reason,
        };
        let path = match location.split_once("://") {
            None => location,
            Some(("file", path)) if path.starts_with('/') => path,
            Some(("file", _)) => return Err(refused("expected file:///DIRECTORY".to_owned())),
            Some((scheme, _)) => {
                return Err(refused(format!(
                    "{scheme}:// is not known, expected a directory"
                )));
            }
        };
        Ok(Self {
            location: location.to_owned(),
            path: crate::settings::expand_home(Path::new(path)),
            reserve_bytes: 0,
        })
    }

    /// Leaves so much free where the data directory is on the same disk.
    pub(super) fn with_reserve(mut self, bytes: u64, data_dir: &Path) -> Self {
        let device = |path: &Path| {
            let metadata = path.ancestors().find_map(|path| fs::metadata(path).ok());
            metadata.map(|metadata| metadata.dev())
        };
        if device(&self.path) == device(data_dir) {
            self.reserve_bytes = bytes;
        }
        self
    }

    /// A backup inside of what it is a backup of would be lost with it.
    pub(super) fn check_apart(&self, data_dir: &Path) -> Result<(), Error> {
        match self.path.starts_with(data_dir) {
            true => Err(Error::Location {
                actual: self.location.clone(),
                reason: "it is in the data directory, choose another place".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// As it was set.
    pub fn shown(&self) -> &str {
        &self.location
    }

    /// All snapshot files, newest first. What has another name is not looked at.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let path = self.path.clone();
        let mut files = self.blocking("list", move || list(&path)).await?;
        if files.len() > FILES_MAX {
            return Err(Error::TooMany {
                store: self.location.clone(),
                max: FILES_MAX,
            });
        }
        files.sort_by_key(|file: &Listed| {
            std::cmp::Reverse((file.name.created_at_ms, file.name.position, file.name))
        });
        Ok(files)
    }

    /// Writes a file: whole under its name, or not there.
    pub async fn put(
        &self,
        name: &FileName,
        backup: &Backup,
        disk: &Arc<dyn FreeSpace>,
    ) -> Result<(), Error> {
        let (dir, cluster_id) = (self.path.clone(), name.cluster_id);
        self.blocking("make", move || {
            fs::create_dir_all(&dir)?;
            remove_unfinished(&dir, cluster_id)
        })
        .await?;
        let (file, reserve) = (self.file(name), self.reserve_bytes);
        let (backup, disk) = (backup.clone(), disk.clone());
        let saving = tokio::task::spawn_blocking(move || backup.save(&file, &*disk, reserve));
        Ok(saving.await.map_err(internal)??)
    }

    /// Reads a file as a whole and checks every digest in it, and that it is the one it is called.
    pub async fn verify(&self, name: &FileName) -> Result<Manifest, Error> {
        let manifest = self.read_with(name, |from| verify(from)).await?;
        if FileName::of(&manifest) != *name {
            return Err(Error::Read {
                name: name.to_string(),
                source: ReadError::Damaged {
                    reason: format!("it is {} under another name", FileName::of(&manifest)),
                },
            });
        }
        Ok(manifest)
    }

    /// What a file says of itself, unchecked.
    pub async fn peek(&self, name: &FileName) -> Result<Manifest, Error> {
        self.read_with(name, |from| read::peek(from)).await
    }

    pub async fn delete(&self, name: &FileName) -> Result<(), Error> {
        let file = self.file(name);
        let remove = move || match fs::remove_file(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        self.blocking("remove from", remove).await
    }

    /// A file's bytes.
    pub async fn reader(&self, name: &FileName) -> Result<File, Error> {
        let file = self.file(name);
        let opened = tokio::task::spawn_blocking(move || File::open(file)).await;
        opened.map_err(internal)?.map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return self.failed("read", &error);
            }
            Error::Missing {
                name: name.to_string(),
                store: self.location.clone(),
            }
        })
    }

    fn file(&self, name: &FileName) -> PathBuf {
        self.path.join(name.to_string())
    }

    async fn read_with(
        &self,
        name: &FileName,
        work: impl FnOnce(&mut dyn Read) -> Result<Manifest, ReadError> + Send + 'static,
    ) -> Result<Manifest, Error> {
        let file = self.file(name);
        let read = tokio::task::spawn_blocking(move || {
            let file = File::open(file).map_err(ReadError::Io)?;
            work(&mut BufReader::new(file))
        });
        read.await
            .map_err(internal)?
            .map_err(|source| match source {
                ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => Error::Missing {
                    name: name.to_string(),
                    store: self.location.clone(),
                },
                // The place did not answer; the file may be whole.
                ReadError::Io(error) => self.failed("read", &error),
                source @ (ReadError::Foreign { .. }
                | ReadError::OtherFormat { .. }
                | ReadError::NewerData { .. }
                | ReadError::Damaged { .. }
                | ReadError::Unpack(_)) => Error::Read {
                    name: name.to_string(),
                    source,
                },
            })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(work).await.map_err(internal)?;
        done.map_err(|error| self.failed(action, &error))
    }

    fn failed(&self, action: &'static str, error: &io::Error) -> Error {
        Error::Store {
            action,
            store: self.location.clone(),
            reason: error.to_string(),
        }
    }
}

fn list(path: &Path) -> io::Result<Vec<Listed>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let metadata = match entry.metadata() {
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
        let listed = Listed {
            name,
            bytes: metadata.len(),
            modified: modified.unwrap_or_default(),
        };
        files.insert(name, listed);
        if files.len() > FILES_MAX {
            break;
        }
    }
    Ok(files.into_values().collect())
}

/// Removes what an attempt of this cluster's left that a crash ended.
fn remove_unfinished(dir: &Path, cluster_id: ClusterId) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let whole = path.with_extension("");
        let name = whole.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| name.parse::<FileName>().ok());
        let is_own = name.is_some_and(|name| name.cluster_id == cluster_id);
        if is_own && path == write::unfinished(&whole) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal {
        reason: error.to_string(),
    }
}
