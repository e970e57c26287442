//! Rows of consolidation: policies, progress, what can be undone, and conflicts.

use minicbor::{Decode, Encode};

use super::{Read, ReadError, RowKey, Transaction, decode, read};
use crate::{
    command::consolidate::Step,
    consolidation::Policy,
    key::Key,
    limits,
    memory::{Memory, Used},
    name::Namespace,
    time::TimeMs,
};

/// Epochs forgotten with each new one, at most: more than one, so that the table shrinks.
const FORGOTTEN_PER_EPOCH: usize = 2;

/// How far consolidation of a namespace has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Progress {
    /// All that changed up to this position was compared with what is near it.
    #[n(0)]
    pub through: u64,
    /// Memories up to this key were looked at in the present round of fading; `None` between rounds.
    #[n(1)]
    pub looked_at: Option<Key>,
    /// The log's time at the end of the last pass.
    #[n(2)]
    pub at: TimeMs,
}

/// What one entry of the log consolidated: enough to undo it exactly.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Epoch {
    #[n(0)]
    pub at: TimeMs,
    /// In the order in which they were done.
    #[n(1)]
    pub done: Vec<Done>,
}

/// One step that was done.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Done {
    #[n(0)]
    pub step: Step,
    #[n(1)]
    pub before: Vec<Before>,
}

/// A memory as it was before a step.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Before {
    #[n(0)]
    pub key: Key,
    /// Without its content, which no step changes.
    #[n(1)]
    pub memory: Memory,
    /// The version that the step left.
    #[n(2)]
    pub version_after: u64,
    /// The uses that the step left: counting goes on without a new version.
    #[n(3)]
    pub used_after: Used,
}

/// Two memories that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Conflict {
    #[n(0)]
    pub found_at: TimeMs,
    /// When someone decided; then it is only kept so that it is not found again.
    #[n(1)]
    pub resolved_at: Option<TimeMs>,
}

/// How a namespace is to be consolidated.
pub fn policy(rows: &impl Read, namespace: &Namespace) -> Result<Policy, ReadError> {
    Ok(read(rows, &RowKey::Policy(namespace.clone()))?.unwrap_or_default())
}

pub fn progress(rows: &impl Read, namespace: &Namespace) -> Result<Progress, ReadError> {
    Ok(read(rows, &RowKey::Progress(namespace.clone()))?.unwrap_or_default())
}

/// What the entry at `id` did; `None` if it did nothing here, was undone, or is too long ago.
pub fn epoch(rows: &impl Read, namespace: &Namespace, id: u64) -> Result<Option<Epoch>, ReadError> {
    read(rows, &RowKey::Epoch(namespace.clone(), id))
}

/// Up to `limit` epochs at or after the position `from`, oldest first.
pub fn epochs(
    rows: &impl Read,
    namespace: &Namespace,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Epoch)>, ReadError> {
    let bound = |id| RowKey::Epoch(namespace.clone(), id);
    let mut epochs = Vec::new();
    for (row, bytes) in &rows.scan(&bound(from), &bound(u64::MAX), limit)? {
        if let RowKey::Epoch(_, id) = row {
            epochs.push((*id, decode(row, bytes)?));
        }
    }
    Ok(epochs)
}

/// Two memories, in either order.
pub type Pair = (Key, Key);

/// The conflict of two memories, if one was found.
pub fn conflict(
    rows: &impl Read,
    namespace: &Namespace,
    pair: Pair,
) -> Result<Option<Conflict>, ReadError> {
    read(rows, &RowKey::Conflict(namespace.clone(), pair.0, pair.1))
}

