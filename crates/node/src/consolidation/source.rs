//! What a pass looks at: the keys of memories that were learned since the last one, or of all.

use memorygate_core::{
    key::Key,
    name::Namespace,
    state::{self, ReadError},
};
use memorygate_raft::{Journal, StateSnapshot};

/// Changes read from the journal at once.
const CHANGES: usize = 1_024;

/// Memories read from the state at once.
const MEMORIES: usize = 256;

/// Hands out keys, a part at a time, each part from the state of its moment.
#[derive(Debug)]
pub(super) struct Source {
    namespace: Namespace,
    /// Memories that were created after this position.
    since: u64,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Read up to this position.
    Journal(u64),
    /// Memories read up to this key, because the journal does not reach back far enough, or because
    /// all are wanted.
    Memories(Option<Key>),
    End,
}

impl Source {
    pub(super) fn since(namespace: Namespace, position: u64) -> Self {
        Self {
            namespace,
            since: position,
            at: At::Journal(position),
        }
    }

    pub(super) fn everything(namespace: Namespace) -> Self {
        Self {
            namespace,
            since: 0,
            at: At::Memories(None),
        }
    }

    /// The next part of what was created up to `until`; `None` at the end. A part may be empty.
    pub(super) fn next(
        &mut self,
        snapshot: &StateSnapshot,
        until: u64,
    ) -> Result<Option<Vec<Key>>, ReadError> {
        match self.at {
            At::End => Ok(None),
            At::Journal(after) if after >= until => {
                self.at = At::End;
                Ok(None)
            }
            At::Journal(after) => match snapshot.journal(after, CHANGES)? {
                Journal::Gap { .. } => {
                    self.at = At::Memories(None);
                    Ok(Some(Vec::new()))
                }
                Journal::Changes { changes, through } => {
                    self.at = At::Journal(through);
                    let mut keys: Vec<Key> = changes
                        .into_iter()
                        .filter(|changed| changed.namespace == self.namespace)
                        .map(|changed| changed.key)
                        .collect();
                    keys.sort();
                    keys.dedup();
                    let mut created = Vec::new();
                    for key in keys {
                        let memory = state::memory(snapshot, &self.namespace, key)?;
                        // Each once: with the entry that created it, and not with later changes.
                        let is_new = |index| index > after && index <= through;
                        if memory.is_some_and(|memory| is_new(memory.created.index)) {
                            created.push(key);
                        }
                    }
                    Ok(Some(created))
                }
            },
            At::Memories(after) => {
                let part = snapshot.list(&self.namespace, after, MEMORIES)?;
                self.at = match part.last() {
                    Some((last, _)) if part.len() == MEMORIES => At::Memories(Some(*last)),
                    Some(_) | None => At::End,
                };
                let created = part.into_iter().filter(|(_, memory)| {
                    memory.created.index > self.since && memory.created.index <= until
                });
                Ok(Some(created.map(|(key, _)| key).collect()))
            }
        }
    }
}
