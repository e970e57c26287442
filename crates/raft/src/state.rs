//! The durable state: the one place where committed entries become rows.
//!
//! ```text
//! entries ──▶ core::apply over Rows ──▶ one batch: rows, last applied, membership, digest, journal
//!                                         │
//!                                         ├─▶ StateSnapshot ──▶ readers
//!                                         └─▶ Effects       ──▶ the index
//! ```
//!
//! Writes are not synced: after a power cut the log repeats what is missing, and the log is purged
//! only up to where the state was made to survive one. An entry that cannot be read, or a row that
//! cannot, stops the node; nothing is ever skipped.

pub(crate) mod generation;
mod marks;
pub(crate) mod rows;
mod snapshot;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Instant,
};

use memorygate_core::{
    apply::apply,
    command::{Command, DecodeError, Envelope, SetFormat},
    format::Formats,
    state::{ReadError, StateDigest, Transaction},
    time::TimeMs,
};
use openraft::EntryPayload;
use rocksdb::{WriteBatch, checkpoint::Checkpoint};
use tokio::sync::watch;

pub use self::marks::{DigestError, StateDigests};
pub use self::snapshot::{Changed, Journal, StateSnapshot, StoredMemory};
use self::{
    generation::{Generation, Root},
    marks::Marks,
    rows::Rows,
};
use crate::{
    dir::{self, ClusterId, Lock, OpenError},
    durable,
    effects::{Effects, EffectsSink},
    failpoint::Failpoints,
    fatal::{Alarm, FatalKind},
    kv::{self, Family, applied::Applied, owner::Owner},
    observer::Observer,
    rocks::{self, Memory, Scan, Store},
    settings::Settings,
    transport::Peer,
    types::{Answer, Entry, LeaderId, LogId, Membership, Node, StoredMembership},
};

/// The journal is cut in strides of this share of its length, not at every batch.
const JOURNAL_STRIDES: u64 = 16;

/// The state that commands are applied to. Clones share it.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

struct Inner {
    root: Root,
    cluster_id: ClusterId,
    writer: Mutex<Writer>,
    /// What readers see: the state after the last batch.
    current: RwLock<Arc<StateSnapshot>>,
    applied: watch::Sender<u64>,
    /// Positions up to here survive a power cut.
    durable: AtomicU64,
    /// Positions up to here nobody will ask the journal for.
    journal_unneeded: AtomicU64,
    journal_positions_max: u64,
    marks: Marks,
    /// Those that this program reads.
    formats: Formats,
    /// The one that the log is written in.
    format: AtomicU8,
    sink: OnceLock<Arc<dyn EffectsSink>>,
    observer: Arc<dyn Observer>,
    alarm: Alarm,
    failpoints: Failpoints,
}

/// What only whoever changes the state may use.
struct Writer {
    generation: Arc<Generation>,
    applied: Applied,
    membership: StoredMembership,
    journal_floor: u64,
}

/// What applying some entries gave.
struct Batch {
    answers: Vec<Answer>,
    effects: Effects,
    /// Whether the last of them is a marker.
    is_marked: bool,
}

/// What a state is opened with.
pub(crate) struct Parts<'a> {
    pub(crate) path: &'a Path,
    pub(crate) cluster_id: ClusterId,
    pub(crate) settings: &'a Settings,
    pub(crate) formats: Formats,
    pub(crate) memory: Memory,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) alarm: Alarm,
    pub(crate) failpoints: Failpoints,
    pub(crate) lock: Arc<Lock>,
}

