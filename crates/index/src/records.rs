//! Where the index reads the truth from.

use memorygate_core::{
    embedding::Embedding, key::Key, memory::Memory, name::Namespace, state::ReadError, time::TimeMs,
};

/// The stored state at one position. It never changes; another position is another value.
pub trait Records: Send + Sync + 'static {
    /// Index of the last log entry that it holds.
    fn position(&self) -> u64;

    /// The time in the log.
    fn clock(&self) -> TimeMs;

    /// How many memories there are, over all namespaces.
    fn count(&self) -> Result<u64, ReadError>;

    /// One memory, or `None`.
    fn memory(
        &self,
        namespace: &Namespace,
        key: Key,
    ) -> Result<Option<(Memory, Embedding)>, ReadError>;

    /// Up to `limit` memories after the one named, in order of namespaces and keys.
    fn memories(
        &self,
        after: Option<(&Namespace, Key)>,
        limit: usize,
    ) -> Result<Vec<Stored>, ReadError>;

    /// Memories that changed after the position `after`, about `limit` at a time.
    fn journal(&self, after: u64, limit: usize) -> Result<Journal, ReadError>;
}

/// A stored memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub namespace: Namespace,
    pub key: Key,
    pub memory: Memory,
    pub embedding: Embedding,
}

/// A part of the change journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Journal {
    /// At least all memories that changed after the position asked for, up to `through`, which is
    /// beyond it unless that is where the records stand. To ask for more, ask from there.
    Changed {
        keys: Vec<(Namespace, Key)>,
        through: u64,
    },
    /// The journal reaches back to `floor` only.
    Gap { floor: u64 },
}