/// Up to `limit` conflicts after the pair `after`, each in both orders.
pub fn conflicts(
    rows: &impl Read,
    namespace: &Namespace,
    after: Option<Pair>,
    limit: usize,
) -> Result<Vec<(Pair, Conflict)>, ReadError> {
    let (first, second) = after.unwrap_or((Key([0; 16]), Key([0; 16])));
    let from = RowKey::Conflict(namespace.clone(), first, second);
    let until = RowKey::Conflict(namespace.clone(), Key([0xff; 16]), Key([0xff; 16]));
    // The row of `after` itself comes again.
    let rows = rows.scan(&from, &until, limit.saturating_add(1))?;
    let mut found = Vec::with_capacity(rows.len());
    for (row, bytes) in &rows {
        if let RowKey::Conflict(_, a, b) = row
            && after != Some((*a, *b))
        {
            found.push(((*a, *b), decode(row, bytes)?));
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The memory under `key`, or the one that took its place, with its key. Where there is none any more
/// the key is the one that is free.
pub(crate) fn current(
    rows: &impl Read,
    namespace: &Namespace,
    key: Key,
) -> Result<(Key, Option<Memory>), ReadError> {
    let found = super::memory(rows, namespace, key)?;
    // Mostly there is nothing, and a lookup is what a write costs most.
    if found.as_ref().and_then(Memory::replacement).is_none() {
        return Ok((key, found));
    }
    let at = replacement(rows, namespace, key)?.unwrap_or(key);
    Ok((at, super::memory(rows, namespace, at)?))
}

/// The memory under `key`, or the one that took its place; `None` if neither is there any more.
pub fn replacement(
    rows: &impl Read,
    namespace: &Namespace,
    key: Key,
) -> Result<Option<Key>, ReadError> {
    let mut at = key;
    for _ in 0..limits::REPLACEMENTS_MAX {
        let Some(memory) = super::memory(rows, namespace, at)? else {
            return Ok(None);
        };
        match memory.replacement() {
            Some(next) => at = next,
            None => return Ok(Some(at)),
        }
    }
    Ok(Some(at))
}

impl<R: Read> Transaction<'_, R> {
    pub(crate) fn set_policy(
        &mut self,
        namespace: &Namespace,
        policy: &Policy,
    ) -> Result<(), ReadError> {
        let row = RowKey::Policy(namespace.clone());
        if *policy == Policy::default() {
            self.delete(row)
        } else {
            self.put(row, policy)
        }
    }

    pub(crate) fn set_progress(
        &mut self,
        namespace: &Namespace,
        progress: &Progress,
    ) -> Result<(), ReadError> {
        self.put(RowKey::Progress(namespace.clone()), progress)
    }

    /// Notes what the entry at `id` did, and forgets some that are too long ago.
    pub(crate) fn add_epoch(
        &mut self,
        namespace: &Namespace,
        id: u64,
        epoch: &Epoch,
    ) -> Result<(), ReadError> {
        let oldest = epochs(self, namespace, 0, FORGOTTEN_PER_EPOCH)?;
        for (old, _) in oldest
            .iter()
            .filter(|(_, old)| epoch.at.since(old.at) > limits::EPOCHS_KEPT_MS)
        {
            self.delete(RowKey::Epoch(namespace.clone(), *old))?;
        }
        self.put(RowKey::Epoch(namespace.clone(), id), epoch)
    }

    pub(crate) fn remove_epoch(&mut self, namespace: &Namespace, id: u64) -> Result<(), ReadError> {
        self.delete(RowKey::Epoch(namespace.clone(), id))
    }

    /// Notes a conflict under both orders; `None` removes it.
    pub(crate) fn set_conflict(
        &mut self,
        namespace: &Namespace,
        (a, b): Pair,
        conflict: Option<Conflict>,
    ) -> Result<(), ReadError> {
        for (a, b) in [(a, b), (b, a)] {
            let row = RowKey::Conflict(namespace.clone(), a, b);
            match conflict {
                Some(conflict) => self.put(row, &conflict)?,
                None => self.delete(row)?,
            }
        }
        Ok(())
    }

    /// Removes the conflicts of a memory that goes.
    pub(super) fn remove_conflicts(
        &mut self,
        namespace: &Namespace,
        key: Key,
    ) -> Result<(), ReadError> {
        let from = RowKey::Conflict(namespace.clone(), key, Key([0; 16]));
        let until = RowKey::Conflict(namespace.clone(), key, Key([0xff; 16]));
        for (row, _) in self.scan(&from, &until, limits::CONFLICTS_MAX)? {
            if let RowKey::Conflict(_, a, b) = row {
                self.set_conflict(namespace, (a, b), None)?;
            }
        }
        Ok(())
    }
}