/// Why entries were not applied. The node must stop.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("log entry {index}: {source}")]
    Undecodable { index: u64, source: DecodeError },
    #[error(
        "log entry {index}: the cluster writes format {format} from here on, this program reads {formats}"
    )]
    Format {
        index: u64,
        format: u8,
        formats: Formats,
    },
    #[error("apply log entry {index}: {source}")]
    Read { index: u64, source: ReadError },
    #[error(transparent)]
    Write(#[from] rocks::Error),
    #[error(transparent)]
    Failpoint(#[from] io::Error),
}

impl ApplyError {
    fn kind(&self) -> FatalKind {
        match self {
            Self::Undecodable { .. } | Self::Format { .. } => FatalKind::Undecodable,
            Self::Read {
                source: ReadError::Corrupt { .. },
                ..
            } => FatalKind::Corrupt,
            Self::Read { .. } | Self::Write(_) | Self::Failpoint(_) => FatalKind::StateWrite,
        }
    }
}

impl State {
    /// The state after the last applied batch.
    pub fn snapshot(&self) -> Arc<StateSnapshot> {
        let current = self.inner.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Index of the last applied log entry; 0 before the first.
    pub fn applied(&self) -> u64 {
        *self.inner.applied.borrow()
    }

    /// Follows [`Self::applied`].
    pub fn watch_applied(&self) -> watch::Receiver<u64> {
        self.inner.applied.subscribe()
    }

    /// The formats of the log that this program reads.
    pub(crate) fn formats(&self) -> Formats {
        self.inner.formats
    }

    /// The format that the log is written in, as of what is applied.
    pub(crate) fn format(&self) -> u8 {
        self.inner.format.load(Ordering::Acquire)
    }

    /// Says that nobody will ask for the journal up to `position` again. It takes effect with the
    /// next applied batch.
    pub fn journal_trim(&self, position: u64) {
        self.inner
            .journal_unneeded
            .fetch_max(position, Ordering::Relaxed);
    }

    /// Opens the state in use, or makes an empty one where there is none. A formed node must have
    /// one.
    pub(crate) fn open(parts: Parts<'_>, is_formed: bool) -> Result<Self, OpenError> {
        let Parts {
            path,
            cluster_id,
            settings,
            formats,
            memory,
            observer,
            alarm,
            failpoints,
            lock,
        } = parts;
        let root = Root::new(path, memory, alarm.clone(), failpoints.clone(), lock);
        let exists = path.exists();
        let generation = match exists.then(|| root.open()).transpose()?.flatten() {
            Some(generation) => generation,
            None if is_formed => {
                return Err(OpenError::Incomplete {
                    path: path.to_owned(),
                    missing: "the state",
                });
            }
            None => {
                let generation = root.create()?;
                let prepared = write_owner(generation.store(), cluster_id)
                    .and_then(|()| generation.store().sync())
                    .map_err(io::Error::other)
                    .and_then(|()| root.point_to(&generation));
                prepared.map_err(|error| OpenError::io("create", path, error))?;
                generation
            }
        };
        check_owner(generation.store(), cluster_id)?;
        let format = check_format(generation.store(), formats)?;
        let writer = Writer::load(Arc::new(generation))?;
        let current = writer.snapshot()?;
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                cluster_id,
                applied: watch::Sender::new(writer.applied.position()),
                writer: Mutex::new(writer),
                current: RwLock::new(Arc::new(current)),
                durable: AtomicU64::new(0),
                journal_unneeded: AtomicU64::new(0),
                journal_positions_max: settings.journal_positions_max,
                marks: Marks::default(),
                formats,
                format: AtomicU8::new(format),
                sink: OnceLock::new(),
                observer,
                alarm,
                failpoints,
            }),
        })
    }

    /// Who hears of what is applied. Set once, before the first batch.
    pub(crate) fn set_sink(&self, sink: Arc<dyn EffectsSink>) {
        let is_first = self.inner.sink.set(sink).is_ok();
        assert!(is_first, "a replica is started once");
    }

    /// Makes `peer` the only member of a state that was restored. Synced when it returns.
    pub(crate) fn begin_alone(&self, peer: &Peer) -> io::Result<()> {
        let node = Node {
            address: peer.address.clone(),
        };
        let nodes = BTreeMap::from([(peer.node_id, node)]);
        let members = Membership::new(vec![[peer.node_id].into()], nodes);
        let members = members.expect("the only voter is among the nodes");
        let mut writer = self.writer();
        let membership = StoredMembership::new(writer.applied.log_id, members);
        let store = writer.generation.store();
        let mut batch = WriteBatch::default();
        batch.put_cf(
            store.family(Family::Local),
            kv::membership::KEY,
            kv::membership::encode(&membership),
        );
        store.write(batch, true).map_err(io::Error::other)?;
        writer.membership = membership;
        Ok(())
    }

    pub(crate) fn last_applied(&self) -> (Option<LogId>, StoredMembership) {
        let writer = self.writer();
        (writer.applied.log_id, writer.membership.clone())
    }

    /// Applies committed entries in one batch, or in several that end with a marker, and tells the
    /// sink. One answer an entry, in order.
    ///
    /// An error has raised the alarm, and nothing of its batch is stored.
    pub(crate) fn apply(&self, entries: &[Entry]) -> io::Result<Vec<Answer>> {
        if let Some(fatal) = self.inner.alarm.raised() {
            return Err(io::Error::other(fatal.to_string()));
        }
        let mut answers = Vec::with_capacity(entries.len());
        while answers.len() < entries.len() {
            let started = Instant::now();
            let mut writer = self.writer();
            let batch = self.apply_batch(&mut writer, &entries[answers.len()..]);
            let batch = batch.map_err(|error| {
                let fatal = self.inner.alarm.raise(error.kind(), error.to_string());
                io::Error::other(fatal.to_string())
            })?;
            drop(writer);
            self.inner
                .observer
                .applied(batch.answers.len(), started.elapsed());
            self.inner.marks.forget_old();
            if batch.is_marked {
                self.inner.marks.keep(batch.effects.snapshot.clone());
            }
            self.show(batch.effects.snapshot.clone());
            if let Some(sink) = self.inner.sink.get() {
                sink.publish(batch.effects);
            }
            answers.extend(batch.answers);
        }
        Ok(answers)
    }

    /// The digests of all rows as of the marker at `position`, which was applied. It blocks.
    pub(crate) fn digests_at(
        &self,
        position: u64,
        go_on: impl Fn() -> Result<(), crate::Stopped>,
    ) -> Result<Arc<StateDigests>, DigestError> {
        self.inner.marks.digests(position, go_on)
    }

    /// Makes sure that the state survives a power cut up to `position`, and says how far it does.
    pub(crate) fn make_durable(&self, position: u64) -> io::Result<u64> {
        let durable = self.inner.durable.load(Ordering::Acquire);
        if durable >= position {
            return Ok(durable);
        }
        let (generation, applied) = {
            let writer = self.writer();
            (writer.generation.clone(), writer.applied.position())
        };
        generation.store().sync().map_err(io::Error::other)?;
        Ok(self
            .inner
            .durable
            .fetch_max(applied, Ordering::AcqRel)
            .max(applied))
    }

    /// Makes a copy of the state in a directory that is not there yet. It is of one moment, and
    /// shares files with the original; writes go on meanwhile.
    pub(crate) fn checkpoint(&self, to: &Path) -> io::Result<()> {
        let generation = self.writer().generation.clone();
        let store = generation.store();
        // What is in memory is written out first, so that the moment of the copy is short.
        store.flush(rocks::Kind::State).map_err(io::Error::other)?;
        Checkpoint::new(store.db())
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|source| io::Error::other(store.failed("checkpoint", source)))
    }

    /// Replaces the whole state by a verified copy, which must end at `log_id`.
    pub(crate) fn install(
        &self,
        from: &Path,
        files: &[String],
        log_id: Option<LogId>,
    ) -> io::Result<()> {
        let mut writer = self.writer();
        let number = writer.generation.number();
        let to = self.inner.root.prepare(number)?;
        self.inner.failpoints.hit("install: before the files")?;
        for file in files {
            copy(&from.join(file), &to.join(file))?;
        }
        durable::sync_tree(&to)?;
        self.inner.failpoints.hit("install: after the files")?;
        let generation = self
            .inner
            .root
            .open_prepared(number)
            .map_err(io::Error::other)?;
        check_owner(generation.store(), self.inner.cluster_id).map_err(io::Error::other)?;
        let format = check_format(generation.store(), self.inner.formats).map_err(|error| {
            let fatal = self
                .inner
                .alarm
                .raise(FatalKind::Undecodable, error.to_string());
            io::Error::other(fatal.to_string())
        })?;
        let next = Writer::load(Arc::new(generation)).map_err(io::Error::other)?;
        if next.applied.log_id != log_id {
            return Err(io::Error::other(format!(
                "snapshot holds the state after {:?}, expected {log_id:?}",
                next.applied.log_id
            )));
        }
        let snapshot = Arc::new(next.snapshot().map_err(io::Error::other)?);
        self.inner.root.point_to(&next.generation)?;
        writer.generation.retire();
        *writer = next;
        drop(writer);
        let position = snapshot.position();
        self.inner.marks.installed(position);
        self.inner.format.store(format, Ordering::Release);
        self.inner.durable.fetch_max(position, Ordering::AcqRel);
        self.show(snapshot.clone());
        if let Some(sink) = self.inner.sink.get() {
            sink.replaced(snapshot);
        }
        Ok(())
    }

    /// Applies entries up to the first marker.
    fn apply_batch(&self, writer: &mut Writer, entries: &[Entry]) -> Result<Batch, ApplyError> {
        let generation = writer.generation.clone();
        let store = generation.store();
        let rows = Rows::new(store, None);
        let mut tx = Transaction::new(&rows);
        let mut answers = Vec::with_capacity(entries.len());
        let mut last = writer.applied.log_id;
        let mut membership = None;
        let mut is_marked = false;
        let mut is_reformatted = false;
        for entry in entries {
            let index = entry.log_id.index;
            assert!(
                last.is_none_or(|last| last.index < index),
                "entry {index} is applied after {last:?}"
            );
            last = Some(entry.log_id);
            let reply = match &entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Membership(members) => {
                    membership = Some(StoredMembership::new(last, members.clone()));
                    None
                }
                EntryPayload::Normal(proposal) => {
                    let formats = self.inner.formats;
                    let envelope = Envelope::from_bytes(&proposal.0, formats)
                        .map_err(|source| ApplyError::Undecodable { index, source })?;
                    #[cfg(feature = "planted-bugs")]
                    let envelope = crate::planted::at_local_time(envelope);
                    is_marked = matches!(envelope.command, Command::Mark(_));
                    if let Command::SetFormat(SetFormat { format }) = envelope.command {
                        if !formats.reads(format) {
                            return Err(ApplyError::Format {
                                index,
                                format,
                                formats,
                            });
                        }
                        is_reformatted = true;
                    }
                    let reply = apply(&mut tx, index, &envelope)
                        .map_err(|source| ApplyError::Read { index, source })?;
                    Some(Arc::new(reply))
                }
            };
            answers.push(Answer(reply));
            if is_marked {
                break;
            }
        }
        let last = last.expect("a batch has an entry");
        let read = |source| ApplyError::Read {
            index: last.index,
            source,
        };
        let clock = tx.clock().map_err(read)?;
        let format = is_reformatted.then(|| tx.format()).transpose();
        let format = format.map_err(read)?;
        let commit = tx.commit(writer.applied.digest);

        let bytes: usize = commit.rows.iter().map(|(_, row)| row_bytes(row)).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        for (key, value) in &commit.rows {
            let (family, key) = kv::encode(key);
            match value {
                Some(value) => batch.put_cf(store.family(family), key, value),
                None => batch.delete_cf(store.family(family), key),
            }
        }
        let local = store.family(Family::Local);
        batch.put_cf(
            local,
            kv::applied::KEY,
            kv::applied::encode(&last, commit.digest),
        );
        if let Some(membership) = &membership {
            batch.put_cf(
                local,
                kv::membership::KEY,
                kv::membership::encode(membership),
            );
        }
        let touched = kv::journal::touched(&commit.changes);
        if !touched.is_empty() {
            batch.put_cf(
                store.family(Family::Journal),
                kv::journal::encode_key(last.index),
                kv::journal::encode(&touched),
            );
        }
        let journal_floor = self.journal_floor(writer.journal_floor, last.index);
        if journal_floor > writer.journal_floor {
            batch.delete_range_cf(
                store.family(Family::Journal),
                kv::journal::encode_key(0),
                kv::journal::encode_key(journal_floor + 1),
            );
            batch.put_cf(
                local,
                kv::journal_floor::KEY,
                kv::journal_floor::encode(journal_floor),
            );
        }
        self.inner.failpoints.hit("state: write")?;
        store.write(batch, false)?;

        writer.applied = Applied {
            log_id: Some(last),
            digest: commit.digest,
        };
        writer.journal_floor = journal_floor;
        if let Some(format) = format {
            self.inner.format.store(format, Ordering::Release);
        }
        if let Some(membership) = membership {
            writer.membership = membership;
        }
        let snapshot = StateSnapshot::take(&generation, writer.applied, clock, journal_floor);
        let effects = Effects {
            position: last.index,
            changes: commit.changes,
            clock,
            snapshot: Arc::new(snapshot),
        };
        Ok(Batch {
            answers,
            effects,
            is_marked,
        })
    }

    /// Where the journal begins after the batch that ends at `last`.
    fn journal_floor(&self, floor: u64, last: u64) -> u64 {
        let unneeded = self.inner.journal_unneeded.load(Ordering::Relaxed);
        // What this batch does is still needed by whoever is told of it.
        let unneeded = unneeded.min(last.saturating_sub(1));
        let max = self.inner.journal_positions_max;
        let oldest = last.saturating_sub(max);
        if oldest > floor + max / JOURNAL_STRIDES {
            oldest.max(unneeded)
        } else {
            floor.max(unneeded)
        }
    }

    /// Lets readers see `snapshot`.
    fn show(&self, snapshot: Arc<StateSnapshot>) {
        let position = snapshot.position();
        *self
            .inner
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.inner.applied.send_replace(position);
    }

    /// Changes a row behind the back of everything that counts, as a bad disk would: for tests that
    /// look whether it is found.
    #[doc(hidden)]
    pub fn overwrite(&self, key: &memorygate_core::state::RowKey, value: &[u8]) {
        let generation = self.writer().generation.clone();
        let store = generation.store();
        let (family, key) = kv::encode(key);
        let mut batch = WriteBatch::default();
        batch.put_cf(store.family(family), key, value);
        store.write(batch, false).expect("the disk takes it");
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.inner
            .writer
            .lock()
            .expect("a panic while the state was written stops the node")
    }
}

