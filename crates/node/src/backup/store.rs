//! Where snapshot files are kept: a directory, or a bucket of an object store that speaks S3.

mod directory;
pub mod objects;

use std::{
    io::{self, BufReader, Read},
    path::Path,
    sync::Arc,
};

use memorygate_raft::{
    FreeSpace,
    backup::{Backup, Manifest, ReadError, read, verify},
};

use self::{
    directory::Directory,
    objects::{Access, Failure, Objects, PIECE_BYTES},
};
use super::{Error, FileName};

/// Files in one place, at most.
const FILES_MAX: usize = 10_000;

/// What is read of an object at a time to see what it says of itself: most manifests are smaller.
const PEEK_BYTES: u64 = 64 * 1024;

/// What a place in an object store begins with.
pub const S3: &str = "s3://";

/// A place for snapshot files.
pub struct Store {
    /// As it was set.
    location: String,
    place: Place,
}

enum Place {
    Directory(Directory),
    Objects(Objects),
}

/// A file, and what tells it from another under the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub name: FileName,
    pub bytes: u64,
    version: String,
}

impl Store {
    /// A directory's path, a `file://` URL, or `s3://BUCKET/PREFIX`, which is reached as `access` and
    /// the environment say. Nothing is asked of it yet.
    pub fn open(
        location: &str,
        access: &Access,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let refused = |reason: String| Error::Location {
            actual: location.to_owned(),
            reason,
        };
        let place = match location.split_once("://") {
            None => Place::Directory(Directory::new(location)),
            Some(("file", path)) if path.starts_with('/') => Place::Directory(Directory::new(path)),
            Some(("file", _)) => return Err(refused("expected file:///DIRECTORY".to_owned())),
            Some(("s3", place)) => {
                let opened = Objects::open(place, access, environment);
                Place::Objects(opened.map_err(|failure| refused(failure.to_string()))?)
            }
            Some((scheme, _)) => {
                return Err(refused(format!(
                    "{scheme}:// is not known, expected a directory or {S3}BUCKET/PREFIX"
                )));
            }
        };
        Ok(Self {
            location: location.to_owned(),
            place,
        })
    }

    /// Leaves so much free where the data directory is on the same disk.
    pub(super) fn with_reserve(mut self, bytes: u64, data_dir: &Path) -> Self {
        match &mut self.place {
            Place::Directory(directory) => directory.reserve(bytes, data_dir),
            Place::Objects(_) => {}
        }
        self
    }

    /// A backup inside of what it is a backup of would be lost with it.
    pub(super) fn check_apart(&self, data_dir: &Path) -> Result<(), Error> {
        match &self.place {
            Place::Directory(directory) if directory.is_inside(data_dir) => Err(Error::Location {
                actual: self.location.clone(),
                reason: "it is in the data directory, choose another place".to_owned(),
            }),
            Place::Directory(_) | Place::Objects(_) => Ok(()),
        }
    }

    /// As it was set; no credentials are in it.
    pub fn shown(&self) -> &str {
        &self.location
    }

    /// All snapshot files, newest first. What has another name is not looked at.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut files = match &self.place {
            Place::Directory(directory) => {
                let directory = directory.clone();
                self.blocking("list", move || directory.list()).await?
            }
            Place::Objects(objects) => {
                let listed = objects.list().await;
                listed.map_err(|failure| self.failed("list", &failure))?
            }
        };
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
        match &self.place {
            Place::Directory(directory) => {
                let (making, cluster_id) = (directory.clone(), name.cluster_id);
                self.blocking("make", move || making.prepare(cluster_id))
                    .await?;
                let (directory, name) = (directory.clone(), *name);
                let (backup, disk) = (backup.clone(), disk.clone());
                let saving =
                    tokio::task::spawn_blocking(move || directory.save(&name, &backup, &*disk));
                Ok(saving.await.map_err(internal)??)
            }
            Place::Objects(objects) => {
                let put = objects.put(name, backup).await;
                put.map_err(|failure| self.failed("write to", &failure))
            }
        }
    }

    /// Reads a file as a whole and checks every digest in it, and that it is the one it is called.
    pub async fn verify(&self, name: &FileName) -> Result<Manifest, Error> {
        let manifest = self
            .read_with(name, PIECE_BYTES, |from| verify(from))
            .await?;
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
        self.read_with(name, PEEK_BYTES, |from| read::peek(from))
            .await
    }

    pub async fn delete(&self, name: &FileName) -> Result<(), Error> {
        match &self.place {
            Place::Directory(directory) => {
                let (directory, name) = (directory.clone(), *name);
                self.blocking("remove from", move || directory.remove(&name))
                    .await
            }
            Place::Objects(objects) => {
                let removed = objects.remove(name).await;
                removed.map_err(|failure| self.failed("remove from", &failure))
            }
        }
    }

    /// A file's bytes, for code that blocks.
    pub async fn reader(&self, name: &FileName) -> Result<Box<dyn Read + Send>, Error> {
        self.reader_by(name, PIECE_BYTES).await
    }

    async fn reader_by(
        &self,
        name: &FileName,
        piece_bytes: u64,
    ) -> Result<Box<dyn Read + Send>, Error> {
        let opened: io::Result<Box<dyn Read + Send>> = match &self.place {
            Place::Directory(directory) => {
                let (directory, name) = (directory.clone(), *name);
                let opening = tokio::task::spawn_blocking(move || directory.open(&name));
                let opened = opening.await.map_err(internal)?;
                opened.map(|file| Box::new(BufReader::new(file)) as _)
            }
            Place::Objects(objects) => {
                let opened = objects.reader(name, piece_bytes).await;
                opened
                    .map(|chunks| Box::new(chunks) as _)
                    .map_err(Into::into)
            }
        };
        opened.map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return self.failed("read", &error);
            }
            Error::Missing {
                name: name.to_string(),
                store: self.location.clone(),
            }
        })
    }

    async fn read_with(
        &self,
        name: &FileName,
        piece_bytes: u64,
        work: impl FnOnce(&mut dyn Read) -> Result<Manifest, ReadError> + Send + 'static,
    ) -> Result<Manifest, Error> {
        let mut from = self.reader_by(name, piece_bytes).await?;
        let read = tokio::task::spawn_blocking(move || work(&mut *from));
        read.await
            .map_err(internal)?
            .map_err(|source| match source {
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

    fn failed(&self, action: &'static str, error: &dyn std::error::Error) -> Error {
        Error::Store {
            action,
            store: self.location.clone(),
            reason: error.to_string(),
        }
    }
}

/// Opens one file in an object store by its URL, `s3://BUCKET/KEY`, for code that blocks. To be called
/// where tasks can be spawned, as long as it is read.
pub async fn open_object(
    url: &str,
    access: &Access,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Box<dyn Read + Send>, Failure> {
    let place = url.strip_prefix(S3).unwrap_or_default();
    if place.split_once('/').is_none_or(|(_, key)| key.is_empty()) {
        let expected = format!("expected {S3}BUCKET/KEY of a snapshot file");
        return Err(Failure::Refused(expected));
    }
    let objects = Objects::open(place, access, environment)?;
    Ok(Box::new(objects.whole(PIECE_BYTES).await?))
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal {
        reason: error.to_string(),
    }
}
