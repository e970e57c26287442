//! The replicated state: its rows, how `apply` reads and writes them, and its digest.
//!
//! ```text
//!            ┌───────────── Transaction ─────────────┐
//! Read ────▶ │ pending rows (ordered map) over base  │ ──▶ Commit { rows, changes, digest }
//! (storage)  └───────────────────────────────────────┘      one storage batch · the index's effects
//! ```
//!
//! A row is a [`RowKey`] and bytes. Storage knows how a key is laid out on disk and nothing of what
//! is in the bytes; this module knows what is in them and nothing of disks.

mod consolidated;
mod digests;
mod history;
mod rows;
mod trusted;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub(crate) use self::consolidated::current;
pub(crate) use self::history::Doing;
pub use self::{
    consolidated::{
        Before, Conflict, Done, Epoch, Pair, Progress, conflict, conflicts, epoch, epochs, policy,
        progress, replacement,
    },
    digests::Digests,
    history::{
        Cursor, Difference, Event, HistoryRow, Lineage, Lost, Past, Then, Told, What, events,
        lineage, oldest_change,
    },
    rows::Rows,
    trusted::{trust, trusts},
};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::{
    apply::Reply,
    embedding::Embedding,
    format::FIRST,
    key::Key,
    memory::Memory,
    name::{Domain, Name, Namespace},
    request::RequestId,
    scope::Scope,
    time::TimeMs,
};