impl Writer {
    /// Reads what the generation holds.
    fn load(generation: Arc<Generation>) -> Result<Self, OpenError> {
        let store = generation.store();
        let applied = local(store, &kv::applied::KEY, kv::applied::decode)?;
        let membership = local(store, &kv::membership::KEY, kv::membership::decode)?;
        let journal_floor = local(store, &kv::journal_floor::KEY, kv::journal_floor::decode)?;
        Ok(Self {
            applied: applied.unwrap_or_default(),
            membership: membership.unwrap_or_default(),
            journal_floor: journal_floor.unwrap_or_default(),
            generation,
        })
    }

    fn snapshot(&self) -> Result<StateSnapshot, OpenError> {
        let store = self.generation.store();
        let clock: TimeMs = memorygate_core::state::clock(&Rows::new(store, None))
            .map_err(|error| OpenError::corrupt(store.path(), error))?;
        let Self {
            generation,
            applied,
            journal_floor,
            ..
        } = self;
        Ok(StateSnapshot::take(
            generation,
            *applied,
            clock,
            *journal_floor,
        ))
    }
}

/// About what a row takes in a batch, with its key.
fn row_bytes(row: &Option<Vec<u8>>) -> usize {
    const KEY_BYTES: usize = 96;
    KEY_BYTES + row.as_ref().map_or(0, Vec::len)
}

