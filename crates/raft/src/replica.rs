//! An opened data directory that has not started to take part yet.

use std::{path::PathBuf, sync::Arc};

use crate::{
    clock::Clock,
    dir::{Identity, OpenError},
    disk::FreeSpace,
    effects::EffectsSink,
    fatal::Fatal,
    handle::Handle,
    observer::Observer,
    settings::Settings,
    state::State,
};

/// What a replica is opened with.
pub struct Open {
    /// Made if it is not there.
    pub dir: PathBuf,
    pub settings: Settings,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    pub disk: Arc<dyn FreeSpace>,
}

/// An opened data directory: its state can be read, nothing is applied yet.
pub struct Replica {}

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start consensus: {0}")]
    Fatal(Arc<Fatal>),
    #[error("node was not elected within {waited_ms} ms")]
    NotElected { waited_ms: u64 },
}

impl Replica {
    /// Opens the directory, or makes it. It reads and verifies files, so it blocks.
    pub fn open(_open: Open) -> Result<Self, OpenError> {
        todo!()
    }

    pub fn state(&self) -> &State {
        todo!()
    }

    pub fn identity(&self) -> &Identity {
        todo!()
    }

    /// Takes part from now on. A new directory forms a cluster of this one voter, reached at
    /// `address`; it elects itself at once. When this returns, everything that was acknowledged
    /// before is applied.
    pub async fn start(
        self,
        _sink: Arc<dyn EffectsSink>,
        _address: String,
    ) -> Result<Handle, StartError> {
        todo!()
    }
}
