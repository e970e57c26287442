//! The durable state as readers see it.

use std::sync::Arc;

use memorygate_core::{
    embedding::Embedding,
    key::Key,
    memory::Memory,
    name::{Name, Namespace},
    scope::Scope,
    state::{NamespaceInfo, Read, ReadError, RowKey, StateDigest},
    time::TimeMs,
};
use tokio::sync::watch;

/// The state that commands are applied to. Clones share it.
#[derive(Clone)]
pub struct State {}

impl State {
    /// The state after the last applied batch.
    pub fn snapshot(&self) -> Arc<StateSnapshot> {
        todo!()
    }

    /// Index of the last applied log entry; 0 before the first.
    pub fn applied(&self) -> u64 {
        todo!()
    }

    /// Follows [`Self::applied`].
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        todo!()
    }

    /// Says that nobody will ask for the journal up to `position` again. It takes effect with the
    /// next applied batch.
    pub fn journal_trim(&self, _position: u64) {
        todo!()
    }
}

/// The whole state at one position. While it is held, disk space of what was changed since is not
/// given back, so it should not be kept for long.
pub struct StateSnapshot {}

/// A memory with its embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMemory {
    pub namespace: Namespace,
    pub key: Key,
    pub memory: Memory,
    pub embedding: Embedding,
}

/// Names a memory that may have changed: it is to be looked up in the same snapshot, and was
/// removed if it is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    pub namespace: Namespace,
    pub key: Key,
}

/// A part of the change journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// At least all memories that changed after the position asked for, up to `through`. When that
    /// is the snapshot's position, this is all; otherwise ask again with it.
    Changes { changes: Vec<Changed>, through: u64 },
    /// The journal reaches back to `floor` only.
    Gap { floor: u64 },
}

impl StateSnapshot {
    /// Index of the last log entry that it holds.
    pub fn position(&self) -> u64 {
        todo!()
    }

    pub fn digest(&self) -> StateDigest {
        todo!()
    }

    /// The time in the log.
    pub fn clock(&self) -> TimeMs {
        todo!()
    }

    /// All namespaces that hold a memory, in order.
    pub fn namespaces(&self) -> Result<Vec<(Namespace, NamespaceInfo)>, ReadError> {
        todo!()
    }

    /// Up to `limit` memories of all namespaces after the one named, in order of their keys.
    pub fn memories(
        &self,
        _after: Option<(&Namespace, Key)>,
        _limit: usize,
    ) -> Result<Vec<StoredMemory>, ReadError> {
        todo!()
    }

    /// Up to `limit` memories of one namespace after the key named, in order of their keys.
    pub fn list(
        &self,
        _namespace: &Namespace,
        _after: Option<Key>,
        _limit: usize,
    ) -> Result<Vec<(Key, Memory)>, ReadError> {
        todo!()
    }

    /// The last `count` memories of a session that happened at or before `until`, oldest first.
    pub fn previous_in_session(
        &self,
        _namespace: &Namespace,
        _scope: &Scope,
        _session: &Name,
        _until: TimeMs,
        _count: usize,
    ) -> Result<Vec<(Key, Memory)>, ReadError> {
        todo!()
    }

    /// When the next memory expires.
    pub fn next_expiry(&self) -> Result<Option<TimeMs>, ReadError> {
        todo!()
    }

    /// The memories that changed after `after`, about `limit` at a time.
    pub fn journal(&self, _after: u64, _limit: usize) -> Result<Journal, ReadError> {
        todo!()
    }

    /// The digest computed anew from all rows: equal to [`Self::digest`], or the state is damaged.
    pub fn recompute_digest(&self) -> Result<StateDigest, ReadError> {
        todo!()
    }
}

impl Read for StateSnapshot {
    fn get(&self, _key: &RowKey) -> Result<Option<Vec<u8>>, ReadError> {
        todo!()
    }

    fn scan(
        &self,
        _from: &RowKey,
        _until: &RowKey,
        _limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError> {
        todo!()
    }
}
