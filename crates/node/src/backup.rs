//! Snapshot files of this node: made beside its traffic, kept in a directory or an object store, taken on
//! schedule by the leader, and old ones let go of.
//!
//! ```text
//! replica's snapshot ─▶ one file (raft: backup) ─▶ Store ─▶ read back whole ─▶ old ones removed
//! ```
//!
//! What a file holds and how it is verified is `memorygate_raft::backup`'s business. This module
//! decides where files are, what they are called and which of them go.

pub mod name;
pub mod pipe;
mod schedule;
pub mod store;

use std::{path::Path, sync::Arc};

use futures::{StreamExt as _, stream};
use memorygate_raft::{
    FreeSpace, SnapshotError,
    backup::{Backup, Manifest, ReadError, SaveError},
};
use tokio::sync::Mutex;

use self::store::{Store, objects::Access};
pub use self::{name::FileName, schedule::run};
use crate::{backend::Backend, settings};

/// Files of a list that are looked into at once, at most.
const PEEKS_MAX: usize = 8;

/// The snapshot files of a node.
pub struct Backups {
    /// Where they are kept; none if nothing was set.
    store: Option<Store>,
    keep: usize,
    interval_s: u64,
    disk: Arc<dyn FreeSpace>,
    /// Files are made one by one: each reads and hashes the whole state.
    one_at_a_time: Mutex<()>,
}

/// A file in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: FileName,
    pub manifest: Manifest,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this node has no backup store: set backup.store to a directory or s3://BUCKET/PREFIX, or have one sent by `mgctl snapshot save`"
    )]
    NoStore,
    #[error("{0:?} is not the name of a snapshot file")]
    Name(String),
    #[error("there is no snapshot {name} in {store}")]
    Missing { name: String, store: String },
    #[error("snapshot {name}: {source}")]
    Read { name: String, source: ReadError },
    #[error(transparent)]
    Make(#[from] SnapshotError),
    #[error(transparent)]
    Save(#[from] SaveError),
    #[error("{action} {store}: {reason}")]
    Store {
        action: &'static str,
        store: String,
        reason: String,
    },
    #[error("{store} has more than {max} files: give each cluster a place of its own")]
    TooMany { store: String, max: usize },
    #[error("backup.store is {actual:?}: {reason}")]
    Location { actual: String, reason: String },
    #[error("internal error: {reason}")]
    Internal { reason: String },
}

impl Backups {
    /// The settings' store. The environment has the keys of an object store (`AWS_…`).
    pub fn new(
        settings: &settings::Backup,
        data_dir: &Path,
        reserve_bytes: u64,
        disk: Arc<dyn FreeSpace>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let access = Access {
            endpoint: settings.s3_endpoint.clone(),
            region: settings.s3_region.clone(),
            allow_http: settings.s3_allow_http,
        };
        let store = match settings.store.as_str() {
            "" => None,
            location => Some(Store::open(location, &access, environment)?),
        };
        if let Some(store) = &store {
            store.check_apart(data_dir)?;
        }
        Ok(Self {
            store: store.map(|store| store.with_reserve(reserve_bytes, data_dir)),
            keep: settings.keep,
            interval_s: settings.interval_s,
            disk,
            one_at_a_time: Mutex::new(()),
        })
    }

    pub fn store(&self) -> Result<&Store, Error> {
        self.store.as_ref().ok_or(Error::NoStore)
    }

    /// Makes a snapshot of this node's state as it is now, without keeping a file.
    pub async fn make(&self, backend: &Backend) -> Result<(FileName, Backup), Error> {
        let backup = backend.raft.backup(backend.clock.now()).await?;
        Ok((FileName::of(backup.manifest()), backup))
    }

    /// Writes a snapshot file to the store, and reads it back as a whole.
    pub async fn create(&self, backend: &Backend) -> Result<Described, Error> {
        let store = self.store()?;
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let (name, backup) = self.make(backend).await?;
        store.put(&name, &backup, &self.disk).await?;
        let manifest = store.verify(&name).await?;
        if manifest != *backup.manifest() {
            return Err(Error::Read {
                name: name.to_string(),
                source: ReadError::Damaged {
                    reason: "it is not the one that was written".to_owned(),
                },
            });
        }
        Ok(Described {
            bytes: manifest.file_bytes(),
            name,
            manifest,
        })
    }

    /// The files in the store, newest first. Those that cannot be read are left out and returned
    /// beside.
    pub async fn list(&self) -> Result<(Vec<Described>, Vec<Error>), Error> {
        let store = self.store()?;
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        let listed = stream::iter(store.list().await?);
        let mut peeked = listed
            .map(|listed| async move { (listed.clone(), store.peek(&listed.name).await) })
            .buffered(PEEKS_MAX);
        while let Some((listed, peeked)) = peeked.next().await {
            match peeked {
                Ok(manifest) => files.push(Described {
                    name: listed.name,
                    manifest,
                    bytes: listed.bytes,
                }),
                // It was removed meanwhile.
                Err(Error::Missing { .. }) => {}
                Err(error) => unreadable.push(error),
            }
        }
        Ok((files, unreadable))
    }

    /// Reads a file of the store as a whole and checks every digest in it.
    pub async fn verify(&self, name: &str) -> Result<Described, Error> {
        let name: FileName = name.parse()?;
        let manifest = self.store()?.verify(&name).await?;
        Ok(Described {
            bytes: manifest.file_bytes(),
            name,
            manifest,
        })
    }
}
