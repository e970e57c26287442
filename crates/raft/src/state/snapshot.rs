//! The state at one position, and what readers ask of it.

use std::{ops::ControlFlow, sync::Arc};

use memorygate_core::{
    embedding::Embedding,
    key::Key,
    memory::Memory,
    name::{Name, Namespace},
    scope::Scope,
    state::{self, Digests, NamespaceInfo, Read, ReadError, RowKey, StateDigest},
    time::TimeMs,
};
use rocksdb::Snapshot;

use super::{generation::Generation, rows::Rows};
use crate::{
    kv::{self, Family, applied::Applied, order, tag},
    rocks::Scan,
};

/// Rows that are read whole before it is looked whether anybody still wants them.
const LOOK_EVERY_ROWS: u64 = 1_024;

/// The whole state at one position. While it is held, disk space of what was changed since is not
/// given back, so it should not be kept for long.
pub struct StateSnapshot {
    // Fields are dropped in this order: the snapshot goes before the database it belongs to.
    snapshot: Snapshot<'static>,
    generation: Arc<Generation>,
    applied: Applied,
    clock: TimeMs,
    journal_floor: u64,
}

/// A memory with its embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMemory {
    pub namespace: Namespace,
    pub key: Key,
    pub memory: Memory,
    pub embedding: Embedding,
}

/// A memory and what it is stored under.
type Record = ((Namespace, Key), Memory);

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
    /// The journal is complete after `floor` only, or the position asked for is later than the
    /// snapshot's: whoever asked has to start over.
    Gap { floor: u64 },
}

impl StateSnapshot {
    /// Takes what `generation` holds now. The caller keeps writers out, and says what is there.
    pub(super) fn take(
        generation: &Arc<Generation>,
        applied: Applied,
        clock: TimeMs,
        journal_floor: u64,
    ) -> Self {
        let snapshot: Snapshot<'_> = generation.store().db().snapshot();
        #[expect(unsafe_code, reason = "the snapshot borrows from its own struct")]
        // SAFETY: only the lifetime changes. The snapshot refers to the database inside
        // `generation`, which is on the heap and does not move while an `Arc` to it exists; the
        // struct below holds one, and drops the snapshot before it. The snapshot never leaves the
        // struct except as a reference bound to it.
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        Self {
            snapshot,
            generation: generation.clone(),
            applied,
            clock,
            journal_floor,
        }
    }

    /// Index of the last log entry that it holds; 0 before the first.
    pub fn position(&self) -> u64 {
        self.applied.position()
    }

    pub fn digest(&self) -> StateDigest {
        self.applied.digest
    }

    /// The time in the log.
    pub fn clock(&self) -> TimeMs {
        self.clock
    }

