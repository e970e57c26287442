//! The stored state as the index reads it.

use std::sync::Arc;

use memorygate_core::{
    embedding::Embedding,
    key::Key,
    memory::Memory,
    name::Namespace,
    state::{self, ReadError},
    time::TimeMs,
};
use memorygate_index::records::{Journal, Records, Stored};
use memorygate_raft::{Changed, Journal as StateJournal, StateSnapshot, StoredMemory};
use prometheus::IntCounter;

/// The state at one position.
pub struct Snapshot {
    pub state: Arc<StateSnapshot>,
    /// Counts how often all memories were read: only a rebuild does that.
    pub rebuilds: IntCounter,
}

impl Records for Snapshot {
    fn position(&self) -> u64 {
        self.state.position()
    }

    fn clock(&self) -> TimeMs {
        self.state.clock()
    }

    fn count(&self) -> Result<u64, ReadError> {
        let namespaces = self.state.namespaces()?;
        Ok(namespaces.iter().map(|(_, info)| info.stored()).sum())
    }

    fn memory(
        &self,
        namespace: &Namespace,
        key: Key,
    ) -> Result<Option<(Memory, Embedding)>, ReadError> {
        let memory = state::memory(&*self.state, namespace, key)?;
        let embedding = state::embedding(&*self.state, namespace, key)?;
        Ok(memory.zip(embedding))
    }

    fn memories(
        &self,
        after: Option<(&Namespace, Key)>,
        limit: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        if after.is_none() {
            self.rebuilds.inc();
        }
        let stored = |stored: StoredMemory| Stored {
            namespace: stored.namespace,
            key: stored.key,
            memory: stored.memory,
            embedding: stored.embedding,
        };
        Ok(self
            .state
            .memories(after, limit)?
            .into_iter()
            .map(stored)
            .collect())
    }

    fn journal(&self, after: u64, limit: usize) -> Result<Journal, ReadError> {
        Ok(match self.state.journal(after, limit)? {
            StateJournal::Gap { floor } => Journal::Gap { floor },
            StateJournal::Changes { changes, through } => Journal::Changed {
                keys: changes
                    .into_iter()
                    .map(|Changed { namespace, key }| (namespace, key))
                    .collect(),
                through,
            },
        })
    }
}