/// Reads one row of this crate's own.
pub(crate) fn local<T>(
    store: &Store,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, OpenError> {
    let row = store
        .get(Family::Local, key, None)
        .map_err(|error| OpenError::corrupt(store.path(), error))?;
    row.map(|bytes| {
        decode(&bytes)
            .map_err(|reason| OpenError::corrupt(store.path(), format!("row {key:02x?}: {reason}")))
    })
    .transpose()
}

/// What a state that was made ready to begin a cluster holds.
pub(crate) struct Ready {
    pub(crate) position: u64,
    /// Of the rows that are there.
    pub(crate) state_hash: String,
    /// That the log goes on in.
    pub(crate) log_format: u8,
}

/// Makes the copy of a state at `path`, which nobody uses, one that a new cluster begins with: it has
/// the new owner, no members, and ends at its position in term 0, before every leader. It reads all
/// rows. Synced when it returns.
pub(crate) fn make_restored(
    path: &Path,
    cluster_id: ClusterId,
    settings: &Settings,
) -> Result<Ready, OpenError> {
    let memory = Memory::new(settings);
    let store = Store::open(
        rocks::Kind::State,
        rocks::Mode::Existing,
        path,
        &memory,
        Alarm::new(),
    )?;
    let applied = local(&store, &kv::applied::KEY, kv::applied::decode)?.unwrap_or_default();
    let mut digest = StateDigest::default();
    for (tag, family) in kv::REPLICATED {
        let rows = Rows::new(&store, None);
        let visited = rows.visit(
            family,
            (&[tag], &[tag + 1]),
            Scan::everything(None),
            |key, value| {
                digest.add(&key, value);
                Ok(ControlFlow::Continue(()))
            },
        );
        visited.map_err(|error| OpenError::corrupt(path, error))?;
    }
    let log_id = LogId {
        leader_id: LeaderId {
            term: 0,
            node_id: 0,
        },
        index: applied.position(),
    };
    let mut batch = WriteBatch::default();
    let family = store.family(Family::Local);
    batch.put_cf(
        family,
        kv::applied::KEY,
        kv::applied::encode(&log_id, digest),
    );
    batch.delete_cf(family, kv::membership::KEY);
    let written = store
        .write(batch, true)
        .and_then(|()| write_owner(&store, cluster_id));
    written.map_err(|error| OpenError::io("write", path, io::Error::other(error)))?;
    Ok(Ready {
        position: applied.position(),
        state_hash: digest.to_string(),
        log_format: log_format(&store)?,
    })
}

fn write_owner(store: &Store, cluster_id: ClusterId) -> Result<(), rocks::Error> {
    let owner = Owner {
        format: dir::FORMAT,
        cluster_id,
        node_id: None,
        incarnation: None,
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(
        store.family(Family::Local),
        kv::owner::KEY,
        kv::owner::encode(&owner),
    );
    store.write(batch, true)
}

/// Refuses the state of another cluster.
pub(crate) fn check_owner(store: &Store, expected: ClusterId) -> Result<(), OpenError> {
    let path = store.path();
    let Some(owner) = local(store, &kv::owner::KEY, kv::owner::decode)? else {
        return Err(OpenError::corrupt(path, "it does not say whose it is"));
    };
    if owner.format > dir::FORMAT {
        return Err(OpenError::NewerFormat {
            path: path.to_owned(),
            actual: owner.format,
        });
    }
    if owner.cluster_id != expected {
        return Err(OpenError::OtherCluster {
            path: path.to_owned(),
            actual: owner.cluster_id,
            expected,
        });
    }
    Ok(())
}

/// Refuses a state whose log is written in a format that this program does not read.
pub(crate) fn check_format(store: &Store, formats: Formats) -> Result<u8, OpenError> {
    let format = log_format(store)?;
    if formats.reads(format) {
        return Ok(format);
    }
    Err(OpenError::LogFormat {
        path: store.path().to_owned(),
        format,
        formats,
    })
}

fn log_format(store: &Store) -> Result<u8, OpenError> {
    memorygate_core::state::format(&Rows::new(store, None))
        .map_err(|error| OpenError::corrupt(store.path(), error))
}

/// Tables never change, so they can be shared; everything else is copied.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.extension().is_some_and(|extension| extension == "sst") {
        fs::hard_link(from, to)
    } else {
        fs::copy(from, to).map(drop)
    }
}