    /// All namespaces that hold a memory, in order.
    pub fn namespaces(&self) -> Result<Vec<(Namespace, NamespaceInfo)>, ReadError> {
        let mut namespaces = Vec::new();
        let rows = self.rows();
        let scan = Scan::forward(rows.snapshot());
        let range = (&[tag::NAMESPACE][..], &[tag::NAMESPACE + 1][..]);
        rows.visit(Family::Rows, range, scan, |key, value| {
            let info = state::decode(&key, value)?;
            if let RowKey::Namespace(namespace) = key {
                namespaces.push((namespace, info));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(namespaces)
    }

    /// Up to `limit` memories of all namespaces after the one named, in order of their keys.
    pub fn memories(
        &self,
        after: Option<(&Namespace, Key)>,
        limit: usize,
    ) -> Result<Vec<StoredMemory>, ReadError> {
        let from = match after {
            Some((namespace, key)) => order::after_key(kv::memory::encode(namespace, key)),
            None => vec![tag::MEMORY],
        };
        let memories = self.records(&from, &[tag::MEMORY + 1], limit)?;
        let (Some((first, _)), Some((last, _))) = (memories.first(), memories.last()) else {
            return Ok(Vec::new());
        };
        // Embeddings are in the same order, so one scan finds them all.
        let from = kv::embedding::encode(&first.0, first.1);
        let until = order::after_key(kv::embedding::encode(&last.0, last.1));
        let mut embeddings = Vec::with_capacity(memories.len());
        let rows = self.rows();
        let scan = Scan::everything(rows.snapshot());
        rows.visit(Family::Embeddings, (&from, &until), scan, |key, value| {
            let embedding: Embedding = state::decode(&key, value)?;
            embeddings.push((key, embedding));
            Ok(ControlFlow::Continue(()))
        })?;
        let mut embeddings = embeddings.into_iter();
        memories
            .into_iter()
            .map(|((namespace, key), memory)| {
                let row = RowKey::Embedding(namespace.clone(), key);
                match embeddings.next() {
                    Some((found, embedding)) if found == row => Ok(StoredMemory {
                        namespace,
                        key,
                        memory,
                        embedding,
                    }),
                    found => {
                        Err(self.corrupt(row, format!("found {:?}", found.map(|(key, _)| key))))
                    }
                }
            })
            .collect()
    }

    /// Up to `limit` memories of one namespace after the key named, in order of their keys.
    pub fn list(
        &self,
        namespace: &Namespace,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Memory)>, ReadError> {
        let prefix = kv::memory::prefix(namespace);
        let until = order::after_prefix(&prefix).expect("a prefix starts with its tag");
        let from = match after {
            Some(key) => order::after_key(kv::memory::encode(namespace, key)),
            None => prefix,
        };
        let memories = self.records(&from, &until, limit)?;
        Ok(memories
            .into_iter()
            .map(|((_, key), memory)| (key, memory))
            .collect())
    }

    /// The last `count` memories of a session that happened at or before `until`, oldest first.
    pub fn previous_in_session(
        &self,
        namespace: &Namespace,
        scope: &Scope,
        session: &Name,
        until: TimeMs,
        count: usize,
    ) -> Result<Vec<(Key, Memory)>, ReadError> {
        let from = kv::session::prefix(namespace, scope, session);
        let end = kv::session::after(namespace, scope, session, until);
        let mut found = Vec::new();
        let rows = self.rows();
        let scan = Scan::backward(rows.snapshot());
        rows.visit(Family::Rows, (&from, &end), scan, |row, value| {
            if found.len() == count {
                return Ok(ControlFlow::Break(()));
            }
            let key: Key = state::decode(&row, value)?;
            let memory = state::memory(self, namespace, key)?;
            let memory = memory.ok_or_else(|| self.corrupt(row, "its memory is gone".into()))?;
            found.push((key, memory));
            Ok(ControlFlow::Continue(()))
        })?;
        found.reverse();
        Ok(found)
    }

    /// When the next memory expires.
    pub fn next_expiry(&self) -> Result<Option<TimeMs>, ReadError> {
        let mut next = None;
        let rows = self.rows();
        let scan = Scan::forward(rows.snapshot());
        let range = (&[tag::EXPIRY][..], &[tag::EXPIRY + 1][..]);
        rows.visit(Family::Rows, range, scan, |key, _| {
            if let RowKey::Expiry(at, ..) = key {
                next = Some(at);
            }
            Ok(ControlFlow::Break(()))
        })?;
        Ok(next)
    }

    /// The memories that changed after the position `after`, about `limit` at a time, each perhaps
    /// several times.
    pub fn journal(&self, after: u64, limit: usize) -> Result<Journal, ReadError> {
        if after < self.journal_floor || after > self.position() {
            return Ok(Journal::Gap {
                floor: self.journal_floor,
            });
        }
        let mut changes = Vec::new();
        let mut through = self.position();
        let mut failed = None;
        let from = kv::journal::encode_key(after.saturating_add(1));
        let store = self.generation.store();
        let scan = Scan::everything(Some(&self.snapshot));
        let until = [tag::JOURNAL + 1];
        let result = store.visit(Family::Journal, &from, &until, scan, |key, value| {
            let row = kv::journal::decode_key(key)
                .map_err(|malformed| malformed.to_string())
                .and_then(|through| Ok((through, kv::journal::decode(value)?)));
            match row {
                Ok((position, touched)) => {
                    for (namespace, keys) in touched {
                        changes.extend(keys.into_iter().map(|key| Changed {
                            namespace: namespace.clone(),
                            key,
                        }));
                    }
                    if changes.len() < limit {
                        return ControlFlow::Continue(());
                    }
                    through = position;
                }
                Err(reason) => {
                    failed = Some(self.corrupt(RowKey::Clock, format!("journal: {reason}")));
                }
            }
            ControlFlow::Break(())
        });
        result.map_err(|error| super::rows::read_error(&RowKey::Clock, &error))?;
        match failed {
            Some(error) => Err(error),
            None => Ok(Journal::Changes { changes, through }),
        }
    }

    /// The digest computed anew from all rows: equal to [`Self::digest`], or the state is damaged.
    pub fn recompute_digest(&self) -> Result<StateDigest, ReadError> {
        Ok(self.digests(|| true)?.all)
    }

    /// The digests computed anew from all rows; of some of them if `go_on` said no, which is asked
    /// every [`LOOK_EVERY_ROWS`].
    pub(super) fn digests(&self, mut go_on: impl FnMut() -> bool) -> Result<Digests, ReadError> {
        let mut digests = Digests::default();
        let rows = self.rows();
        for (tag, family) in kv::REPLICATED {
            let scan = Scan::everything(rows.snapshot());
            rows.visit(family, (&[tag], &[tag + 1]), scan, |key, value| {
                if digests.rows % LOOK_EVERY_ROWS == 0 && !go_on() {
                    return Ok(ControlFlow::Break(()));
                }
                digests.add(&key, value);
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(digests)
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        Rows::new(self.generation.store(), Some(&self.snapshot))
    }

    /// Decoded memories with encoded keys in `from..until`.
    fn records(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<Record>, ReadError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let rows = self.rows();
        let scan = Scan::everything(rows.snapshot());
        rows.visit(Family::Memories, (from, until), scan, |row, value| {
            let memory: Memory = state::decode(&row, value)?;
            if let RowKey::Memory(namespace, key) = row {
                found.push(((namespace, key), memory));
            }
            Ok(if found.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        Ok(found)
    }

    fn corrupt(&self, key: RowKey, reason: String) -> ReadError {
        let reason = self
            .generation
            .store()
            .unreadable(format!("{key:?}: {reason}"));
        ReadError::Corrupt {
            key: Box::new(key),
            reason,
        }
    }
}

impl Read for StateSnapshot {
    fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, ReadError> {
        self.rows().get(key)
    }

    fn scan(
        &self,
        from: &RowKey,
        until: &RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError> {
        self.rows().scan(from, until, limit)
    }
}