/// Names one row. Numbers are never reused; the order is that of the variants and their fields, and
/// storage keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum RowKey {
    /// [`Clock`]: the time in the log.
    #[n(0)]
    Clock,
    /// [`NamespaceInfo`].
    #[n(1)]
    Namespace(#[n(0)] Namespace),
    /// [`Memory`].
    #[n(2)]
    Memory(#[n(0)] Namespace, #[n(1)] Key),
    /// [`Embedding`] of the memory with this key.
    #[n(3)]
    Embedding(#[n(0)] Namespace, #[n(1)] Key),
    /// The [`Key`] of a memory, by its place in its session.
    #[n(4)]
    Session(#[n(0)] SessionPlace),
    /// An empty row for each memory that expires, by when.
    #[n(5)]
    Expiry(#[n(0)] TimeMs, #[n(1)] Namespace, #[n(2)] Key),
    /// The first answer to a request, see [`crate::apply::Reply`].
    #[n(6)]
    Request(#[n(0)] RequestId),
    /// [`Agreed`]: the log's format. Absent as long as it is the first.
    #[n(7)]
    Format,
    /// [`Policy`](crate::consolidation::Policy): how the namespace is consolidated. Absent as long as nobody has said.
    #[n(8)]
    Policy(#[n(0)] Namespace),
    /// [`Progress`]: how far consolidation has come.
    #[n(9)]
    Progress(#[n(0)] Namespace),
    /// [`Epoch`]: what the entry at this position consolidated, and what was there before.
    #[n(10)]
    Epoch(#[n(0)] Namespace, #[n(1)] u64),
    /// [`Conflict`] of two memories; there is a row for each order of the two.
    #[n(11)]
    Conflict(#[n(0)] Namespace, #[n(1)] Key, #[n(2)] Key),
    /// [`Trust`](crate::trust::Trust) in an agent. Absent as long as nothing is known of it.
    #[n(12)]
    Trust(#[n(0)] Namespace, #[n(1)] Name),
    /// [`Event`]: what changed a memory, found by the memory and by its age.
    #[n(13)]
    History(#[n(0)] HistoryRow),
}

impl RowKey {
    /// The namespace that the row belongs to, if any.
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Namespace(namespace)
            | Self::Memory(namespace, _)
            | Self::Embedding(namespace, _)
            | Self::Expiry(_, namespace, _)
            | Self::Policy(namespace)
            | Self::Progress(namespace)
            | Self::Epoch(namespace, _)
            | Self::Conflict(namespace, ..)
            | Self::Trust(namespace, _) => Some(namespace),
            Self::Session(place) => Some(&place.namespace),
            Self::History(row) => Some(row.namespace()),
            Self::Clock | Self::Request(_) | Self::Format => None,
        }
    }
}

/// Where a memory stands in its session: by when it happened, then by when it was learned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct SessionPlace {
    #[n(0)]
    pub namespace: Namespace,
    #[n(1)]
    pub scope: Scope,
    #[n(2)]
    pub session: Name,
    #[n(3)]
    pub occurred_at: TimeMs,
    #[n(4)]
    pub created_index: u64,
    #[n(5)]
    pub created_offset: u32,
}

impl SessionPlace {
    /// `None` for a memory without a session.
    pub fn of(namespace: &Namespace, memory: &Memory) -> Option<Self> {
        Some(Self {
            namespace: namespace.clone(),
            scope: memory.scope.clone(),
            session: memory.session.clone()?,
            occurred_at: memory.occurred_at,
            created_index: memory.created.index,
            created_offset: memory.created.offset,
        })
    }
}

/// The format in which the log is written; it never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Agreed {
    #[n(0)]
    pub format: u8,
}

/// The time in the log: the leader stamps each command, and this never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Clock {
    #[n(0)]
    pub now: TimeMs,
}

/// Counts of one namespace's memories.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct NamespaceInfo {
    /// Those that are not archived.
    #[n(0)]
    pub memories: u64,
    /// The same by domain. No entry is zero.
    #[n(1)]
    pub by_domain: BTreeMap<Domain, u64>,
    #[cbor(n(2), skip_if = "is_zero")]
    pub archived: u64,
}

impl NamespaceInfo {
    /// All that are stored, the archived ones too.
    pub fn stored(&self) -> u64 {
        self.memories + self.archived
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A consistent view of stored rows.
pub trait Read {
    fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, ReadError>;

    /// At most `limit` rows with keys in `from..until`, in key order.
    fn scan(
        &self,
        from: &RowKey,
        until: &RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError>;
}

/// The storage failed, or holds what no version of this program wrote. Not a caller's error: the
/// node that meets it must stop serving.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("read row {key:?}: {reason}")]
    Storage { key: Box<RowKey>, reason: String },
    #[error("row {key:?} is not readable: {reason}")]
    Corrupt { key: Box<RowKey>, reason: String },
}

/// What the index has to do for one memory after a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub namespace: Namespace,
    pub key: Key,
    pub kind: ChangeKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChangeKind {
    /// A new memory.
    Created {
        memory: Arc<Memory>,
        embedding: Arc<Embedding>,
    },
    /// Everything but content and embedding may have changed.
    Updated {
        memory: Arc<Memory>,
    },
    Removed,
}

/// Rows written and not yet stored, over the rows of a [`Read`]. Several log entries may share one.
pub struct Transaction<'a, R> {
    base: &'a R,
    rows: BTreeMap<RowKey, Pending>,
    /// The counts that were changed last, as their row has them: most entries change the same.
    counted: Option<(Namespace, NamespaceInfo)>,
    changes: Vec<Change>,
    history_removed: usize,
}

struct Pending {
    /// As the base has it: what the digest must give back.
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

/// All that a transaction leaves: stored in one batch, or not at all.
pub struct Commit {
    /// In key order; `None` deletes.
    pub rows: Vec<(RowKey, Option<Vec<u8>>)>,
    /// In the order of the log; a memory may occur several times.
    pub changes: Vec<Change>,
    pub digest: StateDigest,
}

impl<'a, R: Read> Transaction<'a, R> {
    pub fn new(base: &'a R) -> Self {
        Self {
            base,
            rows: BTreeMap::new(),
            counted: None,
            changes: Vec::new(),
            history_removed: 0,
        }
    }

    /// Rows of history that went with their memories so far.
    pub(crate) fn history_removed(&self) -> usize {
        self.history_removed
    }

    /// The state hash moves from `before` by exactly the rows that changed.
    pub fn commit(self, before: StateDigest) -> Commit {
        let mut digest = before;
        let mut rows = Vec::with_capacity(self.rows.len());
        for (key, Pending { old, new }) in self.rows {
            if old == new {
                continue;
            }
            if let Some(old) = old {
                digest.remove(&key, &old);
            }
            if let Some(new) = &new {
                digest.add(&key, new);
            }
            rows.push((key, new));
        }
        Commit {
            rows,
            changes: self.changes,
            digest,
        }
    }

    pub fn clock(&self) -> Result<TimeMs, ReadError> {
        Ok(read::<Clock>(self, &RowKey::Clock)?.unwrap_or_default().now)
    }

    pub fn set_clock(&mut self, now: TimeMs) -> Result<(), ReadError> {
        self.put(RowKey::Clock, &Clock { now })
    }

    /// The log's format.
    pub fn format(&self) -> Result<u8, ReadError> {
        format(self)
    }

    pub(crate) fn set_format(&mut self, format: u8) -> Result<(), ReadError> {
        self.put(RowKey::Format, &Agreed { format })
    }

    pub fn memory(&self, namespace: &Namespace, key: Key) -> Result<Option<Memory>, ReadError> {
        memory(self, namespace, key)
    }

    /// The embedding of a memory that is there.
    pub(crate) fn embedding(
        &self,
        namespace: &Namespace,
        key: Key,
    ) -> Result<Embedding, ReadError> {
        embedding(self, namespace, key)?.ok_or_else(|| ReadError::Corrupt {
            key: Box::new(RowKey::Embedding(namespace.clone(), key)),
            reason: "it is missing, and its memory is there".to_owned(),
        })
    }

    /// Stores a memory that was looked for and is not there, with everything that points to it.
    pub fn create(
        &mut self,
        namespace: &Namespace,
        key: Key,
        memory: Memory,
        embedding: Embedding,
    ) -> Result<(), ReadError> {
        self.count(namespace, None, Some(&memory))?;
        self.put_new(RowKey::Embedding(namespace.clone(), key), &embedding);
        if let Some(place) = SessionPlace::of(namespace, &memory) {
            self.put_new(RowKey::Session(place), &key);
        }
        self.index_expiry(namespace, key, None, Some(&memory))?;
        self.put_new(RowKey::Memory(namespace.clone(), key), &memory);
        let kind = ChangeKind::Created {
            memory: Arc::new(memory),
            embedding: Arc::new(embedding),
        };
        self.changes.push(Change {
            namespace: namespace.clone(),
            key,
            kind,
        });
        Ok(())
    }

    /// Replaces `old` by `new`, which is the same version with other uses.
    pub(crate) fn touch(
        &mut self,
        namespace: &Namespace,
        key: Key,
        old: &Memory,
        new: Memory,
    ) -> Result<(), ReadError> {
        assert_eq!(old.version, new.version, "a new version has a history");
        self.replace(namespace, key, old, new)
    }

    /// Replaces `old` by `new`, whose identity and place in its session are the same.
    fn replace(
        &mut self,
        namespace: &Namespace,
        key: Key,
        old: &Memory,
        new: Memory,
    ) -> Result<(), ReadError> {
        assert_eq!(
            SessionPlace::of(namespace, old),
            SessionPlace::of(namespace, &new),
            "an update keeps a memory's place in its session"
        );
        assert_eq!(old.domain, new.domain, "an update keeps a memory's domain");
        if old.is_archived() != new.is_archived() {
            self.count(namespace, Some(old), Some(&new))?;
        }
        self.index_expiry(namespace, key, Some(old), Some(&new))?;
        self.put(RowKey::Memory(namespace.clone(), key), &new)?;
        let kind = ChangeKind::Updated {
            memory: Arc::new(new),
        };
        self.changes.push(Change {
            namespace: namespace.clone(),
            key,
            kind,
        });
        Ok(())
    }

    /// Removes a memory with everything that points to it, and those whose evidence it has: they are
    /// the same lesson. What was shared as it goes with what it had taken in itself; that is of a narrower
    /// scope each time, so this ends after two steps.
    pub fn remove(
        &mut self,
        namespace: &Namespace,
        key: Key,
        memory: &Memory,
    ) -> Result<(), ReadError> {
        self.remove_one(namespace, key, memory)?;
        for source in memory.sources() {
            // One that was forgotten by itself and learned anew has nothing to do with this memory.
            let leads_here = |to: Key| {
                to == key || memory.merged.contains(&to) || memory.shared.contains_key(&to)
            };
            let Some(archived) = self.memory(namespace, source)? else {
                continue;
            };
            if !archived.replacement().is_some_and(leads_here) {
                continue;
            }
            if archived.scope == memory.scope {
                self.remove_one(namespace, source, &archived)?;
            } else {
                self.remove(namespace, source, &archived)?;
            }
        }
        Ok(())
    }

    fn remove_one(
        &mut self,
        namespace: &Namespace,
        key: Key,
        memory: &Memory,
    ) -> Result<(), ReadError> {
        self.count(namespace, Some(memory), None)?;
        self.remove_conflicts(namespace, key)?;
        self.remove_history(namespace, key)?;
        self.delete(RowKey::Embedding(namespace.clone(), key))?;
        if let Some(place) = SessionPlace::of(namespace, memory) {
            self.delete(RowKey::Session(place))?;
        }
        self.index_expiry(namespace, key, Some(memory), None)?;
        self.delete(RowKey::Memory(namespace.clone(), key))?;
        self.changes.push(Change {
            namespace: namespace.clone(),
            key,
            kind: ChangeKind::Removed,
        });
        Ok(())
    }

    /// The first `limit` memories whose expiry is at or before `now`.
    pub fn due(&self, now: TimeMs, limit: usize) -> Result<Vec<(Namespace, Key)>, ReadError> {
        due(self, now, limit)
    }

    pub(crate) fn answer<T: for<'b> Decode<'b, ()>>(
        &self,
        id: RequestId,
    ) -> Result<Option<T>, ReadError> {
        read(self, &RowKey::Request(id))
    }

    /// Notes the answer to a request for which there was none.
    pub(crate) fn remember<T: Encode<()>>(&mut self, id: RequestId, answer: &T) {
        self.put_new(RowKey::Request(id), answer);
    }

    /// Drops up to `limit` remembered answers to ids made before the position `after`.
    pub(crate) fn forget_answers(&mut self, after: u64, limit: usize) -> Result<(), ReadError> {
        let bound = |after| {
            RowKey::Request(RequestId {
                after,
                nonce: [0; 16],
            })
        };
        for (key, _) in self.scan(&bound(0), &bound(after), limit)? {
            self.delete(key)?;
        }
        Ok(())
    }

    /// Keeps the row that finds a memory by its expiry.
    fn index_expiry(
        &mut self,
        namespace: &Namespace,
        key: Key,
        old: Option<&Memory>,
        new: Option<&Memory>,
    ) -> Result<(), ReadError> {
        let at = |memory: Option<&Memory>| memory.filter(|m| !m.pinned).and_then(|m| m.expires_at);
        let (old, new) = (at(old), at(new));
        if old == new {
            return Ok(());
        }
        if let Some(at) = old {
            self.delete(RowKey::Expiry(at, namespace.clone(), key))?;
        }
        if let Some(at) = new {
            self.write(RowKey::Expiry(at, namespace.clone(), key), Some(Vec::new()))?;
        }
        Ok(())
    }

    fn count(
        &mut self,
        namespace: &Namespace,
        old: Option<&Memory>,
        new: Option<&Memory>,
    ) -> Result<(), ReadError> {
        let row = RowKey::Namespace(namespace.clone());
        let counted = self.counted.take();
        let mut info = match counted.filter(|(counted, _)| counted == namespace) {
            Some((_, info)) => info,
            None => read(self, &row)?.unwrap_or_default(),
        };
        let less = |count: &mut u64| {
            *count = count.checked_sub(1).expect("only what was counted goes");
        };
        match old {
            Some(old) if old.is_archived() => less(&mut info.archived),
            Some(old) => {
                less(&mut info.memories);
                let in_domain = info.by_domain.get_mut(&old.domain);
                let in_domain = in_domain.expect("only what was counted goes");
                less(in_domain);
                if *in_domain == 0 {
                    info.by_domain.remove(&old.domain);
                }
            }
            None => {}
        }
        match new {
            Some(new) if new.is_archived() => info.archived += 1,
            Some(new) => {
                info.memories += 1;
                *info.by_domain.entry(new.domain.clone()).or_default() += 1;
            }
            None => {}
        }
        if info.stored() == 0 {
            return self.delete(row);
        }
        self.put(row, &info)?;
        self.counted = Some((namespace.clone(), info));
        Ok(())
    }

    fn put<T: Encode<()>>(&mut self, key: RowKey, value: &T) -> Result<(), ReadError> {
        self.write(key, Some(encode(value)))
    }

    /// The same for a row that is known not to be there: a lookup in the storage is what a write
    /// costs most.
    fn put_new<T: Encode<()>>(&mut self, key: RowKey, value: &T) {
        self.write_new(key, encode(value));
    }

    fn write_new(&mut self, key: RowKey, new: Vec<u8>) {
        // One that was there and is gone within this transaction keeps what the base has.
        let pending = self.rows.entry(key);
        pending
            .or_insert(Pending {
                old: None,
                new: None,
            })
            .new = Some(new);
    }

    fn delete(&mut self, key: RowKey) -> Result<(), ReadError> {
        self.write(key, None)
    }

    fn write(&mut self, key: RowKey, new: Option<Vec<u8>>) -> Result<(), ReadError> {
        if let Some(pending) = self.rows.get_mut(&key) {
            pending.new = new;
        } else {
            let old = self.base.get(&key)?;
            self.rows.insert(key, Pending { old, new });
        }
        Ok(())
    }
}

impl<R: Read> Read for Transaction<'_, R> {
    fn get(&self, key: &RowKey) -> Result<Option<Vec<u8>>, ReadError> {
        match self.rows.get(key) {
            Some(pending) => Ok(pending.new.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(
        &self,
        from: &RowKey,
        until: &RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Vec<u8>)>, ReadError> {
        if from >= until {
            return Ok(Vec::new());
        }
        // Each pending row hides at most one row of the base.
        let pending: Vec<_> = self.rows.range(from..until).collect();
        let base = self.base.scan(from, until, limit + pending.len())?;
        let mut merged: BTreeMap<RowKey, Vec<u8>> = base.into_iter().collect();
        for (key, row) in pending {
            match &row.new {
                Some(new) => merged.insert(key.clone(), new.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

/// One memory, or `None`.
pub fn memory(
    rows: &impl Read,
    namespace: &Namespace,
    key: Key,
) -> Result<Option<Memory>, ReadError> {
    read(rows, &RowKey::Memory(namespace.clone(), key))
}

/// The first answer to a request, as long as it is remembered.
pub fn answer(rows: &impl Read, id: RequestId) -> Result<Option<Reply>, ReadError> {
    read(rows, &RowKey::Request(id))
}

/// The embedding of one memory, or `None`.
pub fn embedding(
    rows: &impl Read,
    namespace: &Namespace,
    key: Key,
) -> Result<Option<Embedding>, ReadError> {
    read(rows, &RowKey::Embedding(namespace.clone(), key))
}

/// The time in the log.
pub fn clock(rows: &impl Read) -> Result<TimeMs, ReadError> {
    Ok(read::<Clock>(rows, &RowKey::Clock)?.unwrap_or_default().now)
}

/// The log's format.
pub fn format(rows: &impl Read) -> Result<u8, ReadError> {
    let agreed = read::<Agreed>(rows, &RowKey::Format)?;
    Ok(agreed.map_or(FIRST, |agreed| agreed.format))
}

/// A namespace's counts; `None` if it holds nothing.
pub fn namespace_info(
    rows: &impl Read,
    namespace: &Namespace,
) -> Result<Option<NamespaceInfo>, ReadError> {
    read(rows, &RowKey::Namespace(namespace.clone()))
}

/// Up to `limit` memories whose expiry is at or before `now`, earliest first.
pub fn due(
    rows: &impl Read,
    now: TimeMs,
    limit: usize,
) -> Result<Vec<(Namespace, Key)>, ReadError> {
    let bound = |at: i64| RowKey::Expiry(TimeMs(at), Namespace::lowest(), Key([0; 16]));
    let rows = rows.scan(&bound(0), &bound(now.0.saturating_add(1)), limit)?;
    Ok(rows
        .into_iter()
        .map(|(key, _)| match key {
            RowKey::Expiry(_, namespace, key) => (namespace, key),
            RowKey::Clock
            | RowKey::Namespace(_)
            | RowKey::Memory(..)
            | RowKey::Embedding(..)
            | RowKey::Session(_)
            | RowKey::Request(_)
            | RowKey::Format
            | RowKey::Policy(_)
            | RowKey::Progress(_)
            | RowKey::Epoch(..)
            | RowKey::Conflict(..)
            | RowKey::Trust(..)
            | RowKey::History(_) => unreachable!("a scan of expiries returned {key:?}"),
        })
        .collect())
}

/// Reads and decodes one row.
pub fn read<T: for<'b> Decode<'b, ()>>(
    rows: &impl Read,
    key: &RowKey,
) -> Result<Option<T>, ReadError> {
    let Some(bytes) = rows.get(key)? else {
        return Ok(None);
    };
    decode(key, &bytes).map(Some)
}

/// Decodes a row's bytes.
pub fn decode<T: for<'b> Decode<'b, ()>>(key: &RowKey, bytes: &[u8]) -> Result<T, ReadError> {
    minicbor::decode(bytes).map_err(|error| ReadError::Corrupt {
        key: Box::new(key.clone()),
        reason: error.to_string(),
    })
}

pub(crate) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Most rows have some hundred bytes.
    let mut bytes = Vec::with_capacity(256);
    minicbor::encode(value, &mut bytes).expect("writing to a vector cannot fail");
    bytes
}

/// A digest of a set of rows that follows each change at the cost of that change: the sum, in four
/// lanes of 64 bits, of the SHA-256 of every row. Two states with the same rows have the same
/// digest, whatever their history. (Bellare and Micciancio, A New Paradigm for Collision-Free
/// Hashing, 1997: AdHash. It finds differences between honest replicas; it is no defence against
/// someone who can choose rows.)
#[derive(Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct StateDigest(#[n(0)] [u64; 4]);

impl StateDigest {
    pub fn add(&mut self, key: &RowKey, value: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(row_hash(key, value)) {
            *lane = lane.wrapping_add(part);
        }
    }

    pub fn remove(&mut self, key: &RowKey, value: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(row_hash(key, value)) {
            *lane = lane.wrapping_sub(part);
        }
    }

    /// Adds the rows of another set, which has none in common with this one.
    pub fn merge(&mut self, other: Self) {
        for (lane, part) in self.0.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(part);
        }
    }
}

fn row_hash(key: &RowKey, value: &[u8]) -> [u64; 4] {
    let key = encode(key);
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_le_bytes());
    hash.update(&key);
    hash.update(value);
    let digest = hash.finalize();
    let (lanes, _) = digest.as_chunks::<8>();
    [0, 1, 2, 3].map(|i| u64::from_le_bytes(lanes[i]))
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
